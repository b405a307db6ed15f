"""Max pooling by its definition, one window at a time: what the fast form is checked against."""

import numpy as np

from tinyseg.arithmetic import ConvGeometry


def max_pool2d(x: np.ndarray, geometry: ConvGeometry) -> tuple[np.ndarray, np.ndarray]:
    """As `pool.max_pool2d`."""
    shape = (*x.shape[:2], *geometry.output_size)
    y, indices = np.empty(shape, x.dtype), np.empty(shape, np.int32)
    for n, c, i, j in np.ndindex(shape):
        cells = _window(i, j, geometry)
        values = [x[n, c, h, w] for h, w in cells]
        k = int(np.argmax(values)) if not np.isnan(values).any() else int(np.flatnonzero(np.isnan(values))[-1])
        y[n, c, i, j] = values[k]
        indices[n, c, i, j] = cells[k][0] * x.shape[3] + cells[k][1]
    return y, indices


def max_pool2d_grad(grad: np.ndarray, indices: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """As `pool.max_pool2d_grad`."""
    dx = np.zeros((*grad.shape[:2], *geometry.input_size), grad.dtype)
    for n, c, i, j in np.ndindex(grad.shape):
        h, w = divmod(int(indices[n, c, i, j]), geometry.input_size[1])
        dx[n, c, h, w] += grad[n, c, i, j]
    return dx


def _window(i: int, j: int, geometry: ConvGeometry) -> list[tuple[int, int]]:
    """The input cells under window (i, j), row by row."""
    axes = []
    for a, o in enumerate((i, j)):
        first = o * geometry.stride[a] - geometry.padding[a][0]
        cells = [first + t * geometry.dilation[a] for t in range(geometry.kernel_size[a])]
        axes.append([cell for cell in cells if 0 <= cell < geometry.input_size[a]])
    return [(h, w) for h in axes[0] for w in axes[1]]
