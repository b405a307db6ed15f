"""Convolution as one sparse matrix C, and transposed convolution literally as Cᵀ.

Row (o, p, q) of C holds the weights that make output element (o, p, q), each in the column (c, h, w) of the input
element it meets:  y = C x,  dx = Cᵀ dy,  and a transposed convolution is  y = Cᵀ x.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.errors import ArgumentError
from tinyseg.jit import jit
from tinyseg.kernels.cpu.team import share_range
from tinyseg.kernels.cpu.threads import team

__all__ = ["SparseMatrix", "conv2d", "conv2d_input_grad", "conv2d_weight_grad", "kernel_matrix"]

LARGEST = 100_000_000                                # entries of C; more would fill gigabytes


@dataclass(frozen=True, eq=False)
class SparseMatrix:
    """Compressed rows: row r has values[indptr[r]:indptr[r+1]] in columns indices[indptr[r]:indptr[r+1]]."""

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    shape: tuple[int, int]

    def __matmul__(self, x: np.ndarray) -> np.ndarray:
        """(rows, columns) · (N, columns) -> (N, rows): the product with each of N vectors."""
        y = np.empty((len(x), self.shape[0]), x.dtype)
        _product(team(), self.indptr, self.indices, self.values, np.ascontiguousarray(x), y)
        return y

    @property
    def T(self) -> SparseMatrix:
        """The transpose: the same entries ordered by column."""
        order = np.argsort(self.indices, kind="stable")
        indptr = np.searchsorted(self.indices[order], np.arange(self.shape[1] + 1))
        return SparseMatrix(indptr, self.rows[order], self.values[order], self.shape[::-1])

    @cached_property
    def rows(self) -> np.ndarray:
        """The row of each entry."""
        return np.repeat(np.arange(self.shape[0]), np.diff(self.indptr))

    def dense(self) -> np.ndarray:
        full = np.zeros(self.shape, self.values.dtype)
        full[self.rows, self.indices] = self.values
        return full


def kernel_matrix(weight: np.ndarray, geometry: ConvGeometry) -> SparseMatrix:
    """C of shape (O·H'·W', C·H·W), from weight (O, C/G, K_h, K_w)."""
    pattern = _pattern(geometry, *weight.shape[:2])
    return SparseMatrix(pattern.indptr, pattern.indices, weight.reshape(-1)[pattern.values], pattern.shape)


def conv2d(x: np.ndarray, weight: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """y = C x.  x (N, C, H, W) -> (N, O, H', W')."""
    y = kernel_matrix(weight, geometry) @ _as_vectors(x)
    return y.reshape(len(x), len(weight), *geometry.output_size)


def conv2d_input_grad(grad: np.ndarray, weight: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """x = Cᵀ y.  grad (N, O, H', W') -> (N, C, H, W)."""
    x = kernel_matrix(weight, geometry).T @ _as_vectors(grad)
    return x.reshape(len(grad), weight.shape[1] * geometry.groups, *geometry.input_size)


def conv2d_weight_grad(grad: np.ndarray, x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """d<C x, y>/dw: each entry of C adds y[row] · x[column] to the weight that it repeats."""
    shape = (grad.shape[1], x.shape[1] // geometry.groups, *geometry.kernel_size)
    pattern = _pattern(geometry, *shape[:2])
    products = np.zeros(len(pattern.values))
    for y_n, x_n in zip(_as_vectors(grad), _as_vectors(x), strict=True):
        products += y_n[pattern.rows] * x_n[pattern.indices].astype(np.float64)
    weight = np.bincount(pattern.values, products, minlength=int(np.prod(shape)))
    return weight.reshape(shape).astype(x.dtype)


def _as_vectors(maps: np.ndarray) -> np.ndarray:
    """(N, C, H, W) -> (N, C·H·W)."""
    n, c, h, w = maps.shape
    return maps.reshape(n, c * h * w)


@lru_cache(maxsize=32)
def _pattern(geometry: ConvGeometry, out_channels: int, group_channels: int) -> SparseMatrix:
    """C with the *number* of the weight in place of its value: what geometry alone decides."""
    (H, W), (P, Q), groups = geometry.input_size, geometry.output_size, geometry.groups
    rows, columns, taps = _one_channel(geometry)                         # (E,) each
    entries = len(rows) * out_channels * group_channels
    if entries > LARGEST:
        raise ArgumentError(f'algorithm "matrix": C would have {entries:,} entries; needs at most {LARGEST:,}. '
                            'Use algorithm="im2col", or a smaller input')
    o = np.arange(out_channels)[:, None, None]                           # (O, 1, 1)
    c = np.arange(group_channels)[None, :, None]                         # (1, C/G, 1)
    first = o // (out_channels // groups) * group_channels               # first input channel of o's group
    all_rows = np.broadcast_to(o * (P * Q) + rows, (out_channels, group_channels, len(rows))).ravel()
    all_columns = ((first + c) * (H * W) + columns).ravel()              # (O, C/G, E) flat
    all_taps = ((o * group_channels + c) * geometry.taps + taps).ravel()
    order = np.argsort(all_rows, kind="stable")
    shape = (out_channels * P * Q, groups * group_channels * H * W)
    indptr = np.searchsorted(all_rows[order], np.arange(shape[0] + 1))
    return SparseMatrix(indptr, all_columns[order], all_taps[order], shape)


def _one_channel(geometry: ConvGeometry) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(output pixel, input pixel, tap) of every product, for one channel in and out."""
    per_axis = []
    for a in (0, 1):
        p = np.arange(geometry.output_size[a])[:, None]
        u = np.arange(geometry.kernel_size[a])[None, :]
        i = p * geometry.stride[a] - geometry.padding[a][0] + u * geometry.dilation[a]       # (H', K_h)
        p, u = np.nonzero((i >= 0) & (i < geometry.input_size[a]))
        per_axis.append((p, i[p, u], u))
    (p, h, u), (q, w, v) = per_axis
    return tuple((a[:, None] * n + b[None, :]).ravel()
                 for a, b, n in ((p, q, geometry.output_size[1]), (h, w, geometry.input_size[1]),
                                 (u, v, geometry.kernel_size[1])))


@jit
def _product(team, indptr, indices, values, x, y):
    share_range(team, len(indptr) - 1, len(values) * len(x), _product_rows, (indptr, indices, values, x, y))


@jit
def _product_rows(first, last, indptr, indices, values, x, y):
    for r in range(first, last):
        for n in range(len(x)):
            total = 0.0
            for e in range(indptr[r], indptr[r + 1]):
                total += np.float64(values[e]) * x[n, indices[e]]
            y[n, r] = total
