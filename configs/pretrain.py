"""Pre-training on a large label set, to fine-tune after: `--config=pretrain:F4+`.

F4, F4+ and NF-ResNets, as `ResNet50`, are those of arXiv 2102.06171, appendix A.5, on 300 million images of
18,000 classes; the other NFNets are those of arXiv 2310.16764, on 4 billion of 30,000. Neither set is public:
give the data. Where the papers do not say, as of dropout and the loss, ImageNet's recipe stays.
"""

import ml_collections

from nfnets.configs import imagenet, imagenet_resnet
from nfnets.models.variants import RESNETS, VARIANTS, get_variant

# 2310.16764 has budgets from 0.25 to 8 epochs for each network, the smaller ones for smaller networks.
EPOCHS = {'F4': 40.0, 'F4+': 20.0, **dict.fromkeys(RESNETS, 10.0)}
MOST_EPOCHS = 8.0


def get_config(variant: str = 'F4+') -> ml_collections.ConfigDict:
    """The recipe for one variant."""
    get_variant(variant, {**VARIANTS, **RESNETS})  # An unknown one fails at once.
    if variant in RESNETS:
        config = imagenet_resnet.get_config('NFResNet')
        config.model.variant = variant
        config.train.batch_size = 1024
        config.optimizer.weight_decay = 1e-5
    else:
        config = imagenet.get_config(variant)
        config.data.eval_size = 256
        # Its best rate was about the default's 1.6, and less for larger budgets.
        config.optimizer.weight_decay = 1e-6

    config.data.train_size = 224
    config.train.epochs = EPOCHS.get(variant, MOST_EPOCHS)

    # Crops and flips alone.
    config.augment.mixup_alpha = 0.0
    config.augment.cutmix = False
    config.augment.randaugment_layers = 0

    config.optimizer.warmup_steps = 5000.0  # What is said of the ResNets.
    config.optimizer.ema_decay = 0.0  # No EMA: it is the parameters.

    # An epoch is long.
    config.eval.every_steps = 10_000
    config.checkpoint.every_steps = 5000
    return config
