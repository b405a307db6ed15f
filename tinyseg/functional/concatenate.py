"""Joining tensors, as every skip connection does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyseg.arrays import Array
from tinyseg.autograd import Tensor, shaping
from tinyseg.errors import ArgumentError
from tinyseg.kernels.registry import run

__all__ = ["cat", "concatenate"]


class Concatenate(shaping.Concatenate):
    """As its parent, by a kernel.  Each gradient is a view of a part, which costs nothing."""

    takes_layouts = True

    def join(self, axis: int, *xs: Array) -> Array:
        return run("concatenate", axis, *xs)


def concatenate(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors joined along an existing axis; their other sizes must be equal.  Raises ShapeError, ArgumentError."""
    if len(tensors) == 0:
        raise ArgumentError("concatenate: no tensors; needs at least one")
    return Concatenate(dim)(*tensors)


cat = concatenate
