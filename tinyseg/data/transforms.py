"""Changes of an image together with its mask and weight, drawn from a random generator that is given.

Each is a small frozen dataclass: `transform(sample, rng) -> Sample`.  The same generator state gives the same
result, bit for bit.  Labels are never mixed: masks move by whole pixels or by nearest, and pixels from outside
the image are 255.  `fill` is the image's colour out there: "mean" of the image, "reflect", a grey value 0..255
or a colour of three.
"""

from dataclasses import dataclass
from math import cos, radians, sin
from typing import Protocol

import numpy as np

from tinyseg.data.borders import border_weight_map
from tinyseg.data.resample import Fill, affine_map, elastic_map, pad, resize, warp
from tinyseg.data.sample import Sample
from tinyseg.errors import ArgumentError, DataError

__all__ = ["BorderWeights", "CenterCrop", "ColorJitter", "Compose", "ElasticDeformation", "GaussianNoise",
           "HorizontalFlip", "Pad", "RandomCrop", "RandomScale", "Resize", "Rotate", "Rotate90", "Shift",
           "Transform", "VerticalFlip"]

Size = int | tuple[int, int]


class Transform(Protocol):
    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample: ...


class Compose:
    """Transforms one after the other."""

    def __init__(self, *transforms: Transform):
        self.transforms = transforms

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        for transform in self.transforms:
            sample = transform(sample, rng)
        return sample

    def __repr__(self) -> str:
        return f"Compose({', '.join(map(repr, self.transforms))})"


@dataclass(frozen=True)
class HorizontalFlip:
    """Left and right exchanged with probability `p`."""

    p: float = 0.5

    def __post_init__(self):
        _probability(self, self.p)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return _each(sample, lambda array: array[:, ::-1]) if rng.random() < self.p else sample


@dataclass(frozen=True)
class VerticalFlip:
    """Top and bottom exchanged with probability `p`.  For images without an upright, as under a microscope."""

    p: float = 0.5

    def __post_init__(self):
        _probability(self, self.p)

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        return _each(sample, lambda array: array[::-1]) if rng.random() < self.p else sample


@dataclass(frozen=True)
class Rotate90:
    """A rotation by 0, 90, 180 or 270 degrees, exact; odd quarters exchange height and width."""

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        quarters = int(rng.integers(4))
        return _each(sample, lambda array: np.rot90(array, quarters))


@dataclass(frozen=True)
class RandomCrop:
    """A window of `size` at a random place; an image that is too small is padded at its bottom and right first."""

    size: Size
    fill: Fill = "mean"

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        height, width = _pair(self, self.size)
        have_height, have_width = sample.size
        sample = pad(sample, 0, max(height - have_height, 0), 0, max(width - have_width, 0), self.fill)
        top, left = int(rng.integers(sample.size[0] - height + 1)), int(rng.integers(sample.size[1] - width + 1))
        return _each(sample, lambda array: array[top:top + height, left:left + width])


@dataclass(frozen=True)
class CenterCrop:
    """The window of `size` in the middle; an image that is too small is padded on all sides first."""

    size: Size
    fill: Fill = "mean"

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        height, width = _pair(self, self.size)
        sample = _pad_around(sample, height, width, self.fill)
        top, left = (sample.size[0] - height) // 2, (sample.size[1] - width) // 2
        return _each(sample, lambda array: array[top:top + height, left:left + width])


@dataclass(frozen=True)
class Pad:
    """Pixels added at the bottom and right, up to `size`, or up to the next multiple of `multiple`.

    Nets that halve the image k times like sizes that are multiples of 2^k.
    """

    size: Size | None = None
    multiple: int | None = None
    fill: Fill = "mean"

    def __post_init__(self):
        if (self.size is None) == (self.multiple is None):
            raise ArgumentError(f"Pad: size={self.size}, multiple={self.multiple}; needs one of the two")
        if self.multiple is not None and self.multiple < 1:
            raise ArgumentError(f"Pad: multiple={self.multiple}; needs at least 1")

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        height, width = sample.size
        if self.multiple is None:
            want_height, want_width = _pair(self, self.size)
            return pad(sample, 0, max(want_height - height, 0), 0, max(want_width - width, 0), self.fill)
        return pad(sample, 0, -height % self.multiple, 0, -width % self.multiple, self.fill)


