"""Label maps as pictures, uint8 (H, W, 3).  Palettes are uint8 (256, 3), one row per label."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image, ImageDraw, ImageFont

from tinyseg.errors import ArgumentError, DTypeError, ShapeError
from tinyseg.files import replacing

__all__ = ["ERROR_LEGEND", "colorize", "error_map", "image_grid", "overlay", "probability_map", "save_png"]

Picture = NDArray[np.uint8]

# Right and wrong differ in lightness as well as in hue, so that the map can be read on paper and without telling
# green from red; ignored lies between them.
ERROR_LEGEND = {"right": (178, 223, 190), "wrong": (196, 48, 28), "ignored": (128, 132, 138)}

# Nine steps of matplotlib's viridis (CC0): perceptually even, safe for colour-blind readers.
_VIRIDIS = np.array([(68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141),
                     (39, 173, 129), (92, 200, 99), (170, 220, 50), (253, 231, 37)], np.float64)


def colorize(mask: ArrayLike, palette: ArrayLike) -> Picture:
    """Each label of `mask` (H, W) in its colour."""
    mask, palette = _labels("colorize", mask), np.asarray(palette)
    if palette.shape != (256, 3) or palette.dtype != np.uint8:
        raise ShapeError(f"colorize: palette is {palette.dtype} {palette.shape}; needs uint8 (256, 3)")
    return palette[mask]


def overlay(image: ArrayLike, mask: ArrayLike, palette: ArrayLike, alpha: float = 0.5,
            outline: bool = True) -> Picture:
    """The colours of `mask` (H, W) laid over `image`, uint8 (H, W, 3), (H, W, 1) or (H, W).

    alpha    weight of the colour: 0 shows only the image, 1 only the mask
    outline  draw each region's own pixels along its border in its full colour
    """
    if not 0 <= alpha <= 1:
        raise ArgumentError(f"overlay: alpha {alpha} is outside 0 .. 1")
    image, mask = as_picture("overlay", image), _labels("overlay", mask)
    _same_size("overlay", "image", image, "mask", mask)
    colors = colorize(mask, palette)
    weight = np.full(mask.shape, alpha)
    if outline:
        weight[_borders(mask)] = 1
    return np.rint(image + weight[..., None] * (colors.astype(np.float64) - image)).astype(np.uint8)


def error_map(truth: ArrayLike, prediction: ArrayLike, ignore_index: int | None = 255) -> Picture:
    """Where a prediction is right, wrong, or not judged: pale green, dark red, grey (`ERROR_LEGEND`)."""
    truth, prediction = _labels("error_map", truth), _labels("error_map", prediction)
    _same_size("error_map", "truth", truth, "prediction", prediction)
    right, wrong, ignored = np.array(list(ERROR_LEGEND.values()), np.uint8)
    picture = np.where((truth == prediction)[..., None], right, wrong)
    if ignore_index is not None:
        picture[truth == ignore_index] = ignored
    return picture


def probability_map(probability: ArrayLike) -> Picture:
    """Probabilities (H, W) in 0 .. 1 from dark violet through green to yellow; nan is grey."""
    p = np.asarray(probability, np.float64)
    if p.ndim != 2:
        raise ShapeError(f"probability_map: shape {p.shape}; needs one class, (H, W)")
    if np.any((p < 0) | (p > 1)):
        raise ArgumentError(f"probability_map: values {np.nanmin(p):.4g} .. {np.nanmax(p):.4g} leave 0 .. 1; "
                            "scores go through softmax first")
    stops = np.linspace(0, 1, len(_VIRIDIS))
    colors = np.stack([np.interp(p, stops, channel) for channel in _VIRIDIS.T], axis=-1)
    return np.rint(np.where(np.isnan(p)[..., None], ERROR_LEGEND["ignored"], colors)).astype(np.uint8)


def image_grid(rows: Sequence[Sequence[ArrayLike]], titles: Sequence[str] | None = None, gap: int = 8,
               background: tuple[int, int, int] = (255, 255, 255)) -> Picture:
    """Images in rows and columns, each in the middle of its cell, under one optional title per column.

    Images are uint8 (H, W, 3), (H, W, 1) or (H, W) of any sizes; a row may be shorter than others.
    `gap` is in pixels.
    """
    grid = [[as_picture("image_grid", image) for image in row] for row in rows]
    columns = max((len(row) for row in grid), default=0)
    if columns == 0:
        raise ArgumentError("image_grid: no images; needs at least one row of one image")
    if titles is not None and len(titles) != columns:
        raise ArgumentError(f"image_grid: {len(titles)} titles for {columns} columns; needs one each")
    widths = [max(row[c].shape[1] for row in grid if c < len(row)) for c in range(columns)]
    heights = [max((image.shape[0] for image in row), default=0) for row in grid]
    title_height = 24 if titles else 0
    lefts = gap + np.cumsum([0, *(width + gap for width in widths)])
    tops = gap + title_height + np.cumsum([0, *(height + gap for height in heights)])

    canvas = Image.new("RGB", (int(lefts[-1]), int(tops[-1])), background)
    for row, top, height in zip(grid, tops, heights, strict=False):
        for image, left, width in zip(row, lefts, widths, strict=False):
            at = int(left) + (width - image.shape[1]) // 2, int(top) + (height - image.shape[0]) // 2
            canvas.paste(Image.fromarray(image), at)
    if titles:
        ink = (20, 24, 31) if sum(background) > 3 * 128 else (240, 240, 240)
        pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=15)
        for title, left, width in zip(titles, lefts, widths, strict=False):
            pen.text((int(left) + width / 2, gap + title_height / 2 - 4), title, ink, font, anchor="mm")
    return np.array(canvas)


def save_png(path: str | Path, image: ArrayLike) -> None:
    """Write `image`, uint8 (H, W, 3), (H, W, 1) or (H, W).  Raises DataError; leaves no half file."""
    buffer = BytesIO()
    Image.fromarray(as_picture("save_png", image)).save(buffer, "PNG")
    with replacing(path) as file:
        file.write(buffer.getvalue())


def _borders(mask: NDArray) -> NDArray[np.bool_]:
    """Pixels with another label directly above, below, left or right."""
    edge = np.zeros(mask.shape, bool)
    across, down = mask[:, 1:] != mask[:, :-1], mask[1:] != mask[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


def as_picture(operation: str, image: ArrayLike) -> Picture:
    image = np.asarray(image)
    if image.dtype != np.uint8:
        raise DTypeError(f"{operation}: image is {image.dtype}; needs uint8, 0 .. 255")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[-1] not in (1, 3) or 0 in image.shape:
        raise ShapeError(f"{operation}: image {image.shape}; needs (H, W, 3), (H, W, 1) or (H, W), none 0")
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))


def _labels(operation: str, mask: ArrayLike) -> NDArray:
    mask = np.asarray(mask)
    if mask.dtype.kind not in "iub":
        raise DTypeError(f"{operation}: mask is {mask.dtype}; needs integer labels")
    if mask.ndim != 2:
        raise ShapeError(f"{operation}: mask {mask.shape}; needs one image, (H, W)")
    if mask.size and not 0 <= mask.min() <= mask.max() <= 255:
        raise ArgumentError(f"{operation}: labels {mask.min()} .. {mask.max()} leave 0 .. 255")
    return mask.astype(np.intp)


def _same_size(operation: str, one: str, a: NDArray, other: str, b: NDArray) -> None:
    if a.shape[:2] != b.shape[:2]:
        raise ShapeError(f"{operation}: {one} is {a.shape[:2]}, {other} {b.shape[:2]}; needs one size (H, W)")
