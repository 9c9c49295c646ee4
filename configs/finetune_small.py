"""Fine-tuning on some hundred to some thousand images: `--config=finetune_small:F0`.

Give `--config.init_from=CHECKPOINT` and the data. What differs from the paper's recipe, and why, is beside
each setting; `scripts/experiments/finetune_demo.py` measured it beside training from scratch.
"""

import ml_collections

from nfnets.configs import finetune


def get_config(variant: str = 'F0') -> ml_collections.ConfigDict:
    """A recipe for one variant on few images."""
    config = finetune.get_config(variant)
    # 2048 images a step would be the whole set and few steps.
    config.train.batch_size = 16
    config.train.steps = None
    config.train.epochs = 30.0
    config.optimizer.warmup_steps = None
    config.optimizer.warmup_epochs = 2.0
    # Smaller batches want a larger limit (section 4.1, figure 2).
    config.optimizer.agc_clipping = 0.08
    # The paper's 0.1 is for batches of 2048; of 0.02, 0.05 and 0.1, the least kept most of what was learned.
    config.optimizer.learning_rate = 0.02
    # Averages over the last tenth of so short a run, instead of over all of it.
    config.optimizer.ema_decay = 0.99
    # Brought nothing here, and costs time.
    config.sam.rho = 0.0
    # Few steps cannot use that much: augmentation mild enough that the images stay what they are.
    config.augment.partners = 'batch'
    config.augment.randaugment_layers = 2
    config.data.crop_area = (0.25, 1.0)
    config.eval.every_steps = None
    config.eval.every_epochs = 3.0
    return config
