"""Mask R-CNN (He et al. 2017, arXiv 1703.06870) with a feature pyramid, on any network that gives grids."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import haiku as hk
import jax
import jax.numpy as jnp

from nfnets.detection.anchors import LEVELS, make_anchors
from nfnets.detection.detections import Detections, find
from nfnets.detection.heads import BOX_BINS, MASK_BINS, MASK_SIDE, BoxHead, MaskHead, ProposalHead
from nfnets.detection.losses import anchor_losses, is_on_object, mask_loss, roi_losses
from nfnets.detection.masks import mask_targets
from nfnets.detection.proposals import Proposals, propose
from nfnets.detection.pyramid import FeaturePyramid
from nfnets.detection.roi_align import roi_align
from nfnets.detection.targets import Objects, RoiTargets, match_anchors, most_on_objects, sample_rois

NAME = 'MaskRCNN'  # First part of the names of all parameters but the backbone's.
Grids = Callable[[jax.Array, bool], tuple[jax.Array, ...]]  # Of images, in training or not.


@dataclasses.dataclass(frozen=True)
class Sizes:
    """How much of an image is looked at, and by how many channels.

    Attributes:
      channels: of the pyramid, and of the heads' convolutions.
      hidden: units of each hidden layer of the box head.
      anchor_scale: as of `make_anchors`.
      most_of_level: anchors kept of each level before non-maximum suppression.
      proposals: kept for each image after it.
      regions: sampled of each image to train the heads.
      detections: most objects found in an image.
    """

    channels: int
    hidden: int
    anchor_scale: float
    most_of_level: int
    proposals: int
    regions: int
    detections: int


class MaskRCNN(hk.Module):
    """Proposals from a pyramid, and a class, a box and a mask for each."""

    def __init__(self, backbone: Grids, num_classes: int, sizes: Sizes, name: str = NAME):
        """Creates the network.

        Args:
          backbone: the method `grids` of a network of `nfnets/models` with four stages.
          num_classes: K.
          sizes: how much of an image is looked at, and by how many channels.
          name: first part of the names of all parameters but the backbone's.
        """
        super().__init__(name=name)
        self.backbone, self.num_classes, self.sizes = backbone, num_classes, sizes
        self.pyramid = FeaturePyramid(sizes.channels, name='pyramid')
        self.proposal_head = ProposalHead(sizes.channels, name='proposal_head')
        self.box_head = BoxHead(num_classes, sizes.hidden, name='box_head')
        self.mask_head = MaskHead(num_classes, sizes.channels, name='mask_head')

    def losses(
        self, key: jax.Array, images: jax.Array, image_sizes: jax.Array, objects: Objects, masks: jax.Array
    ) -> dict[str, jax.Array]:
        """The losses of a batch, means over its images.

        Args:
          key: of the samples of anchors and regions.
          images: [N, H, W, 3], normalized; H and W multiples of 2^6.
          image_sizes: [N, 2], height and width without padding, px.
          objects: of each image, [N, G, ...].
          masks: [N, G, M, M], across the objects' boxes.

        Returns:
          'objectness', 'anchor_shifts', 'classes', 'roi_shifts' and 'mask', float32 scalars, whose sum is
          the loss.
        """
        anchor_key, region_key = jax.random.split(key)
        keys = [jax.random.split(each, len(images)) for each in (anchor_key, region_key)]
        grids, objectness, shifts, anchors = self._look(images, is_training=True)
        flat = jnp.concatenate(list(anchors.values()))
        anchor_targets = jax.vmap(match_anchors, (0, None, 0))(keys[0], flat, objects)
        found = jax.vmap(anchor_losses, (0, 0, None, 0, 0))(
            jnp.concatenate(list(objectness.values()), axis=1),
            jnp.concatenate(list(shifts.values()), axis=1),
            flat,
            anchor_targets,
            objects,
        )
        proposals = self._propose(objectness, shifts, anchors, image_sizes)
        targets = self._regions(keys[1], proposals, objects)
        logits, roi_shifts = self._boxes(grids, targets.boxes)
        found |= jax.vmap(roi_losses)(logits, roi_shifts, targets, objects)
        found['mask'] = self._mask_losses(grids, targets, objects, masks)
        return {name: jnp.mean(value) for name, value in found.items()}

    def detect(self, images: jax.Array, image_sizes: jax.Array) -> tuple[Detections, jax.Array]:
        """The objects in images [N, H, W, 3] of sizes [N, 2], px.

        Returns:
          Detections [N, D, ...], and for each the probability of its mask, float32 [N, D, S, S], across its
          box.
        """
        grids, objectness, shifts, anchors = self._look(images, is_training=False)
        proposals = self._propose(objectness, shifts, anchors, image_sizes)
        logits, roi_shifts = self._boxes(grids, proposals.boxes)
        finds = jax.vmap(functools.partial(find, most=self.sizes.detections))
        found = finds(logits, roi_shifts, proposals, image_sizes)
        masks = self._masks(grids, found.boxes)
        chosen = jax.nn.one_hot(found.labels, self.num_classes)
        return found, jax.nn.sigmoid(jnp.einsum('ndstk,ndk->ndst', masks.astype(jnp.float32), chosen))

    def _look(self, images: jax.Array, *, is_training: bool) -> tuple[dict[int, jax.Array], ...]:
        """The pyramid, and objectness and shifts of the anchors, all by level."""
        grids = self.pyramid(self.backbone(images, is_training))
        outputs = {level: self.proposal_head(grid) for level, grid in grids.items()}
        made = make_anchors(images.shape[1], images.shape[2], self.sizes.anchor_scale)
        anchors = {level: jnp.asarray(each) for level, each in zip(LEVELS, made, strict=True)}
        objectness = {level: each for level, (each, _) in outputs.items()}
        return grids, objectness, {level: each for level, (_, each) in outputs.items()}, anchors

    def _propose(self, *of_images: Any) -> Proposals:
        def of_image(objectness: Any, shifts: Any, anchors: Any, size: jax.Array) -> Proposals:
            most_of_level, most = self.sizes.most_of_level, self.sizes.proposals
            return propose(objectness, shifts, anchors, size, most_of_level=most_of_level, most=most)

        return jax.vmap(of_image, (0, 0, None, 0))(*of_images)

    def _regions(self, keys: jax.Array, proposals: Proposals, objects: Objects) -> RoiTargets:
        def of_image(key: jax.Array, proposals: Proposals, objects: Objects) -> RoiTargets:
            count, num_classes = self.sizes.regions, self.num_classes
            return sample_rois(key, *proposals, objects, count=count, num_classes=num_classes)

        return jax.vmap(of_image)(keys, proposals, objects)

    def _boxes(self, grids: dict[int, jax.Array], boxes: jax.Array) -> tuple[jax.Array, ...]:
        return self._run_head(self.box_head, grids, boxes, BOX_BINS)

    def _masks(self, grids: dict[int, jax.Array], boxes: jax.Array) -> jax.Array:
        return self._run_head(self.mask_head, grids, boxes, MASK_BINS)

    def _run_head(self, head: Any, grids: dict[int, jax.Array], boxes: jax.Array, size: int) -> Any:
        """A head on regions [N, R, 4]; what it gives, [N, R, ...]."""
        of_boxes = {level: grid for level, grid in grids.items() if level < LEVELS[-1]}
        pooled = jax.vmap(lambda grids, boxes: roi_align(grids, boxes, size))(of_boxes, boxes)
        outputs = head(pooled.reshape(-1, *pooled.shape[2:]))
        return jax.tree.map(lambda x: x.reshape(*boxes.shape[:2], *x.shape[1:]), outputs)

    def _mask_losses(
        self, grids: dict[int, jax.Array], targets: RoiTargets, objects: Objects, masks: jax.Array
    ) -> jax.Array:
        few = jax.tree.map(lambda x: x[:, : most_on_objects(self.sizes.regions)], targets)
        targets_of = jax.vmap(functools.partial(mask_targets, side=MASK_SIDE))
        wanted = targets_of(masks, objects.boxes, few.boxes, few.match)
        on_object = is_on_object(few, self.num_classes)
        return jax.vmap(mask_loss)(self._masks(grids, few.boxes), wanted, few.labels, on_object)
