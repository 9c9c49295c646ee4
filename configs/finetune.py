"""Fine-tuning as in the paper (arXiv 2102.06171, section 5, appendix A): `--config=finetune:F0`.

Give `--config.init_from=CHECKPOINT` and the data. The recipe is for a large set of images, as ImageNet after
a larger one; for some thousand images there is `finetune_small`. Where the paper does not say, as
of augmentation, ImageNet's recipe stays. `F4+-224to384` is that of arXiv 2310.16764 for a network that was
pre-trained at 224 px, and the paper's where that one does not say.
"""

import ml_collections

from nfnets.configs import imagenet

LARGER = '-224to384'


def get_config(variant: str = 'F0') -> ml_collections.ConfigDict:
    """The paper's recipe for one variant."""
    config = imagenet.get_config(variant.removesuffix(LARGER))
    config.model.dropout_rate = 0.25
    config.model.stochastic_depth_rate = 0.1

    config.train.batch_size = 2048
    config.train.steps = 15_000

    config.optimizer.learning_rate = 0.1  # Whatever the batch.
    config.optimizer.warmup_steps = 5000.0
    config.optimizer.weight_decay = 1e-5
    config.sam.rho = 0.05

    config.eval.every_steps = 1000
    if variant.endswith(LARGER):
        config.data.train_size = 384
        config.data.eval_size = 480
        config.train.steps = None
        config.train.epochs = 50.0
        config.data.repeats = 4  # 90.4% with F7+; 90.3% without.
    return config
