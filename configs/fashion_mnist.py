"""Fashion-MNIST, 70,000 gray photographs of garments: `--config=fashion_mnist --config.data.dir=DATA`.

DATA is where TFDS has prepared `fashion_mnist` (docs/data.md). `fashion_mnist` is an NFNet,
`fashion_mnist:NFResNet` another network of `model.name` by the same recipe.
"""

import ml_collections

from nfnets.configs import digits, small


def get_config(network: str = 'NFNet') -> ml_collections.ConfigDict:
    """The recipe of `configs/small.py` on images of 28 px, resized to 40 px."""
    config = small.get_config()
    digits.set_small_network(config, network)
    if network in ('NFNet', 'BNNet'):
        config.model.widths = (64, 128, 256)
        config.model.depths = (1, 2, 2)
    if network == 'NFNet':
        config.optimizer.agc_clipping = 0.08
    config.data.source = 'tfds'
    config.data.name = 'fashion_mnist'
    config.data.eval_split = 'test'
    # Grids of 10, 5 and 3 places. Not evaluated at a larger size, as the paper does: at 42 px they have 11, 6
    # and 3, branches and shortcuts with a stride lie otherwise to each other, and 14 points are lost.
    config.data.train_size = 40
    config.data.eval_size = 40
    config.data.crop_area = (0.8, 1.0)  # Garments fill their images.
    config.train.steps = 25_000
    config.eval.every_steps = 2500
    config.checkpoint.every_steps = 2500
    return config
