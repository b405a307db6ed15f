"""Gaussian filtering by its definition, every pair of points in float64: for small images, and to judge the lattice."""

import numpy as np

from tinyseg.errors import ShapeError
from tinyseg.kernels.cpu.threads import in_parallel

__all__ = ["Exact"]

_MOST = 1 << 15                                      # points: a filtering then takes seconds
_CACHED = 1 << 16                                    # pairs


class Exact:
    """y_i = Σ_j exp(-|f_i - f_j|² / 2) x_j, the sum over all points j, i among them.  features float (N, d)."""

    def __init__(self, features: np.ndarray):
        if len(features) > _MOST:
            raise ShapeError(f'crf: {len(features):,} pixels by method "exact", which visits every pair of them; needs '
                             f'at most {_MOST:,}. Use method "lattice"')
        self._features = features.astype(np.float64)

    def filter(self, x: np.ndarray, before: np.ndarray, after: np.ndarray, transposed: bool = False) -> np.ndarray:
        """D_after K D_before x with diagonal D.  K is its own transpose.

        x (N, C), before and after (N,) -> (N, C), of the type of x; summed in float64
        """
        features, y = self._features, np.empty(x.shape)
        source = x.astype(np.float64) * before[:, None]
        rows = max(1, _CACHED // len(x))

        def work(first: int) -> None:
            block = slice(first, first + rows)
            square = sum((a[block, None] - a)**2 for a in features.T)    # (rows, N), axis by axis
            y[block] = after[block, None] * (np.exp(-square / 2) @ source)

        in_parallel(work, range(0, len(x), rows), blas=True)
        return y.astype(x.dtype, copy=False)
