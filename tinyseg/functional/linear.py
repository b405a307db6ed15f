"""The fully connected layer."""

from typing import Any

from tinyseg.autograd import Tensor, as_tensor, matmul
from tinyseg.errors import ShapeError
from tinyseg.functional.checks import floating

__all__ = ["linear"]


def linear(x: Any, weight: Any, bias: Any = None) -> Tensor:
    """x · weightᵀ + bias.  x (..., I), weight (O, I), bias (O,) -> (..., O)."""
    x, weight = floating("linear", x), floating("linear", weight)
    if x.ndim < 1 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        raise ShapeError(f"linear: input {x.shape}, weight {weight.shape}; needs (..., I) and (O, I) with the same I")
    y = matmul(x, weight.T)                          # (..., I) · (I, O) -> (..., O)
    if bias is None:
        return y
    bias = as_tensor(bias)
    if bias.shape != weight.shape[:1]:
        raise ShapeError(f"linear: bias of shape {bias.shape}; needs ({weight.shape[0]},)")
    return y + bias
