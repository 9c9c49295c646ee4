"""Whether parameters are those of a network, and of which one they are."""

import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

import haiku as hk
import numpy as np

from nfnets.errors import InputError
from nfnets.models import nf_regnet, nfnet
from nfnets.models.networks import NETWORKS, variable_shapes
from nfnets.models.param_names import FIRST_BLOCKS, block_module
from nfnets.models.variants import SHOWN, Variant, have_same_blocks
from nfnets.weights.released import Params

_MOST_NAMED = 4
_NUM_FEATURES = {'NFNet': nfnet.num_features, 'NFRegNet': nf_regnet.num_features}


class Architecture(NamedTuple):
    """The network that parameters are of.

    Attributes:
      name: of the variant, None for another network of its blocks.
      variant: what the shapes show, and else what the named variant with the same blocks has.
      num_classes: number of logits.
      network: its kind, as in `model.name`.
      base: the named variant with the same blocks; if there is a name, that.
    """

    name: str | None
    variant: Variant
    num_classes: int
    network: str
    base: str

    def __str__(self) -> str:
        v = self.variant
        shape = f'a network of widths {v.widths}, depths {v.depths} and group width {v.group_width}'
        shape += '' if v.second_conv else ', without second 3x3 convolutions,'
        first = next(iter(NETWORKS['NFNet'].variants.values()))
        shape += '' if have_same_blocks(v, first) else f', with the blocks of {self.base},'
        return f'{self.name or shape} with {self.num_classes} classes'


def network_kind(params: Mapping[str, Any]) -> str | None:
    """The kind of network that parameters are of by their names, as in `model.name`; None: none in files."""
    prefixes = {module.partition('/')[0] for module in params}
    return next((kind for kind, first in FIRST_BLOCKS.items() if first.partition('/')[0] in prefixes), None)


def architecture(params: Mapping[str, Mapping[str, np.ndarray]]) -> Architecture | None:
    """Reads the architecture off names and shapes; None if they are of no network that files hold."""
    kind = network_kind(params)
    if kind is None:
        return None
    try:
        shown = _shown(params, kind)
        num_classes = params[_beside(kind, 'linear')]['b'].shape[0]
    except (KeyError, IndexError):
        return None
    alike = {
        name: dataclasses.replace(variant, **shown)
        for name, variant in NETWORKS[kind].variants.items()
        if _has_blocks_of(params, kind, dataclasses.replace(variant, **shown))
    }
    if not alike:
        return None
    name = next((name for name, own in alike.items() if own == NETWORKS[kind].variants[name]), None)
    base = name or next(iter(alike))
    return Architecture(name, alike[base], num_classes, kind, base)


def _shown(params: Mapping[str, Mapping[str, np.ndarray]], kind: str) -> dict[str, Any]:
    """The fields of a variant that shapes show."""
    widths: list[int] = []
    depths: list[int] = []
    index = 0
    while f'{(block := block_module(FIRST_BLOCKS[kind], index))}/~/conv0' in params:
        if f'{block}/~/conv_shortcut' in params:
            widths.append(params[f'{block}/~/conv2']['w'].shape[-1])
            depths.append(0)
        depths[-1] += 1
        index += 1
    last = params[f'{block_module(FIRST_BLOCKS[kind], index - 1)}/~/conv1']['w']
    group_width: int | None = last.shape[2]
    if kind == 'NFResNet' and group_width == last.shape[3]:
        group_width = None  # Its family has no groups.
    shown: dict[str, Any] = {'widths': tuple(widths), 'depths': tuple(depths), 'group_width': group_width}
    if kind == 'NFNet':
        shown['second_conv'] = f'{FIRST_BLOCKS[kind]}/~/conv1b' in params
    return shown


def _has_blocks_of(params: Mapping[str, Mapping[str, np.ndarray]], kind: str, variant: Variant) -> bool:
    """Whether parameters have the attention, the skip gains and the last convolution of a variant."""
    first = FIRST_BLOCKS[kind]
    modules = {'squeeze_excite': f'{first}/~/squeeze_excite/~/linear', 'eca': f'{first}/~/eca'}
    attention = {name for name, module in modules.items() if module in params}
    if kind == 'NFResNet':
        return not attention and ('skip_gain' in params.get(first, {})) == variant.skip_gain
    features = params.get(_beside(kind, 'final_conv'), {}).get('w', np.zeros(0)).shape[-1]
    return (
        attention == {variant.attention}
        and ('skip_gain' in params.get(first, {})) == variant.skip_gain
        and features == _NUM_FEATURES[kind](variant)
    )


