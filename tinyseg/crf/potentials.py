"""Pairwise potentials: the features by which a Gaussian compares two pixels, and what their agreement is worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tinyseg.crf.normalized import NORMALIZATIONS
from tinyseg.errors import ArgumentError, DTypeError, ShapeError

__all__ = ["Appearance", "Gaussian", "Potential", "Smoothness"]


@dataclass(frozen=True, kw_only=True)
class Potential:
    """μ(l_i, l_j) exp(-|f_i - f_j|² / 2).

    compatibility    μ: a number for Potts, or more, see `compatibility_matrix`
    normalization    see `NormalizedFilter`
    """

    compatibility: ArrayLike = 3.0
    normalization: str = "symmetric"

    def __post_init__(self):
        mu = np.asarray(self.compatibility)
        if mu.dtype.kind not in "iuf" or not np.isfinite(mu).all():
            raise ArgumentError(f"{type(self).__name__}: compatibility {self.compatibility!r}; needs finite numbers")
        if self.normalization not in NORMALIZATIONS:
            raise ArgumentError(f"{type(self).__name__}: normalization {self.normalization!r}; "
                                f"legal: {', '.join(NORMALIZATIONS)}")

    def features(self, image: np.ndarray) -> np.ndarray:
        """f, float32 (H·W, d), of an image (H, W, K)."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Smoothness(Potential):
    """Near pixels tend to be alike: f = (y, x) / sigma_xy.  Removes specks.

    sigma_xy    pixels: a number, or (down, across)
    """

    sigma_xy: float | Sequence[float] = 3.0

    def __post_init__(self):
        super().__post_init__()
        _sigmas(self, "sigma_xy", self.sigma_xy, 2)

    def features(self, image: np.ndarray) -> np.ndarray:
        height, width, _ = image.shape
        down, across = _sigmas(self, "sigma_xy", self.sigma_xy, 2)
        grid = np.meshgrid(np.arange(height) / down, np.arange(width) / across, indexing="ij")
        return np.stack(grid, axis=-1).reshape(-1, 2).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Appearance(Potential):
    """Near pixels of similar colour tend to be alike: f = (y, x) / sigma_xy and color / sigma_color.  Finds borders.

    sigma_xy       pixels: a number, or (down, across)
    sigma_color    grey levels 0..255: a number, or one for each channel
    """

    compatibility: ArrayLike = 10.0
    sigma_xy: float | Sequence[float] = 80.0
    sigma_color: float | Sequence[float] = 13.0

    def __post_init__(self):
        super().__post_init__()
        _sigmas(self, "sigma_xy", self.sigma_xy, 2)
        _sigmas(self, "sigma_color", self.sigma_color)

    def features(self, image: np.ndarray) -> np.ndarray:
        sigma = np.array(_sigmas(self, "sigma_color", self.sigma_color, image.shape[2]))
        colors = (image.reshape(-1, image.shape[2]) / sigma).astype(np.float32)
        return np.hstack([Smoothness(sigma_xy=self.sigma_xy).features(image), colors])


@dataclass(frozen=True, kw_only=True, eq=False)
class Gaussian(Potential):
    """Any other Gaussian, for instance of depth, or of a net's features.

    points    float (H, W, d), already divided by standard deviations
    """

    points: np.ndarray

    def __post_init__(self):
        super().__post_init__()
        if self.points.dtype.kind not in "iuf" or self.points.ndim != 3 or 0 in self.points.shape:
            raise ShapeError(f"Gaussian: points are {self.points.dtype} {self.points.shape}; needs numbers (H, W, d)")

    def features(self, image: np.ndarray) -> np.ndarray:
        if self.points.shape[:2] != image.shape[:2]:
            raise ShapeError(f"Gaussian: points of {self.points.shape[:2]} for an image of {image.shape[:2]} pixels; "
                             "needs one size (H, W)")
        return self.points.reshape(-1, self.points.shape[2]).astype(np.float32)


def _sigmas(potential: Potential, name: str, sigma: float | Sequence[float], count: int | None = None) -> list[float]:
    """One positive number for each of `count` axes."""
    operation = type(potential).__name__
    try:
        many = [float(s) for s in sigma] if isinstance(sigma, Sequence | np.ndarray) else [float(sigma)] * (count or 1)
    except (TypeError, ValueError) as error:
        raise DTypeError(f"{operation}: {name} {sigma!r}; needs a number, or one for each axis") from error
    if not all(0 < s < math.inf for s in many):
        raise ArgumentError(f"{operation}: {name} {sigma}; needs {name} > 0, a standard deviation")
    if count is not None and len(many) != count:
        raise ShapeError(f"{operation}: {len(many)} values of {name}; needs one number, or {count}")
    return many
