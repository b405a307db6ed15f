"""An activation as the matrix unit reads it: lines of 32 channels of one pixel, in bf16.

Between two convolutions on the matrix unit nobody wants NCHW, nor between their gradients.  A `Blocked` is what the
first wrote and the second reads where it lies: its planes have a line of zeros right of each row and a row of them
above and below, so that the taps of a 3x3 kernel need no copy.  Kernels for it are registered under "lines"; whoever
else wants an array gets one, `plain()`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinyseg.arrays import Layout

__all__ = ["BLOCK", "Blocked"]

BLOCK = 32                                           # channels in a line


class Blocked(Layout):
    """Float32 numbers (N, C, H, W), each rounded to bf16, or `split` in two: its bf16 and that of what is left.

    parts      arrays (N, blocks, 1 or 2 halves, lines of a plane, 16 words), one after the other in the channels
    largest    a magnitude that none exceeds
    Pixel (h, w) is line `first` + h·`pitch` + w of its plane.
    """

    name, dtype, device, ndim = "lines", np.dtype(np.float32), "cpu", 4

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

    def __getitem__(self, index: Any) -> Any:
        """Blocked too, of the same memory, if the index takes whole blocks of channels of one part and nothing else."""
        match index:
            case slice(start=None, stop=None, step=None), slice(start=int(a), stop=int(b), step=None) if (
                    len(self.parts) == 1 and 0 <= a < b <= self.shape[1] and a % BLOCK == b % BLOCK == 0):
                return Blocked(self.size, (self.parts[0][:, a // BLOCK:b // BLOCK],), self.largest)
        return self.plain()[index]

    def __add__(self, other: Any) -> Any:
        """Blocked too if `other` is, with the same parts."""
        from tinyseg.kernels.cpu import blocked

        y = blocked.add(self, other) if isinstance(other, Blocked) else None
        return self.plain() + np.asarray(other) if y is None else y

    __radd__ = __add__
    __array_ufunc__ = None                           # an array leaves the sum to us
