"""Whether parameters are those of a network, and of which one they are."""

import difflib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nfnets.errors import InputError
from nfnets.models.param_names import nfnet_block
from nfnets.models.variants import VARIANTS, Variant
from nfnets.weights.released import Params

_MOST_NAMED = 4


class Architecture(NamedTuple):
    """The network that parameters are of.

    Attributes:
      name: in the family, None for another network of its blocks.
      variant: widths, depths, group width and second convolution.
      num_classes: number of logits.
    """

    name: str | None
    variant: Variant
    num_classes: int

    def __str__(self) -> str:
        v = self.variant
        shape = f'a network of widths {v.widths}, depths {v.depths} and group width {v.group_width}'
        shape += '' if v.second_conv else ', without second 3x3 convolutions,'
        return f'{self.name or shape} with {self.num_classes} classes'


def architecture(params: Mapping[str, Mapping[str, np.ndarray]]) -> Architecture | None:
    """Reads the architecture off the shapes; None if they are not of an NFNet."""
    widths: list[int] = []
    depths: list[int] = []
    try:
        index = 0
        while (block := nfnet_block(index)) in params:
            if f'{block}/~/conv_shortcut' in params:
                widths.append(params[f'{block}/~/conv2']['w'].shape[-1])
                depths.append(0)
            depths[-1] += 1
            index += 1
        group_width = params['NFNet/~/nf_block/~/conv1']['w'].shape[2]
        second_conv = 'NFNet/~/nf_block/~/conv1b' in params
        num_classes = params['NFNet/~/linear']['b'].shape[0]
    except (KeyError, IndexError):
        return None
    own = Variant(tuple(widths), tuple(depths), group_width, second_conv)
    for name, variant in VARIANTS.items():
        if variant == own:
            return Architecture(name, variant, num_classes)
    return Architecture(None, own, num_classes)


def require_architecture(params: Mapping[str, Mapping[str, np.ndarray]], message: str) -> Architecture:
    """The architecture of parameters that must be an NFNet's.

    Raises:
      InputError: with the text, if they are not.
    """
    found = architecture(params)
    if found is None:
        raise InputError(message)
    return found


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
    if held is None or wanted is None:
        return 'it holds no whole NFNet'
    settings: dict[str, Any] = {}
    if held.variant != wanted.variant and held.name is not None:
        settings['model.variant'] = held.name
    elif held.variant != wanted.variant:
        settings['model.widths'] = held.variant.widths
        settings['model.depths'] = held.variant.depths
        settings['model.group_width'] = held.variant.group_width
    if held.variant.second_conv != wanted.variant.second_conv:
        settings['model.second_conv'] = held.variant.second_conv
    if held.num_classes != wanted.num_classes and but is None:
        settings['model.num_classes'] = held.num_classes
    fits = ' '.join(f'--config.{key}={_quoted(value)}' for key, value in settings.items())
    return f'it holds {held}' + (f', for {fits}' if fits else '')
