"""The operations that can be verified: what each takes, gives, and is by definition.

A convolution is one trilinear form <y, C(w) x>, read three ways.  So every operation here takes two of x, weight, y and
gives the third, whatever its own words for them: the input of a transposed convolution is the y of its convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.errors import ArgumentError
from tinyseg.kernels.cpu import loops, pool_loops

__all__ = ["OPERATIONS", "Operation", "PoolGeometry", "guess", "operation"]


@dataclass(frozen=True)
class PoolGeometry(ConvGeometry):
    """The geometry of a pooling, and whether its far padding was lengthened by rounding the output size up."""

    ceil_mode: bool = False


@dataclass(frozen=True)
class Operation:
    """One operation.

    words       what a plain function of it calls its arrays, in order
    operands    the same as x, weight, y of the convolution it belongs to; `result` is the one it gives
    options     what follows the arrays, in order; a function may lack the last ones
    gradients   its gradients: their names, and the operation that each of them is
    registered  the name under which the registry has it
    """

    name: str
    words: tuple[str, ...]
    operands: tuple[str, ...]
    result: str
    options: tuple[str, ...]
    definition: Callable[..., np.ndarray]
    formula: str
    gradients: dict[str, str]
    registered: str

    @property
    def linear(self) -> bool:
        return "pool" not in self.name

    def arguments(self, arrays: tuple[np.ndarray, ...], geometry: ConvGeometry) -> dict[str, Any]:
        """The options of a plain function, by name: pairs of ints, NCHW."""
        named = {"stride": geometry.stride, "padding": geometry.near_padding, "dilation": geometry.dilation,
                 "groups": geometry.groups, "output_padding": geometry.output_padding,
                 "kernel_size": geometry.kernel_size, "ceil_mode": getattr(geometry, "ceil_mode", False)}
        if any(near != far for near, far in geometry.padding) and not named["ceil_mode"]:
            named["padding"] = geometry.padding
        if "input_shape" in self.options:
            channels = arrays[0].shape[1] if not self.linear else arrays[1].shape[1] * geometry.groups
            named["input_shape"] = (len(arrays[0]), channels, *geometry.input_size)
        if "weight_shape" in self.options:
            grad, x = arrays
            named["weight_shape"] = (grad.shape[1], x.shape[1] // geometry.groups, *geometry.kernel_size)
        return {name: named[name] for name in self.options}


def _largest(x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    return pool_loops.max_pool2d(x, geometry)[0]


def _sums(grad: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    return grad.astype(np.float64).sum((0, 2, 3)).astype(grad.dtype)


_TAP = "p·s - top + u·d, q·s - left + v·d"
_OPTIONS = ("stride", "padding", "dilation", "groups")
OPERATIONS = {each.name: each for each in (
    Operation("conv2d", ("x", "weight"), ("x", "weight"), "y", _OPTIONS, loops.conv2d,
              f"y[n, o, p, q] = Σ x[n, c, {_TAP}] · w[o, c, u, v] over c, u, v",
              {"input_grad": "conv2d_input_grad", "weight_grad": "conv2d_weight_grad",
               "bias_grad": "conv2d_bias_grad"}, "conv2d"),
    Operation("conv_transpose2d", ("x", "weight"), ("y", "weight"), "x",
              ("stride", "padding", "output_padding", "dilation", "groups"), loops.conv2d_input_grad,
              f"x[n, c, p, q] · w[c, o, u, v] is added to y[n, o, {_TAP}]",
              {"input_grad": "conv2d", "weight_grad": "conv2d_weight_grad"}, "conv2d_input_grad"),
    Operation("conv2d_input_grad", ("grad", "weight"), ("y", "weight"), "x", ("input_shape", *_OPTIONS),
              loops.conv2d_input_grad, f"dy[n, o, p, q] · w[o, c, u, v] is added to dx[n, c, {_TAP}]",
              {}, "conv2d_input_grad"),
    Operation("conv2d_weight_grad", ("grad", "x"), ("y", "x"), "weight", ("weight_shape", *_OPTIONS),
              loops.conv2d_weight_grad,
              f"dw[o, c, u, v] = Σ dy[n, o, p, q] · x[n, c, {_TAP}] over n, p, q", {}, "conv2d_weight_grad"),
    Operation("conv2d_bias_grad", ("grad",), ("y",), "bias", (), _sums,
              "db[o] = Σ dy[n, o, p, q] over n, p, q", {}, "conv2d_bias_grad"),
    Operation("max_pool2d", ("x",), ("x",), "y", ("kernel_size", "stride", "padding", "dilation", "ceil_mode"),
              _largest, f"y[n, c, p, q] = max of x[n, c, {_TAP}] over u, v",
              {"input_grad": "max_pool2d_grad"}, "max_pool2d"),
    Operation("max_pool2d_grad", ("grad", "indices"), ("y", "indices"), "x", ("input_shape",),
              pool_loops.max_pool2d_grad, "dy[n, c, p, q] is added to dx[n, c] at indices[n, c, p, q] = h·W + w",
              {}, "max_pool2d_grad"),
)}


def operation(name: str) -> Operation:
    if name not in OPERATIONS:
        raise ArgumentError(f"operation {name!r}; legal: {', '.join(OPERATIONS)}")
    return OPERATIONS[name]


def guess(function: str) -> str:
    """The operation that a function of this name probably is."""
    name = function.lower()
    if name in OPERATIONS:
        return name
    if "pool" in name:
        return "max_pool2d_grad" if "grad" in name or "back" in name else "max_pool2d"
    if "weight" in name:
        return "conv2d_weight_grad"
    if "bias" in name:
        return "conv2d_bias_grad"
    if "trans" in name or "deconv" in name:
        return "conv_transpose2d"
    return "conv2d_input_grad" if "grad" in name or "back" in name else "conv2d"
