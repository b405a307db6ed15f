"""`DenseCRF`: from the class probabilities of a net to those that also agree with the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike

from tinyseg.crf.mean_field import Pairwise, mean_field
from tinyseg.crf.normalized import METHODS, NormalizedFilter
from tinyseg.crf.potentials import Appearance, Potential, Smoothness
from tinyseg.errors import ArgumentError, DTypeError, ShapeError
from tinyseg.machine import expect_room

__all__ = ["DenseCRF", "pairwise_of", "unary_from_labels", "unary_from_probabilities"]

_SURE = 1e-5                                         # the least probability: no pixel is so sure that none can ask it
_SLACK = 1e-2                                        # of a sum of probabilities, for those kept in float16


@dataclass(frozen=True)
class DenseCRF:
    """A CRF in which every pixel is connected with every other.

    potentials    the Gaussians; by default the appearance kernel (weight 10, 80 pixels, 13 grey levels) and the
                  smoothness kernel (weight 3, 3 pixels) of the reference implementation's example.  Good values depend
                  on the images and on how coarse the net is: `tinyseg crf` finds them on a validation set
    iterations    turns of mean field
    method        "lattice", linear in the pixels; "exact", quadratic, in float64

    crf(image, probabilities) gives probabilities float32 (C, H, W).
    Krähenbühl & Koltun 2011, arXiv:1210.5644.
    """

    potentials: Sequence[Potential] = (Appearance(), Smoothness())
    iterations: int = 10
    method: str = "lattice"

    def __post_init__(self):
        if not isinstance(self.iterations, Integral) or self.iterations < 0:
            raise ArgumentError(f"DenseCRF: iterations {self.iterations!r}; needs a whole number >= 0")
        if not isinstance(self.potentials, Sequence) or not all(isinstance(p, Potential) for p in self.potentials):
            raise ArgumentError(f"DenseCRF: potentials {self.potentials!r}; needs a list of Appearance, Smoothness or "
                                "Gaussian")
        if self.method not in METHODS:
            raise ArgumentError(f"DenseCRF: method {self.method!r}; legal: {', '.join(METHODS)}")

    def __call__(self, image: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
        """Refine class probabilities.

        image            (H, W, 3), (H, W, 1) or (H, W), of any number of channels in fact; uint8, or floats in 0..255
        probabilities    float (C, H, W), each pixel's sum 1
        Raises ShapeError, DTypeError, ArgumentError; also when the memory free now would not do.
        """
        image, probabilities = with_channels(image), np.asarray(probabilities)
        _check_sizes(probabilities, image.shape[:2])
        classes, height, width = probabilities.shape
        # Q, U, their sum, and what was heard of each potential
        expect_room(f"DenseCRF: {height}x{width} pixels with {classes} classes",
                    (3 + len(self.potentials)) * probabilities.size * 4, "Take a smaller image, or cut it into tiles")
        check_grey_levels(image)
        _check_sums(probabilities)
        unary = unary_from_probabilities(probabilities)
        unary = np.ascontiguousarray(unary.reshape(classes, -1).T, np.float64 if self.method == "exact" else np.float32)
        q = mean_field(unary, pairwise_of(self.potentials, image, self.method), self.iterations)
        return np.ascontiguousarray(q.T, np.float32).reshape(classes, height, width)


def pairwise_of(potentials: Sequence[Potential], image: np.ndarray, method: str = "lattice") -> list[Pairwise]:
    """The filters and compatibilities of potentials on one image (H, W, K)."""
    return [(NormalizedFilter(p.features(image), p.normalization, method), p.compatibility) for p in potentials]


def unary_from_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """U = -log p, of any shape; p below 1e-5 counts as that."""
    return -np.log(np.clip(probabilities, _SURE, 1))


def unary_from_labels(labels: ArrayLike, classes: int, certainty: float, unknown: int | None = 255) -> np.ndarray:
    """The energies of hard labels that are right with probability `certainty`, float32 (C, H, W).

    -log(certainty) for the label, -log((1 - certainty) / (C - 1)) for the others; all alike, log C, where it is
    `unknown`.
    """
    labels = np.asarray(labels)
    if not 0 < certainty < 1 or classes < 2:
        raise ArgumentError(f"unary_from_labels: certainty {certainty} of {classes} classes; needs 0 < certainty < 1 "
                            "and at least 2 classes")
    if labels.dtype.kind not in "iub" or labels.ndim != 2:
        raise ShapeError(f"unary_from_labels: labels are {labels.dtype} {labels.shape}; needs whole numbers (H, W)")
    known = np.ones(labels.shape, bool) if unknown is None else labels != unknown
    stray = labels[known & ((labels < 0) | (labels >= classes))]
    if stray.size:
        raise ArgumentError(f"unary_from_labels: label {stray[0]}; of {classes} classes labels are 0 .. {classes - 1}"
                            + (f", or {unknown} where it is unknown" if unknown is not None else ""))
    probability = np.full((classes, *labels.shape), (1 - certainty) / (classes - 1), np.float32)
    rows, columns = np.nonzero(known)
    probability[labels[known], rows, columns] = certainty
    probability[:, ~known] = 1 / classes
    return -np.log(probability)


def with_channels(image: np.ndarray) -> np.ndarray:
    """An image as (H, W, K)."""
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or 0 in image.shape:
        raise ShapeError(f"DenseCRF: image of shape {image.shape}; needs (H, W, 3), (H, W, 1) or (H, W), not empty")
    return image


def check_grey_levels(image: np.ndarray) -> None:
    """Raise unless an image holds 0..255: sigmas are meant in these, and a normalised image would give anything."""
    if image.dtype.kind == "f":
        low, high = image.min(), image.max()
        if not (low >= 0 and high <= 255):
            raise ArgumentError(f"DenseCRF: image holds values from {low:.4g} to {high:.4g}; needs grey levels 0..255: "
                                "the image as it was before a net's normalisation")
        if 0 < high <= 1:
            raise ArgumentError(f"DenseCRF: image holds floats from {low:.4g} to {high:.4g}; needs grey levels 0..255: "
                                "multiply by 255")
    elif image.dtype != np.uint8:
        raise DTypeError(f"DenseCRF: image is {image.dtype}; needs uint8, or floats in 0..255")


def _check_sizes(p: np.ndarray, size: tuple[int, int]) -> None:
    if p.dtype.kind != "f":
        raise DTypeError(f"DenseCRF: probabilities are {p.dtype}; needs floats, each pixel's sum 1")
    if p.ndim != 3 or p.shape[1:] != size or p.shape[0] == 0:
        raise ShapeError(f"DenseCRF: probabilities {p.shape} for an image of {size} pixels (H, W); "
                         f"needs (classes, {size[0]}, {size[1]})")


def _check_sums(p: np.ndarray) -> None:
    total = p.sum(axis=0, dtype=np.float32)
    least = p.min()
    if not (least >= 0 and np.abs(total - 1).max() <= _SLACK):           # written so that nan fails
        off = total.flat[np.argmax(np.where(np.isnan(total), np.inf, np.abs(total - 1)))]
        raise ArgumentError(f"DenseCRF: probabilities from {least:.4g}, with a pixel whose sum is {off:.4g}; needs "
                            "p >= 0 and a sum of 1 over the classes (scores go through softmax first)")
