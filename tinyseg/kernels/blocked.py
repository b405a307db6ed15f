"""An activation as the matrix unit reads it: lines of 32 channels of one pixel, in bf16.

Between two convolutions on the matrix unit nobody wants NCHW.  A `Blocked` is what the first wrote and the second reads
where it lies: its planes have a line of zeros right of each row and a row of them above and below, so that the taps of
a 3x3 kernel need no copy.  Who wants an array gets one, `plain()`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.arrays import Layout

__all__ = ["BLOCK", "Blocked", "concatenate", "max_pool2d", "relu"]

BLOCK = 32                                           # channels in a line


class Blocked(Layout):
    """Float32 numbers (N, C, H, W), each rounded to bf16, or `split` in two: its bf16 and that of what is left.

    parts      arrays (N, blocks, 1 or 2 halves, lines of a plane, 16 words), one after the other in the channels
    largest    a magnitude that none exceeds
    Pixel (h, w) is line `first` + h·`pitch` + w of its plane.
    """

    dtype, device, ndim = np.dtype(np.float32), "cpu", 4

    def __init__(self, size: tuple[int, int], parts: tuple[np.ndarray, ...], largest: float):
        self.size, self.parts, self.largest = size, parts, largest
        self.shape = len(parts[0]), BLOCK * sum(part.shape[1] for part in parts), *size
        self.split = parts[0].shape[2] == 2
        self.pitch = size[1] + 1
        self.first = self.pitch + 1

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return np

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self.plain().astype(dtype or self.dtype, copy=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return np.array, (self.plain(),)             # a copy has no memory beyond its parts, where tiles may read

    def plain(self) -> np.ndarray:
        """(N, C, H, W)."""
        from tinyseg.kernels.cpu import blocked

        return blocked.plain(self)

    def __add__(self, other: Any) -> Any:
        """Blocked too if `other` is, and of the same shape and halves."""
        from tinyseg.kernels.cpu import blocked

        alike = isinstance(other, Blocked) and (self.shape, self.split) == (other.shape, other.split)
        y = blocked.add(self, other) if alike else None
        return self.plain() + np.asarray(other) if y is None else y

    __radd__ = __add__
    __array_ufunc__ = None                           # an array leaves the sum to us


def concatenate(*arrays: Any) -> Blocked | None:
    """Blocked activations one after the other in the channels, without a copy; None where that cannot be."""
    if not all(isinstance(a, Blocked) for a in arrays) or len({(a.shape[0], a.size, a.split) for a in arrays}) != 1:
        return None
    return Blocked(arrays[0].size, sum((a.parts for a in arrays), ()), max(a.largest for a in arrays))


def relu(x: Any) -> Blocked | None:
    """max(x, 0) of a Blocked activation."""
    if not isinstance(x, Blocked):
        return None
    from tinyseg.kernels.cpu import blocked

    return blocked.relu(x)


def max_pool2d(x: Any, geometry: ConvGeometry) -> Blocked | None:
    """The largest number in each window of a Blocked activation; None where windows reach beyond the image."""
    if not isinstance(x, Blocked):
        return None
    from tinyseg.kernels.cpu import blocked

    return blocked.max_pool2d(x, geometry)
