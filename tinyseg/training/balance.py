"""Weights of the classes in the loss, from how often they appear in the training masks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tinyseg.data import Dataset
from tinyseg.errors import ArgumentError, DataError
from tinyseg.inference import ahead

__all__ = ["RULES", "class_weights"]


def _balanced(share: np.ndarray, among: np.ndarray) -> np.ndarray:
    """1/sqrt(share), with mean 1: rare classes gain, yet not as much as they are rare."""
    weights = 1 / np.sqrt(share)
    return weights / weights.mean()


def _median_frequency(share: np.ndarray, among: np.ndarray) -> np.ndarray:
    """median(f) / f, where f is a class's share of the pixels of those images in which it appears (Eigen & Fergus,
    arXiv:1411.4734; SegNet, arXiv:1511.00561).
    """
    return np.median(among) / among


def _inverse_log(share: np.ndarray, among: np.ndarray) -> np.ndarray:
    """1 / ln(1.02 + share), between 1.42 and 50 (ENet, arXiv:1606.02147)."""
    return 1 / np.log(1.02 + share)


RULES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "balanced": _balanced, "median-frequency": _median_frequency, "inverse-log": _inverse_log}


def class_weights(dataset: Dataset, rule: str = "balanced") -> np.ndarray:
    """float32 (classes,): the weight of each class by one of `RULES`; 0 for a class that no mask holds."""
    if rule not in RULES:
        raise ArgumentError(f"class weights {rule!r}: legal: {', '.join(RULES)}, or a number for each class")
    pixels, home = np.zeros(len(dataset.classes)), np.zeros(len(dataset.classes))
    for sample in ahead(dataset):
        counts = np.bincount(sample.mask.ravel(), minlength=256)[:len(dataset.classes)]
        pixels += counts
        home += np.where(counts > 0, counts.sum(), 0)        # labelled pixels of the images in which a class appears
    found = pixels > 0
    if not found.any():
        raise DataError("class weights: no labelled pixel in the training masks; all are 255")
    weights = np.zeros(len(pixels), np.float32)
    weights[found] = RULES[rule](pixels[found] / pixels.sum(), pixels[found] / home[found])
    return weights
