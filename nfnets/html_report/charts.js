// Draws the charts of the page, as wide as there is room, and shows the values under the pointer.
'use strict';

const charts = JSON.parse(document.getElementById('charts').textContent);
const hidden = new Set(); // Numbers of the runs that are switched off.
const color = (line) => `var(--run${line.run % 8})`;
const written = (value) => (value || 0).toLocaleString('en', { maximumSignificantDigits: 4 });

function add(parent, tag, attributes = {}, text = '') {
  const node = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.textContent = text;
  parent.append(node);
  return node;
}

// Round numbers from low to high, some `count` of them; on a logarithmic axis 1, 2 and 5 of each decade, or
// its start alone if those would be too many.
function ticks(low, high, isLog, count) {
  const found = [];
  if (isLog && high / low > 3) {
    const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
    const within = last - first > count - 1 ? [1] : [1, 2, 5];
    for (let power = first; power <= last; power++) found.push(...within.map((n) => n * 10 ** power));
  } else {
    const power = 10 ** Math.floor(Math.log10((high - low) / count));
    const step = power * [1, 2, 5, 10].find((n) => (n * power * count) >= high - low);
    for (let n = Math.ceil(low / step); n * step <= high * (1 + 1e-9); n++) found.push(n * step);
  }
  return found.filter((value) => value >= low * (1 - 1e-9) && value <= high * (1 + 1e-9));
}

function extent(values, isLog) {
  const finite = values.filter((value) => value !== null && (!isLog || value > 0));
  if (!finite.length) return [1, 2];
  const low = Math.min(...finite), high = Math.max(...finite), alone = Math.abs(low) / 2 || 1;
  if (low < high) return [low, high];
  return isLog ? [low / 2, low * 2] : [low - alone, low + alone];
}

// The values that the upright axis begins and ends with: a little room, and 0 where it is near.
function room(chart, lines) {
  const [low, high] = chart.extent ?? extent(lines.flatMap((line) => line.y), chart.logY);
  if (chart.logY) return [low / 1.1, high * 1.1];
  const more = chart.extent ? 0 : (high - low) * 0.04;
  return [low >= 0 && low < 0.2 * high ? 0 : low - more, high + more];
}

// From values to pixels.
function axis(low, high, isLog, from, to) {
  const place = isLog ? Math.log : (value) => value;
  const factor = (to - from) / (place(high) - place(low));
  return (value) => from + (place(value) - place(low)) * factor;
}

// Axes with their marks; gives the functions from values to pixels.
function frame(svg, chart, lines, width, height) {
  const [low, high] = room(chart, lines);
  const [left, right] = extent(lines.flatMap((line) => line.x), chart.logX);
  const marks = ticks(low, high, chart.logY, height / 48);
  const marksBelow = ticks(left, right, chart.logX, width / 60);
  // Room for the marks beside the axis, and for half of what is written at the end of the axis below.
  const start = 14 + 7 * Math.max(...marks.map((mark) => written(mark).length));
  const end = width - Math.max(12, 4 * written(marksBelow.at(-1) ?? right).length);
  const foot = height - 38, pad = chart.isFamily ? 24 : 0;
  const x = axis(left, right, chart.logX, start + pad, end - pad);
  const y = axis(low, high, chart.logY, foot, 20);
  for (const mark of marks) {
    add(svg, 'line', { class: 'grid', x1: start, x2: end, y1: y(mark), y2: y(mark) });
    add(svg, 'text', { x: start - 6, y: y(mark) + 4, 'text-anchor': 'end' }, written(mark));
  }
  for (const mark of marksBelow) {
    add(svg, 'line', { class: 'grid', x1: x(mark), x2: x(mark), y1: foot, y2: foot + 5 });
    add(svg, 'text', { x: x(mark), y: foot + 18, 'text-anchor': 'middle' }, written(mark));
  }
  add(svg, 'text', { x: (start + end) / 2, y: height - 4, 'text-anchor': 'middle' }, chart.x);
  add(svg, 'text', { x: 0, y: 10 }, chart.unit);
  return { x, y };
}

