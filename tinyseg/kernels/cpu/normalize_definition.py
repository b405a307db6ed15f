"""Normalisation by its definition, in NumPy: what the fast form is checked against, and what float64 takes.

x is (N, C, ...); `sizes` = (A, G, B) says which planes share their statistics: seen as (A, G, B, S), those of one G.
Batch normalisation is (N, C, 1), group normalisation (1, N·groups, C/groups).
"""

import numpy as np

Sizes = tuple[int, int, int]


def normalize(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, sizes: Sizes, eps: float,
              relu: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(x - m) / √(v + eps) · weight_c + bias_c, cut off below 0 if `relu`; and m, v of each group.

    x (N, C, ...), weight and bias (C,) -> y like x, mean and biased variance (G,) in float64.
    """
    grouped = x.reshape(*sizes, -1).astype(np.float64)
    mean = grouped.mean((0, 2, 3), keepdims=True)
    variance = ((grouped - mean) ** 2).mean((0, 2, 3), keepdims=True)
    y = ((grouped - mean) / np.sqrt(variance + eps)).reshape(x.shape) * _beside(x, weight) + _beside(x, bias)
    if relu:
        y = np.maximum(y, 0)
    return y.astype(x.dtype), mean.reshape(-1), variance.reshape(-1)


def normalize_grad(grad: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray, mean: np.ndarray,
                   variance: np.ndarray, sizes: Sizes, eps: float,
                   relu: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """With x̂ = (x - m) / √(v + eps), E the mean over a group, and dy = 0 where ReLU cut y off:

        dx = (γ dy - E[γ dy] - x̂ E[γ dy x̂]) / √(v + eps),    dγ = Σ dy x̂,    dβ = Σ dy
    """
    mean, inverse = mean.reshape(1, -1, 1, 1), 1 / np.sqrt(variance + eps).reshape(1, -1, 1, 1)
    unit = ((x.reshape(*sizes, -1).astype(np.float64) - mean) * inverse).reshape(x.shape)
    if relu:
        grad = grad * (unit * _beside(x, weight) + _beside(x, bias) > 0)
    over = (0, *range(2, x.ndim))
    pulled = (grad * _beside(x, weight)).reshape(*sizes, -1)             # γ dy
    grouped = unit.reshape(*sizes, -1)
    drift = pulled.mean((0, 2, 3), keepdims=True)
    stretch = (pulled * grouped).mean((0, 2, 3), keepdims=True)
    dx = (pulled - drift - grouped * stretch) * inverse
    return dx.reshape(x.shape).astype(x.dtype), (grad * unit).sum(over), grad.sum(over, dtype=np.float64)


def affine(x: np.ndarray, centre: np.ndarray, scale: np.ndarray, shift: np.ndarray, relu: bool) -> np.ndarray:
    """(x - centre_c) · scale_c + shift_c, cut off below 0 if `relu`.  x (N, C, ...), the others (C,)."""
    y = (x.astype(np.float64) - _beside(x, centre)) * _beside(x, scale) + _beside(x, shift)
    return (np.maximum(y, 0) if relu else y).astype(x.dtype)


def _beside(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(C,) so that it meets the channels of x, in float64."""
    return values.astype(np.float64).reshape(-1, *(1,) * (x.ndim - 2))
