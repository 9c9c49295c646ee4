"""Rotations and shears by nearest neighbors, in the form that each backend runs fastest.

Where each pixel comes from is known when a program is traced. NumPy computes it then, so that every backend
takes the same pixels. CPUs and GPUs gather them one by one. TPUs are slow at that; there whole lines are
shifted by powers of two, first along columns and then along rows, and a mask chooses for each pixel whether
it takes part.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

_SLACK = 1e-3  # Rounding errors of float32 in a position, px.


class Sources(NamedTuple):
    """Where the pixels of an image come from, by each of several maps.

    Attributes:
      rows: int [maps, H, W].
      columns: int [maps, H, W].
      inside: bool [maps, H, W]: whether that is in the image.
    """

    rows: np.ndarray
    columns: np.ndarray
    inside: np.ndarray


def warp(pixels: jax.Array, choice: jax.Array, maps: np.ndarray, fill: int) -> jax.Array:
    """Each pixel (x, y) takes the one at the map times (x, y, 1), rounded half away from zero.

    Args:
      pixels: int32 [N, H, W].
      choice: int32 [N], the map of each image.
      maps: float32 [maps, 2, 3].
      fill: instead of what would come from outside of the image.
    """
    sources = find_sources(maps, *pixels.shape[1:])
    forms = {'default': functools.partial(by_gathering, sources=sources)}
    if (moves := plan_moves(maps, sources)) is not None:
        forms['tpu'] = functools.partial(by_moving, moves=moves)
    moved = jax.lax.platform_dependent(pixels, choice, **forms)
    return jnp.where(_chosen(sources.inside, choice), moved, fill)


def _chosen(by_map: np.ndarray, choice: jax.Array) -> jax.Array:
    """[maps, ...] to [N, ...], without a gather."""
    expand = (slice(None), *[None] * (by_map.ndim - 1))
    chosen = jnp.asarray(by_map[0])[None]
    for index in range(1, len(by_map)):
        chosen = jnp.where((choice == index)[expand], by_map[index][None], chosen)
    return chosen


def find_sources(maps: np.ndarray, height: int, width: int) -> Sources:
    """Applies maps float32 [maps, 2, 3] to every pixel of an image of a height and width, px, in float32."""
    x = np.arange(width, dtype=np.float32)[None, None, :]
    y = np.arange(height, dtype=np.float32)[None, :, None]
    m = maps[..., None, None]
    columns = _round_away(m[:, 0, 0] * x + m[:, 0, 1] * y + m[:, 0, 2])
    rows = _round_away(m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2])
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    return Sources(rows, columns, inside)


def _round_away(x: np.ndarray) -> np.ndarray:
    return (np.sign(x) * np.floor(np.abs(x) + np.float32(0.5))).astype(np.int32)


def by_gathering(pixels: jax.Array, choice: jax.Array, sources: Sources) -> jax.Array:
    """What lies inside, by a gather of single pixels; pixels int32 [N, H, W], choice int32 [N]."""
    count, height, width = pixels.shape
    flat = np.where(sources.inside, sources.rows * width + sources.columns, 0)
    index = _chosen(flat.reshape(len(flat), -1), choice)
    moved = jnp.take_along_axis(pixels.reshape(count, height * width), index, axis=1)
    return moved.reshape(pixels.shape)


# ---- By moving lines.


class Moves(NamedTuple):
    """Moves along lines that bring every pixel to its place.

    Attributes:
      offset: a pixel at place i is at i - offset before the first step.
      shifts: of the steps, places.
      starts: first place that each step computes.
      stops: the place after the last.
      begin: the place where `bits` begin.
      bits: int32 [maps, places, lines]: in bit k, whether step k takes the pixel `shifts[k]` places on.
    """

    offset: int
    shifts: list[int]
    starts: list[int]
    stops: list[int]
    begin: int
    bits: np.ndarray


class TwoMoves(NamedTuple):
    """A map as moves along columns, then along rows.

    The first is the same for all pixels that come from one column of the image; their rows are `choices`
    neighboring ones.

    Attributes:
      along_columns: lines are columns.
      along_rows: lines are rows.
      extra: int [maps, H, W]: which of the neighboring rows a pixel comes from, 0..choices - 1.
      choices: how many there are.
    """

    along_columns: Moves
    along_rows: Moves
    extra: np.ndarray
    choices: int


def plan_moves(maps: np.ndarray, sources: Sources) -> TwoMoves | None:
    """Splits maps into moves along columns and along rows; None if that cannot be, as beyond 45 degrees."""
    if np.any(maps[:, 0, 0] < 0.5):
        return None
    base = _first_rows(maps.astype(np.float64), sources.rows.shape)
    column = np.where(sources.inside, sources.columns, 0)
    extra = np.where(sources.inside, sources.rows - np.take_along_axis(base, column, axis=2), 0)
    is_needed = np.zeros(base.shape, bool)
    index = np.indices(base.shape)
    is_needed[index[0][sources.inside], index[1][sources.inside], column[sources.inside]] = True
    along_columns = _plan(base.transpose(0, 2, 1), is_needed.transpose(0, 2, 1))
    along_rows = _plan(sources.columns, sources.inside)
    if along_columns is None or along_rows is None or extra.min() < 0 or extra.max() > 2:
        return None
    return TwoMoves(along_columns, along_rows, extra, int(extra.max()) + 1)


def _first_rows(maps: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """For output row y and column u of the image the first row that a pixel may come from, [maps, y, u]."""
    m = maps[..., None, None]
    y, u = np.arange(shape[1])[None, :, None], np.arange(shape[2])[None, None, :]
    x = (u - m[:, 0, 1] * y - m[:, 0, 2]) / m[:, 0, 0]
    row = m[:, 1, 0] * x + m[:, 1, 1] * y + m[:, 1, 2]
    # The column was rounded, so x, and with it the row, lies up to this much to either side.
    spread = 0.5 * np.abs(m[:, 1, 0] / m[:, 0, 0])
    return np.floor(row - spread - _SLACK + 0.5).astype(np.int32)


def _plan(source: np.ndarray, is_used: np.ndarray) -> Moves | None:
    """Moves after which place i of a line has what was at source[..., i], [maps, lines, places], if used."""
    distance = source - np.arange(source.shape[2])
    offset = int(distance[is_used].min())
    distance = np.where(is_used, distance - offset, 0)
    bits = range(int(distance.max()).bit_length())
    # Where lines are compressed, pixels meet nowhere if the smallest steps come first; where they are
    # stretched, if the largest do.
    for order in (bits, bits[::-1]):
        steps = list(_trace_back(distance, is_used, order))[::-1]
        if all(mask is not None for _, _, mask in steps):
            return _pack_steps(offset, steps, source.shape)
    return None


def _trace_back(
    distance: np.ndarray, is_used: np.ndarray, order: Sequence[int]
) -> Iterator[tuple[int, int, np.ndarray | None]]:
    """From the last step to the first: shift, first place, mask; None if two pixels meet in a place."""
    place = np.broadcast_to(np.arange(distance.shape[2]), distance.shape)
    for bit in reversed(order):
        is_moved = (distance >> bit) & 1
        start, stop = place[is_used].min(), place[is_used].max() + 1
        index = np.where(is_used, place - start, stop - start)  # What is not used goes to the end.
        mask = np.zeros((*distance.shape[:2], stop - start + 1), np.int32)
        np.put_along_axis(mask, index, is_moved, axis=2)
        agrees = np.take_along_axis(mask, index, axis=2) == is_moved
        yield 1 << bit, int(start), mask[..., :-1] if np.all(agrees | ~is_used) else None
        place = place + (is_moved << bit)


def _pack_steps(offset: int, steps: Sequence[tuple[int, int, Any]], shape: Sequence[int]) -> Moves:
    starts = [start for _, start, _ in steps]
    stops = [start + mask.shape[2] for _, start, mask in steps]
    begin, end = min(starts, default=0), max(stops, default=0)
    bits = np.zeros((*shape[:2], end - begin), np.int32)
    for k, (_, start, mask) in enumerate(steps):
        bits[..., start - begin : start - begin + mask.shape[2]] |= mask << k
    return Moves(offset, [s for s, _, _ in steps], starts, stops, begin, bits.transpose(0, 2, 1))


def by_moving(pixels: jax.Array, choice: jax.Array, moves: TwoMoves) -> jax.Array:
    """What lies inside, by moves along columns and rows; pixels int32 [N, H, W], choice int32 [N]."""
    _, height, width = pixels.shape
    # The axis that is moved along comes first: only memory's addresses change.
    columns = pixels.transpose(1, 0, 2)
    by_extra = [
        _move(columns, choice, moves.along_columns, height, offset=extra) for extra in range(moves.choices)
    ]
    rows = jnp.concatenate(by_extra, axis=1).transpose(2, 1, 0)
    rows = _move(rows, jnp.tile(choice, moves.choices), moves.along_rows, width, offset=0)
    by_extra = jnp.split(rows.transpose(1, 2, 0), moves.choices)
    extra = _chosen(moves.extra, choice)
    moved = by_extra[0]
    for k in range(1, moves.choices):
        moved = jnp.where(extra == k, by_extra[k], moved)
    return moved


def _move(lines: jax.Array, choice: jax.Array, moves: Moves, length: int, offset: int) -> jax.Array:
    """Moves along the first axis: int32 [places, N, lines] to [length, N, lines]."""
    begin = -moves.offset - offset
    if moves.shifts:
        bits = _chosen(moves.bits, choice).transpose(1, 0, 2)
    for k, (shift, start, stop) in enumerate(zip(moves.shifts, moves.starts, moves.stops, strict=True)):
        mask = (_window(bits, moves.begin, start, stop) >> k) & 1
        stay, move = (_window(lines, begin, start + by, stop + by) for by in (0, shift))
        lines, begin = jnp.where(mask > 0, move, stay), start
    return _window(lines, begin, 0, length)


def _window(lines: jax.Array, begin: int, start: int, stop: int) -> jax.Array:
    """Places start to stop of lines that begin at a place; 0 beyond their ends."""
    low, high = begin - start, stop - begin - lines.shape[0]
    return jax.lax.pad(lines, jnp.zeros((), lines.dtype), [(low, high, 0), (0, 0, 0), (0, 0, 0)])
