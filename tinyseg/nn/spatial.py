"""Pooling, resizing and dropout as modules; the mathematics is in `tinyseg.functional`."""

from __future__ import annotations

from collections.abc import Sequence

import tinyseg.functional as F
from tinyseg.autograd import Tensor
from tinyseg.errors import ArgumentError
from tinyseg.nn.module import Module

__all__ = ["AdaptiveAvgPool2d", "AvgPool2d", "Dropout", "Dropout2d", "MaxPool2d", "Upsample"]

Size = int | tuple[int, int]


class MaxPool2d(Module):
    """The largest value of each window.

    kernel_size    a number or (height, width), as are stride, padding and dilation
    stride         step between windows; by default the kernel size
    padding        cells of minus infinity on every side, at most half the kernel
    dilation       step between the cells of a window
    ceil_mode      round the output size up, as Caffe does; a last window that would start in the far padding is dropped
    """

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, dilation: Size = 1,
                 ceil_mode: bool = False):
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.dilation, self.ceil_mode = padding, dilation, ceil_mode

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode)

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
                + (f", dilation={self.dilation}" if self.dilation not in (1, (1, 1)) else "")
                + (", ceil_mode=True" if self.ceil_mode else ""))


class AvgPool2d(Module):
    """The mean of each window.

    count_include_pad    whether the zeros of the padding count in the divisor
    The other arguments are those of `MaxPool2d`.
    """

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0, ceil_mode: bool = False,
                 count_include_pad: bool = True):
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode, self.count_include_pad = padding, ceil_mode, count_include_pad

    def forward(self, x: Tensor) -> Tensor:
        return F.avg_pool2d(x, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)

    def extra_repr(self) -> str:
        return (f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"
                + (", ceil_mode=True" if self.ceil_mode else ""))


class AdaptiveAvgPool2d(Module):
    """Means over windows chosen so that the output has `output_size`; 1 is the mean over the whole image."""

    def __init__(self, output_size: Size):
        self.output_size = output_size

    def forward(self, x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class Upsample(Module):
    """Resize to `size`, or by `scale_factor`.

    size            (height, width) of the result; or
    scale_factor    the factor, a number or (height, width)
    mode            "nearest" or "bilinear"
    align_corners   True lays the corner *centres* on each other (U-Net ports, old Caffe), False the image borders
                    (torchvision).  The two differ by up to half a pixel: take the one of the weights.
    """

    def __init__(self, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None,
                 mode: str = "nearest", align_corners: bool | None = None):
        if (size is None) == (scale_factor is None):
            raise ArgumentError(f"Upsample: size {size}, scale_factor {scale_factor}; give one of the two")
        self.size, self.scale_factor, self.mode, self.align_corners = size, scale_factor, mode, align_corners

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(x, self.size, self.scale_factor, self.mode, self.align_corners)

    def extra_repr(self) -> str:
        return ((f"size={self.size}" if self.size is not None else f"scale_factor={self.scale_factor}")
                + f", mode={self.mode!r}"
                + (f", align_corners={self.align_corners}" if self.align_corners is not None else ""))


class _Dropout(Module):
    def __init__(self, p: float = 0.5, inplace: bool = False):
        if not 0 <= p <= 1:
            raise ArgumentError(f"{type(self).__name__}: p {p}; needs 0 <= p <= 1")
        self.p = p

    def extra_repr(self) -> str:
        return f"p={self.p}"


class Dropout(_Dropout):
    """In training set each element to 0 with probability p and multiply the others by 1 / (1 - p)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Dropout2d(_Dropout):
    """Dropout of whole channels of a sample."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout2d(x, self.p, self.training)
