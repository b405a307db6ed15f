"""`AxisMap`: a linear map along one axis, as a sparse matrix.

Resizing, average pooling and mirrored padding are one thing on an image: y = R · x · Cᵀ, a linear map R along H and
another C along W.  They differ only in the tables made here, and the gradient of each, Rᵀ · dy · C, is again such a
map.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from tinyseg.arithmetic import PoolGeometry

__all__ = ["AxisMap", "bilinear", "bins", "means", "nearest", "reflected", "windows"]


@dataclass(frozen=True, eq=False)
class AxisMap:
    """y[o] = Σ weight[t] · x[source[t]] over the taps t in start[o] .. start[o+1]-1: the rows of a sparse matrix."""

    inputs: int
    start: np.ndarray                                # (outputs + 1,) int64
    source: np.ndarray                               # (taps,) int64
    weight: np.ndarray                               # (taps,) float64

    @classmethod
    def of(cls, inputs: int, outputs: int, output: np.ndarray, source: np.ndarray, weight: np.ndarray) -> AxisMap:
        """From the matrix's entries in any order.  Zeros are left out: 0 · inf has no place in a result."""
        kept = np.flatnonzero(weight)
        kept = kept[np.lexsort((source[kept], output[kept]))]
        start = np.zeros(outputs + 1, np.int64)
        np.cumsum(np.bincount(output[kept], minlength=outputs), out=start[1:])
        return cls(inputs, start, source[kept].astype(np.int64), weight[kept].astype(np.float64))

    @property
    def outputs(self) -> int:
        return len(self.start) - 1

    @cached_property
    def T(self) -> AxisMap:
        """The transposed map, which carries gradients back."""
        return AxisMap.of(self.outputs, self.inputs, self.source, self._rows, self.weight)

    @property
    def matrix(self) -> np.ndarray:
        """The same as a dense array (outputs, inputs)."""
        dense = np.zeros((self.outputs, self.inputs))
        np.add.at(dense, (self._rows, self.source), self.weight)
        return dense

    @property
    def _rows(self) -> np.ndarray:
        return np.repeat(np.arange(self.outputs), np.diff(self.start))


@lru_cache(256)
def nearest(i: int, o: int, scale: float | None = None, centred: bool = False) -> AxisMap:
    """Output x takes the input at floor(x · i/o), or centred floor((x + 1/2) · i/o); `scale` stands for o/i."""
    x = np.arange(o) + (0.5 if centred else 0)
    source = np.minimum(np.floor(_stretch(x, i, o, scale)), i - 1)
    return AxisMap.of(i, o, np.arange(o), source, np.ones(o))


@lru_cache(256)
def bilinear(i: int, o: int, scale: float | None = None, align_corners: bool = False) -> AxisMap:
    """Output x lies between two inputs, at (x + 1/2) · i/o - 1/2, or with aligned corners at x · (i-1)/(o-1).

    Positions before the first input count as the first.  A single output with aligned corners takes the first input.
    """
    x = np.arange(o)
    position = x * (i - 1) / max(o - 1, 1) if align_corners else np.maximum(_stretch(x + 0.5, i, o, scale) - 0.5, 0)
    first = np.minimum(np.floor(position).astype(np.int64), i - 1)
    second = np.minimum(first + 1, i - 1)
    share = np.where(second > first, position - first, 0)
    return AxisMap.of(i, o, np.tile(x, 2), np.concatenate([first, second]), np.concatenate([1 - share, share]))


@lru_cache(256)
def bins(i: int, o: int) -> AxisMap:
    """Output x is the mean of the inputs floor(x · i/o) .. ceil((x+1) · i/o) - 1; bins may overlap."""
    x = np.arange(o)
    first, last = x * i // o, -(-(x + 1) * i // o)
    return _means(i, first, last, last - first)


@lru_cache(256)
def windows(i: int, k: int, s: int, padding: tuple[int, int], counted: int | None) -> AxisMap:
    """Output x is the sum of the inputs under window x·s - near .. x·s - near + k - 1, divided by a number of cells.

    counted    None: of the inputs.  Else also of the padding before the input, and of so many cells after it: padding
               that was asked for, but not what rounding the output size up added.
    """
    near, far = padding
    start = np.arange((i + near + far - k) // s + 1) * s - near
    first, last = np.maximum(start, 0), np.minimum(start + k, i)
    return _means(i, first, last, last - first if counted is None else np.minimum(start + k, i + counted) - start)


def means(geometry: PoolGeometry) -> tuple[AxisMap, AxisMap]:
    """Average pooling: the maps of rows and of columns."""
    rows, columns = map(windows, geometry.input_size, geometry.kernel_size, geometry.stride, geometry.padding,
                        [far if geometry.count_include_pad else None for _, far in geometry.asked_padding])
    return rows, columns


@lru_cache(256)
def reflected(i: int, near: int, far: int) -> AxisMap:
    """The inputs with `near` and `far` more on the sides, mirrored at the first and last, which are not repeated."""
    x = np.abs(np.arange(-near, i + far))
    source = (i - 1) - np.abs((i - 1) - x)
    return AxisMap.of(i, len(x), np.arange(len(x)), source, np.ones(len(x)))


def _stretch(x: np.ndarray, i: int, o: int, scale: float | None) -> np.ndarray:
    """x · i/o.  One division of whole numbers, so that floor is exact where the quotient is whole."""
    return x * i / o if scale is None else x * (1.0 / scale)


def _means(i: int, first: np.ndarray, last: np.ndarray, divisor: np.ndarray) -> AxisMap:
    """Sums over first .. last - 1, divided."""
    counts = last - first
    output = np.repeat(np.arange(len(first)), counts)
    source = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts - first, counts)
    return AxisMap.of(i, len(first), output, source, np.repeat(1 / divisor, counts))
