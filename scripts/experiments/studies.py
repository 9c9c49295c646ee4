"""What the studies of `ablate.py` compare, and the data that they do it on; this module is no command."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sweep import Run

from nfnets.configs import default, imagenet_ladder

INF = float('inf')
SEEDS = 3
CLIPPINGS = (0.01, 0.02, 0.04, 0.08, 0.16)  # AGC's thresholds.
CLIPPING = 0.04  # Where it is not what changes.
NEVER = 1_000_000  # Steps between evaluations and checkpoints: there is one at the end.
FEW = {'model.widths': (32, 64), 'model.depths': (1, 2), 'model.group_width': 16}  # Of an NFNet.
CLASSIFIER, STEM = default.get_config().optimizer.agc_skip, '/initial_conv/'

Setting = tuple[str, Mapping[str, Any]]  # Network, and what differs by key of the config.
Settings = dict[str, Setting]  # By label.


class Often(NamedTuple):
    """Examples seen often: where regularization may pay. The ladder's NFNets have four stages of one block.

    Attributes:
      examples: to train on.
      epochs: of each run.
      batch: size.
      rate_per_256: learning rate for a batch of 256.
      widths: of the ladder from its second rung on.
      default_widths: of its first.
      common: settings of all networks.
    """

    examples: int
    epochs: int
    batch: int
    rate_per_256: float
    widths: tuple[int, ...]
    default_widths: tuple[int, ...]
    common: Mapping[str, Any]


class Data(NamedTuple):
    """A data set, and how long and at what batches is trained on it.

    Attributes:
      config: that takes a network, as in 'digits:NFResNet'.
      examples: to train on.
      epochs: of each run.
      batches: a small one, a large and the largest.
      norms: thresholds of all gradients together.
      trusts: LARS's trust coefficients.
      common: settings of all networks.
      often: for the ladder and what else regularizes.
    """

    config: str
    examples: int
    epochs: int
    batches: tuple[int, int, int]
    norms: tuple[float, ...]
    trusts: tuple[float, ...]
    common: Mapping[str, Any]
    often: Often


class Study(NamedTuple):
    """A table: settings by batch.

    Attributes:
      batches: sizes.
      settings: by label.
      common: of all runs, by key of the config.
      examples: to train on.
      epochs: of each run.
      rate_per_256: learning rate for a batch of 256; the paper's, where it is what scales with the batch.
      measures: what the table has of each batch, by what is added to its name.
    """

    batches: tuple[int, ...]
    settings: Settings
    common: Mapping[str, Any]
    examples: int
    epochs: int
    rate_per_256: float = 0.1
    measures: Mapping[str, str] = {'': 'top_1'}

    def steps(self, batch: int) -> int:
        """How many it takes at a batch size."""
        return self.examples * self.epochs // batch

    def rate(self, batch: int) -> float:
        """The learning rate, which grows with the batch."""
        return self.rate_per_256 * batch / 256


DATA = {
    'digits': Data(
        config='digits',
        examples=1437,
        epochs=20,
        batches=(64, 256, 1024),
        norms=(0.25, 0.5, 1.0, 2.0, 4.0),
        trusts=(0.002, 0.005, 0.01, 0.02, 0.05),
        common={'data.train_size': 16, 'data.eval_size': 16},  # Of 8 x 8 px.
        often=Often(
            examples=1437,
            epochs=20,
            batch=64,
            rate_per_256=0.8,
            widths=(64, 128, 384, 384),
            default_widths=(64, 128, 256, 512),  # A quarter of the paper's, these and those.
            common={'data.train_size': 32, 'data.eval_size': 32},
        ),
    ),
    'fashion_mnist': Data(
        config='fashion_mnist',
        examples=60_000,
        epochs=14,  # 205 steps of the largest batch.
        batches=(128, 1024, 4096),
        norms=(0.1, 0.25, 0.5, 1.0, 2.0),
        trusts=(0.001, 0.003, 0.01, 0.03, 0.1),
        common={
            'data.train_size': 20,
            'data.eval_size': 20,
            'model.widths': (64, 128),
            'model.depths': (2, 2),
        },
        often=Often(
            examples=6000,
            epochs=60,
            batch=64,
            rate_per_256=0.4,
            widths=(32, 64, 192, 192),
            default_widths=(32, 64, 128, 256),  # An eighth.
            common={
                'data.train_split': 'train[:6000]',
                'data.train_size': 24,
                'data.eval_size': 24,
                'model.group_width': 16,
            },
        ),
    ),
}


def agc(data: Data, network: str = 'NFResNet', twin: str = 'ResNet') -> Study:
    """Figure 2 of arXiv 2102.06171: by threshold, without clipping, and with batch normalization."""
    settings = {
        'batch norm': (twin, {'optimizer.agc_clipping': INF}),
        'no clipping': clipped(INF, network),
        **{f'AGC {threshold}': clipped(threshold, network) for threshold in CLIPPINGS},
    }
    return _at_scaled_rate(data, data.batches, settings)


def agc_nfnet(data: Data) -> Study:
    """The same for an NFNet, whose twin is a BNNet."""
    study = agc(data, 'NFNet', 'BNNet')
    return study._replace(common={**study.common, **FEW})


def layers(data: Data) -> Study:
    """Which parts must be clipped (section 4.1)."""
    settings = {
        'all but the classifier': clipped(CLIPPING),
        'the classifier too': clipped(CLIPPING, more={'optimizer.agc_skip': ''}),
        'not the stem': _skipping(STEM),
        'not the first stage': _skipping('/nf_res_block(_1)?/'),
        'not the second stage': _skipping('/nf_res_block_[23]/'),
        'not the skip gains': _skipping('/skip_gain$'),
        'nothing': clipped(INF),
    }
    return _at_scaled_rate(data, data.batches[1:], settings)


def stem(data: Data) -> Study:
    """Which of the stem's parameters must be clipped, and whether a lower rate does instead."""
    study, batch = layers(data), data.batches[1]

    def slower(divisor: int) -> Setting:
        return _skipping(STEM, {'optimizer.learning_rate': study.rate(batch) / divisor})

    settings = {
        'all': clipped(CLIPPING),
        'not the gain': _skipping(f'{STEM}gain'),
        'not the bias': _skipping(f'{STEM}bias'),
        'not the kernel': _skipping(f'{STEM}w'),
        'not the kernel and the bias': _skipping(f'{STEM}(w|bias)'),
        'not the kernel and the gain': _skipping(f'{STEM}(w|gain)'),
        'nothing': _skipping(STEM),
        'nothing, half of the rate': slower(2),
        'nothing, a quarter of the rate': slower(4),
    }
    return study._replace(batches=(batch,), settings=settings)


