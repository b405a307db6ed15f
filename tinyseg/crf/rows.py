"""What filtering and mean field do with tables of numbers, a row for each pixel or vertex and a column for each class.

Sums over rows are written twice: as loops, which say what is meant and take float64, and for float32 with vectors of
neighbouring classes that stay in registers.  The last vector may reach past the row's end: those lanes are not touched.
"""

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.team import share_range
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.vector import LANES, fma, load_part, splat, store_part

__all__ = ["add_product", "blur", "mix", "softmax_of_minus"]


def mix(start: np.ndarray, source: np.ndarray, weight: np.ndarray, before: np.ndarray, after: np.ndarray,
        x: np.ndarray, y: np.ndarray) -> None:
    """y = D_after A D_before x, with A a sparse matrix in compressed rows and D diagonal.

    start, source, weight    row r of A has weight[e] in column source[e] for e = start[r] .. start[r+1] - 1
    before, after            (rows of x,) and (rows of y,)
    """
    kernel = _mix_64 if x.dtype == np.float64 else _mix
    kernel(team(), start, source, weight, before, after, x, y)


def blur(beside: np.ndarray, x: np.ndarray, y: np.ndarray) -> None:
    """y_v = x_v + (x_left + x_right) / 2 with beside (2, V) = left, right."""
    kernel = _blur_64 if x.dtype == np.float64 else _blur
    kernel(team(), beside, x, y)


def softmax_of_minus(energy: np.ndarray, q: np.ndarray) -> None:
    """q = exp(-energy) / Σ exp(-energy) in each row; changes `energy`."""
    _above_least(energy)
    np.exp(energy, out=energy)                       # NumPy has vector instructions for it
    _divide_by_sum(energy, q)


@jit(fastmath={"contract"})
def add_product(x, factor, y):
    """y_rc += x_rc · factor_c."""
    for r in range(len(y)):
        for c in range(len(factor)):
            y[r, c] += x[r, c] * factor[c]


@jit
def _mix(team, start, source, weight, before, after, x, y):
    share_range(team, len(y), len(source) * x.shape[1], _mix_vectors, (start, source, weight, before, after, x, y))


@jit
def _mix_64(team, start, source, weight, before, after, x, y):
    share_range(team, len(y), len(source) * x.shape[1], _mix_numbers, (start, source, weight, before, after, x, y))


@jit
def _mix_numbers(first, last, start, source, weight, before, after, x, y):
    for r in range(first, last):
        y[r] = 0
        for e in range(start[r], start[r + 1]):
            w = after[r] * weight[e] * before[source[e]]
            for c in range(x.shape[1]):
                y[r, c] += w * x[source[e], c]


@jit
def _mix_vectors(first, last, start, source, weight, before, after, x, y):
    classes = x.shape[1]
    for r in range(first, last):
        for c in range(0, classes, LANES):
            total = splat(0)
            for e in range(start[r], start[r + 1]):
                s = source[e]
                total = fma(splat(weight[e] * before[s]), load_part(x, (s, c), classes - c), total)
            store_part(y, (r, c), splat(after[r]) * total, classes - c)


@jit
def _blur(team, beside, x, y):
    share_range(team, beside.shape[1], 4 * x.size, _blur_vectors, (beside, x, y))


@jit
def _blur_64(team, beside, x, y):
    share_range(team, beside.shape[1], 4 * x.size, _blur_numbers, (beside, x, y))


@jit
def _blur_numbers(first, last, beside, x, y):
    for v in range(first, last):
        left, right = beside[0, v], beside[1, v]
        for c in range(x.shape[1]):
            y[v, c] = x[v, c] + 0.5 * (x[left, c] + x[right, c])


@jit
def _blur_vectors(first, last, beside, x, y):
    classes = x.shape[1]
    for v in range(first, last):
        left, right = beside[0, v], beside[1, v]
        for c in range(0, classes, LANES):
            count = classes - c
            sides = load_part(x, (left, c), count) + load_part(x, (right, c), count)
            store_part(y, (v, c), fma(splat(0.5), sides, load_part(x, (v, c), count)), count)


@jit(fastmath={"reassoc", "nnan", "nsz"})
def _above_least(energy):
    """Each row becomes its least number minus the row: nothing above 0, so that exp cannot overflow."""
    for r in range(len(energy)):
        least = energy[r, 0]
        for c in range(1, energy.shape[1]):
            if energy[r, c] < least:
                least = energy[r, c]
        for c in range(energy.shape[1]):
            energy[r, c] = least - energy[r, c]


@jit(fastmath={"reassoc"})
def _divide_by_sum(x, y):
    for r in range(len(x)):
        total = x.dtype.type(0)
        for c in range(x.shape[1]):
            total += x[r, c]
        for c in range(x.shape[1]):
            y[r, c] = x[r, c] / total
