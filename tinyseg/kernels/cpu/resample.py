"""Linear maps along H and W: what resizing, average pooling, mirrored padding and their gradients all are."""

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.axis import AxisMap
from tinyseg.kernels.cpu.share import share


def resample2d(x: np.ndarray, rows: AxisMap, columns: AxisMap) -> np.ndarray:
    """y = R · x · Cᵀ on each plane.  x (..., H, W) -> (..., H', W')."""
    planes = x.reshape(-1, *x.shape[-2:])
    y = np.empty((len(planes), rows.outputs, columns.outputs), x.dtype)
    share(_resample, len(y) * rows.outputs, max(x.size, y.size), planes,
          rows.start, rows.source, rows.weight.astype(x.dtype),
          columns.start, columns.source, columns.weight.astype(x.dtype), y)
    return y.reshape(*x.shape[:-2], *y.shape[-2:])


@jit(allocates=True)
def _resample(first, last, x, row_start, row, row_weight, column_start, column, column_weight, y):
    _, height, width = y.shape
    for t in range(first, last):
        p, i = t // height, t % height
        line = np.zeros(x.shape[2], x.dtype)         # the mixture of input rows that output row i is made of
        for a in range(row_start[i], row_start[i + 1]):
            source, weight = x[p, row[a]], row_weight[a]
            for j in range(x.shape[2]):
                line[j] += weight * source[j]
        for j in range(width):
            total = line.dtype.type(0)
            for b in range(column_start[j], column_start[j + 1]):
                total += column_weight[b] * line[column[b]]
            y[p, i, j] = total
