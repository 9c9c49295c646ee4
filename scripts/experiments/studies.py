"""What the studies of `ablate.py` compare, and the data that they do it on; this module is no command."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from sweep import Run

from nfnets.configs import imagenet_ladder

INF = float('inf')
SEEDS = 3
NEVER = 1_000_000  # Steps between evaluations and checkpoints: there is one at the end.
CLASSIFIER, STEM = '^[^/]+/~/linear/w$', '/initial_conv/'
LADDER_WIDTHS = {'default': (64, 128, 256, 512), 'modified': (64, 128, 384, 384)}  # A quarter of the paper's.

Setting = tuple[str, Mapping[str, Any]]  # Network, and what differs by key of the config.
Settings = dict[str, Setting]  # By label.


class Data(NamedTuple):
    """A data set, and how long and at what batches is trained on it.

    Attributes:
      config: that takes a network, as in 'digits:NFResNet'.
      examples: to train on.
      epochs: of each run.
      batches: a small one, a large and the largest.
      clippings: AGC's thresholds.
      clipping: the threshold where it is not what changes.
      norms: thresholds of all gradients together.
      trusts: LARS's trust coefficients.
      common: settings of all networks.
      ladder_rate_per_256: learning rate of the ladder for a batch of 256.
    """

    config: str
    examples: int
    epochs: int
    batches: tuple[int, int, int]
    clippings: tuple[float, ...]
    clipping: float
    norms: tuple[float, ...]
    trusts: tuple[float, ...]
    common: Mapping[str, Any]
    ladder_rate_per_256: float


class Study(NamedTuple):
    """A table: settings by batch.

    Attributes:
      batches: sizes.
      settings: by label.
      common: of all runs, by key of the config.
      rate_per_256: learning rate for a batch of 256; the paper's, where it is what scales with the batch.
    """

    batches: tuple[int, ...]
    settings: Settings
    common: Mapping[str, Any]
    rate_per_256: float = 0.1

    def rate(self, batch: int) -> float:
        """The learning rate, which grows with the batch."""
        return self.rate_per_256 * batch / 256


DATA = {
    'digits': Data(
        config='digits',
        examples=1437,
        epochs=20,
        batches=(64, 256, 1024),
        clippings=(0.01, 0.02, 0.04, 0.08, 0.16),
        clipping=0.04,
        norms=(0.25, 0.5, 1.0, 2.0, 4.0),
        trusts=(0.002, 0.005, 0.01, 0.02, 0.05),
        common={'data.train_size': 16, 'data.eval_size': 16},  # Of 8 x 8 px.
        ladder_rate_per_256=0.8,
    ),
    'fashion_mnist': Data(
        config='fashion_mnist',
        examples=60_000,
        epochs=14,  # 205 steps of the largest batch.
        batches=(128, 1024, 4096),
        clippings=(0.01, 0.04, 0.16),
        clipping=0.04,
        norms=(0.1, 0.25, 0.5, 1.0, 2.0),
        trusts=(0.001, 0.003, 0.01, 0.03, 0.1),
        common={
            'data.train_size': 20,
            'data.eval_size': 20,
            'model.widths': (64, 128),
            'model.depths': (2, 2),
        },
        ladder_rate_per_256=0.4,
    ),
}


def agc(data: Data, network: str = 'NFResNet', twin: str = 'ResNet') -> Study:
    """Figure 2 of arXiv 2102.06171: by threshold, without clipping, and with batch normalization."""
    settings = {
        'batch norm': (twin, {'optimizer.agc_clipping': INF}),
        'no clipping': clipped(INF, network),
        **{f'AGC {threshold}': clipped(threshold, network) for threshold in data.clippings},
    }
    return Study(data.batches, settings, _plain(data))


def agc_nfnet(data: Data) -> Study:
    """The same for an NFNet, whose twin is a BNNet."""
    study = agc(data, 'NFNet', 'BNNet')
    few = {'model.widths': (32, 64), 'model.depths': (1, 2), 'model.group_width': 16}
    return study._replace(common={**study.common, **few})


def layers(data: Data) -> Study:
    """Which parts must be clipped (section 4.1)."""
    settings = {
        'all but the classifier': clipped(data.clipping),
        'the classifier too': clipped(data.clipping, more={'optimizer.agc_skip': ''}),
        'not the stem': _skipping(data, STEM),
        'not the first stage': _skipping(data, '/nf_res_block(_1)?/'),
        'not the second stage': _skipping(data, '/nf_res_block_[23]/'),
        'nothing': clipped(INF),
    }
    return Study(data.batches[1:], settings, _plain(data))


def stem(data: Data) -> Study:
    """Which of the stem's parameters must be clipped, and whether a lower rate does instead."""
    study, batch = layers(data), data.batches[1]

    def slower(divisor: int) -> Setting:
        return _skipping(data, STEM, {'optimizer.learning_rate': study.rate(batch) / divisor})

    settings = {
        'all': clipped(data.clipping),
        'not the gain': _skipping(data, f'{STEM}gain'),
        'not the bias': _skipping(data, f'{STEM}bias'),
        'not the kernel': _skipping(data, f'{STEM}w'),
        'not the kernel and the bias': _skipping(data, f'{STEM}(w|bias)'),
        'not the kernel and the gain': _skipping(data, f'{STEM}(w|gain)'),
        'nothing': _skipping(data, STEM),
        'nothing, half of the rate': slower(2),
        'nothing, a quarter of the rate': slower(4),
    }
    return study._replace(batches=(batch,), settings=settings)


