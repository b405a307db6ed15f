"""What the operations expect of their arguments, in one place so that every message reads alike."""

from __future__ import annotations

from typing import Any

from tinyseg.autograd import Tensor, as_tensor
from tinyseg.errors import ArgumentError, DTypeError, ShapeError

__all__ = ["channels_first", "floating", "images", "one_of", "per_channel", "probability"]

_FLOATS = ("float32", "float64")


def floating(operation: str, x: Any, name: str = "input") -> Tensor:
    """`x` as a tensor of float32 or float64."""
    x = as_tensor(x)
    if x.dtype.name not in _FLOATS:
        raise DTypeError(f"{operation}: {name} is {x.dtype}; needs float32 or float64")
    return x


def images(operation: str, x: Any) -> Tensor:
    """`x` as floats of shape (N, C, H, W)."""
    x = floating(operation, x)
    if x.ndim != 4:
        raise ShapeError(f"{operation}: input of shape {x.shape}; needs (N, C, H, W)")
    return x


def channels_first(operation: str, x: Any) -> Tensor:
    """`x` as floats of shape (N, C, ...)."""
    x = floating(operation, x)
    if x.ndim < 2 or x.shape[1] == 0:
        raise ShapeError(f"{operation}: input of shape {x.shape}; needs (N, C, ...) with C >= 1")
    return x


def per_channel(operation: str, name: str, value: Any, x: Tensor) -> Tensor:
    """`value` as one number for each channel of `x`."""
    value = floating(operation, value)
    if value.shape != (x.shape[1],):
        raise ShapeError(f"{operation}: {name} of shape {value.shape} for input {x.shape}; needs ({x.shape[1]},)")
    return value


def probability(operation: str, p: float) -> float:
    if not 0 <= p <= 1:
        raise ArgumentError(f"{operation}: p {p}; needs 0 <= p <= 1, the share that is dropped")
    return p


def one_of(operation: str, name: str, value: Any, legal: tuple[str, ...]) -> None:
    if value not in legal:
        raise ArgumentError(f"{operation}: {name} {value!r}; legal: {', '.join(legal)}")
