"""The network of a checkpoint, with all that is needed to use it: preprocessing, and names of the classes."""

from typing import NamedTuple

import haiku as hk

from nfnets.data.imagenet import readable_names
from nfnets.data.preprocessing import Preprocessing, default_preprocessing
from nfnets.errors import InputError
from nfnets.folding.fold import fold
from nfnets.folding.graph import Graph
from nfnets.models.networks import make_network
from nfnets.models.param_layout import UNSTACKED
from nfnets.models.variants import RECIPES
from nfnets.weights.fit import Architecture, check_variables, require_architecture
from nfnets.weights.load import Weights
from nfnets.weights.released import Params


class Classifier(NamedTuple):
    """A network with its parameters.

    Attributes:
      network: its apply takes normalized images.
      variables: parameters and state.
      preprocessing: how images are resized and cropped.
      class_names: readable names of the classes, 0 first.
    """

    network: hk.TransformedWithState
    variables: tuple[Params, Params]
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    def fold(self, *, from_pixels: bool) -> Graph:
        """The network for inference alone; from_pixels: it takes pixels 0..255, else normalized images."""
        return fold(self.network, self.variables, self.preprocessing.size, from_pixels=from_pixels)


def make_classifier(weights: Weights, *, ema: bool = False, size: int | None = None) -> Classifier:
    """Builds the network that the parameters are of.

    Args:
      weights: a checkpoint; of a working directory, of any network.
      ema: of a working directory, take the EMA of the parameters.
      size: side of the network's input, px; None: the checkpoint's or its variant's.

    Raises:
      InputError: the checkpoint is a file and holds no NFNet, the size of its images is not known or not
        above 0, or it does not fit its network.
    """
    if size is not None and size < 1:
        raise InputError(f"size={size}: the side of the network's input must be 1 px or more")
    variables, about = weights.variables(ema), weights.about
    network, num_classes, found = _network(weights)
    check_variables(variables, network, str(weights.path))
    if about.class_names is not None and len(about.class_names) != num_classes:
        raise InputError(f'{weights.path} has {num_classes} classes and names for {len(about.class_names)}')
    names = tuple(readable_names(about.class_names, num_classes))
    return Classifier(network, variables, _preprocessing(weights, found, size), names)


def _network(weights: Weights) -> tuple[hk.TransformedWithState, int, Architecture | None]:
    """A checkpoint's network, its number of classes, and, of a file, what its shapes tell."""
    if weights.kind == 'workdir':
        # Late: files need neither TensorFlow nor what trains.
        import ml_collections

        from nfnets import build
        from nfnets.run.workdir import CONFIG, read_config

        config = ml_collections.FrozenConfigDict(read_config(weights.path, 'classification'))
        try:
            return build.network(config, UNSTACKED), config.model.num_classes, None
        except (AttributeError, KeyError) as error:
            raise InputError(f'{weights.path / CONFIG} is of another version: {error}') from error
    found = require_architecture(weights.params, f'{weights.path} holds no whole NFNet')
    activation = weights.about.activation
    network = make_network(found.network, found.num_classes, found.variant, activation=activation)
    return network, found.num_classes, found


def _preprocessing(weights: Weights, found: Architecture | None, size: int | None) -> Preprocessing:
    known = weights.about.preprocessing
    if known is not None:
        return known if size is None else Preprocessing(size, known.margin, known.style)
    assert found is not None  # A working directory knows it.
    if size is None and found.name is None:
        raise InputError(
            f'{weights.path} does not know the size of its images, and is none of the family: give --size'
        )
    return default_preprocessing(RECIPES[found.base], size)