def rivals(data: Data) -> Study:
    """Clipping the norm of all gradients together, and LARS (sections 4.1 and 5)."""

    def unclipped(more: Mapping[str, Any]) -> Setting:
        return clipped(INF, more=more)

    settings = {
        f'AGC {CLIPPING}': clipped(CLIPPING),
        'no clipping': clipped(INF),
        **{f'global norm {norm}': unclipped({'optimizer.max_grad_norm': norm}) for norm in data.norms},
        **{f'LARS {trust}': unclipped({'optimizer.lars_trust': trust}) for trust in data.trusts},
    }
    return _at_scaled_rate(data, data.batches[1:], settings)


def ladder(data: Data) -> Study:
    """Table 2: one ingredient after the other."""
    settings = {name: _rung(name, data.often) for name in imagenet_ladder.RUNGS}
    return _seen_often(data.often, settings)


def twin(data: Data) -> Study:
    """The ladder's batch-normalized twin, trained longer or at a lower rate."""
    study = ladder(data)
    network, differing = study.settings['batch_norm']
    batch = data.often.batch
    steps, rate = study.steps(batch), study.rate(batch)
    settings: dict[str, dict[str, Any]] = {
        'as on the ladder': {},
        'twice as long': {'train.steps': 2 * steps},
        'three times as long': {'train.steps': 3 * steps},
        'a quarter of the rate': {'optimizer.learning_rate': rate / 4},
    }
    return study._replace(
        settings={label: (network, {**differing, **more}) for label, more in settings.items()}
    )


