"""Pooling by its definition, one window at a time: what the fast forms are checked against.

Window (p, q) has the cells h = p·s - top + u·d, w = q·s - left + v·d; those outside the input are left out.
"""

import numpy as np

from tinyseg.arithmetic import ConvGeometry, PoolGeometry
from tinyseg.jit import jit


def max_pool2d(x: np.ndarray, geometry: ConvGeometry) -> tuple[np.ndarray, np.ndarray]:
    """As `pool.max_pool2d`."""
    shape = (*x.shape[:2], *geometry.output_size)
    y, indices = np.empty(shape, x.dtype), np.empty(shape, np.int32)
    _largest(x, y, indices, geometry.kernel_size, geometry.stride, geometry.near_padding, geometry.dilation)
    return y, indices


def max_pool2d_grad(grad: np.ndarray, indices: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """As `pool.max_pool2d_grad`."""
    dx = np.zeros((*grad.shape[:2], *geometry.input_size), grad.dtype)
    _return(grad, indices, dx)
    return dx


def avg_pool2d(x: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    """As `avg_pool.avg_pool2d`; sums are kept in float64."""
    y = np.empty((*x.shape[:2], *geometry.output_size), x.dtype)
    _mean(x, y, geometry.kernel_size, geometry.stride, geometry.near_padding, _counted(geometry))
    return y


def avg_pool2d_grad(grad: np.ndarray, geometry: PoolGeometry) -> np.ndarray:
    """As `avg_pool.avg_pool2d_grad`; sums are kept in float64."""
    dx = np.zeros((*grad.shape[:2], *geometry.input_size))
    _share(grad, dx, geometry.kernel_size, geometry.stride, geometry.near_padding, _counted(geometry))
    return dx.astype(grad.dtype, copy=False)


def _counted(geometry: PoolGeometry) -> tuple[int, int, int, int]:
    """Rows before and after the input, columns before and after, that a mean divides by too.

    What `ceil_mode` added to the padding is not among them.
    """
    (top, bottom), (left, right) = geometry.asked_padding
    return (top, bottom, left, right) if geometry.count_include_pad else (0, 0, 0, 0)


@jit
def _largest(x, y, indices, kernel, stride, near, dilation):
    (N, C, P, Q), (_, _, H, W) = y.shape, x.shape
    for n, c, p, q in np.ndindex(N, C, P, Q):
        where = -1
        for u in range(kernel[0]):
            for v in range(kernel[1]):
                h, w = p * stride[0] - near[0] + u * dilation[0], q * stride[1] - near[1] + v * dilation[1]
                if 0 <= h < H and 0 <= w < W:
                    value = x[n, c, h, w]
                    if where < 0 or value > y[n, c, p, q] or np.isnan(value):
                        y[n, c, p, q], where = value, h * W + w
        indices[n, c, p, q] = where


@jit
def _return(grad, indices, dx):
    for n, c, p, q in np.ndindex(grad.shape):
        h, w = divmod(indices[n, c, p, q], dx.shape[3])
        dx[n, c, h, w] += grad[n, c, p, q]


@jit
def _mean(x, y, kernel, stride, near, counted):
    (N, C, P, Q), (_, _, H, W) = y.shape, x.shape
    for n, c, p, q in np.ndindex(N, C, P, Q):
        total = 0.0
        for u in range(kernel[0]):
            for v in range(kernel[1]):
                h, w = p * stride[0] - near[0] + u, q * stride[1] - near[1] + v
                if 0 <= h < H and 0 <= w < W:
                    total += x[n, c, h, w]
        y[n, c, p, q] = total / _cells(p, q, H, W, kernel, stride, near, counted)


@jit
def _share(grad, dx, kernel, stride, near, counted):
    (N, C, P, Q), (_, _, H, W) = grad.shape, dx.shape
    for n, c, p, q in np.ndindex(N, C, P, Q):
        share = np.float64(grad[n, c, p, q]) / _cells(p, q, H, W, kernel, stride, near, counted)
        for u in range(kernel[0]):
            for v in range(kernel[1]):
                h, w = p * stride[0] - near[0] + u, q * stride[1] - near[1] + v
                if 0 <= h < H and 0 <= w < W:
                    dx[n, c, h, w] += share


@jit
def _cells(p, q, H, W, kernel, stride, near, counted):
    """How many cells of window (p, q) a mean divides by."""
    cells = 0
    for u in range(kernel[0]):
        for v in range(kernel[1]):
            h, w = p * stride[0] - near[0] + u, q * stride[1] - near[1] + v
            cells += -counted[0] <= h < H + counted[1] and -counted[2] <= w < W + counted[3]
    return cells
