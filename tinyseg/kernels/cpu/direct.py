"""Convolution told directly: a dilated convolution as loops over NCHW arrays, compiled just in time.

    y[n, o, p, q]  =  Σ  x[n, c, p·s - top + u·d, q·s - left + v·d] · w[o, c, u, v]     over c, u, v

Each tap (u, v) adds a shifted copy of x, times one weight.  Which output pixels meet the image with that tap is known
before the loops begin (`meetings`), so none of them holds a test, and the compiler turns the innermost, along a row of
pixels, into vectors.
N batch, C/O channels in/out, H W height and width of x, P Q of y, K_h K_w of the kernel, G groups.
"""

from typing import NamedTuple

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.jit import jit
from tinyseg.kernels.cpu import workspace
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.threads import team

__all__ = ["Meetings", "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "meetings"]

SHORT = 16                                           # channels: float32 sums are kept short, and added up in their turn
_LINE = 16                                           # numbers: no two threads write to the same line of the cache


class Meetings(NamedTuple):
    """For each tap of an axis the outputs first .. last - 1 that meet the input with it, and where.

    Output `first` meets input cell `cell`, the next one cell + step, and so on.
    """

    first: np.ndarray                                # (K,) each
    last: np.ndarray
    cell: np.ndarray
    step: np.uint64


def meetings(geometry: ConvGeometry) -> tuple[Meetings, Meetings]:
    """Of the rows and of the columns."""
    return _meetings(geometry, 0), _meetings(geometry, 1)


def conv2d(x: np.ndarray, weight: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """x (N, C, H, W), weight (O, C/G, K_h, K_w) -> (N, O, P, Q).  Threads share the planes of y."""
    y, threads = np.zeros((len(x), len(weight), *geometry.output_size), x.dtype), team()
    parts = np.empty((threads.size, *y.shape[2:]), x.dtype)
    _forward(threads, x, weight, y, *meetings(geometry), geometry.groups, parts)
    return y


def conv2d_input_grad(grad: np.ndarray, weight: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The transpose of `conv2d` in x, which is transposed convolution.  grad (N, O, P, Q), weight (O, C/G, K_h, K_w)
    -> (N, C, H, W).  Threads share the planes of x."""
    x, threads = np.zeros((len(grad), weight.shape[1] * geometry.groups, *geometry.input_size), grad.dtype), team()
    parts = np.empty((threads.size, *x.shape[2:]), grad.dtype)
    _input_grad(threads, grad, weight, x, *meetings(geometry), geometry.groups, parts)
    return x


def conv2d_weight_grad(grad: np.ndarray, x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """The transpose of `conv2d` in the weight.  grad (N, O, P, Q), x (N, C, H, W) -> (O, C/G, K_h, K_w).  Threads
    share the planes of the weight."""
    weight, threads = np.zeros((grad.shape[1], x.shape[1] // geometry.groups, *geometry.kernel_size), x.dtype), team()
    sums = workspace.empty((threads.size, -(-grad.shape[3] // _LINE) * _LINE), grad.dtype)
    _weight_grad(threads, grad, x, weight, *meetings(geometry), geometry.groups, sums)
    return weight


@jit
def _forward(team, x, weight, y, rows, columns, groups, parts):
    """Fill y."""
    share(team, len(y) * y.shape[1], _forward_plane, (x, weight, y, rows, columns, groups, parts))


@jit
def _input_grad(team, grad, weight, x, rows, columns, groups, parts):
    """Fill x."""
    share(team, len(x) * x.shape[1], _input_grad_plane, (grad, weight, x, rows, columns, groups, parts))


@jit
def _weight_grad(team, grad, x, weight, rows, columns, groups, sums):
    """Fill the weight."""
    share(team, len(weight) * weight.shape[1], _weight_grad_plane, (grad, x, weight, rows, columns, groups, sums))


@jit(fastmath={"contract"})
def _forward_plane(plane, member, x, weight, y, rows, columns, groups, parts):
    """Fill y[n, o]."""
    (_, O, _, _), (_, C, K_h, K_w) = y.shape, weight.shape
    n, o = plane // O, plane % O
    out, part = y[n, o], parts[member]                                   # (P, Q) each
    start = o // (O // groups) * C                                       # the first input channel of o's group
    for short in range(0, C, SHORT):
        part[:] = 0
        for c in range(short, min(short + SHORT, C)):
            for u in range(K_h):
                p0, p1, h0 = rows.first[u], rows.last[u], rows.cell[u]
                for v in range(K_w):
                    q0, q1, w0 = columns.first[v], columns.last[v], columns.cell[v]
                    for p in range(p0, p1):
                        h = h0 + (p - p0) * rows.step
                        _gather(weight[o, c, u, v], x[n, start + c, h], part[p], q0, q1, w0, columns.step)
        out += part


@jit(fastmath={"contract"})
def _input_grad_plane(plane, member, grad, weight, x, rows, columns, groups, parts):
    """Fill x[n, c]."""
    O, C, K_h, K_w = weight.shape
    n, c = plane // x.shape[1], plane % x.shape[1]
    out, part = x[n, c], parts[member]                                   # (H, W) each
    start, stop = c // C * (O // groups), (c // C + 1) * (O // groups)   # the output channels of c's group
    for short in range(start, stop, SHORT):
        part[:] = 0
        for o in range(short, min(short + SHORT, stop)):
            for u in range(K_h):
                p0, p1, h0 = rows.first[u], rows.last[u], rows.cell[u]
                for v in range(K_w):
                    q0, q1, w0 = columns.first[v], columns.last[v], columns.cell[v]
                    for p in range(p0, p1):
                        h = h0 + (p - p0) * rows.step
                        _scatter(weight[o, c % C, u, v], grad[n, o, p], part[h], q0, q1, w0, columns.step)
        out += part


@jit(fastmath={"contract"})
def _weight_grad_plane(plane, member, grad, x, weight, rows, columns, groups, sums):
    """Fill weight[o, c]."""
    O, C, K_h, K_w = weight.shape
    o, c, line = plane // C, plane % C, sums[member] # one sum a column: neighbours add side by side
    start = o // (O // groups) * C
    for u in range(K_h):
        p0, p1, h0 = rows.first[u], rows.last[u], rows.cell[u]
        for v in range(K_w):
            q0, q1, w0 = columns.first[v], columns.last[v], columns.cell[v]
            line[:] = 0
            for n in range(len(x)):
                for p in range(p0, p1):
                    h = h0 + (p - p0) * rows.step
                    _multiply(grad[n, o, p], x[n, start + c, h], line, q0, q1, w0, columns.step)
            weight[o, c, u, v] = line[:grad.shape[3]].sum()


# The innermost loops, along a row of pixels.  A step that the compiler knows to be 1 becomes vectors, and so does an
# index that it knows not to be negative: Numba lets negative ones count from the end, and would test each.

@jit(fastmath={"contract"}, inline="always")
def _gather(weight, line, out, q0, q1, w0, step):
    """out[q] += weight · line[w], where output q meets input w."""
    if step == 1:
        for q in range(q0, q1):
            out[q] += weight * line[w0 + (q - q0)]
    else:
        for q in range(q0, q1):
            out[q] += weight * line[w0 + (q - q0) * step]


@jit(fastmath={"contract"}, inline="always")
def _scatter(weight, grad, line, q0, q1, w0, step):
    """line[w] += weight · grad[q]."""
    if step == 1:
        for q in range(q0, q1):
            line[w0 + (q - q0)] += weight * grad[q]
    else:
        for q in range(q0, q1):
            line[w0 + (q - q0) * step] += weight * grad[q]


@jit(fastmath={"contract"}, inline="always")
def _multiply(grad, line, sums, q0, q1, w0, step):
    """sums[q] += grad[q] · line[w]."""
    if step == 1:
        for q in range(q0, q1):
            sums[q] += grad[q] * line[w0 + (q - q0)]
    else:
        for q in range(q0, q1):
            sums[q] += grad[q] * line[w0 + (q - q0) * step]


def _meetings(geometry: ConvGeometry, axis: int) -> Meetings:
    size, outputs, step = geometry.input_size[axis], geometry.output_size[axis], geometry.stride[axis]
    cell = np.arange(geometry.kernel_size[axis]) * geometry.dilation[axis] - geometry.near_padding[axis]
    first = np.maximum(0, -(cell // step))                               # ceil(-cell / s): output i meets cell + i·s
    last = np.maximum(first, np.minimum(outputs, (size - 1 - cell) // step + 1))
    return Meetings(*(array.astype(np.uint64) for array in (first, last, cell + first * step)), np.uint64(step))
