"""The model card of a run: what it measured, and how to use what it trained."""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import nfnets
from nfnets import build
from nfnets.config import network_name
from nfnets.models.variants import VARIANTS
from nfnets.publishing.command import training_command, without_paths
from nfnets.run.logged import Run
from nfnets.weights import by_name

_SETS = {'ema': ('eval_ema', 'EMA of the parameters'), 'raw': ('eval', 'parameters')}
_DATA = {
    'digits': "scikit-learn's handwritten digits",
    'folder': 'folders of images',
    'webdataset': 'tars of images',
}
_TASK = 'image-classification'
_MOST_ROWS = 10  # Of the table by step.


class Evaluation(NamedTuple):
    """What a run measured of one set of parameters on its held-out images.

    Attributes:
      step: after which.
      top_1: 0..1.
      top_5: 0..1.
      loss: nats.
      num_examples: images, a whole number.
    """

    step: int
    top_1: float
    top_5: float
    loss: float
    num_examples: float


class Published(NamedTuple):
    """What of a run is published, and where.

    Attributes:
      title: of the network.
      parameters: 'raw' or 'ema'.
      step: of the checkpoint.
      place: what `--checkpoint` takes.
      in_timm: what `timm.create_model` takes; None if timm has no such network.
      variant: its name; None: another.
    """

    title: str
    parameters: str
    step: int
    place: str
    in_timm: str | None
    variant: str | None


def evaluations(run: Run, parameters: str, until: int) -> list[Evaluation]:
    """The evaluations of a run up to a step that are finite, in order; parameters: 'raw' or 'ema'."""
    prefix, _ = _SETS[parameters]
    curves = [run.curves.get(f'{prefix}/{metric}') for metric in Evaluation._fields[1:]]
    by_step = [dict(zip(*curve, strict=True)) if curve else {} for curve in curves]
    steps = sorted(step for step in by_step[0] if step <= until)
    each = [Evaluation._make((int(step), *(float(x.get(step, math.nan)) for x in by_step))) for step in steps]
    return [evaluation for evaluation in each if all(map(math.isfinite, evaluation))]


def model_card(run: Run, published: Published) -> str:
    """The text of `README.md`, which begins with the hub's metadata."""
    parts = [
        f'---\n{_metadata(run, published)}\n---',
        f'# {published.title}',
        _summary(run, published),
        '## Results',
        *_results(run, published),
        '## Use',
        *_usage(run, published),
        '## Training',
        *_training(run),
    ]
    return '\n\n'.join(parts) + '\n'


def _metadata(run: Run, published: Published) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    known: dict[str, Any] = {}
    if measured := evaluations(run, published.parameters, published.step):
        data = _data(run)
        values = {'top-1': measured[-1].top_1, 'top-5': measured[-1].top_5}
        known['model_name'] = published.title
        known['eval_results'] = [
            EvalResult(_TASK, data, data, 'accuracy', round(value, 5), metric_name=name)
            for name, value in values.items()
        ]
    if (start := run.config.init_from) is not None and by_name.is_name(start):
        known['base_model'] = by_name.repository(start)
    library = 'timm' if published.in_timm else 'nfnets'
    tags = sorted({_TASK, 'jax', 'nfnets', library})
    return ModelCardData(library_name=library, pipeline_tag=_TASK, tags=tags, **known).to_yaml()


def _data(run: Run) -> str:
    data = run.config.data
    return data.name if data.source == 'tfds' else _DATA.get(data.source, data.source)


def _summary(run: Run, published: Published) -> str:
    _, name = _SETS[published.parameters]
    classes = run.class_names or ()
    mixed = ' and '.join(run.config.data.mixture)
    trained_on = f'a mixture of {mixed}' if mixed else _data(run)
    return (
        f'{network_name(run.config)}, {build.num_parameters(run.config):,} parameters, for {len(classes)} '
        f'classes: {_listed(classes)}. These are the {name} after step {published.step:,} of a training run '
        f'on {trained_on} with nfnets {nfnets.__version__}.'
    )


def _listed(names: Sequence[str]) -> str:
    return ', '.join(names[:10]) + (' and more, in `class_names.json`' if len(names) > 10 else '')


def _results(run: Run, published: Published) -> Iterator[str]:
    """The newest figures of both sets of parameters, and their course."""
    found = {name: evaluations(run, name, published.step) for name in _SETS}
    newest = {_SETS[name][1]: each[-1] for name, each in found.items() if each}
    if not newest:
        yield 'The run evaluated nothing.'
        return
    data = run.config.data
    (_, first), *_ = newest.items()
    yield (
        f'On the {first.num_examples:,.0f} images of the split `{data.eval_split}`, at {data.eval_size} px, '
        f'after step {first.step:,} of {run.config.train.steps:,}:'
    )
    yield _table(
        ('', 'top-1, %', 'top-5, %', 'loss, nats'), ((name, *_figures(e)) for name, e in newest.items())
    )
    each = found[published.parameters]
    if len(each) > 1:
        # The last, and others at equal distances before it.
        chosen = each[:: -max(1, -(-len(each) // _MOST_ROWS))][::-1]
        head = ('step', 'top-1, %', 'top-5, %', 'loss, nats')
        yield f'By step, {_SETS[published.parameters][1]}:'
        yield _table(head, ((f'{e.step:,}', *_figures(e)) for e in chosen))


def _figures(e: Evaluation) -> tuple[str, str, str]:
    return f'{100 * e.top_1:.2f}', f'{100 * e.top_5:.2f}', f'{e.loss:.4f}'


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return '\n'.join(f'| {" | ".join(cells)} |' for cells in (head, ['---'] * len(head), *rows))


def _usage(run: Run, published: Published) -> Iterator[str]:
    commands = [f'nfnets-predict cat.jpg --checkpoint={published.place}']
    if published.variant in VARIANTS:
        commands += [
            f'nfnets-train --config=finetune_small:{published.variant} --workdir=RUN \\',
            f'    --config.init_from={published.place} \\',
            '    --config.data.source=folder --config.data.dir=DATA --config.data.eval_split=val',
        ]
    yield '\n'.join(['```sh', *commands, '```'])
    if published.in_timm is not None and run.config.model.activation == 'gelu':
        yield (
            "timm's GELU is the exact one, not the tanh approximation that networks are trained with here, "
            'which changes logits a little:'
        )
    if published.in_timm is not None:
        yield f"""```python
import timm

model = timm.create_model('{published.in_timm}', pretrained=True)
```"""


def _training(run: Run) -> Iterator[str]:
    train, rate = run.config.train, run.median('images_per_second')
    speed = '' if rate is None else f', at {rate:,.0f} images/s (median)'
    given = without_paths(run.config).init_from
    start = '' if given is None else f', from the parameters of `{given}`'
    yield (
        f'{train.steps:,} steps of {train.batch_size:,} images of {run.config.data.train_size} px{start}'
        f'{speed}. All settings are in `settings.json`. This command gives them, but for paths:'
    )
    yield f'```sh\n{training_command(run.config)}\n```'
