"""Padding of the last two axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyseg.arrays import namespace
from tinyseg.autograd import Function, Tensor, as_tensor
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.functional.checks import floating, one_of
from tinyseg.functional.resize import Resample2d
from tinyseg.kernels import axis

__all__ = ["pad"]


class Pad(Function):
    """Lay x into a constant; negative amounts cut.    dx is the part of dy that came from x, and 0 where x was cut."""

    def __init__(self, top: int, bottom: int, left: int, right: int, value: float):
        self.sides, self.value = ((top, bottom), (left, right)), value

    def forward(self, x):
        self._shape = x.shape
        size = tuple(n + near + far for n, (near, far) in zip(x.shape[-2:], self.sides, strict=True))
        y = namespace(x).full((*x.shape[:-2], *size), self.value, dtype=x.dtype)
        y[(..., *(_part(near, far) for near, far in self.sides))] = \
            x[(..., *(_part(-near, -far) for near, far in self.sides))]
        return y

    def backward(self, grad):
        opposite = ((-near, -far) for near, far in self.sides)
        return Pad(*(amount for side in opposite for amount in side), 0).forward(grad)


def pad(x: Any, padding: int | Sequence[int], mode: str = "constant", value: float = 0) -> Tensor:
    """x (..., H, W) with `padding` = (left, right, top, bottom) more cells, or one number for all four sides.

    (left, right) alone leaves H as it is.  Negative amounts cut.
    mode    "constant" or "zero": the new cells are `value`.
            "reflect": the image mirrored at its outer cells, which are not repeated; needs 0 <= padding < size.
    Returns (..., top + H + bottom, left + W + right).  Raises ShapeError, ArgumentError.
    """
    one_of("pad", "mode", mode, ("constant", "zero", "reflect"))
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"pad: input of shape {x.shape}; needs (..., H, W)")
    amounts = tuple(padding) if hasattr(padding, "__len__") else (padding,) * 4
    if len(amounts) not in (2, 4) or not all(hasattr(a, "__index__") for a in amounts):
        raise ArgumentError(f"pad: padding {padding!r}; needs a whole number, (left, right) or "
                            "(left, right, top, bottom)")
    left, right, top, bottom = (int(a) for a in (*amounts, 0, 0)[:4])
    for name, n, near, far in (("H", x.shape[-2], top, bottom), ("W", x.shape[-1], left, right)):
        if mode == "reflect" and not 0 <= min(near, far) <= max(near, far) < n:
            raise ArgumentError(f"pad: {near} and {far} in {name} by reflection of size {n}; "
                                f"needs 0 <= padding < size, at most {n - 1}")
        if n + near + far < 1 or n + min(near, 0) + min(far, 0) < 0:
            raise ShapeError(f"pad: {near} and {far} in {name} of size {n}; needs at least one cell to remain")
    if mode == "reflect":
        x = floating("pad", x)
        return Resample2d(axis.reflected(x.shape[-2], top, bottom), axis.reflected(x.shape[-1], left, right))(x)
    if mode == "zero" and value:
        raise ArgumentError(f'pad: mode "zero" with value {value}; say mode "constant"')
    return Pad(top, bottom, left, right, value)(x)


def _part(near: int, far: int) -> slice:
    """Where the other array lies: all but `near` first and `far` last cells, as far as they are positive."""
    return slice(max(near, 0), -far if far > 0 else None)