function draw(figure) {
  const chart = charts[figure.dataset.chart];
  const plot = figure.querySelector('.plot');
  const width = plot.clientWidth;
  const height = chart.isFamily ? Math.min(520, Math.max(320, width * 0.6)) : 240;
  const lines = chart.lines.filter((line) => chart.isFamily || !hidden.has(line.run));
  plot.replaceChildren();
  const view = { height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': chart.title };
  const svg = add(plot, 'svg', view);
  if (!lines.length) return;

  const { x, y } = frame(svg, chart, lines, width, height);
  const points = []; // Of all lines, in pixels.
  for (const line of lines) {
    const own = line.x
      .map((value, i) => ({ line, i, x: x(value), y: y(line.y[i]) }))
      .filter(({ i }) => line.y[i] !== null && (!chart.logY || line.y[i] > 0));
    points.push(...own);
    if (line.style !== 'points') {
      const path = own.map((point) => `${point.x.toFixed(1)} ${point.y.toFixed(1)}`).join('L');
      add(svg, 'path', { class: `curve ${line.style}`, d: path && `M${path}`, stroke: color(line) });
    }
    if (line.labels || own.length === 1) own.forEach((point) => dot(svg, point));
  }
  if (chart.isFamily) label(svg, points);
  if (points.length) follow(plot, svg, chart, points);
}

function dot(parent, { line, x, y }) {
  add(parent, 'circle', { cx: x, cy: y, r: 4, fill: color(line) });
}

// Names above points, or below, where no other name is; else the pointer shows them.
function label(svg, points) {
  const taken = points.map((point) => ({ ...point, half: 4, height: 4 }));
  for (const point of points) {
    const text = point.line.labels[point.i], half = text.length * 3.4;
    const own = taken.find((other) => other.i === point.i && other.line === point.line);
    const free = [-13, 13]
      .map((shift) => ({ x: point.x, y: point.y + shift, half, height: 6 }))
      .find((box) => taken.every((other) => other === own
        || Math.abs(other.x - box.x) >= other.half + box.half
        || Math.abs(other.y - box.y) >= other.height + box.height));
    if (!free) continue;
    taken.push(free);
    add(svg, 'text', { class: 'name', x: free.x, y: free.y + 4, 'text-anchor': 'middle' }, text);
  }
}

// Shows the values of the point nearest to the pointer and, unless points are a family, of the other lines' beside it.
function follow(plot, svg, chart, points) {
  const tip = document.createElement('div');
  tip.className = 'tip';
  tip.hidden = true;
  plot.append(tip);
  const dots = add(svg, 'g');
  const leave = () => { tip.hidden = true; dots.replaceChildren(); };
  svg.addEventListener('pointerleave', leave);
  svg.addEventListener('pointermove', (event) => {
    leave();
    const box = svg.getBoundingClientRect();
    const at = { x: event.clientX - box.left, y: event.clientY - box.top };
    const away = (point) => Math.hypot(point.x - at.x, chart.isFamily ? point.y - at.y : 0);
    const nearest = closest(points, away);
    if (away(nearest) > 40) return;
    const shown = chart.isFamily ? [nearest] : beside(points, nearest);
    const head = document.createElement('div');
    const value = written(nearest.line.x[nearest.i]);
    head.textContent = chart.isFamily ? `${value} ${chart.x}` : `${chart.x} ${value}`;
    tip.replaceChildren(head, ...shown.map((point) => row(point, chart)));
    for (const point of shown) dot(dots, point);
    tip.hidden = false;
    const start = at.x < plot.clientWidth / 2 ? at.x + 16 : at.x - 16 - tip.offsetWidth;
    tip.style.left = `${Math.max(0, Math.min(start, plot.clientWidth - tip.offsetWidth))}px`;
    tip.style.top = `${Math.max(0, at.y - tip.offsetHeight - 12)}px`;
  });
}

const closest = (points, away) => points.reduce((best, point) => (away(point) < away(best) ? point : best));

// Of each line the point that stands above or below another, if it has one.
function beside(points, { x }) {
  const away = (point) => Math.abs(point.x - x);
  const found = new Map();
  for (const point of points.filter((one) => away(one) < 6)) {
    found.set(point.line, closest([found.get(point.line) ?? point, point], away));
  }
  return [...found.values()];
}

function row({ line, i }, chart) {
  const node = document.createElement('div');
  const swatch = document.createElement('i');
  const name = document.createElement('span'), value = document.createElement('b');
  swatch.className = 'swatch';
  swatch.style.setProperty('--color', color(line));
  name.append(swatch, line.labels ? `${line.name} ${line.labels[i]}` : line.name);
  value.textContent = `${written(line.y[i])}${chart.unit === '%' ? '%' : ''}`;
  node.append(name, value);
  return node;
}

// What the styles of lines mean, or, of families, the colors.
function explain(figure) {
  const chart = charts[figure.dataset.chart];
  const shown = chart.isFamily
    ? chart.lines.map((line) => [line.name, line.style, color(line)])
    : chart.kinds.map(([name, style]) => [name, style, 'currentColor']);
  if (!shown.length) return;
  const list = document.createElement('div');
  list.className = 'kinds';
  for (const [name, style, stroke] of shown) {
    const item = document.createElement('span');
    const sample = add(item, 'svg', { viewBox: '0 0 28 8' });
    if (style === 'points') add(sample, 'circle', { cx: 14, cy: 4, r: 4, fill: stroke });
    else add(sample, 'path', { class: `curve ${style}`, d: 'M0 4H28', stroke });
    item.append(name);
    list.append(item);
  }
  figure.querySelector('.plot').before(list);
}

const figures = [...document.querySelectorAll('figure[data-chart]')];
const widths = new WeakMap();
const watch = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    if (widths.get(target) === target.clientWidth) continue; // Its own drawing changed its height.
    widths.set(target, target.clientWidth);
    requestAnimationFrame(() => draw(target.parentElement));
  }
});
for (const figure of figures) {
  explain(figure);
  watch.observe(figure.querySelector('.plot'));
}
for (const box of document.querySelectorAll('.legend input')) {
  box.addEventListener('change', () => {
    if (box.checked) hidden.delete(Number(box.dataset.run));
    else hidden.add(Number(box.dataset.run));
    figures.forEach(draw);
  });
}