def rivals(data: Data) -> Study:
    """Clipping the norm of all gradients together, and LARS (sections 4.1 and 5)."""

    def unclipped(more: Mapping[str, Any]) -> Setting:
        return clipped(INF, more=more)

    settings = {
        f'AGC {data.clipping}': clipped(data.clipping),
        'no clipping': clipped(INF),
        **{f'global norm {norm}': unclipped({'optimizer.max_grad_norm': norm}) for norm in data.norms},
        **{f'LARS {trust}': unclipped({'optimizer.lars_trust': trust}) for trust in data.trusts},
    }
    return Study(data.batches[1:], settings, _plain(data))


def ladder(data: Data) -> Study:
    """Table 2: one ingredient after the other."""
    common = {
        'model.widths': LADDER_WIDTHS['modified'],
        'model.depths': (1, 1, 1, 1),
        'data.train_size': 32,
        'data.eval_size': 32,
        'augment.cutmix': True,
        'augment.randaugment_layers': 4,
        # It moves images by up to 10 px; 5 would push them out of the frame.
        'augment.randaugment_magnitude': 1,
        'augment.mixup_alpha': 0.2,
    }
    settings = {name: _rung(name) for name in imagenet_ladder.RUNGS}
    return Study(data.batches[:1], settings, common, data.ladder_rate_per_256)


def twin(data: Data) -> Study:
    """The ladder's batch-normalized twin, trained longer or at a lower rate."""
    study = ladder(data)
    network, differing = study.settings['batch_norm']
    steps = data.examples * data.epochs // data.batches[0]
    rate = study.rate(data.batches[0])
    settings: dict[str, dict[str, Any]] = {
        'as on the ladder': {},
        'twice as long': {'train.steps': 2 * steps},
        'three times as long': {'train.steps': 3 * steps},
        'a quarter of the rate': {'optimizer.learning_rate': rate / 4},
    }
    return study._replace(
        settings={label: (network, {**differing, **more}) for label, more in settings.items()}
    )


STUDIES: dict[str, Callable[[Data], Study]] = {
    'agc': agc,
    'agc_nfnet': agc_nfnet,
    'layers': layers,
    'stem': stem,
    'rivals': rivals,
    'ladder': ladder,
    'twin': twin,
}


def clipped(threshold: float, network: str = 'NFResNet', more: Mapping[str, Any] = {}) -> Setting:
    """A network with AGC, and what else differs."""
    return network, {'optimizer.agc_clipping': threshold, **more}


def _skipping(data: Data, part: str, more: Mapping[str, Any] = {}) -> Setting:
    """What must be clipped of an NF-ResNet, but for the parameters that a pattern finds."""
    return clipped(data.clipping, more={'optimizer.agc_skip': f'{CLASSIFIER}|{part}', **more})


def _plain(data: Data) -> dict[str, Any]:
    return {'augment.mixup_alpha': 0.0, **data.common}


def _rung(name: str) -> Setting:
    settings = imagenet_ladder.settings(name)
    if 'model.widths' in settings:
        settings = {**settings, 'model.widths': LADDER_WIDTHS['default']}
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
        'train.steps': data.examples * data.epochs // batch,
        'optimizer.learning_rate': study.rate(batch),
        'optimizer.warmup_steps': 2 * data.examples / batch,
        'eval.every_steps': NEVER,
        'checkpoint.every_steps': NEVER,
        **study.common,
        **differing,
    }
    return [Run(f'{data.config}:{network}', {'seed': seed, **settings}) for seed in range(seeds)]
