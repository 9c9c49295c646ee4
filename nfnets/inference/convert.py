"""A working directory made of a checkpoint: a run that has done no step yet."""

import jax
import ml_collections
from etils import epath

from nfnets import build
from nfnets import config as config_lib
from nfnets.data.imagenet import NUM_TRAIN_IMAGES
from nfnets.errors import InputError
from nfnets.finetune import preprocessing_settings, with_preprocessing
from nfnets.inference.score import set_network
from nfnets.run.checkpoint import Checkpoints
from nfnets.run.workdir import CHECKPOINTS, claim
from nfnets.train_state import init_train_state
from nfnets.weights.about import About
from nfnets.weights.fit import require_architecture
from nfnets.weights.released import Params


def write_workdir(
    workdir: epath.Path, params: Params, about: About, settings: ml_collections.ConfigDict
) -> None:
    """Makes a working directory whose parameters and EMA are those given.

    Args:
      workdir: must not exist or be empty.
      params: {module: {name: array}}.
      about: their metadata.
      settings: a config whose recipe the directory gets, as for ImageNet; the network's settings and those
        of evaluation are replaced.

    Raises:
      InputError: the directory is in use, or the parameters are not an NFNet's.
    """
    network = require_architecture(params, 'the parameters are not those of an NFNet')
    if workdir.exists() and (not workdir.is_dir() or any(workdir.iterdir())):
        raise InputError(f'{workdir} exists already and is not empty: give another name')
    config = ml_collections.ConfigDict(settings)
    set_network(config, network, about.activation)
    config = with_preprocessing(config, preprocessing_settings(about, params))
    config_lib.check(config)
    frozen = config_lib.complete(
        config,
        num_examples=NUM_TRAIN_IMAGES,
        num_classes=network.num_classes,
        num_devices=1,
    )
    claim(workdir, frozen, about.class_names)
    state = init_train_state(jax.tree.map(jax.numpy.asarray, params), build.optimizer(frozen))
    checkpoints = Checkpoints(workdir / CHECKPOINTS, keep=None)
    checkpoints.save(state, position=0)
    checkpoints.close()