@dataclass(frozen=True)
class Resize:
    """To (H, W); one number is the length of the shorter side, and the other keeps the proportion."""

    size: Size

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        return resize(sample, self.output_size(sample.size))

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) of an image of `size` afterwards."""
        height, width = _pair(self, self.size)
        if not isinstance(self.size, int):
            return height, width
        shorter = min(size)
        return tuple((length * self.size * 2 + shorter) // (2 * shorter) for length in size)


@dataclass(frozen=True)
class RandomScale:
    """Both sides times a factor between `low` and `high`, or one of `choices` when they are given."""

    low: float = 0.5
    high: float = 2.0
    choices: tuple[float, ...] = ()

    def __post_init__(self):
        if not 0 < self.low <= self.high or any(choice <= 0 for choice in self.choices):
            raise ArgumentError(f"{self}: needs 0 < low <= high, and choices above 0")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        factor = float(rng.choice(self.choices) if self.choices else rng.uniform(self.low, self.high))
        return resize(sample, tuple(max(round(length * factor), 1) for length in sample.size))


@dataclass(frozen=True)
class Rotate:
    """A turn about the centre by an angle between -`degrees` and `degrees`, or between two given ones.

    Counter-clockwise is positive.
    """

    degrees: float | tuple[float, float] = 10.0
    fill: Fill = "mean"

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        low, high = self.degrees if isinstance(self.degrees, tuple) else (-self.degrees, self.degrees)
        angle = radians(rng.uniform(low, high))
        turn = ((cos(angle), sin(angle)), (-sin(angle), cos(angle)))    # rows grow downwards
        return warp(sample, affine_map(sample.size, turn), self.fill)


@dataclass(frozen=True)
class Shift:
    """A move by up to `fraction` of the height and the width."""

    fraction: float = 0.1
    fill: Fill = "mean"

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        down, right = (rng.uniform(-self.fraction, self.fraction) * length for length in sample.size)
        return warp(sample, affine_map(sample.size, np.eye(2), (down, right)), self.fill)


@dataclass(frozen=True)
class ElasticDeformation:
    """Smooth random deformation: Gaussian displacements of `sigma` pixels on a `grid` x `grid` net of points,
    bicubic between them (Ronneberger et al. 2015, "U-Net", section 3.1)."""

    sigma: float = 10.0
    grid: int = 3
    fill: Fill = "reflect"

    def __post_init__(self):
        if self.grid < 2 or not self.sigma >= 0:
            raise ArgumentError(f"{self}: needs grid >= 2 points a side and sigma >= 0 pixels")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        displacements = rng.normal(0.0, self.sigma, (2, self.grid, self.grid))
        return warp(sample, elastic_map(sample.size, displacements), self.fill)


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast and saturation times factors between 1 - x and 1 + x, in this order.

    Contrast is about the image's mean grey.  Grey images have no saturation to change.
    """

    brightness: float = 0.3
    contrast: float = 0.3
    saturation: float = 0.3

    def __post_init__(self):
        if not all(0 <= value <= 1 for value in (self.brightness, self.contrast, self.saturation)):
            raise ArgumentError(f"{self}: needs values 0..1; a factor lies between 1 - x and 1 + x")

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        brightness, contrast, saturation = (
            np.float32(rng.uniform(1 - x, 1 + x)) for x in (self.brightness, self.contrast, self.saturation))
        image = sample.image.astype(np.float32) * brightness
        mean = _grey(image).mean(dtype=np.float64).astype(np.float32)
        image = mean + contrast * (image - mean)
        if image.shape[2] == 3:
            grey = _grey(image)
            image = grey + saturation * (image - grey)
        return sample.replace(image=_to_uint8(image))


@dataclass(frozen=True)
class GaussianNoise:
    """Independent noise on every value, with a standard deviation between 0 and `sigma` grey levels of 255."""

    sigma: float = 10.0

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        noise = rng.standard_normal(sample.image.shape, np.float32) * np.float32(rng.uniform(0, self.sigma))
        return sample.replace(image=_to_uint8(sample.image + noise))


@dataclass(frozen=True)
class BorderWeights:
    """Sets `sample.weight` to U-Net's map of the borders between cells; see `border_weight_map`.

    It belongs after the geometric transforms: then distances are those of the image that is learned from.
    """

    w0: float = 10.0
    sigma: float = 5.0
    balance: bool = True
    background: int = 0

    def __call__(self, sample: Sample, rng: np.random.Generator | None = None) -> Sample:
        if sample.mask is None:
            raise DataError(f"{sample.name}: BorderWeights needs a mask, and this sample has none")
        return sample.replace(weight=border_weight_map(sample.mask, self.w0, self.sigma, self.balance, self.background))


def _each(sample: Sample, change) -> Sample:
    """The same move of whole pixels for image, mask and weight."""
    return sample.replace(image=change(sample.image), mask=None if sample.mask is None else change(sample.mask),
                          weight=None if sample.weight is None else change(sample.weight))


def _pad_around(sample: Sample, height: int, width: int, fill: Fill) -> Sample:
    down, across = max(height - sample.size[0], 0), max(width - sample.size[1], 0)
    return pad(sample, down // 2, down - down // 2, across // 2, across - across // 2, fill)


def _grey(image: np.ndarray) -> np.ndarray:
    """(H, W, 1), by ITU-R 601."""
    return image if image.shape[2] == 1 else (image @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.rint(image).clip(0, 255).astype(np.uint8)


def _pair(transform, size: Size) -> tuple[int, int]:
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise ArgumentError(f"{transform}: size {height}x{width} (HxW); needs at least 1x1")
    return height, width


def _probability(transform, p: float) -> None:
    if not 0 <= p <= 1:
        raise ArgumentError(f"{transform}: p={p} is no probability; needs 0 <= p <= 1")
