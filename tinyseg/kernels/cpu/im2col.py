"""Convolution as a matrix product: C factored into W · Im2col, and so Cᵀ = Col2im · Wᵀ.

N batch, C/O channels in/out, G groups, K = K_h·K_w taps, L = output pixels.  The columns of one band of output rows are
made at a time: a band stays in the cache between being written and being multiplied.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.jit import jit
from tinyseg.kernels.cpu.threads import in_parallel, num_threads

__all__ = ["col2im", "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "im2col"]

BAND_BYTES = 1 << 20                                 # columns made at a time: half a core's second-level cache


def conv2d(x: np.ndarray, weight: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """x (N, C, H, W), weight (O, C/G, K_h, K_w) -> (N, O, H', W').  Threads share the images and bands."""
    y = np.empty((len(x), len(weight), *geometry.output_size), x.dtype)
    kernel = _as_matrix(weight, geometry.groups)                         # (G, O/G, C/G·K)
    pixels = _as_pixels(y, geometry)                                     # (N, G, O/G, L)

    def multiply(item: tuple[int, range]) -> None:
        n, rows = item
        columns = im2col(x[n], geometry, rows, geometry.groups)          # (G, C/G·K, band)
        np.matmul(kernel, columns, out=pixels[n, ..., _pixels(rows, geometry)])

    in_parallel(multiply, [(n, rows) for n in range(len(x)) for rows in _bands(x[0], geometry, num_threads())],
                blas=True)
    return y


def conv2d_input_grad(grad: np.ndarray, weight: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The transpose of `conv2d` in x, which is also transposed convolution: Col2im · Wᵀ.  Threads share channels."""
    x = np.zeros((len(grad), weight.shape[1] * geometry.groups, *geometry.input_size), grad.dtype)
    kernel = _as_matrix(weight, geometry.groups)
    pixels = _as_pixels(grad, geometry)

    def spread(share: _Share) -> None:
        transposed = kernel[share.groups, :, share.columns].mT           # (G, C/G·K, O/G)
        for x_n, pixels_n in zip(x[:, share.channels], pixels[:, share.groups], strict=True):
            for rows in _bands(x_n, geometry):
                col2im(transposed @ pixels_n[..., _pixels(rows, geometry)], geometry, rows, x_n)

    in_parallel(spread, _shares(x.shape[1], geometry), blas=True)
    return x