def _beside(kind: str, layer: str) -> str:
    """The module of a layer outside of blocks."""
    return f'{FIRST_BLOCKS[kind].partition("/")[0]}/~/{layer}'


def require_architecture(params: Mapping[str, Mapping[str, np.ndarray]], message: str) -> Architecture:
    """The architecture of parameters that must be an NFNet's.

    Raises:
      InputError: with the text, if they are not.
    """
    found = architecture(params)
    if found is None:
        raise InputError(message)
    return found


def check_variables(variables: tuple[Params, Params], network: hk.TransformedWithState, origin: str) -> None:
    """Compares parameters and network state with a network's, by name, shape and type.

    Args:
      variables: both, unstacked.
      network: from `make_network`.
      origin: where they come from, for messages.

    Raises:
      InputError: lists what does not fit.
    """
    for given, expected in zip(variables, variable_shapes(network), strict=True):
        check_params(given, expected, origin)


def check_params(
    params: Params, expected: Mapping[str, Mapping[str, Any]], path: str, but: str | None = None
) -> None:
    """Compares parameters with a network's by name, shape and type.

    Args:
      params: {module: {name: array}}.
      expected: the network's, alike; arrays or their shapes and dtypes.
      path: of the checkpoint, for the message.
      but: a module that need not fit.

    Raises:
      InputError: lists what is missing, unexpected or of another shape or type, and what would fit.
    """
    given, wanted = (
        _flat({module: names for module, names in tree.items() if module != but})
        for tree in (params, expected)
    )
    missing = [name for name in wanted if name not in given]
    left_over = [_nearest(name, missing) for name in given if name not in wanted]
    common = [name for name in wanted if name in given]
    other = [
        f'{name} {_form(given[name])}, not {_form(wanted[name])}'
        for name in common
        if _form(given[name]) != _form(wanted[name])
    ]
    lists = {'Missing': missing, 'Unexpected': left_over, 'Of another shape or type': other}
    if any(lists.values()):
        message = '. '.join(f'{what}: {_listed(names)}' for what, names in lists.items() if names)
        raise InputError(f'{path} does not fit the network: {_suggestion(params, expected, but)}. {message}')


def _flat(tree: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {f'{module}/{name}': x for module, names in tree.items() for name, x in names.items()}


def _form(value: Any) -> str:
    return f'{value.dtype}{list(value.shape)}'


def _nearest(name: str, missing: list[str]) -> str:
    near = difflib.get_close_matches(name, missing[:100], n=1, cutoff=0.9) if len(missing) < 100 else []
    return f'{name} (for {near[0]}?)' if near else name


def _listed(names: list[str]) -> str:
    more = f' and {len(names) - _MOST_NAMED} more' if len(names) > _MOST_NAMED else ''
    return ', '.join(names[:_MOST_NAMED]) + more


def _quoted(value: Any) -> str:
    text = str(value).replace(' ', '')
    return f"'{text}'" if isinstance(value, tuple) else text  # A shell takes parentheses for its own.


def _suggestion(params: Params, expected: Mapping[str, Mapping[str, Any]], but: str | None) -> str:
    held, wanted = architecture(params), architecture(expected)
    if held is None:
        return 'it holds no whole NFNet'
    if wanted is None:
        return f'it holds {held}'
    settings: dict[str, Any] = {}
    if held.network != wanted.network:
        settings['model.name'] = held.network
    if held.name is not None and held.name != wanted.name:
        settings['model.variant'] = held.name
    elif held.variant != wanted.variant:
        if not have_same_blocks(held.variant, wanted.variant):
            settings['model.variant'] = held.base
        settings |= {f'model.{name}': getattr(held.variant, name) for name in SHOWN[:3]}
    if held.variant.second_conv != wanted.variant.second_conv:
        settings['model.second_conv'] = held.variant.second_conv
    if held.num_classes != wanted.num_classes and but is None:
        settings['model.num_classes'] = held.num_classes
    fits = ' '.join(f'--config.{key}={_quoted(value)}' for key, value in settings.items())
    return f'it holds {held}' + (f', for {fits}' if fits else '')
