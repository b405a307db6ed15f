"""Losses as modules: options at construction, logits and target at the call.  `tinyseg.functional` explains them."""

from __future__ import annotations

from typing import Any

import tinyseg.functional as F
from tinyseg.autograd import Tensor
from tinyseg.nn.module import Module

__all__ = ["BCEWithLogitsLoss", "CrossEntropyLoss", "DiceLoss", "FocalLoss", "OHEMCrossEntropyLoss"]


class CrossEntropyLoss(Module):
    """`functional.cross_entropy`: logits (N, C, H, W), target (N, H, W).

    weight             (C,): of each class
    ignore_index       label of pixels that do not count; 255 for most masks
    reduction          "mean" over the counted pixels' weights, "sum" or "none"
    label_smoothing    share of the target that is spread over all classes
    """

    def __init__(self, weight: Any = None, ignore_index: int = -100, reduction: str = "mean",
                 label_smoothing: float = 0.0):
        self.register_buffer("weight", weight)
        self.ignore_index, self.reduction, self.label_smoothing = ignore_index, reduction, label_smoothing

    def forward(self, logits: Tensor, target: Any, pixel_weight: Any = None) -> Tensor:
        return F.cross_entropy(logits, target, self.weight, self.ignore_index, self.reduction, self.label_smoothing,
                               pixel_weight)


class OHEMCrossEntropyLoss(Module):
    """`functional.ohem_cross_entropy`: cross-entropy of the hard pixels alone.

    threshold    a pixel is hard while the probability of its label is below this
    min_kept     share of the counted pixels that are kept at least, the hardest
    """

    def __init__(self, threshold: float = 0.7, min_kept: float = 1 / 16, weight: Any = None, ignore_index: int = -100,
                 reduction: str = "mean"):
        self.register_buffer("weight", weight)
        self.threshold, self.min_kept = threshold, min_kept
        self.ignore_index, self.reduction = ignore_index, reduction

    def forward(self, logits: Tensor, target: Any, pixel_weight: Any = None) -> Tensor:
        return F.ohem_cross_entropy(logits, target, self.threshold, self.min_kept, self.weight, self.ignore_index,
                                    self.reduction, pixel_weight=pixel_weight)


class FocalLoss(Module):
    """`functional.focal_loss`: cross-entropy that looks away from what is easy.

    gamma    >= 0; how much; 0 is cross-entropy
    alpha    (C,): weight of each class
    """

    def __init__(self, gamma: float = 2.0, alpha: Any = None, ignore_index: int = -100, reduction: str = "mean"):
        self.register_buffer("alpha", alpha)
        self.gamma, self.ignore_index, self.reduction = gamma, ignore_index, reduction

    def forward(self, logits: Tensor, target: Any) -> Tensor:
        return F.focal_loss(logits, target, self.gamma, self.alpha, self.ignore_index, self.reduction)


class BCEWithLogitsLoss(Module):
    """`functional.binary_cross_entropy_with_logits`: logits and target of one shape.

    weight, pos_weight    of each element, and of the positive targets; both broadcast
    ignore_index          the target value that marks elements not to be learned
    """

    def __init__(self, weight: Any = None, reduction: str = "mean", pos_weight: Any = None,
                 ignore_index: int | None = None):
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)
        self.reduction, self.ignore_index = reduction, ignore_index

    def forward(self, logits: Tensor, target: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(logits, target, self.weight, self.reduction, self.pos_weight,
                                                  self.ignore_index)


class DiceLoss(Module):
    """`functional.dice_loss`: 1 - the mean soft Dice coefficient of the classes.

    smooth     > 0; a class that is neither predicted nor there scores 1
    classes    "all", or "present": those that the target contains
    """

    def __init__(self, ignore_index: int = -100, smooth: float = 1.0, classes: str = "all"):
        self.ignore_index, self.smooth, self.classes = ignore_index, smooth, classes

    def forward(self, logits: Tensor, target: Any) -> Tensor:
        return F.dice_loss(logits, target, self.ignore_index, self.smooth, self.classes)
