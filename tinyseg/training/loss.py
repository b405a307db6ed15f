"""The loss that a configuration names, between scores and a batch's masks."""

from collections.abc import Callable

import numpy as np

import tinyseg.functional as F
from tinyseg.autograd import Tensor
from tinyseg.data import IGNORE, Batch
from tinyseg.errors import ArgumentError
from tinyseg.inference import centre

__all__ = ["build_loss"]

NAMES = ("ce", "dice", "ce+dice", "focal")


def build_loss(name: str, weights: np.ndarray | None = None,
               label_smoothing: float = 0.0) -> Callable[[Tensor, Batch], Tensor]:
    """A function of scores (N, classes, H, W) and a Batch; where scores are smaller, the masks' centre counts."""
    if name not in NAMES:
        raise ArgumentError(f"loss {name!r}: legal: {', '.join(NAMES)}")
    weight = None if weights is None else Tensor(np.asarray(weights, np.float32))

    def loss(scores: Tensor, batch: Batch) -> Tensor:
        masks = Tensor(centre(batch.masks, scores.shape[2:]))
        pixel_weight = None if batch.weights is None else Tensor(centre(batch.weights, scores.shape[2:]))
        if name == "focal":
            return F.focal_loss(scores, masks, ignore_index=IGNORE)
        if name == "dice":
            return F.dice_loss(scores, masks, ignore_index=IGNORE)
        entropy = F.cross_entropy(scores, masks, weight=weight, ignore_index=IGNORE, pixel_weight=pixel_weight,
                                  label_smoothing=label_smoothing)
        return entropy if name == "ce" else entropy + F.dice_loss(scores, masks, ignore_index=IGNORE)

    return loss
