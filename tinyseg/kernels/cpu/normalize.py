"""What normalisation needs of each plane.  x (P, S) is P planes, one for each image and channel, of S elements.

Sums are kept in float64, and the last step computes in it too: the mean of a million float32 is right to the last
digit, and a large mean does not drown a small deviation.
"""

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.share import share

_REORDER = {"reassoc", "nsz", "contract"}            # a sum may run in the lanes of a vector; nan and inf keep meaning


def plane_moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the mean squared deviation of every plane: (P, S) -> (P,), (P,) float64."""
    mean, variance = np.empty(len(x)), np.empty(len(x))
    share(_moments, len(x), x.size, x, mean, variance)
    return mean, variance


def plane_products(grad: np.ndarray, x: np.ndarray, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ grad and Σ grad · (x - mean) of every plane: (P, S), (P, S), (P,) -> (P,), (P,) float64."""
    total, product = np.empty(len(x)), np.empty(len(x))
    share(_products, len(x), x.size, grad, x, mean, total, product)
    return total, product


def plane_affine(x: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """scale · x + shift, the two given for each plane in float64: (P, S), (P,), (P,) -> (P, S)."""
    y = np.empty_like(x)
    share(_affine, len(x), x.size, x, scale, shift, y)
    return y


def plane_combination(grad: np.ndarray, x: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a · grad + b · x + c, the three given for each plane in float64: (P, S) twice, (P,) thrice -> (P, S)."""
    y = np.empty_like(x)
    share(_combination, len(x), x.size, grad, x, a, b, c, y)
    return y


@jit(fastmath=_REORDER)
def _moments(first, last, x, mean, variance):
    size = x.shape[1]
    for p in range(first, last):
        total = 0.0
        for j in range(size):
            total += np.float64(x[p, j])
        centre = total / size
        total = 0.0
        for j in range(size):
            deviation = np.float64(x[p, j]) - centre
            total += deviation * deviation
        mean[p], variance[p] = centre, total / size


@jit(fastmath=_REORDER)
def _products(first, last, grad, x, mean, total, product):
    size = x.shape[1]
    for p in range(first, last):
        centre, sum_, product_ = mean[p], 0.0, 0.0
        for j in range(size):
            g = np.float64(grad[p, j])
            sum_ += g
            product_ += g * (np.float64(x[p, j]) - centre)
        total[p], product[p] = sum_, product_


@jit
def _affine(first, last, x, scale, shift, y):
    size = x.shape[1]
    for p in range(first, last):
        a, b = scale[p], shift[p]
        for j in range(size):
            y[p, j] = a * x[p, j] + b


@jit
def _combination(first, last, grad, x, a, b, c, y):
    size = x.shape[1]
    for p in range(first, last):
        scale, slope, shift = a[p], b[p], c[p]
        for j in range(size):
            y[p, j] = scale * grad[p, j] + slope * x[p, j] + shift
