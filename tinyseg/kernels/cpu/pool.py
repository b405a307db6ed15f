"""Max pooling and its gradient."""

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.jit import jit
from tinyseg.kernels.cpu.share import share


def max_pool2d(x: np.ndarray, geometry: ConvGeometry) -> tuple[np.ndarray, np.ndarray]:
    """The largest value under each window, and where it was.  x (N, C, H, W) -> y, indices (N, C, H', W').

    indices    int32, h·W + w in the input's plane; the first of several equal ones, the last of several nan.
    """
    planes = x.reshape(-1, *geometry.input_size)
    y = np.empty((len(planes), *geometry.output_size), x.dtype)
    indices = np.empty(y.shape, np.int32)
    (top, _), (left, _) = geometry.padding
    share(_max_pool, len(y) * geometry.output_size[0], x.size, planes, *geometry.kernel_size, *geometry.stride,
          top, left, *geometry.dilation, y, indices)
    shape = (*x.shape[:2], *geometry.output_size)
    return y.reshape(shape), indices.reshape(shape)


def max_pool2d_grad(grad: np.ndarray, indices: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Each cotangent goes back to where its value came from.  grad, indices (N, C, H', W') -> (N, C, H, W)."""
    cells = geometry.output_size[0] * geometry.output_size[1]
    dx = np.zeros((*grad.shape[:2], *geometry.input_size), grad.dtype)
    planes = len(grad) * grad.shape[1]
    share(_scatter, planes, grad.size, grad.reshape(-1, cells), indices.reshape(-1, cells),
          dx.reshape(-1, geometry.input_size[0] * geometry.input_size[1]))
    return dx


@jit
def _max_pool(begin, end, x, kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w, y, indices):
    _, out_height, out_width = y.shape
    _, height, width = x.shape
    for t in range(begin, end):
        p, i = t // out_height, t % out_height
        best, where = y[p, i], indices[p, i]
        where[:] = -1
        for a in range(kernel_h):
            h = i * stride_h - top + a * dilation_h
            if 0 <= h < height:
                line = x[p, h]
                for b in range(kernel_w):
                    # Windows first .. last-1 have this tap inside the image: no test within the innermost loop.
                    offset = b * dilation_w - left
                    first = max(0, (stride_w - 1 - offset) // stride_w)
                    last = min(out_width, (width - 1 - offset) // stride_w + 1)
                    for j in range(first, last):
                        w = j * stride_w + offset
                        value = line[w]
                        larger = value > best[j] or where[j] < 0 or value != value
                        best[j] = value if larger else best[j]
                        where[j] = h * width + w if larger else where[j]


@jit
def _scatter(first, last, grad, indices, dx):
    for p in range(first, last):
        for j in range(grad.shape[1]):
            dx[p, indices[p, j]] += grad[p, j]
