"""The loss that a configuration names, between what a net gives in training and a batch's masks."""

from collections.abc import Callable, Sequence

import numpy as np

import tinyseg.functional as F
from tinyseg.autograd import Tensor
from tinyseg.data import IGNORE, Batch
from tinyseg.errors import ArgumentError
from tinyseg.inference import centre
from tinyseg.models.segmenter import Scored

__all__ = ["build_loss", "shrunk"]

NAMES = ("ce", "ohem", "dice", "ce+dice", "focal")


def build_loss(name: str, weights: np.ndarray | None = None, label_smoothing: float = 0.0, reduction: str = "mean",
               ohem_threshold: float = 0.7, ohem_min_kept: float = 1 / 16,
               ) -> Callable[[Tensor | Sequence[Scored], Batch], Tensor]:
    """A function of what a net gives in training mode, and a Batch.

    Logits (N, classes, H, W) that are smaller than the masks (unpadded nets) are judged by the masks' centre.  Of
    `Scored`, the sum of the weighted losses counts, each by masks shrunk to its size.  With reduction "sum" the loss is
    a sum over the pixels of an image, and the mean of these sums over the batch, as Caffe has it.
    """
    if name not in NAMES:
        raise ArgumentError(f"loss {name!r}: legal: {', '.join(NAMES)}")
    weight = None if weights is None else Tensor(np.asarray(weights, np.float32))

    def compare(scores: Tensor, masks: np.ndarray, pixel_weights: np.ndarray | None) -> Tensor:
        common = {"ignore_index": IGNORE, "reduction": reduction}
        if name == "dice":
            return F.dice_loss(scores, masks, ignore_index=IGNORE)
        if name == "focal":
            value = F.focal_loss(scores, masks, alpha=weight, **common)
        elif name == "ohem":
            value = F.ohem_cross_entropy(scores, masks, ohem_threshold, ohem_min_kept, weight=weight,
                                         pixel_weight=pixel_weights, label_smoothing=label_smoothing, **common)
        else:
            value = F.cross_entropy(scores, masks, weight=weight, pixel_weight=pixel_weights,
                                    label_smoothing=label_smoothing, **common)
        if name == "ce+dice":
            return value + F.dice_loss(scores, masks, ignore_index=IGNORE)
        return value / len(scores) if reduction == "sum" else value

    def loss(output: Tensor | Sequence[Scored], batch: Batch) -> Tensor:
        if isinstance(output, Tensor):
            size = output.shape[2:]
            return compare(output, *(None if a is None else Tensor(centre(a, size))
                                     for a in (batch.masks, batch.weights)))
        terms = [compare(term.scores, *(None if a is None else Tensor(shrunk(a, term.scores.shape[2:],
                                                                             term.align_corners))
                                        for a in (batch.masks, batch.weights))) * term.weight
                 for term in output]
        return sum(terms[1:], terms[0])

    return loss


def shrunk(array: np.ndarray, size: tuple[int, int], align_corners: bool = False) -> np.ndarray:
    """The values of (N, H, W) nearest to the cells of a coarser grid, as `interpolate` lays it on the image."""
    def nearest(n: int, cells: int) -> np.ndarray:
        k = np.arange(cells)
        if align_corners:                            # corner cells lie on the corner pixels
            return (2 * k * (n - 1) + cells - 1) // max(2 * (cells - 1), 1)
        return (2 * k + 1) * n // (2 * cells)        # cells and pixels are areas, which share their outline

    rows, columns = (nearest(n, cells) for n, cells in zip(array.shape[-2:], size, strict=True))
    return array[..., rows[:, None], columns]
