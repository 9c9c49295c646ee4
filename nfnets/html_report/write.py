"""Puts the page about runs together."""

import importlib.resources
import os
from collections.abc import Callable, Sequence

import ml_collections
import numpy as np
from etils import epath

from nfnets import build
from nfnets.data.imagenet import readable_names
from nfnets.errors import InputError
from nfnets.files import failure, file_errors, is_local, replace_file, why
from nfnets.html_report import charts, html, published, sections, sheets
from nfnets.html_report.charts import Chart
from nfnets.html_report.html import Element, element
from nfnets.html_report.images import training_images
from nfnets.html_report.mistakes import predict_split, worst_mistakes
from nfnets.html_report.overview import overview
from nfnets.html_report.sections import section
from nfnets.inference.predict import Predictor
from nfnets.inference.score import check_class_names
from nfnets.run.logged import Run, is_on_imagenet, read_runs
from nfnets.weights.load import load_checkpoint

_CARDS = 24  # Images of a sheet.
_DRAWN_IMAGES = 12  # Larger ones, with objects drawn on them.
_CURVES = 'Held-out images are evaluated with the parameters and with their EMA.'
_GROUPS = 'AGC leaves the weight of the classifier alone; it is not among the units of the head.'
_SPEED = (
    'Table 3 of the paper (arXiv 2102.06171), which its figure 1 shows: TPUv3, bfloat16. A measured time '
    "with another number of images on a device is scaled to 32; the accuracy is the paper's for the "
    'variant, or the one given with it.'
)


def write_page(
    workdirs: Sequence[epath.Path], output: epath.Path, *, points: Sequence[epath.Path], most_images: int
) -> None:
    """Writes one HTML file about runs that needs nothing else to be looked at.

    Where a run lacks something, such as a checkpoint or its data, the page says so.

    Args:
      workdirs: of the runs.
      output: the file.
      points: files of what `scripts/benchmark.py step` printed, for the figure of accuracy and speed.
      most_images: how many held-out images each network is tried on, evenly spaced over the split.

    Raises:
      InputError: a directory is none of a run, none has metrics, a file of points cannot be read, or the
        output cannot be written.
    """
    runs = read_runs(workdirs)
    _check_output(output)
    measured = [point for path in points for point in published.read_points(path)]
    is_comparable = bool(points) or any(map(is_on_imagenet, runs))  # To accuracies on ImageNet.
    drawn: list[Chart] = []

    def place(some: list[Chart], size: str = '') -> Element:
        drawn.extend(some)
        return sections.places(some, len(drawn) - len(some), size)

    body = [
        element('h1', f'Training: {", ".join(run.name for run in runs)}'),
        overview(runs),
        sections.legend(runs),
        element('noscript', sections.note('The curves are drawn by JavaScript, which is switched off.')),
        section('Curves', element('p', _CURVES), place(charts.curves(runs))),
        *_parts_of_losses(place, runs),
        section(
            'Units clipped by AGC, by layer group',
            element('p', _GROUPS),
            place(charts.clipped_by_group(runs), 'small'),
        ),
        section('Gradient norm, by layer group', place(charts.gradients_by_group(runs), 'small')),
        section('Training images as the network sees them', *_training(runs)),
        section('Held-out images', *_held_out(runs, most_images)),
        sections.settings(runs),
        *([_speed(place([published.chart(measured)]))] if is_comparable else []),
        html.json_script(drawn, 'charts'),
    ]
    text = html.document(
        f'Training: {", ".join(run.name for run in runs)}', _file('page.css'), _file('charts.js'), *body
    )
    try:
        replace_file(output, text)
    except file_errors() as error:
        raise failure(f'{output} cannot be written: {why(error)}', error) from error


def _parts_of_losses(place: Callable[..., Element], runs: Sequence[Run]) -> list[Element]:
    drawn = charts.losses_by_part(runs)
    return [section('Losses, whose sum is minimized', place(drawn, 'small'))] if drawn else []


def _speed(figure: Element) -> Element:
    return section('Accuracy and speed', element('p', _SPEED), figure)


def _check_output(output: epath.Path) -> None:
    # Before minutes of work.
    if not is_local(output):  # A bucket fails when it is written to.
        return
    directory = output.absolute().parent
    if not directory.is_dir():
        raise InputError(f'{output} cannot be written: there is no directory {directory}')
    if output.is_dir():
        raise InputError(f'{output} cannot be written: it is a directory; give the name of a file')
    if not os.access(directory, os.W_OK):
        raise InputError(f'{output} cannot be written: {directory} is read-only')


def _file(name: str) -> str:
    return importlib.resources.files('nfnets.html_report').joinpath(name).read_text()


def _training(runs: Sequence[Run]) -> list[Element]:
    parts: list[Element] = []
    alike: dict[tuple, list[Run]] = {}
    for run in runs:
        config = run.config
        settings = config.seed, config.train.batch_size, config.data, config.augment, config.detection
        alike.setdefault(settings, []).append(run)
    for first, *others in alike.values():
        parts.append(element('h3', ', '.join(run.name for run in (first, *others))))
        try:
            parts += _training_sheet(first.config)
        except InputError as error:
            parts.append(sections.note(f'Skipped: {error}.'))
    return parts


def _training_sheet(config: ml_collections.FrozenConfigDict) -> list[Element]:
    source = build.train_source(config)
    if config.task == 'detection':
        from nfnets.html_report import detections  # Late: it needs pycocotools.

        return detections.training_sheet(config, source, _DRAWN_IMAGES)
    images, count = training_images(config, source, _CARDS)
    return sheets.training_sheet(images, count, readable_names(source.class_names, len(source.class_names)))


def _held_out(runs: Sequence[Run], most_images: int) -> list[Element]:
    parts: list[Element] = []
    for run in runs:
        parts.append(element('h3', run.name))
        try:
            parts += _found(run) if run.config.task == 'detection' else _mistakes(run, most_images)
        except InputError as error:
            parts.append(sections.note(f'Skipped: {error}.'))
    return parts


def _found(run: Run) -> list[Element]:
    from nfnets.html_report import detections

    return detections.held_out(run, _DRAWN_IMAGES)


def _mistakes(run: Run, most_images: int) -> list[Element]:
    weights = load_checkpoint(run.workdir)
    source = build.source(run.config, run.config.data.eval_split)
    check_class_names(weights, source)
    predictor = Predictor(weights, ema=True)
    predictions = predict_split(
        predictor, source, most=most_images, name=run.name, skip_broken=run.config.data.skip_broken
    )
    text = (
        f'EMA of the parameters at step {weights.about.step:,} on {len(predictions.labels):,} of '
        f'{len(source):,} images: {100 * np.mean(predictions.is_right):.2f}% are right.'
    )
    worst = worst_mistakes(predictor, source, predictions, _CARDS)
    names = predictor.class_names
    both = [sheets.mistakes(worst, names)]
    if not source.label_shape:  # An image of several classes is taken for none of them.
        both.insert(0, sheets.confusion(predictions, names))
    return [element('p', text), element('div', [element('div', part) for part in both], class_='beside')]
