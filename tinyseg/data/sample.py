"""One image with what is known about it, and what a data set is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np

from tinyseg.errors import DTypeError, ShapeError

__all__ = ["IGNORE", "Dataset", "Sample"]

IGNORE = 255    # the label of pixels that count neither in the loss nor in a metric (VOC's border)


@dataclass(frozen=True, eq=False)
class Sample:
    """An image, its labels, and the weight of each pixel in the loss.

    image   uint8 (H, W, 3) RGB or (H, W, 1) grey
    mask    uint8 (H, W) of class indices, 255 where it is not known; None when there are no labels
    name    the file's stem, or any name that tells samples apart
    weight  float32 (H, W), or None for a weight of 1 everywhere
    """

    image: np.ndarray
    mask: np.ndarray | None = None
    name: str = ""
    weight: np.ndarray | None = None

    def __post_init__(self):
        image = self.image
        if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
            raise ShapeError(f"Sample {self.name!r}: image has shape {image.shape}; "
                             "needs (H, W, 3) for RGB or (H, W, 1) for grey, not empty")
        if image.dtype != np.uint8:
            raise DTypeError(f"Sample {self.name!r}: image is {image.dtype}; needs uint8 in 0..255")
        for what, array, dtype in (("mask", self.mask, np.uint8), ("weight", self.weight, np.float32)):
            if array is None:
                continue
            if array.shape != image.shape[:2]:
                raise ShapeError(f"Sample {self.name!r}: {what} has shape {array.shape}, image {image.shape}; "
                                 f"needs {what}.shape == {image.shape[:2]}")
            if array.dtype != dtype:
                raise DTypeError(f"Sample {self.name!r}: {what} is {array.dtype}; needs {np.dtype(dtype).name}")

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) in pixels."""
        return self.image.shape[:2]

    def replace(self, **changes: Any) -> Self:
        """The same sample with some fields exchanged, checked again."""
        return replace(self, **changes)


@runtime_checkable
class Dataset(Protocol):
    """Anything with a length, samples by position, and names and colours for its classes."""

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def palette(self) -> np.ndarray:
        """uint8 (256, 3): the colour of each label, 255 included."""

    @property
    def ignore_index(self) -> int:
        """Always IGNORE."""

    @property
    def notices(self) -> Sequence[str]:
        """What to tell whoever uses the data, a line each."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...
