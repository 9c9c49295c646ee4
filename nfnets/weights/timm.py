"""Names and layouts of the networks that timm has weights for (checked against timm 1.0.31).

timm counts blocks within stages, has kernels as [O, I, H, W], gains as [O, 1, 1, 1] and the layers of
squeeze-excite as 1 x 1 convolutions. The values of `dm_nfnet_f0` .. `dm_nfnet_f6`, its port of the released
networks, are the same, bit by bit. Those of its own networks are `timm_scales`' to convert.
"""

import re
from collections.abc import Mapping

import numpy as np

from nfnets.errors import InputError
from nfnets.models.param_names import FIRST_BLOCKS, block_module, split_block
from nfnets.weights.fit import Architecture, architecture, network_kind
from nfnets.weights.pickles import Refused
from nfnets.weights.released import Params
from nfnets.weights.timm_scales import from_timms_scales, to_timms_scales
from nfnets.weights.torch_files import StateDict

READ = 'dm_nfnet_f0 .. f6, nfnet_l0, eca_nfnet_l0 .. l2, nf_regnet_b1 and nf_resnet50'
# Ours to timm's, within a block.
_CONVOLUTIONS = {
    'conv0': 'conv1',
    'conv1': 'conv2',
    'conv1b': 'conv2b',
    'conv2': 'conv3',
    'conv_shortcut': 'downsample.conv',
}
_SQUEEZE_EXCITE = {'squeeze_excite/~/linear': 'fc1', 'squeeze_excite/~/linear_1': 'fc2'}
_LAYERS = {
    'NFNet': {
        **_CONVOLUTIONS,
        **{ours: f'attn_last.{timm}' for ours, timm in _SQUEEZE_EXCITE.items()},
        'eca': 'attn_last.conv',
    },
    'NFRegNet': {**_CONVOLUTIONS, **{ours: f'attn.{timm}' for ours, timm in _SQUEEZE_EXCITE.items()}},
    'NFResNet': _CONVOLUTIONS,
}
_HEAD = {'final_conv': 'final_conv', 'linear': 'head.fc'}
_OUTER = {
    'NFNet': {**{f'stem_conv{i}': f'stem.conv{i + 1}' for i in range(4)}, **_HEAD},
    'NFRegNet': {'initial_conv': 'stem.conv', **_HEAD},
    'NFResNet': {'initial_conv': 'stem.conv', 'linear': 'head.fc'},
}
_VALUES = {'w': 'weight', 'gain': 'gain', 'bias': 'bias', 'b': 'bias'}


def has_names(network: Architecture) -> bool:
    """Whether timm has names for the parameters of a network: of any NFNet, and of its own networks."""
    return network.network == 'NFNet' or not network.variant.skip_gain


def to_timm(params: Mapping[str, Mapping[str, np.ndarray]], activation: str | None = None) -> StateDict:
    """Parameters of a network that timm has too as its state_dict.

    Args:
      params: {module: {name: array}}.
      activation: of the network; None: the variant's.

    Raises:
      InputError: a parameter is none of an NFNet's, or timm has no such network.
    """
    kind = network_kind(params) or 'NFNet'
    found = architecture(params)
    if found is not None and not found.variant.skip_gain:
        own = found.variant.activation
        if activation not in (None, own):
            raise InputError(f"timm's {found.base} has the activation {own}, not {activation}")
        params = to_timms_scales(params, found.variant)
    elif kind != 'NFNet':
        raise InputError(f'timm has no {kind} such as {found}: it has {READ}')
    places = _places(params, kind)
    state_dict = {}
    for module, names in params.items():
        for name, value in names.items():
            try:
                timm_name = _timm_name(module, name, places, kind)
            except KeyError as error:
                raise InputError(
                    f'{module}/{name} is no parameter of an {kind}: timm has no name for it'
                ) from error
            state_dict[timm_name] = _timm_layout(timm_name, np.asarray(value))
    return state_dict


def _places(params: Mapping[str, Mapping[str, np.ndarray]], kind: str) -> dict[int, tuple[int, int]]:
    """Stage and place in it of every block: a stage begins where a shortcut is a convolution."""
    places: dict[int, tuple[int, int]] = {}
    stage, place = -1, 0
    for index in sorted({block[0] for module in params if (block := split_block(module))}):
        if f'{block_module(FIRST_BLOCKS[kind], index)}/~/conv_shortcut' in params:
            stage, place = stage + 1, 0
        places[index] = stage, place
        place += 1
    return places


