"""What the training loop needs of a task, whichever it is: the functions that a task's module has."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import haiku as hk
import jax
import ml_collections
import numpy as np
from ml_collections import FrozenConfigDict as Config

from nfnets.evaluation.evaluate import Results, Variables
from nfnets.models.param_layout import ParamLayout
from nfnets.train_step import Augment, LossFn
from nfnets.weights.load import Weights


class Examples(Protocol):
    """One split of a data set.

    Attributes:
      class_names: name of each label, 0 first.
      warnings: what may be wrong with the data, one line each.
    """

    class_names: tuple[str, ...]
    warnings: tuple[str, ...]

    def __len__(self) -> int:
        """Number of examples."""

    def summary(self) -> str:
        """How many there are, for messages."""


class Batches(Iterator[dict[str, np.ndarray]], Protocol):
    """Endless training batches of one process, arrays [N, ...] by name; a broken example is an InputError.

    Attributes:
      position: data position of the whole run after the batch yielded last, images.
    """

    position: int

    def close(self) -> None:
        """Stops what reads ahead."""


class Task(Protocol):
    """A task, as its module. Configs are complete but for `source`; examples are what that gives."""

    def source(self, config: ml_collections.ConfigDict, split: str) -> Any:
        """The examples of one split, see `Examples`."""

    def train_batches(self, config: Config, examples: Any, position: int, num_devices: int) -> Batches:
        """This process's part of the training stream, from a data position on.

        Args:
          config: a complete one.
          examples: the training split.
          position: data position of the whole run, images.
          num_devices: that share a batch, over all hosts.
        """

    def left_out(self, batches: Any) -> Mapping[str, tuple[int, str]]:
        """What this process has dropped from its batches: {metric: (count, the same in words)}."""

    def batch_shapes(self, config: Config, count: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a device's part of a batch, by name.

        Args:
          config: a complete one.
          count: images that the device trains on.
        """

    def augment(self, config: Config) -> Augment:
        """What a device does to its part of a batch before the network sees it."""

    def network(self, config: Config, layout: ParamLayout) -> hk.TransformedWithState:
        """The network, for parameters in a layout; those of init are unstacked."""

    def initial_variables(
        self, config: Config, network: hk.TransformedWithState, key: jax.Array
    ) -> tuple[hk.Params, hk.State]:
        """Parameters and network state before the first step, of an unstacked network."""

    def start_from(
        self, config: Config, weights: Weights, params: hk.Params, class_names: Sequence[str]
    ) -> tuple[hk.Params, str]:
        """Initial parameters with those of a checkpoint among them, and what was taken, for people."""

    def loss_fn(self, config: Config, network: hk.TransformedWithState) -> LossFn:
        """The loss that is differentiated, of what `augment` gives."""

    def evaluation(
        self, config: Config, examples: Any, network: hk.TransformedWithState
    ) -> Callable[[Mapping[str, Variables]], Results]:
        """What is measured of variables by name, 'eval' and their EMA, 'eval_ema'."""

    def describe(self, config: Config) -> str:
        """The name of the network, for people."""

    def summary(self, results: Results) -> str:
        """A line for each set of variables evaluated, for people."""
