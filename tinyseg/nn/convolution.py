"""Modules that multiply by weights: `Conv2d`, `ConvTranspose2d`, `Linear`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import tinyseg.functional as F
from tinyseg.arithmetic import pair
from tinyseg.autograd import Tensor, is_grad_enabled
from tinyseg.errors import ArgumentError
from tinyseg.kernels.cpu.constants import forget, promise
from tinyseg.nn import init
from tinyseg.nn.module import Module, Parameter
from tinyseg.nn.normalization import BatchNorm2d

__all__ = ["Conv2d", "ConvTranspose2d", "Linear"]

Size = int | tuple[int, int]
Sides = tuple[tuple[int, int], tuple[int, int]]


class _Convolution(Module):
    weight: Parameter
    bias: Parameter | None

    def _create(self, weight_shape: tuple[int, ...], outputs: int, bias: bool) -> None:
        self.weight = Parameter(np.empty(weight_shape, np.float32))
        self.bias = Parameter(np.empty(outputs, np.float32)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew, as PyTorch does: uniform within 1/sqrt(fan_in), the bias too."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            _uniform_bias_(self.bias, init.fans(self.weight)[0])

    def _settle(self) -> None:
        """Without gradients the weight is packed once, until it changes."""
        if is_grad_enabled():
            forget(self.weight._array)
        else:
            promise(self.weight._array, self.weight._version)

    def _check(self, name: str) -> None:
        for what, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            if channels < 1 or self.groups < 1 or channels % self.groups:
                raise ArgumentError(f"{name}: {what} {channels} with groups {self.groups}; "
                                    f"needs {what} >= 1 and a multiple of groups")

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={_short(self.kernel_size)}"
        usual = {"stride": (1, 1), "padding": (0, 0), "output_padding": (0, 0), "dilation": (1, 1), "groups": 1,
                 "algorithm": "auto"}
        text += "".join(f", {name}={_short(getattr(self, name))}" for name, default in usual.items()
                        if getattr(self, name, default) != default)
        return text + ("" if self.bias is not None else ", bias=False")


class Conv2d(_Convolution):
    """Convolution with a weight (O, C/G, K_h, K_w) and a bias (O,).

    in_channels, out_channels    C and O, both multiples of `groups`
    kernel_size                  a number or (height, width), as are stride, padding and dilation
    stride                       step between windows
    padding                      zeros on every side, ((top, bottom), (left, right)), "same" or "valid"
    dilation                     step between the taps of a window; the kernel covers d·(k-1)+1 cells
    groups                       independent convolutions on slices of the channels
    bias                         False before a batch normalisation, which has its own
    algorithm                    "auto" or a name from `tinyseg.kernels.algorithms("conv2d")`

    (N, C, H, W) -> (N, O, H', W') with H' = floor((H + 2p - d(K_h-1) - 1) / s) + 1.
    """

    takes_relu = True                                # forward(x, relu=True) also does what nn.ReLU would do next

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1,
                 padding: str | Size | Sides = 0, dilation: Size = 1, groups: int = 1, bias: bool = True,
                 algorithm: str = "auto"):
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = pair(kernel_size, "kernel_size"), pair(stride, "stride")
        self.padding = padding if isinstance(padding, str) or _is_sided(padding) else pair(padding, "padding")
        self.dilation = pair(dilation, "dilation")
        self.algorithm = algorithm
        self._check("Conv2d")
        self._create((out_channels, in_channels // groups, *self.kernel_size), out_channels, bias)

    def forward(self, x: Tensor, relu: bool = False, norm: BatchNorm2d | None = None) -> Tensor:
        if norm is None:
            self._settle()
        weight, bias = (self.weight, self.bias) if norm is None else norm.folded(self.weight, self.bias)
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups, self.algorithm, relu)


class ConvTranspose2d(_Convolution):
    """Transposed convolution ("up-convolution") with a weight (C, O/G, K_h, K_w) and a bias (O,).

    stride            the factor of up-sampling
    padding           cells taken away on every side of the result
    output_padding    *chooses among the input sizes that give the same output* of the convolution it transposes
    The other arguments are those of `Conv2d`.  Kernel 2s - s mod 2 with `init.bilinear_` starts it as interpolation.

    (N, C, H, W) -> (N, O, H', W') with H' = (H-1)s - 2p + d(K_h-1) + 1 + output_padding.
    """

    takes_relu = True                                # forward(x, relu=True) also does what nn.ReLU would do next

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Size, stride: Size = 1, padding: Size = 0,
                 output_padding: Size = 0, groups: int = 1, bias: bool = True, dilation: Size = 1,
                 algorithm: str = "auto"):
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = pair(kernel_size, "kernel_size"), pair(stride, "stride")
        self.padding, self.dilation = pair(padding, "padding"), pair(dilation, "dilation")
        self.output_padding = pair(output_padding, "output_padding")
        self.algorithm = algorithm
        self._check("ConvTranspose2d")
        self._create((in_channels, out_channels // groups, *self.kernel_size), out_channels, bias)

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        self._settle()
        return F.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding,
                                  self.groups, self.dilation, self.algorithm, relu)


class Linear(Module):
    """y = x Wᵀ + b on the last axis: (..., in_features) -> (..., out_features).

    in_features, out_features    sizes of the last axis before and after; the weight is (out, in)
    bias                         whether b (out,) is added
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        if in_features < 1 or out_features < 1:
            raise ArgumentError(f"Linear: {in_features} features to {out_features}; needs at least 1 of each")
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(np.empty((out_features, in_features), np.float32))
        self.bias = Parameter(np.empty(out_features, np.float32)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew, as PyTorch does: uniform within 1/sqrt(in_features)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            _uniform_bias_(self.bias, self.in_features)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}" + ("" if self.bias is not None else ", bias=False")


def _uniform_bias_(bias: Parameter, fan_in: int) -> None:
    init.uniform_(bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))


def _is_sided(padding: Any) -> bool:
    return hasattr(padding, "__len__") and any(hasattr(side, "__len__") for side in padding)


def _short(value: Any) -> Any:
    """A pair of equal numbers as one."""
    return value[0] if isinstance(value, tuple) and value[0] == value[1] else repr(value)
