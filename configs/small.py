"""One's own small data set, from scratch, on a CPU or one GPU: `--config=small`.

For some hundred to some ten thousand images of any size, in a folder of DATA/train/CLASS/* and
DATA/val/CLASS/*: give `--config.data.dir=DATA`; or for a TFDS set `--config.data.source=tfds
--config.data.name=NAME --config.data.eval_split=test`. `small:64` shows them to the network at
64 px instead of 32.
"""

import ml_collections

from nfnets.configs import default
from nfnets.errors import InputError

WIDTHS = (64, 128, 256, 512)
DEPTHS = (1, 2, 2, 2)
SMALLEST = 16  # px: a grid of 4 x 4 after the stem, and of 2 x 2 before the head.


def get_config(size: str = '32') -> ml_collections.ConfigDict:
    """A recipe for images of one size; the blocks and the optimizer are the paper's."""
    if not size.isdigit() or int(size) < SMALLEST:
        raise InputError(f'small:{size}: the size must be a whole number of px from {SMALLEST} on')
    config = default.get_config()
    # A quarter of F0's widths at most, and a stage more for each doubling of the size: the last stage sees a
    # grid of 4 x 4 or so. Photographs want 64 px and more; each doubling costs four times the time or more.
    stages = min(len(WIDTHS), max(2, (int(size) // 16).bit_length()))
    config.model.widths = WIDTHS[:stages]
    config.model.depths = DEPTHS[:stages]
    config.model.group_width = 32
    # Both hold a large network back that sees each image hundreds of times; this one is small.
    config.model.dropout_rate = 0.0
    config.model.stochastic_depth_rate = 0.0

    config.data.source = 'folder'
    config.data.eval_split = 'val'
    config.data.train_size = int(size)
    config.data.eval_size = int(size)
    config.data.eval_margin = 0  # Small images are all object, to their edges.
    # The paper's crops of 8% of an image and more are for objects somewhere in a photograph.
    config.data.crop_area = (0.7, 1.0)
    config.data.flip = True  # Not for letters, digits and other signs: --config.data.flip=False.

    # The paper's are for networks that see each image 360 times; this one sees each of 60,000 some ten times.
    config.augment.mixup_alpha = 0.0
    config.augment.cutmix = False
    config.augment.partners = 'batch'
    config.augment.randaugment_layers = 0

    # Many small steps: with a batch of 4096 there would be a few hundred. As many whatever the number of
    # images, so that the time is known; below some thousand a fifth will do: --config.train.steps=2000.
    config.train.batch_size = 64
    config.train.steps = 10_000
    config.train.precision = 'float32'  # On a CPU bfloat16 saves nothing.
    config.train.log_every_steps = 100

    # At 0.8, Fashion-MNIST diverged; 0.2 and 0.4 came to the same.
    config.optimizer.learning_rate = 0.3
    config.optimizer.warmup_steps = 300.0
    # Smaller batches want a larger limit (arXiv 2102.06171, section 4.1, figure 2).
    config.optimizer.agc_clipping = 0.08
    # Averages over the last tenth of the run; the paper's is for a hundred thousand steps.
    config.optimizer.ema_decay = 0.999

    config.eval.every_steps = 2000
    config.checkpoint.every_steps = 1000
    return config
