"""Activations as modules; the mathematics is in `tinyseg.functional`.

`inplace` is taken, as the second argument of PyTorch's, and has no effect: nothing is overwritten.
"""

from __future__ import annotations

import numpy as np

import tinyseg.functional as F
from tinyseg.autograd import Tensor
from tinyseg.nn.module import Module, Parameter

__all__ = ["Hardsigmoid", "Hardswish", "LeakyReLU", "PReLU", "ReLU", "ReLU6", "Sigmoid", "Softmax", "Tanh"]


class _InPlace(Module):
    def __init__(self, inplace: bool = False):
        pass


class ReLU(_InPlace):
    """max(x, 0)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x)


class ReLU6(_InPlace):
    """x limited to [0, 6]."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x)


class LeakyReLU(Module):
    """x where positive, negative_slope · x elsewhere."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False):
        self.negative_slope = negative_slope

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)

    def extra_repr(self) -> str:
        return f"negative_slope={self.negative_slope}"


class PReLU(Module):
    """A leaky ReLU that learns its slope: one for all channels, or one each (He et al., arXiv:1502.01852).

    num_parameters    1, or the number of channels C
    init              the slope at the start
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25):
        self.weight = Parameter(np.full(num_parameters, init, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x, self.weight)

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}"


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Tensor) -> Tensor:
        return F.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Tensor) -> Tensor:
        return F.tanh(x)


class Hardsigmoid(_InPlace):
    """clip(x + 3, 0, 6) / 6."""

    def forward(self, x: Tensor) -> Tensor:
        return F.hardsigmoid(x)


class Hardswish(_InPlace):
    """x · clip(x + 3, 0, 6) / 6 (MobileNetV3, arXiv:1905.02244)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.hardswish(x)


class Softmax(Module):
    """exp(x) over its sum along `dim`.  Not before a cross-entropy loss, which has its own."""

    def __init__(self, dim: int = 1):
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        return F.softmax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"
