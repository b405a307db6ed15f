"""The operations that can be verified: what each takes, gives, and is by definition.

A convolution is one trilinear form <y, C(w) x>, read three ways.  So every operation here takes two of x, weight, y and
gives the third, whatever its own words for them: the input of a transposed convolution is the y of its convolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu import loops, pool_loops
from tinyseg.kernels.foreign import SIGNATURES, signature

__all__ = ["OPERATIONS", "Operation", "operation"]


@dataclass(frozen=True)
class Operation:
    """One operation.

    operands    its arrays as x, weight, y of the convolution or pooling it belongs to; `result` is the one it gives
    gradients   its gradients: their names, and the operation that each of them is
    registered  the name under which the registry has it
    """

    name: str
    operands: tuple[str, ...]
    result: str
    definition: Callable[..., np.ndarray]
    formula: str
    gradients: dict[str, str]
    registered: str

    @property
    def words(self) -> tuple[str, ...]:
        """What a plain function of it calls its arrays, in order."""
        return SIGNATURES[self.name].arrays

    @property
    def options(self) -> tuple[str, ...]:
        """What follows them; a function may lack the last ones."""
        return SIGNATURES[self.name].options

    @property
    def pools(self) -> bool:
        return "pool" in self.name


def _largest(x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    return pool_loops.max_pool2d(x, geometry)[0]


def _sums(grad: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    return grad.astype(np.float64).sum((0, 2, 3)).astype(grad.dtype)


_TAP, _CELL = "p·s - top + u·d, q·s - left + v·d", "p·s - top + u, q·s - left + v"
OPERATIONS = {each.name: each for each in (
    Operation("conv2d", ("x", "weight"), "y", loops.conv2d,
              f"y[n, o, p, q] = Σ x[n, c, {_TAP}] · w[o, c, u, v] over c, u, v",
              {"input_grad": "conv2d_input_grad", "weight_grad": "conv2d_weight_grad",
               "bias_grad": "conv2d_bias_grad"}, "conv2d"),
    Operation("conv_transpose2d", ("y", "weight"), "x", loops.conv2d_input_grad,
              f"x[n, c, p, q] · w[c, o, u, v] is added to y[n, o, {_TAP}]",
              {"input_grad": "conv2d", "weight_grad": "conv2d_weight_grad"}, "conv2d_input_grad"),
    Operation("conv2d_input_grad", ("y", "weight"), "x", loops.conv2d_input_grad,
              f"dy[n, o, p, q] · w[o, c, u, v] is added to dx[n, c, {_TAP}]", {}, "conv2d_input_grad"),
    Operation("conv2d_weight_grad", ("y", "x"), "weight", loops.conv2d_weight_grad,
              f"dw[o, c, u, v] = Σ dy[n, o, p, q] · x[n, c, {_TAP}] over n, p, q", {}, "conv2d_weight_grad"),
    Operation("conv2d_bias_grad", ("y",), "bias", _sums, "db[o] = Σ dy[n, o, p, q] over n, p, q", {},
              "conv2d_bias_grad"),
    Operation("max_pool2d", ("x",), "y", _largest, f"y[n, c, p, q] = max of x[n, c, {_TAP}] over u, v",
              {"input_grad": "max_pool2d_grad"}, "max_pool2d"),
    Operation("max_pool2d_grad", ("y", "indices"), "x", pool_loops.max_pool2d_grad,
              "dy[n, c, p, q] is added to dx[n, c] at indices[n, c, p, q] = h·W + w", {}, "max_pool2d_grad"),
    Operation("avg_pool2d", ("x",), "y", pool_loops.avg_pool2d, f"y[n, c, p, q] = mean of x[n, c, {_CELL}] over u, v",
              {"input_grad": "avg_pool2d_grad"}, "avg_pool2d"),
    Operation("avg_pool2d_grad", ("y",), "x", pool_loops.avg_pool2d_grad,
              f"dy[n, c, p, q] / (cells of its window) is added to dx[n, c, {_CELL}]", {}, "avg_pool2d_grad"),
)}


def operation(name: str) -> Operation:
    signature(name)                                  # refuses what is none
    return OPERATIONS[name]
