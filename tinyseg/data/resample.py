"""One way to move pixels: a map of coordinates, and a sampler that follows it.

For every output pixel the map tells a position in the input, in pixels with 0 at the centre of the first one.
The image is read between pixels (bilinear); mask and weight are read from the nearest pixel, the one whose area
holds the position, because the mean of two labels is a third.  Outside the input the mask is 255 and the weight
0, whatever the image shows there: nothing is learned from pixels that were made up.
"""

import numpy as np
from PIL import Image

from tinyseg.data.sample import IGNORE, Sample
from tinyseg.errors import ArgumentError

__all__ = ["Fill", "affine_map", "elastic_map", "pad", "resize", "warp"]

Fill = float | tuple[int, int, int] | str     # a grey value, a colour, "mean" (of the image) or "reflect"
CoordinateMap = tuple[np.ndarray, np.ndarray]      # rows and columns, float64 (H', W')


def fill_color(image: np.ndarray, fill: Fill) -> np.ndarray:
    """The colour outside an image, uint8 (C,)."""
    if isinstance(fill, str):
        if fill not in ("mean", "reflect"):
            raise ArgumentError(f'fill={fill!r}; needs "mean", "reflect", a value 0..255 or a colour of three')
        return np.rint(image.mean(axis=(0, 1))).astype(np.uint8)
    color = np.atleast_1d(np.asarray(fill))
    if color.shape not in ((1,), (image.shape[2],)) or color.min() < 0 or color.max() > 255:
        raise ArgumentError(f"fill={fill} for an image of {image.shape[2]} channels; needs one value 0..255, "
                            "or one for each channel")
    return np.broadcast_to(color, image.shape[2]).astype(np.uint8)


def affine_map(size: tuple[int, int], matrix: np.ndarray, shift: tuple[float, float] = (0, 0)) -> CoordinateMap:
    """Positions matrix · (p - centre) + centre - shift for the pixels p = (row, column) of an image of `size`."""
    height, width = size
    rows, columns = np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2
    (a, b), (c, d) = np.asarray(matrix, np.float64)
    return (a * rows[:, None] + b * columns[None, :] + ((height - 1) / 2 - shift[0]),
            c * rows[:, None] + d * columns[None, :] + ((width - 1) / 2 - shift[1]))


def elastic_map(size: tuple[int, int], displacements: np.ndarray) -> CoordinateMap:
    """Positions p + d(p), with d interpolated from `displacements` (2, G, G) pixels on a coarse grid.

    The grid's outer points are the image's corners.  Between them d is bicubic (Keys' cubic convolution,
    a = -1/2, outer points repeated): it passes through every grid point, and is smooth.
    """
    height, width = size
    vertical, horizontal = (_cubic_weights(length, displacements.shape[1]) for length in size)    # (H, G), (W, G)
    rows, columns = vertical @ displacements @ horizontal.T                                       # (2, H, W)
    return rows + np.arange(height)[:, None], columns + np.arange(width)[None, :]


def _cubic_weights(length: int, points: int) -> np.ndarray:
    """How much each grid point counts at each pixel: (length, points), rows sum to 1."""
    position = np.linspace(0, points - 1, length)
    first = np.floor(position).astype(int)
    weights = np.zeros((length, points))
    for neighbour in range(-1, 3):
        t = np.abs(position - (first + neighbour))
        near, far = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
        weight = np.where(t <= 1, near, np.where(t < 2, far, 0))
        np.add.at(weights, (np.arange(length), np.clip(first + neighbour, 0, points - 1)), weight)
    return weights


def warp(sample: Sample, positions: CoordinateMap, fill: Fill = "mean") -> Sample:
    """The sample read at `positions`: the one sampler behind rotation, shift and elastic deformation."""
    from tinyseg.data import kernels
    rows, columns = (np.ascontiguousarray(axis, np.float64) for axis in positions)

    image = np.empty((*rows.shape, sample.image.shape[2]), np.uint8)
    kernels.sample_bilinear(np.ascontiguousarray(sample.image), rows, columns, fill == "reflect",
                            fill_color(sample.image, fill), image)

    def nearest(array, outside):
        if array is None:
            return None
        out = np.empty(rows.shape, array.dtype)
        kernels.sample_nearest(np.ascontiguousarray(array), rows, columns, array.dtype.type(outside), out)
        return out
    return sample.replace(image=image, mask=nearest(sample.mask, IGNORE), weight=nearest(sample.weight, 0))


def resize(sample: Sample, size: tuple[int, int]) -> Sample:
    """The sample at (H', W') pixels: image bilinear with antialiasing, mask and weight by nearest.

    Nearest is aligned at the centres: output pixel i takes input pixel floor((i + 1/2) · H / H').
    """
    height, width = size
    if height < 1 or width < 1:
        raise ArgumentError(f"resize: {height}x{width} (HxW); needs at least 1x1")
    if tuple(size) == sample.size:
        return sample
    picture = sample.image if sample.image.shape[2] == 3 else sample.image[..., 0]
    image = np.array(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))
    rows, columns = ((2 * np.arange(new) + 1) * old // (2 * new) for new, old in zip(size, sample.size, strict=True))

    def nearest(array):
        return None if array is None else array[rows[:, None], columns]
    return sample.replace(image=image.reshape(height, width, -1), mask=nearest(sample.mask),
                          weight=nearest(sample.weight))


def pad(sample: Sample, top: int, bottom: int, left: int, right: int, fill: Fill = "mean") -> Sample:
    """The sample with pixels added at its sides: image by `fill`, mask 255, weight 0."""
    if not (top or bottom or left or right):
        return sample
    sides = ((top, bottom), (left, right))
    if fill == "reflect":
        image = np.pad(sample.image, (*sides, (0, 0)), mode="reflect")
    else:
        height, width = sample.size
        image = np.empty((top + height + bottom, left + width + right, sample.image.shape[2]), np.uint8)
        image[:] = fill_color(sample.image, fill)
        image[top:top + height, left:left + width] = sample.image

    def padded(array, value):
        return None if array is None else np.pad(array, sides, constant_values=value)
    return sample.replace(image=image, mask=padded(sample.mask, IGNORE), weight=padded(sample.weight, 0))
