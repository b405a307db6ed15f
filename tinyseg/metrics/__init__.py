"""How good a segmentation is: one matrix of counts and the figures that follow from it."""

from tinyseg.metrics.borders import near_borders
from tinyseg.metrics.confusion import ConfusionMatrix, majority_baseline

__all__ = ["ConfusionMatrix", "majority_baseline", "near_borders"]
