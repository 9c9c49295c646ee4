"""Average precision of boxes and masks over a whole split: every image once, on several hosts too."""

import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import haiku as hk
import jax
import numpy as np

from nfnets import parallel
from nfnets.data.augment import normalize
from nfnets.data.stream import Batch, EvalBatches
from nfnets.detection.average_precision import average_precision
from nfnets.detection.detections import Detections
from nfnets.detection.detector import Scenes
from nfnets.detection.examples import CocoExamples
from nfnets.detection.image_detections import ImageDetections, put_back
from nfnets.evaluation.evaluate import Results, Variables, one_behind
from nfnets.models.precision import float32_products

BY_CLASS = ('box_ap', 'mask_ap')  # Metrics that are also given for each class.
# (variables, batch) to detections and their masks, [D, N, ...] of this process's devices.
DetectStep = Callable[[Variables, dict[str, Any]], tuple[Detections, jax.Array]]


def detect(
    network: hk.TransformedWithState, variables: Variables, images: jax.Array, image_sizes: jax.Array
) -> tuple[Detections, jax.Array]:
    """Detections and their masks, as of `MaskRCNN`, in float32 whatever the precision of training.

    Args:
      network: of `make_detector`.
      variables: its own.
      images: pixels, uint8 [N, S, S, 3].
      image_sizes: float32 [N, 2], height and width without padding, px.
    """
    scenes = Scenes(normalize(images), image_sizes)
    with float32_products():
        return network.apply(*variables, None, scenes, False)[0]


def make_detect_step(network: hk.TransformedWithState) -> DetectStep:
    """Builds the parallel step that detects.

    Args:
      network: of `make_detector`.

    Returns:
      (variables, batch) to detections and masks, each device's own; the batch has 'images' uint8
      [D, N, S, S, 3] and 'image_sizes' float32 [D, N, 2].
    """

    def detect_step(variables: Variables, batch: dict[str, jax.Array]) -> Any:
        return detect(network, variables, batch['images'], batch['image_sizes'])

    arguments = (parallel.SAME, parallel.SPLIT)
    return parallel.parallelize(detect_step, arguments=arguments, results=parallel.SPLIT)


def evaluate(
    detect_step: DetectStep,
    variables_by_name: Mapping[str, Variables],
    batches: EvalBatches,
    examples: CocoExamples,
    size: int,
) -> Results:
    """Evaluates several sets of variables over the same batches.

    Args:
      detect_step: from `make_detect_step`.
      variables_by_name: such as {'eval': (params, network_state), 'eval_ema': their EMAs}.
      batches: this process's part; every process must have as many.
      examples: the split that they are of.
      size: side of their squares, px.

    Returns:
      {name: metrics of `average_precision`, 'box_ap/CLASS' and 'mask_ap/CLASS' of classes that have objects,
      and 'num_examples'}, in every process.

    Raises:
      InputError: no image has an object.
      RuntimeError: the images counted are not as many as expected.
    """
    found: dict[str, dict[int, ImageDetections]] = {name: {} for name in variables_by_name}

    def dispatched() -> Iterator[tuple[Batch, dict[str, Any]]]:
        for batch in batches:
            seen = parallel.shard_batch({name: batch[name] for name in ('images', 'image_sizes')})
            yield batch, {name: detect_step(each, seen) for name, each in variables_by_name.items()}

    for batch, outcomes in one_behind(dispatched()):
        for name, outcome in jax.device_get(outcomes).items():
            detections, masks = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), outcome)
            for place in np.flatnonzero(batch['mask']).tolist():
                index = int(batch['indices'][place])
                image = examples.annotated(index)
                own = jax.tree.map(lambda x, place=place: x[place], detections)
                found[name][index] = put_back(own, masks[place], *image.size, size)
    expected = len(examples) - parallel.sum_over_processes(batches.skipped)
    return {name: _scores(examples, of_process, expected) for name, of_process in found.items()}


def _scores(
    examples: CocoExamples, of_process: dict[int, ImageDetections], expected: int
) -> dict[str, float]:
    """The metrics over what all processes found."""
    parts = [pickle.loads(part) for part in parallel.gather_bytes(pickle.dumps(of_process))]
    found = {index: each for part in parts for index, each in part.items()}
    if not len(found) == sum(map(len, parts)) == expected:
        counted = sum(map(len, parts))
        raise RuntimeError(f'evaluation counted {counted} images where the split has {expected}')
    metrics, classes = average_precision(examples, found)
    by_class = {f'{kind}/{each.name}': getattr(each, kind) for kind in BY_CLASS for each in classes}
    return {**metrics, **by_class, 'num_examples': expected}


def summary(results: Results) -> str:
    """A line for each set of variables evaluated, for people."""
    lines = []
    for name, each in results.items():
        means = f'{_percent(each, "box")}, {_percent(each, "mask")}'
        lines.append(f'  {name + ":":9} {means} over {each["num_examples"]} images')
    return '\n'.join(lines)


def _percent(result: Mapping[str, float], kind: str) -> str:
    mean, ap50, ap75 = (100 * result[f'{kind}_{key}'] for key in ('ap', 'ap50', 'ap75'))
    return f'{kind} AP {mean:.2f}% (50: {ap50:.2f}%, 75: {ap75:.2f}%)'
