"""`resample2d` by its definition: two dense matrix products."""

import numpy as np

from tinyseg.kernels.axis import AxisMap


def resample2d(x: np.ndarray, rows: AxisMap, columns: AxisMap) -> np.ndarray:
    """y = R · x · Cᵀ on each plane.  x (..., H, W) -> (..., H', W')."""
    y = rows.matrix @ x @ columns.matrix.T           # (H', H) · (..., H, W) · (W, W')
    return y.astype(x.dtype)