def conv2d_weight_grad(grad: np.ndarray, x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The transpose of `conv2d` in the weight: dy · Im2col(x)ᵀ, summed over the batch.  Threads share channels."""
    weight = np.zeros((grad.shape[1], x.shape[1] // geometry.groups, *geometry.kernel_size), x.dtype)
    kernel = _as_matrix(weight, geometry.groups)
    pixels = _as_pixels(grad, geometry)

    def gather(share: _Share) -> None:
        mine = kernel[share.groups, :, share.columns]
        for x_n, pixels_n in zip(x[:, share.channels], pixels[:, share.groups], strict=True):
            for rows in _bands(x_n, geometry):
                columns = im2col(x_n, geometry, rows, len(mine))
                mine += pixels_n[..., _pixels(rows, geometry)] @ columns.mT   # (G, O/G, band) · (G, band, C/G·K)

    in_parallel(gather, _shares(x.shape[1], geometry), blas=True)
    return weight


def im2col(x: np.ndarray, geometry: ConvGeometry, rows: range | None = None, groups: int = 1) -> np.ndarray:
    """x (C, H, W) -> (G, C/G·K, len(rows)·W'): column l holds what output pixel l of these rows sees."""
    rows = range(geometry.output_size[0]) if rows is None else rows
    shape = groups, len(x) // groups * geometry.taps, len(rows) * geometry.output_size[1]
    if geometry.taps == 1 and geometry.output_size == geometry.input_size and not any(map(any, geometry.padding)):
        return x[:, rows.start:rows.stop].reshape(shape)                 # 1x1: the image is its own columns
    columns = np.empty((len(x), *geometry.kernel_size, len(rows), geometry.output_size[1]), x.dtype)
    _gather(x, columns, rows.start, geometry.stride, geometry.near_padding, geometry.dilation)
    return columns.reshape(shape)


def col2im(columns: np.ndarray, geometry: ConvGeometry, rows: range, x: np.ndarray) -> None:
    """The transpose of `im2col`: add columns (G, C/G·K, len(rows)·W') to the pixels of x (C, H, W) they came from."""
    columns = columns.reshape(len(x), *geometry.kernel_size, len(rows), geometry.output_size[1])
    _scatter(columns, x, rows.start, geometry.stride, geometry.near_padding, geometry.dilation)


def _as_matrix(weight: np.ndarray, groups: int) -> np.ndarray:
    """(O, C/G, K_h, K_w) -> (G, O/G, C/G·K)."""
    return weight.reshape(groups, len(weight) // groups, -1)


def _as_pixels(y: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """(N, O, H', W') -> (N, G, O/G, L)."""
    n, channels, height, width = y.shape
    return y.reshape(n, geometry.groups, channels // geometry.groups, height * width)


def _bands(x: np.ndarray, geometry: ConvGeometry, at_least: int = 1) -> Iterator[range]:
    """Bands of output rows whose columns fit in BAND_BYTES, and at least so many of them."""
    height, width = geometry.output_size
    step = max(1, BAND_BYTES // (len(x) * geometry.taps * width * x.itemsize))
    step = min(step, -(-height // at_least))
    for first in range(0, height, step):
        yield range(first, min(first + step, height))


def _pixels(rows: range, geometry: ConvGeometry) -> slice:
    """The flattened output pixels of these rows."""
    return slice(rows.start * geometry.output_size[1], rows.stop * geometry.output_size[1])


class _Share:
    """One thread's input channels: whole groups, or a part of the only group."""

    def __init__(self, first: int, last: int, geometry: ConvGeometry, group_channels: int):
        alone = geometry.groups == 1
        scale = 1 if alone else group_channels
        self.channels = slice(first * scale, last * scale)
        self.groups = slice(None) if alone else slice(first, last)
        self.columns = slice(first * geometry.taps, last * geometry.taps) if alone else slice(None)


def _shares(channels: int, geometry: ConvGeometry) -> list[_Share]:
    units = channels if geometry.groups == 1 else geometry.groups
    parts = min(num_threads(), units)
    ends = [units * t // parts for t in range(parts + 1)]
    return [_Share(a, b, geometry, channels // geometry.groups) for a, b in pairwise(ends)]


@jit
def _inside(size, outputs, stride, pad, offset):
    """The first and the last-plus-one output whose tap at `offset` falls inside an axis of `size`."""
    first = min(outputs, max(0, -((offset - pad) // stride)))            # ceil((pad - offset) / stride)
    return first, max(first, min(outputs, (size - 1 + pad - offset) // stride + 1))


@jit
def _gather(x, columns, first_row, stride, near, dilation):
    (C, K_h, K_w, P, Q), (_, H, W) = columns.shape, x.shape
    for c in range(C):
        for u in range(K_h):
            for v in range(K_w):
                q0, q1 = _inside(W, Q, stride[1], near[1], v * dilation[1])
                w0 = q0 * stride[1] - near[1] + v * dilation[1]
                for p in range(P):
                    h = (first_row + p) * stride[0] - near[0] + u * dilation[0]
                    line = columns[c, u, v, p]
                    outside = h < 0 or h >= H
                    for q in range(Q if outside else q0):
                        line[q] = 0
                    if not outside:
                        _copy(x[c, h, w0:], line[q0:q1], stride[1])
                        for q in range(q1, Q):
                            line[q] = 0


@jit
def _scatter(columns, x, first_row, stride, near, dilation):
    (C, K_h, K_w, P, Q), (_, H, W) = columns.shape, x.shape
    for c in range(C):
        for u in range(K_h):
            for v in range(K_w):
                q0, q1 = _inside(W, Q, stride[1], near[1], v * dilation[1])
                w0 = q0 * stride[1] - near[1] + v * dilation[1]
                for p in range(P):
                    h = (first_row + p) * stride[0] - near[0] + u * dilation[0]
                    if 0 <= h < H:
                        _add(columns[c, u, v, p, q0:q1], x[c, h, w0:], stride[1])


# A step that the compiler knows to be 1 becomes vectors: three times as fast.
@jit(inline="always")
def _copy(source, target, step):
    if step == 1:
        for q in range(len(target)):
            target[q] = source[q]
    else:
        for q in range(len(target)):
            target[q] = source[q * step]


@jit(inline="always")
def _add(source, target, step):
    if step == 1:
        for q in range(len(source)):
            target[q] += source[q]
    else:
        for q in range(len(source)):
            target[q * step] += source[q]
