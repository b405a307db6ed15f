"""Gaussian filtering in any dimension, in time linear in the number of points: the permutohedral lattice.

    splat    every point gives its value to the d+1 vertices of the simplex around it, by barycentric weights
    blur     along each of the d+1 axes of the lattice, with [1/2, 1, 1/2]
    slice    every point takes the mixture of the same vertices back

As matrices K = α · S B_d ... B_0 Sᵀ.  The B_j are symmetric, but where vertices are missing they do not commute: Kᵀ is
the same with the axes in the other order.  α = 1 / (1 + 2^-d) makes the response of a vertex to itself 1: there is the
way that stays (1), and the one that goes round along all d+1 axes, either way (2 · 2^-(d+1)).

Adams, Baek & Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral Lattice".
"""

import numpy as np

from tinyseg.crf.rows import blur, mix
from tinyseg.crf.simplex import enclose, scales
from tinyseg.crf.table import Table
from tinyseg.errors import ArgumentError
from tinyseg.jit import jit
from tinyseg.kernels.cpu.workspace import empty, empty_like
from tinyseg.machine import expect_room

__all__ = ["Lattice"]

_ADVICE = "Take a smaller image or a larger sigma, or cut the image into tiles"
_FARTHEST = 1e9                                      # of a coordinate, which is an int32


class Lattice:
    """y_i ≈ Σ_j exp(-|f_i - f_j|² / 2) x_j, the sum over all points j, i among them.

    features    float (N, d)
    """

    def __init__(self, features: np.ndarray):
        (self.points, d) = features.shape
        # base, rank, numbers and weights, twice where the matrix is transposed
        expect_room(f"crf: the lattice of {self.points:,} points", 28 * (d + 1) * self.points, _ADVICE)
        scale = scales(d)
        reach = float(np.abs(features).max()) * scale.sum() * d
        if not reach < _FARTHEST:
            raise ArgumentError(f"crf: features up to {np.abs(features).max():.4g} standard deviations; needs finite "
                                f"ones, with lattice coordinates below {_FARTHEST:.0e}: a larger sigma")
        base, rank = np.empty((2, self.points, d + 1), np.int32)
        weight = np.empty((self.points, d + 1), np.float32)
        enclose(features, scale, base, rank, weight)
        table = Table(d)
        numbers = table.number(base, rank)
        self.vertices = table.count
        self._slice = np.arange(0, base.size + 1, d + 1), numbers.reshape(-1), weight.reshape(-1)
        self._splat = _transposed(numbers, weight, self.vertices)
        self._neighbours = table.neighbours()
        self._alpha = 1 / (1 + 2.0**-d)

    def filter(self, x: np.ndarray, before: np.ndarray, after: np.ndarray, transposed: bool = False) -> np.ndarray:
        """D_after K D_before x, or D_after Kᵀ D_before x, with diagonal D.

        x float32 or float64 (N, C), before and after of its type (N,) -> (N, C)
        """
        expect_room(f"crf: a lattice of {self.vertices:,} vertices for {x.shape[1]} classes",
                    2 * self.vertices * x.shape[1] * x.itemsize, _ADVICE)
        values, blurred = empty((2, self.vertices + 1, x.shape[1]), x.dtype)
        values[-1] = blurred[-1] = 0                 # the vertex that stands for those that are missing
        mix(*self._splat, before, np.ones(self.vertices, x.dtype), x, values[:-1])
        for beside in (self._neighbours[::-1] if transposed else self._neighbours):
            blur(beside, values, blurred)
            values, blurred = blurred, values
        y = empty_like(x)
        mix(*self._slice, np.full(self.vertices + 1, self._alpha, x.dtype), after, values, y)
        return y


def _transposed(numbers: np.ndarray, weight: np.ndarray, vertices: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slicing as rows of points, turned to rows of vertices: where each row starts, its points, their weights."""
    start = np.zeros(vertices + 1, np.int64)
    np.cumsum(np.bincount(numbers.reshape(-1), minlength=vertices), out=start[1:])
    points, weights = np.empty(numbers.size, np.int32), np.empty(numbers.size, np.float32)
    _transpose(numbers, weight, start[:-1].copy(), points, weights)
    return start, points, weights


@jit
def _transpose(numbers, weight, place, points, weights):
    for p in range(numbers.shape[0]):
        for k in range(numbers.shape[1]):
            v = numbers[p, k]
            points[place[v]] = p
            weights[place[v]] = weight[p, k]
            place[v] += 1