def recipe(data: Data) -> Study:
    """What else the paper's recipe has (sections 2 and 5), each alone, on an NFNet of two stages."""
    small, larger = 24, 32  # px: grids of even sides before each stride, which lies alike on both.
    settings: dict[str, dict[str, Any]] = {
        'plain': {},
        'stochastic depth 0.1': {'model.stochastic_depth_rate': 0.1},
        'stochastic depth 0.25': {'model.stochastic_depth_rate': 0.25},
        'SAM, ascent on a fifth of the batch': {'sam.rho': 0.05},
        'SAM, ascent on the whole batch': {'sam.rho': 0.05, 'sam.ascent_fraction': 1.0},
        'tested at 32 px': {'data.eval_size': larger},
        'trained and tested at 32 px': {'data.train_size': larger, 'data.eval_size': larger},
    }
    network, not_augmented = _rung('second_conv', data.often)
    study = _seen_often(data.often, {label: (network, more) for label, more in settings.items()})
    sizes = {'data.train_size': small, 'data.eval_size': small}
    common = {**study.common, **FEW, **sizes, **not_augmented}
    return study._replace(common=common, measures={'': 'top_1', ', EMA': 'ema_top_1'})


STUDIES: dict[str, Callable[[Data], Study]] = {
    'agc': agc,
    'agc_nfnet': agc_nfnet,
    'layers': layers,
    'stem': stem,
    'rivals': rivals,
    'ladder': ladder,
    'twin': twin,
    'recipe': recipe,
}


def clipped(threshold: float, network: str = 'NFResNet', more: Mapping[str, Any] = {}) -> Setting:
    """A network with AGC, and what else differs."""
    return network, {'optimizer.agc_clipping': threshold, **more}


def _skipping(part: str, more: Mapping[str, Any] = {}) -> Setting:
    """What must be clipped of an NF-ResNet, but for the parameters that a pattern finds."""
    return clipped(CLIPPING, more={'optimizer.agc_skip': f'{CLASSIFIER}|{part}', **more})


def _at_scaled_rate(data: Data, batches: tuple[int, ...], settings: Settings) -> Study:
    common = {'augment.mixup_alpha': 0.0, **data.common}
    return Study(batches, settings, common, data.examples, data.epochs)


def _seen_often(often: Often, settings: Settings) -> Study:
    common = {
        'model.widths': often.widths,
        'model.depths': (1, 1, 1, 1),
        'augment.cutmix': True,
        'augment.randaugment_layers': 4,
        # It moves images by up to 10 px; 5 would push them out of the frame.
        'augment.randaugment_magnitude': 1,
        'augment.mixup_alpha': 0.2,
        **often.common,
    }
    return Study((often.batch,), settings, common, often.examples, often.epochs, often.rate_per_256)


def _rung(name: str, often: Often) -> Setting:
    settings = imagenet_ladder.settings(name)
    if 'model.widths' in settings:
        settings = {**settings, 'model.widths': often.default_widths}
    return settings.pop('model.name', 'NFNet'), settings


Runs = dict[str, dict[int, list[Run]]]  # By setting and batch, one for each seed.


def all_runs(data: Data, study: Study, seeds: int) -> Runs:
    """The runs of all settings and batches of a study."""
    return {
        label: {batch: runs_of(data, study, label, batch, seeds) for batch in study.batches}
        for label in study.settings
    }


def runs_of(data: Data, study: Study, label: str, batch: int, seeds: int) -> list[Run]:
    """One run for each seed, 0, 1, ..., at the linearly scaled rate, with a warm-up of two epochs."""
    network, differing = study.settings[label]
    settings = {
        'train.batch_size': batch,
        'train.steps': study.steps(batch),
        'optimizer.learning_rate': study.rate(batch),
        'optimizer.warmup_steps': 2 * study.examples / batch,
        'eval.every_steps': NEVER,
        'checkpoint.every_steps': NEVER,
        **study.common,
        **differing,
    }
    return [Run(f'{data.config}:{network}', {'seed': seed, **settings}) for seed in range(seeds)]
