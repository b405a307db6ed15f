"""Resizing, and the Function that it shares with average pooling and mirrored padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinyseg.arithmetic import pair
from tinyseg.autograd import Function, Tensor, as_tensor
from tinyseg.errors import ArgumentError, DTypeError, ShapeError, about
from tinyseg.functional.checks import images, one_of
from tinyseg.kernels import axis
from tinyseg.kernels.axis import AxisMap
from tinyseg.kernels.registry import run

__all__ = ["Resample2d", "interpolate"]


class Resample2d(Function):
    """y = R · x · Cᵀ on each plane.    dx = Rᵀ · dy · C, the same kernel with the transposed maps."""

    def __init__(self, rows: AxisMap, columns: AxisMap):
        self.rows, self.columns = rows, columns

    def forward(self, x):
        return run("resample2d", x, self.rows, self.columns)

    def backward(self, grad):
        return run("resample2d", grad, self.rows.T, self.columns.T)


def interpolate(x: Any, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None,
                mode: str = "nearest", align_corners: bool = False) -> Tensor:
    """Resize the images of x (N, C, H, W) to `size` = (H', W'), or to floor(scale_factor · (H, W)).

    mode            "nearest": output x' takes the input at floor(x' · H/H'), the near corner of its area;
                    "nearest-exact": at floor((x' + 1/2) · H/H'), its centre, as image libraries do;
                    "bilinear": a mean of the four inputs around it, weighted by distance
    align_corners   for "bilinear": where output x' lies in the input.  False: at (x' + 1/2) · H/H' - 1/2, and before
                    the first pixel counts as on it; pixels are areas.  True: at x' · (H-1)/(H'-1); the outer pixels'
                    centres meet, and a size of 1 takes the first.  Models trained with one are wrong with the other.
    Whole numbers (label maps, as (N, 1, H, W)) can be resized by the nearest modes only.  With `scale_factor` the
    formulas use it in place of H'/H, as PyTorch does (but an axis whose size stays is left alone).  "nearest" is
    evaluated exactly; PyTorch rounds H/H' to float32 first, which for a few sizes takes the neighbour.
    Returns (N, C, H', W').  Raises ShapeError, ArgumentError, DTypeError.
    """
    one_of("interpolate", "mode", mode, ("nearest", "nearest-exact", "bilinear"))
    x = as_tensor(x)
    if mode == "bilinear" or x.dtype.kind == "f":
        x = images("interpolate", x)
    elif x.ndim != 4:
        raise ShapeError(f"interpolate: input of shape {x.shape}; needs (N, C, H, W)")
    elif x.dtype.kind not in "iu":
        raise DTypeError(f"interpolate: input is {x.dtype}; needs floats or whole numbers")
    if align_corners and mode != "bilinear":
        raise ArgumentError(f'interpolate: align_corners with mode {mode!r}; it is a choice of "bilinear" only')
    if (size is None) == (scale_factor is None):
        raise ArgumentError(f"interpolate: size {size}, scale_factor {scale_factor}; needs one of the two")
    if 0 in x.shape[2:]:
        raise ShapeError(f"interpolate: input of shape {x.shape}; needs H >= 1 and W >= 1")

    if size is not None:
        with about("interpolate"):
            new, scales = pair(size, "size"), (None, None)
    else:
        scales = _factors(scale_factor)
        new = tuple(math.floor(n * s) for n, s in zip(x.shape[2:], scales, strict=True))
    if min(new) < 1:
        raise ShapeError(f"interpolate: output size {new[0]}x{new[1]} (HxW) from {x.shape[2]}x{x.shape[3]}; "
                         "needs at least 1x1")
    rows, columns = (_axis_map(i, o, s, mode, align_corners) for i, o, s in zip(x.shape[2:], new, scales, strict=True))
    return Resample2d(rows, columns)(x)


def _axis_map(i: int, o: int, scale: float | None, mode: str, align_corners: bool) -> AxisMap:
    # An axis whose size stays is left alone, whatever the factor; PyTorch's nearest also takes twice the size so.
    if (o == i and mode != "nearest-exact") or (o == 2 * i and mode == "nearest"):
        scale = None
    if mode == "bilinear":
        return axis.bilinear(i, o, scale, align_corners)
    return axis.nearest(i, o, scale, centred=mode == "nearest-exact")


def _factors(scale_factor: float | Sequence[float]) -> tuple[float, float]:
    factors = tuple(scale_factor) if hasattr(scale_factor, "__len__") else (scale_factor, scale_factor)
    if len(factors) != 2 or not all(0 < f < math.inf for f in factors):
        raise ArgumentError(f"interpolate: scale_factor {scale_factor}; needs a number > 0, or two (for H and W)")
    return float(factors[0]), float(factors[1])
