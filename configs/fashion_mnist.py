"""Fashion-MNIST, 70,000 gray photographs of garments: `--config=fashion_mnist --config.data.dir=DATA`.

DATA is where TFDS has prepared `fashion_mnist` (docs/data.md).
"""

import ml_collections

from nfnets.configs import small


def get_config(size: str = '32') -> ml_collections.ConfigDict:
    """The recipe of `configs/small.py` on images of 28 px, resized to so many."""
    config = small.get_config(size)
    config.data.source = 'tfds'
    config.data.name = 'fashion_mnist'
    config.data.eval_split = 'test'
    return config