def _timm_name(module: str, name: str, places: dict[int, tuple[int, int]], kind: str) -> str:
    found = split_block(module)
    if found is None:
        return f'{_OUTER[kind][module.removeprefix(_network(kind))]}.{_VALUES[name]}'
    index, block_name, layer = found
    if block_name != block_module(FIRST_BLOCKS[kind], index):
        raise KeyError(module)
    stage, place = places[index]
    block = f'stages.{stage}.{place}'
    if name == 'skip_gain':
        return f'{block}.skipinit_gain'
    return f'{block}.{_LAYERS[kind][layer.removeprefix("~/")]}.{_VALUES[name]}'


def _network(kind: str) -> str:
    """What the names of a network's modules begin with."""
    return FIRST_BLOCKS[kind].rpartition('/')[0] + '/'


def _timm_layout(timm_name: str, value: np.ndarray) -> np.ndarray:
    if timm_name.endswith('.gain'):
        return value.reshape(-1, 1, 1, 1)
    if not timm_name.endswith('.weight'):
        return value
    if value.ndim == 1:
        value = value[None, None]
    elif value.ndim == 2:
        value = value.T if timm_name == 'head.fc.weight' else value.T[:, :, None, None]
    else:
        value = value.transpose(3, 2, 0, 1)
    return np.ascontiguousarray(value)


def from_timm(state_dict: Mapping[str, np.ndarray]) -> Params:
    """timm's state_dict as parameters of an NFNet, an NF-RegNet or an NF-ResNet.

    Raises:
      Refused: a name is none that timm gives to a parameter of those that are read, or the network is none.
    """
    kind, indices = _kind(state_dict), _indices(state_dict)
    params: Params = {}
    for timm_name, value in state_dict.items():
        try:
            module, name = _our_name(timm_name, indices, kind)
            params.setdefault(module, {})[name] = _our_layout(timm_name, value)
        except (KeyError, ValueError) as error:
            raise Refused(
                f"{timm_name}, of shape {list(value.shape)}, is no parameter of timm's {READ}"
            ) from error
    if any(name.endswith('.skipinit_gain') for name in state_dict):
        return params
    found = architecture(params)
    if found is None:
        raise Refused(f"it is none of timm's {READ}")
    return from_timms_scales(params, found.variant)


def _kind(state_dict: Mapping[str, np.ndarray]) -> str:
    if 'stem.conv.weight' not in state_dict:
        return 'NFNet'
    return 'NFRegNet' if any('.attn.' in name for name in state_dict) else 'NFResNet'


def _indices(state_dict: Mapping[str, np.ndarray]) -> dict[str, int]:
    found = {m[0]: (int(m[1]), int(m[2])) for name in state_dict if (m := _in_block(name))}
    return {prefix: index for index, prefix in enumerate(sorted(found, key=found.__getitem__))}


def _in_block(timm_name: str) -> re.Match | None:
    return re.match(r'stages\.(\d{1,4})\.(\d{1,4})\.', timm_name)


def _our_name(timm_name: str, indices: dict[str, int], kind: str) -> tuple[str, str]:
    found = _in_block(timm_name)
    if found is None:
        layer, _, value = timm_name.rpartition('.')
        ours = _reversed(_OUTER[kind])[layer]
        return _network(kind) + ours, _our_value(value, is_linear=ours == 'linear')
    block = block_module(FIRST_BLOCKS[kind], indices[found[0]])
    rest = timm_name.removeprefix(found[0])
    if rest == 'skipinit_gain':
        return block, 'skip_gain'
    layer, _, value = rest.rpartition('.')
    ours = _reversed(_LAYERS[kind])[layer]
    return f'{block}/~/{ours}', _our_value(value, is_linear=ours.startswith('squeeze_excite'))


def _reversed(names: Mapping[str, str]) -> dict[str, str]:
    return {timm: ours for ours, timm in names.items()}


def _our_value(value: str, is_linear: bool) -> str:
    return {'weight': 'w', 'bias': 'b' if is_linear else 'bias', 'gain': 'gain'}[value]


def _our_layout(timm_name: str, value: np.ndarray) -> np.ndarray:
    if timm_name.endswith('.gain'):
        return value.reshape(-1)
    if not timm_name.endswith('.weight'):
        return value
    if '.attn' in timm_name:
        value = value.reshape(-1) if value.ndim == 3 else value.reshape(value.shape[:2]).T
    else:
        value = value.T if value.ndim == 2 else value.transpose(2, 3, 1, 0)
    return np.ascontiguousarray(value)
