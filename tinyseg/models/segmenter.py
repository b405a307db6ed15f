"""What training and inference need to know of a net that segments."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NamedTuple

from tinyseg import nn
from tinyseg.arithmetic import pair
from tinyseg.autograd import Tensor
from tinyseg.errors import ShapeError

__all__ = ["Scored", "Segmenter"]


class Scored(NamedTuple):
    """Scores that a net wants judged in training.

    name            which of the net's scores they are: "out", "aux", "0.5x"
    scores          (N, num_classes, h, w); where they are coarser than the masks, the masks are shrunk to them
    weight          of their loss in the sum
    align_corners   how the coarse grid lies on the image, as in `interpolate`
    """

    name: str
    scores: Tensor
    weight: float = 1.0
    align_corners: bool = False


class Segmenter(nn.Module):
    """A net from images (N, in_channels, H, W) to logits (N, num_classes, H, W).

    In training mode `forward` may return a tuple of `Scored` instead, where the loss is more than that of the logits.

    in_channels    channels of the images
    multiple       heights and widths must be multiples of this
    """

    in_channels: int
    multiple: int = 1

    @property
    def legal_sizes(self) -> range:
        """The heights and widths that the net takes, as a range without a practical end."""
        return range(self.multiple, sys.maxsize, self.multiple)

    def output_size(self, input_size: int | Sequence[int]) -> tuple[int, int]:
        """(height, width) of the logits for an input of that size.

        Raises ShapeError, with the nearest legal sizes, for one that the net does not take.
        """
        size = pair(input_size, "input size")
        for n, axis in zip(size, ("H", "W"), strict=True):
            if n not in self.legal_sizes:
                raise ShapeError(f"{type(self).__name__}: input size {n} in {axis}: {self._rule(n)}")
        return size

    def check(self, x: Tensor) -> None:
        """Raises ShapeError for an input that the net does not take."""
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ShapeError(f"{type(self).__name__}: input of shape {x.shape}; needs (N, {self.in_channels}, H, W)")
        self.output_size(x.shape[2:])

    def _rule(self, n: int) -> str:
        """What size n breaks."""
        legal = self.legal_sizes
        if n < legal.start:
            return f"needs at least {legal.start}"
        below = n - (n - legal.start) % legal.step
        first = f"{legal.start} + " if legal.start % legal.step else ""
        return (f"needs {first}a multiple of {legal.step}; "
                f"the nearest legal sizes are {below} and {below + legal.step}")
