"""Max pooling and its gradient; windows of 2x2 side by side, which most nets have, as vectors."""

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.jit import jit
from tinyseg.kernels.cpu.team import share_range
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.vector import LANES, deinterleave, interleave, load_part, store_part
from tinyseg.kernels.cpu.vector_math import put, ramp, where_equal, where_larger
from tinyseg.kernels.cpu.workspace import empty, past_cache, zeros


def max_pool2d(x: np.ndarray, geometry: ConvGeometry) -> tuple[np.ndarray, np.ndarray]:
    """The largest value under each window, and where it was.  x (N, C, H, W) -> y, indices (N, C, H', W').

    indices    int32, h·W + w in the input's plane; the first of several equal ones, the last of several nan.
    """
    planes = x.reshape(-1, *geometry.input_size)
    shape = (*x.shape[:2], *geometry.output_size)
    y, indices = empty(shape, x.dtype), empty(shape, np.int32)
    results = y.reshape(len(planes), *geometry.output_size), indices.reshape(len(planes), *geometry.output_size)
    if _is_halving(geometry) and x.dtype == np.float32:
        _halve(team(), planes, results[0], results[1].view(np.float32))
    else:
        (top, _), (left, _) = geometry.padding
        _max_pool(team(), planes, *geometry.kernel_size, *geometry.stride, top, left, *geometry.dilation, *results)
    return y, indices


def max_pool2d_grad(grad: np.ndarray, indices: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """Each cotangent goes back to where its value came from.  grad, indices (N, C, H', W') -> (N, C, H, W)."""
    shape, planes = (*grad.shape[:2], *geometry.input_size), grad.shape[0] * grad.shape[1]
    if _is_halving(geometry) and grad.dtype == np.float32:
        dx = empty(shape)
        _halve_grad(team(), grad.reshape(planes, *geometry.output_size),
                    indices.astype(np.int32, copy=False).view(np.float32).reshape(planes, *geometry.output_size),
                    dx.reshape(planes, *geometry.input_size),
                    past_cache(dx) and geometry.input_size[1] % (2 * LANES) == 0)
        return dx
    dx = zeros(shape, grad.dtype)
    cells = geometry.output_size[0] * geometry.output_size[1]
    _scatter(team(), grad.reshape(planes, cells), indices.reshape(planes, cells),
             dx.reshape(planes, geometry.input_size[0] * geometry.input_size[1]))
    return dx


def _is_halving(geometry: ConvGeometry) -> bool:
    """Windows of 2x2 side by side, all inside the input."""
    return geometry.kernel_size == geometry.stride == (2, 2) and geometry.padding == ((0, 0), (0, 0)) \
        and geometry.dilation == (1, 1)


@jit
def _max_pool(team, x, kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w, y, indices):
    share_range(team, y.shape[0] * y.shape[1], x.size, _max_pool_rows,
                (x, kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w, y, indices))


@jit
def _max_pool_rows(begin, end, x, kernel_h, kernel_w, stride_h, stride_w, top, left, dilation_h, dilation_w, y,
                   indices):
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
def _scatter(team, grad, indices, dx):
    share_range(team, len(grad), grad.size, _scatter_planes, (grad, indices, dx))


@jit
def _scatter_planes(first, last, grad, indices, dx):
    for p in range(first, last):
        for j in range(grad.shape[1]):
            dx[p, indices[p, j]] += grad[p, j]


@jit
def _halve(team, x, y, indices):
    share_range(team, len(x), x.size, _halve_planes, (x, y, indices))


@jit
def _halve_planes(first, last, x, y, indices):
    _, rows, columns = y.shape
    width = x.shape[2]
    for p in range(first, last):
        for i in range(rows):
            for j in range(0, columns, LANES):
                count = min(LANES, columns - j)
                a, b = _even_and_odd(x, p, 2 * i, 2 * j, 2 * count)
                c, d = _even_and_odd(x, p, 2 * i + 1, 2 * j, 2 * count)
                place = 2 * i * width + 2 * j
                best, where = a, ramp(place, 2)
                where = where_larger(b, best, ramp(place + 1, 2), where)
                best = where_larger(b, best, b, best)
                where = where_larger(c, best, ramp(place + width, 2), where)
                best = where_larger(c, best, c, best)
                where = where_larger(d, best, ramp(place + width + 1, 2), where)
                best = where_larger(d, best, d, best)
                store_part(y, (p, i, j), best, count)
                store_part(indices, (p, i, j), where, count)


@jit
def _even_and_odd(x, p, h, w, count):
    """`count` neighbours, at most two vectors of them, as one vector of every other and one of the rest."""
    return deinterleave((load_part(x, (p, h, w), count), load_part(x, (p, h, w + LANES), count - LANES)))


@jit
def _halve_grad(team, grad, indices, dx, past):
    share_range(team, len(dx), dx.size, _halve_grad_planes, (grad, indices, dx, past))


@jit
def _halve_grad_planes(first, last, grad, indices, dx, past):
    _, rows, columns = grad.shape
    width = dx.shape[2]
    for p in range(first, last):
        for i in range(rows):
            for j in range(0, columns, LANES):
                count = min(LANES, columns - j)
                g, where = load_part(grad, (p, i, j), count), load_part(indices, (p, i, j), count)
                for row in range(2):
                    place = (2 * i + row) * width + 2 * j
                    a, b = interleave((where_equal(where, ramp(place, 2), g),
                                       where_equal(where, ramp(place + 1, 2), g)))
                    if past:
                        put(dx, (p, 2 * i + row, 2 * j), a, True)
                        put(dx, (p, 2 * i + row, 2 * j + LANES), b, True)
                    else:
                        store_part(dx, (p, 2 * i + row, 2 * j), a, 2 * count)
                        store_part(dx, (p, 2 * i + row, 2 * j + LANES), b, 2 * count - LANES)
            for row in range(2 * i, 2 * i + 2):      # what no window reaches
                dx[p, row, 2 * columns:] = 0
        dx[p, 2 * rows:] = 0
