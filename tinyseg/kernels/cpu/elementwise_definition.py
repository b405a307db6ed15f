"""`elementwise` by its definition, in NumPy; what float64 takes, too."""

import numpy as np


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0), of any shape."""
    return np.maximum(x, 0)


def relu_grad(grad: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient where the result y is above 0, else 0."""
    return np.where(y > 0, grad, np.zeros((), grad.dtype))


def channel_sums(x: np.ndarray) -> np.ndarray:
    """Σ x over all axes but the second.  x (N, C, ...) -> (C,), float64."""
    return x.sum((0, *range(2, x.ndim)), dtype=np.float64)


def channel_products(grad: np.ndarray, x: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ grad and Σ grad·(x - centre_c) over all axes but the second.  (N, C, ...) twice, (C,) -> (C,) twice."""
    deviation = x - centre.astype(np.float64).reshape(-1, *(1,) * (x.ndim - 2))
    return channel_sums(grad), channel_sums(grad * deviation)
