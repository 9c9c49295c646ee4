"""Metadata of a checkpoint: classes, preprocessing and where its parameters come from."""

import dataclasses
import json
from typing import Any

from nfnets.data.preprocessing import STYLES, Preprocessing
from nfnets.losses import LOSSES
from nfnets.models.activations import ACTIVATIONS
from nfnets.models.param_names import FIRST_BLOCKS
from nfnets.weights.pickles import Refused


@dataclasses.dataclass(frozen=True)
class About:
    """Metadata of a checkpoint that its parameters alone do not show; None: not known.

    Attributes:
      class_names: name of each class, 0 first.
      preprocessing: of images in evaluation.
      activation: of the network.
      parameters: 'raw', as the optimizer left them, or 'ema', their EMA.
      step: updates that made them.
      train_size: side of the images in training, px.
      network: its kind, as in `model.name`.
      loss: by which it was trained, as in `train.loss`, and so what its logits mean.
    """

    class_names: tuple[str, ...] | None = None
    preprocessing: Preprocessing | None = None
    activation: str | None = None
    parameters: str | None = None
    step: int | None = None
    train_size: int | None = None
    network: str | None = None
    loss: str | None = None


def to_json(about: About, **more: Any) -> str:
    """The metadata of a file as JSON, with extra keys for readers that do not load the parameters."""
    return json.dumps({**more, **dataclasses.asdict(about)}, indent=1)


def from_json(text: str | bytes) -> About:
    """Reads what `to_json` wrote; keys it does not know are passed over.

    Raises:
      Refused: it is something else.
    """
    try:
        values = dict(json.loads(text).items())
        about = About(**{f.name: values[f.name] for f in dataclasses.fields(About) if f.name in values})
        preprocessing = about.preprocessing and Preprocessing(**values['preprocessing'])
        names = about.class_names and tuple(values['class_names'])
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise Refused(f'its metadata is not that of an NFNet: {error}') from error
    about = dataclasses.replace(about, preprocessing=preprocessing or None, class_names=names or None)
    for key, is_right in {
        'class_names': all(isinstance(name, str) for name in names or ()),
        'preprocessing': preprocessing is None or _is_right(preprocessing),
        'train_size': about.train_size is None
        or (isinstance(about.train_size, int) and 0 < about.train_size <= 4096),
        'network': about.network in (None, *FIRST_BLOCKS),
        'activation': about.activation in (None, *ACTIVATIONS),
        'loss': about.loss in (None, *LOSSES),
        'parameters': about.parameters in (None, 'raw', 'ema'),
        'step': about.step is None or isinstance(about.step, int),
    }.items():
        if not is_right:
            raise Refused(f'its metadata is not that of an NFNet: {key} is {str(values[key])[:80]}')
    return about


def _is_right(preprocessing: Preprocessing) -> bool:
    size, margin = preprocessing.size, preprocessing.margin
    return (
        isinstance(size, int)
        and isinstance(margin, int)
        and 0 < size <= 4096
        and 0 <= margin <= 4096
        and preprocessing.style in STYLES
    )
