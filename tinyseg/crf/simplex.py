"""Which simplex of the permutohedral lattice is around a point, and where in it the point lies.

The lattice A*_d fills d-space with simplices, all alike.  It is easiest to write down one dimension higher, in the
hyperplane of d+1 coordinates whose sum is zero: its points are those whose coordinates are whole numbers that leave the
same remainder k when divided by d+1.  A simplex has one vertex of each remainder k = 0 .. d, so a point has d+1
neighbours there (a cube of the grid would have 2^d), and finding them is rounding and sorting.

Adams, Baek & Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral Lattice".
"""

import math

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.workspace import ALIGNMENT

__all__ = ["enclose", "scales", "vertex"]


def scales(dimension: int) -> np.ndarray:
    """The diagonal of E, (d,): sqrt(2/3) (d+1) / sqrt((i+1)(i+2)).

    1 / sqrt((i+1)(i+2)) makes the columns of E equally long.  Splat, blur and slice together then blur with a standard
    deviation of sqrt(3/2) / (d+1) (Adams et al., page 6), which the factor in front makes 1.
    """
    i = np.arange(dimension)
    return math.sqrt(2 / 3) * (dimension + 1) / np.sqrt((i + 1.0) * (i + 2.0))


def enclose(features: np.ndarray, scale: np.ndarray, base: np.ndarray, rank: np.ndarray, weight: np.ndarray) -> None:
    """The simplex around each point.

    features    (N, d); the Gaussian has standard deviation 1 there
    scale       (d,), see `scales`
    base        int32 (N, d+1), becomes the vertex of remainder 0
    rank        int32 (N, d+1), becomes the place of each coordinate when their distances from `base` are sorted, the
                largest first; base and rank give the other vertices, see `vertex`
    weight      float32 (N, d+1), becomes the barycentric coordinates: positive, their sum 1, one for each vertex
    """
    threads = team()
    elevated = np.empty((threads.size, features.shape[1] + 1 + ALIGNMENT))   # far apart: no two threads write to a line
    _enclose(threads, threads.turns(features.size * base.shape[1]), features, scale, elevated, base, rank, weight)


@jit
def _enclose(team, turns, features, scale, elevated, base, rank, weight):
    share(team, turns, _enclose_points, (turns, features, scale, elevated, base, rank, weight))


@jit
def _enclose_points(turn, member, turns, features, scale, elevated, base, rank, weight):
    points, d = features.shape
    own = elevated[member, :d + 1]
    for p in range(turn * points // turns, (turn + 1) * points // turns):
        _elevate(features[p], scale, own)
        _round(own, base[p])
        _rank(own, base[p], rank[p])
        _barycentric(own, base[p], rank[p], weight[p])


@jit
def _elevate(feature, scale, elevated):
    """E · feature, in the hyperplane: coordinate i is Σ_{j >= i} s_j - i·s_{i-1} with s = scale · feature."""
    total = 0.0
    for i in range(len(feature), 0, -1):
        scaled = feature[i - 1] * scale[i - 1]
        elevated[i] = total - i * scaled
        total += scaled
    elevated[0] = total


@jit
def _round(elevated, base):
    """Each coordinate to the nearest multiple of d+1; the sum may then be off the hyperplane, see `_rank`."""
    n = len(elevated)
    for i in range(n):
        base[i] = n * int(np.rint(elevated[i] / n))


@jit
def _rank(elevated, base, rank):
    """Sort what rounding left over, and bring `base` back to the hyperplane.

    If the sum is k·(d+1), the k coordinates that were rounded up the most (down, for k < 0) go back by d+1.  They come
    at the other end of the order then: every rank moves by k.
    """
    n = len(elevated)
    rank[:] = 0
    total = 0
    for i in range(n):
        total += base[i]
        for j in range(i + 1, n):
            if elevated[i] - base[i] < elevated[j] - base[j]:
                rank[i] += 1
            else:
                rank[j] += 1
    for i in range(n):
        rank[i] += total // n
        if rank[i] < 0:
            rank[i] += n
            base[i] += n
        elif rank[i] >= n:
            rank[i] -= n
            base[i] -= n


@jit
def _barycentric(elevated, base, rank, weight):
    """Weight k is the step between neighbours in the sorted distances (Adams et al., page 10).

    With t_0 >= ... >= t_d the distances from `base` over d+1, weight k is t_{d-k} - t_{d-k+1}, and weight 0 is
    1 - (t_0 - t_d).
    """
    n = len(elevated)
    weight[:] = 0
    weight[0] = 1
    for i in range(n):
        distance = (elevated[i] - base[i]) / n
        k = n - 1 - rank[i]
        weight[k] += distance
        weight[(k + 1) % n] -= distance


@jit
def vertex(base, rank, k, key):
    """The vertex of remainder k: k is added to every coordinate, and d+1 taken from the k of the highest ranks.

    Writes the first d coordinates, which tell the last, to `key`.
    """
    d = len(key)
    for i in range(d):
        key[i] = base[i] + k - (d + 1 if rank[i] > d - k else 0)
