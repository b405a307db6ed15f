"""Pooling: the largest or the mean value under each window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tinyseg.arithmetic import ConvGeometry, pair
from tinyseg.arrays import Array
from tinyseg.autograd import Function, Tensor
from tinyseg.errors import ShapeError, about
from tinyseg.functional.checks import images
from tinyseg.functional.resize import Resample2d
from tinyseg.kernels import axis
from tinyseg.kernels.registry import plain, run

__all__ = ["adaptive_avg_pool2d", "avg_pool2d", "max_pool2d"]

Size = int | Sequence[int]


class MaxPool2d(Function):
    """y = x at the indices of the maxima, given too if wanted.    dx gets dy there."""

    takes_layouts = True

    def __init__(self, geometry: ConvGeometry, algorithm: str, gives_indices: bool):
        self.geometry, self.algorithm, self.gives_indices = geometry, algorithm, gives_indices

    def forward(self, x: Array) -> Array | tuple[Array, Array]:
        y, indices = run("max_pool2d", plain(x) if self.gives_indices else x, self.geometry, algorithm=self.algorithm)
        self.save(indices)
        return (y, indices) if self.gives_indices else y

    def backward(self, grad: Array, _: Array | None = None) -> Array:
        indices, = self.saved
        return run("max_pool2d_grad", grad, indices, self.geometry, algorithm=self.algorithm)


def max_pool2d(x: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
               ceil_mode: bool = False, return_indices: bool = False,
               algorithm: str = "auto") -> Tensor | tuple[Tensor, Tensor]:
    """The largest value under each window of x (N, C, H, W); of equal ones the first, nan if there is one.

    kernel_size, dilation    of the window; numbers or (height, width)
    stride          step between windows; by default the kernel's size
    padding         at most half the kernel, on every side; it never wins.  Windows in it alone are an error
    ceil_mode       also the last, partial windows, unless they would start beyond the input and its near padding
    return_indices  give also where each value was, h·W + w in its plane, int64
    Returns (N, C, H', W') with H' = floor((H + 2p - d(k-1) - 1) / s) + 1, or ceil.  Raises ShapeError, ArgumentError.
    """
    x = images("max_pool2d", x)
    with about("max_pool2d"):
        geometry = ConvGeometry.pooling(x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
        result = MaxPool2d(geometry, algorithm, return_indices)(x)
    if not return_indices:
        return result
    y, indices = result
    return y, indices.to("int64")


def avg_pool2d(x: Any, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
               count_include_pad: bool = True) -> Tensor:
    """The mean under each window of x (N, C, H, W); arguments and output size as in `max_pool2d`.

    count_include_pad    divide by all cells of the window that lie in the padded input, zeros included; what
                         `ceil_mode` adds beyond it never counts.  False: divide by the input cells only.
    """
    x = images("avg_pool2d", x)
    with about("avg_pool2d"):
        geometry = ConvGeometry.pooling(x.shape[2:], kernel_size, stride, padding, 1, ceil_mode, count_include_pad)
    return Resample2d(*axis.means(geometry))(x)


def adaptive_avg_pool2d(x: Any, output_size: int | Sequence[int | None]) -> Tensor:
    """The mean over H' x W' bins that cover each image of x (N, C, H, W), whatever its size.

    output_size    H' = W', or (H', W') where None keeps the input's size.  Bin i holds the rows
                   floor(i · H/H') .. ceil((i+1) · H/H') - 1, so neighbours share a row where H' does not divide H.
    """
    x = images("adaptive_avg_pool2d", x)
    if hasattr(output_size, "__len__") and len(output_size) == 2:
        output_size = [old if new is None else new for new, old in zip(output_size, x.shape[2:], strict=True)]
    with about("adaptive_avg_pool2d"):
        size = pair(output_size, "output_size")
    if min(*size, *x.shape[2:]) < 1:
        raise ShapeError(f"adaptive_avg_pool2d: input {x.shape} to {size[0]}x{size[1]}; needs sizes of at least 1")
    return Resample2d(*(axis.bins(i, o) for i, o in zip(x.shape[2:], size, strict=True)))(x)
