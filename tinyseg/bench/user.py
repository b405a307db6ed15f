"""Somebody's own kernel among the candidates: the layers that it is for, and the direction that it computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyseg.bench.layers import Layer
from tinyseg.errors import ArgumentError
from tinyseg.kernels import foreign
from tinyseg.kernels.foreign import ForeignKernel

__all__ = ["UserKernel", "load"]

# What a kernel of each operation is measured on: the layer's operation and the direction.
_MEASURES = {"conv2d": ("conv2d", "forward"), "conv_transpose2d": ("conv_transpose2d", "forward"),
             "conv2d_input_grad": ("conv2d", "input_grad"), "conv2d_weight_grad": ("conv2d", "weight_grad"),
             "max_pool2d": ("max_pool2d", "forward"), "max_pool2d_grad": ("max_pool2d", "input_grad"),
             "avg_pool2d": ("avg_pool2d", "forward"), "avg_pool2d_grad": ("avg_pool2d", "input_grad")}


@dataclass(frozen=True)
class UserKernel:
    """A loaded kernel, under the name that tables show."""

    name: str
    kernel: ForeignKernel

    @property
    def operation(self) -> str:
        return _MEASURES[self.kernel.operation][0]

    @property
    def direction(self) -> str:
        return _MEASURES[self.kernel.operation][1]

    def refuses(self, layer: Layer, direction: str) -> str | None:
        """Why the kernel is not for this layer and direction, or None."""
        if (layer.operation, direction) != (self.operation, self.direction):
            return f"it is a {self.kernel.operation}"
        return self.kernel.refuses(layer.geometry)

    def bound(self, layer: Layer, arrays: Sequence[Any]) -> Callable[[], Any]:
        """The call on these arrays of the layer."""
        return self.kernel.bound(arrays, layer.geometry)


def load(target: str, operation: str | None = None) -> UserKernel:
    """`file.py:function` or `package.module:function`.  Raises as `foreign.load`, and for what no layer measures."""
    kernel = foreign.load(target, operation)
    if kernel.operation not in _MEASURES:
        raise ArgumentError(f"{target} is a {kernel.operation}, which no layer measures; legal: {', '.join(_MEASURES)}")
    place, _, name = target.rpartition(":")
    return UserKernel(f"{Path(place).name}:{name}", kernel)
