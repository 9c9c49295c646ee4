"""Figures that were published of NFNets on ImageNet, as printed: the one place that has them.

Tables of Brock et al. 2021 (arXiv 2102.06171), and timm's files of results.
"""

from typing import NamedTuple

from nfnets.models.variants import RECIPES

# Table 5: top-1 and top-5, %, at the test size (F6 with SAM).
ACCURACY = {
    'F0': (83.6, 96.8),
    'F1': (84.7, 97.1),
    'F2': (85.1, 97.3),
    'F3': (85.7, 97.5),
    'F4': (85.9, 97.6),
    'F5': (86.0, 97.6),
    'F6': (86.5, 97.9),
}
# timm's top-1 and top-5, %, of the same weights by its own preprocessing, and its top-1 of its own networks.
TIMM_ACCURACY: dict[str, tuple[float, ...]] = {
    'F0': (83.486, 96.568),
    'F1': (84.702, 97.182),
    'F2': (85.194, 97.346),
    'F3': (85.686, 97.570),
    'F4': (85.836, 97.664),
    'F5': (86.098, 97.688),
    'F6': (86.362, 97.896),
    'nfnet_l0': (82.766,),
    'eca_nfnet_l0': (82.590,),
    'eca_nfnet_l1': (84.062,),
    'eca_nfnet_l2': (84.710,),
    'nf_regnet_b1': (79.368,),
    'nf_resnet50': (80.658,),
}
# The same of the other sets, by their keys in `nfnets/data/imagenet_sets.py`: top-1, %.
TIMM_SETS = {
    'real': {'F0': (88.123,), 'F5': (89.728,)},
    'v2': {'F0': (71.880,), 'F5': (75.430,)},
    'a': {'F0': (26.773,), 'F5': (57.347,)},
    'r': {'F0': (45.680,), 'F5': (54.390,)},
    'sketch': {'F0': (35.407,), 'F5': (41.335,)},
}
# Table 3, drawn in figure 1: top-1, %.
TOP_1 = {
    **{name: top_1 for name, (top_1, _) in ACCURACY.items() if name != 'F6'},
    'F5+SAM': 86.3,
    'F6+SAM': 86.5,
}
# Table 3: ms of a training step with 32 images on each device of TPU v3 in bfloat16, gradients summed over 32
# devices, images on the device already.
STEP_MS = {
    'F0': 73.3,
    'F1': 158.5,
    'F2': 295.8,
    'F3': 532.2,
    'F4': 1033.3,
    'F5': 1398.5,
    'F5+SAM': 1958.0,
    'F6+SAM': 2774.1,
}
STEP_IMAGES, STEP_DEVICE = 32, 'v3'
# The same table of other families: ms of a step, and top-1, %.
OTHERS: dict[str, dict[str, tuple[float, float]]] = {
    'EfficientNet': {
        'B0': (51.1, 77.1),
        'B3': (129.5, 81.6),
        'B4': (245.9, 82.9),
        'B5': (450.5, 83.7),
        'B6': (775.7, 84.0),
        'B7': (1397.0, 84.7),
    },
    'SENet': {'50': (64.3, 79.4), '152': (149.9, 83.1), '350': (593.6, 83.8)},
    'LambdaNet': {'152': (138.3, 83.0), '350': (471.4, 84.5), '420': (593.9, 84.8)},
    'BoTNet': {
        '110': (181.3, 82.8),
        '128-T5': (355.2, 83.5),
        '77-T6': (578.1, 84.0),
        '128-T7': (804.5, 84.7),
    },
    'ResNet': {'50': (41.6, 78.6)},
}


class Size(NamedTuple):
    """Millions of parameters and billions of multiply-adds at the test size, with the digits published.

    Attributes:
      parameters: '' if there is no figure.
      multiply_adds: the same.
      differs: whether the paper's network is known to be another; then `RELEASED_SIZES` counts.
    """

    parameters: str
    multiply_adds: str
    differs: bool = False


# Tables 1 and 6, and section 5.
SIZES = {
    'F0': Size('71.5', '12.38'),
    'F1': Size('132.6', '35.54'),
    'F2': Size('193.8', '62.59'),
    'F3': Size('254.9', '114.76'),
    'F4': Size('316.1', '215.24'),
    'F5': Size('377.2', '289.76'),
    'F6': Size('438.4', '377.28'),
    'F4+': Size('527', '367', differs=True),
}
# What the code released with the paper gives, where the paper prints nothing or another network.
RELEASED_SIZES = {'F7': Size('499.504088', ''), 'F4+': Size('524.954484', '333.4')}


def published_accuracy(variant: str | None, test_set: str | None, size: int) -> dict[str, tuple[float, ...]]:
    """The accuracies that were published of a network's weights.

    Args:
      variant: name of a member of a family; None: another.
      test_set: its key; None: another.
      size: side of the images, px.

    Returns:
      By who published them, 'paper' and 'timm': top-1 and perhaps top-5, %; () where there is none.
    """
    if variant not in TIMM_ACCURACY or size != RECIPES[variant].eval_size:
        return {'paper': (), 'timm': ()}
    if test_set == 'imagenet':
        return {'paper': ACCURACY.get(variant, ()), 'timm': TIMM_ACCURACY[variant]}
    return {'paper': (), 'timm': TIMM_SETS.get(test_set or '', {}).get(variant, ())}
