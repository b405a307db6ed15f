"""A Gaussian filter with its normalisation, and its transpose."""

import numpy as np

from tinyseg.crf.exact import Exact
from tinyseg.crf.lattice import Lattice
from tinyseg.errors import ArgumentError

__all__ = ["METHODS", "NORMALIZATIONS", "NormalizedFilter"]

METHODS = {"lattice": Lattice, "exact": Exact}

# Exponents of the mass K1 that what goes in, and what comes out, is multiplied by.
NORMALIZATIONS = {"none": (0, 0), "before": (-1, 0), "after": (0, -1), "symmetric": (-0.5, -0.5)}
_TINY = 1e-20


class NormalizedFilter:
    """x -> D_after K D_before x, where K_ij = exp(-|f_i - f_j|² / 2) and D divides by a power of the mass (K1)_i.

    normalization    "symmetric"  both sides by sqrt(K1): the default of the reference implementation
                     "after"      y by K1: each pixel hears the weighted mean of the others
                     "before"     x by K1: each pixel says equally much in total
                     "none"       K itself
    features         float (N, d)
    method           "lattice", or "exact" for the definition, which takes time N²
    """

    def __init__(self, features: np.ndarray, normalization: str = "symmetric", method: str = "lattice"):
        for name, value, legal in (("normalization", normalization, NORMALIZATIONS), ("method", method, METHODS)):
            if value not in legal:
                raise ArgumentError(f"crf: {name} {value!r}; legal: {', '.join(legal)}")
        self._gaussian = METHODS[method](features)
        one = np.ones(len(features))
        mass = self._gaussian.filter(one[:, None], one, one)[:, 0] + _TINY
        self._before, self._after = (mass**power for power in NORMALIZATIONS[normalization])

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """x float (N, C) -> (N, C)."""
        return self._gaussian.filter(np.ascontiguousarray(x), self._before.astype(x.dtype),
                                     self._after.astype(x.dtype))

    def transposed(self, x: np.ndarray) -> np.ndarray:
        """The adjoint, which gradients go back through."""
        return self._gaussian.filter(np.ascontiguousarray(x), self._after.astype(x.dtype),
                                     self._before.astype(x.dtype), transposed=True)
