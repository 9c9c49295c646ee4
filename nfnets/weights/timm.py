"""Names and layouts of timm's port, `dm_nfnet_f0` .. `dm_nfnet_f6` (checked against timm 1.0.31).

timm counts blocks within stages, has kernels as [O, I, H, W], gains as [O, 1, 1, 1] and the layers of
squeeze-excite as 1 x 1 convolutions. Values are the same, bit by bit.
"""

import re
from collections.abc import Mapping

import numpy as np

from nfnets.errors import InputError
from nfnets.models.param_names import nfnet_block, split_block
from nfnets.weights.pickles import Refused
from nfnets.weights.released import Params
from nfnets.weights.torch_files import StateDict

_NETWORK = 'NFNet/~/'
# Ours to timm's, within a block.
_LAYERS = {
    'conv0': 'conv1',
    'conv1': 'conv2',
    'conv1b': 'conv2b',
    'conv2': 'conv3',
    'conv_shortcut': 'downsample.conv',
    'squeeze_excite/~/linear': 'attn_last.fc1',
    'squeeze_excite/~/linear_1': 'attn_last.fc2',
}
_OUTER = {
    **{f'stem_conv{i}': f'stem.conv{i + 1}' for i in range(4)},
    'final_conv': 'final_conv',
    'linear': 'head.fc',
}
_OURS = {timm: ours for ours, timm in _LAYERS.items()}
_OUR_OUTER = {timm: ours for ours, timm in _OUTER.items()}
_VALUES = {'w': 'weight', 'gain': 'gain', 'bias': 'bias', 'b': 'bias'}


def to_timm(params: Mapping[str, Mapping[str, np.ndarray]]) -> StateDict:
    """Parameters of an NFNet as timm's state_dict.

    Raises:
      InputError: a parameter is none of an NFNet's.
    """
    places = _places(params)
    state_dict = {}
    for module, names in params.items():
        for name, value in names.items():
            try:
                timm_name = _timm_name(module, name, places)
            except KeyError as error:
                raise InputError(
                    f'{module}/{name} is no parameter of an NFNet: timm has no name for it'
                ) from error
            state_dict[timm_name] = _timm_layout(timm_name, np.asarray(value))
    return state_dict


def _places(params: Mapping[str, Mapping[str, np.ndarray]]) -> dict[int, tuple[int, int]]:
    """Stage and place in it of every block: a stage begins where a shortcut is a convolution."""
    places: dict[int, tuple[int, int]] = {}
    stage, place = -1, 0
    for index in sorted({block[0] for module in params if (block := split_block(module))}):
        if f'{nfnet_block(index)}/~/conv_shortcut' in params:
            stage, place = stage + 1, 0
        places[index] = stage, place
        place += 1
    return places


def _timm_name(module: str, name: str, places: dict[int, tuple[int, int]]) -> str:
    found = split_block(module)
    if found is None:
        return f'{_OUTER[module.removeprefix(_NETWORK)]}.{_VALUES[name]}'
    index, block_name, layer = found
    if block_name != nfnet_block(index):
        raise KeyError(module)
    stage, place = places[index]
    block = f'stages.{stage}.{place}'
    if name == 'skip_gain':
        return f'{block}.skipinit_gain'
    return f'{block}.{_LAYERS[layer.removeprefix("~/")]}.{_VALUES[name]}'


def _timm_layout(timm_name: str, value: np.ndarray) -> np.ndarray:
    if timm_name.endswith('.gain'):
        return value.reshape(-1, 1, 1, 1)
    if not timm_name.endswith('.weight'):
        return value
    if value.ndim == 2:
        value = value.T if timm_name == 'head.fc.weight' else value.T[:, :, None, None]
    else:
        value = value.transpose(3, 2, 0, 1)
    return np.ascontiguousarray(value)


def from_timm(state_dict: Mapping[str, np.ndarray]) -> Params:
    """timm's state_dict as parameters of an NFNet.

    Raises:
      Refused: a name is none that timm gives to a parameter of a dm_nfnet.
    """
    indices = _indices(state_dict)
    params: Params = {}
    for timm_name, value in state_dict.items():
        try:
            module, name = _our_name(timm_name, indices)
            params.setdefault(module, {})[name] = _our_layout(timm_name, value)
        except (KeyError, ValueError) as error:
            raise Refused(
                f"{timm_name}, of shape {list(value.shape)}, is no parameter of timm's dm_nfnet_f0 .. f6"
            ) from error
    return params


def _indices(state_dict: Mapping[str, np.ndarray]) -> dict[str, int]:
    found = {m[0]: (int(m[1]), int(m[2])) for name in state_dict if (m := _in_block(name))}
    return {prefix: index for index, prefix in enumerate(sorted(found, key=found.__getitem__))}


def _in_block(timm_name: str) -> re.Match | None:
    return re.match(r'stages\.(\d{1,4})\.(\d{1,4})\.', timm_name)


def _our_name(timm_name: str, indices: dict[str, int]) -> tuple[str, str]:
    found = _in_block(timm_name)
    if found is None:
        layer, _, value = timm_name.rpartition('.')
        ours = _OUR_OUTER[layer]
        return _NETWORK + ours, _our_value(value, is_linear=ours == 'linear')
    block = nfnet_block(indices[found[0]])
    rest = timm_name.removeprefix(found[0])
    if rest == 'skipinit_gain':
        return block, 'skip_gain'
    layer, _, value = rest.rpartition('.')
    ours = _OURS[layer]
    return f'{block}/~/{ours}', _our_value(value, is_linear=ours.startswith('squeeze_excite'))


def _our_value(value: str, is_linear: bool) -> str:
    return {'weight': 'w', 'bias': 'b' if is_linear else 'bias', 'gain': 'gain'}[value]


def _our_layout(timm_name: str, value: np.ndarray) -> np.ndarray:
    if timm_name.endswith('.gain'):
        return value.reshape(-1)
    if not timm_name.endswith('.weight'):
        return value
    if '.attn_last.' in timm_name:
        value = value.reshape(value.shape[:2]).T
    else:
        value = value.T if value.ndim == 2 else value.transpose(2, 3, 1, 0)
    return np.ascontiguousarray(value)
