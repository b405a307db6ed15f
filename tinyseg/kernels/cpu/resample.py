"""Linear maps along H and W: what resizing, average pooling, mirrored padding and their gradients all are."""

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.axis import AxisMap
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.workspace import ALIGNMENT, empty


def resample2d(x: np.ndarray, rows: AxisMap, columns: AxisMap) -> np.ndarray:
    """y = R · x · Cᵀ on each plane.  x (..., H, W) -> (..., H', W')."""
    planes = x.reshape(-1, *x.shape[-2:])
    y = empty((len(planes), rows.outputs, columns.outputs), x.dtype)
    threads = team()
    turns = threads.turns(max(x.size, y.size))
    lines = np.empty((threads.size, x.shape[-1] + ALIGNMENT), x.dtype)   # so far apart that no two threads write to one
    _resample(threads, turns, planes, rows.start, rows.source, rows.weight.astype(x.dtype),
              columns.start, columns.source, columns.weight.astype(x.dtype), lines, y)
    return y.reshape(*x.shape[:-2], *y.shape[-2:])


@jit
def _resample(team, turns, x, row_start, row, row_weight, column_start, column, column_weight, lines, y):
    share(team, turns, _resample_rows,
          (turns, x, row_start, row, row_weight, column_start, column, column_weight, lines, y))


@jit
def _resample_rows(turn, member, turns, x, row_start, row, row_weight, column_start, column, column_weight, lines, y):
    planes, height, width = y.shape
    line = lines[member, :x.shape[2]]                # the mixture of input rows that output row i is made of
    for t in range(turn * planes * height // turns, (turn + 1) * planes * height // turns):
        p, i = t // height, t % height
        line[:] = 0
        for a in range(row_start[i], row_start[i + 1]):
            source, weight = x[p, row[a]], row_weight[a]
            for j in range(x.shape[2]):
                line[j] += weight * source[j]
        for j in range(width):
            total = line.dtype.type(0)
            for b in range(column_start[j], column_start[j + 1]):
                total += column_weight[b] * line[column[b]]
            y[p, i, j] = total
