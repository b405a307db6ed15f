"""Images and masks from files and back.  Every failure is a DataError that starts with the file's path."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import error as StructError

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tinyseg.data.palette import voc_palette
from tinyseg.errors import ArgumentError, DataError, DTypeError, ShapeError
from tinyseg.files import replacing

__all__ = ["IMAGE_SUFFIXES", "read_image", "read_mask", "write_image", "write_mask"]

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"})
WIDE_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")    # one channel of more than eight bits
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, StructError)   # what decoders raise


@contextmanager
def opened(path: str | Path) -> Iterator[Image.Image]:
    """A Pillow image whose failures, now or while it is decoded, become one clear line."""
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: is empty (0 bytes); copy it again or remove it")
        with Image.open(path) as image:
            yield image
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: does not exist; check the name and the folder") from error
    except IsADirectoryError as error:
        raise DataError(f"{path}: is a folder; name an image file in it") from error
    except PermissionError as error:
        raise DataError(f"{path}: may not be read; change its permissions") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: is not an image that Pillow can read; convert it to PNG or JPEG") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: has more than {2 * Image.MAX_IMAGE_PIXELS} pixels; "
                        "cut it into tiles, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it") from error
    except _BROKEN as error:
        raise DataError(f"{path}: cannot be read ({error}); it may be truncated: copy it again") from error


def read_image(path: str | Path, channels: int = 3) -> np.ndarray:
    """Read an image as uint8 (H, W, channels): 3 for RGB, 1 for grey.

    A camera's EXIF orientation is applied and an alpha channel dropped.  Grey of more than eight bits
    is scaled by its depth, the smallest of 8, 12 and 16 bits that holds the image's largest value, so
    that images of one camera keep their relation; floating point is taken as 0..1, or as 0..255.
    Colour becomes grey by ITU-R 601: 0.299 R + 0.587 G + 0.114 B.
    """
    if channels not in (1, 3):
        raise ArgumentError(f"read_image: channels={channels}; needs 3 (RGB) or 1 (grey)")
    with opened(path) as image:
        image = ImageOps.exif_transpose(image)
        if image.mode in WIDE_MODES or image.mode == "F":
            image = Image.fromarray(_eight_bits(np.asarray(image), path))
        elif "transparency" in image.info:
            image = image.convert("RGBA")       # a transparent palette colour is otherwise undefined
        pixels = np.array(image.convert("RGB" if channels == 3 else "L"))
    return pixels.reshape(*pixels.shape[:2], channels)


def _eight_bits(grey: np.ndarray, path: str | Path) -> np.ndarray:
    low, high = grey.min(), grey.max()
    if not np.isfinite([low, high]).all() or low < 0:
        raise DataError(f"{path}: holds values from {low} to {high}; needs finite values >= 0: save it as 8 bits")
    if grey.dtype.kind == "f":
        top = next((top for top in (1, 255) if high <= top), None)
    else:
        top = next((2**bits - 1 for bits in (8, 12, 16) if high < 2**bits), None)
    if top is None:
        raise DataError(f"{path}: holds values up to {high}; needs at most 65535 (whole numbers) or 255 "
                        "(floating point): save it as 8 or 16 bits")
    return np.rint(grey * (255.0 / top)).astype(np.uint8)


def oriented_size(image: Image.Image) -> tuple[int, int]:
    """(H, W) of an opened image once its EXIF orientation is applied, told from the header alone."""
    width, height = image.size
    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)      # 0x0112: orientation; these are quarter turns
    return (width, height) if turned else (height, width)


def raw_mask(path: str | Path) -> np.ndarray:
    """A mask as its file holds it: (H, W) indices of 8 or more bits, or uint8 (H, W, 3) colours."""
    with opened(path) as image:
        if image.mode == "1":
            return np.array(image, np.uint8)                     # False, True -> 0, 1
        if image.mode in ("P", "L") or image.mode in WIDE_MODES:
            return np.array(image)                               # P: the indices, never their colours
        if image.mode in ("LA", "PA"):
            return np.array(image)[..., 0]
        if image.mode in ("RGB", "RGBA", "RGBX"):
            return np.array(image.convert("RGB"))
        raise DataError(f"{path}: a mask of mode {image.mode}; needs palette, grey, 1-bit or RGB: save it as PNG")


def read_mask(path: str | Path) -> np.ndarray:
    """Read a mask of class indices as uint8 (H, W).

    A palette PNG gives its indices (never its colours), a grey one its values, a 1-bit one 0 and 1.
    RGB has no indices: `FolderDataset` recognises the colours of a whole set of masks.
    """
    mask = raw_mask(path)
    if mask.ndim == 3:
        raise DataError(f"{path}: is an RGB mask, which holds colours, not class indices; "
                        'read the set with FolderDataset(mask_encoding="color"), or save palette PNGs')
    return narrow(mask, path)


def narrow(mask: np.ndarray, path: str | Path) -> np.ndarray:
    """Indices of any width as uint8; larger ones cannot be classes."""
    if mask.dtype != np.uint8 and (mask.max() > 255 or mask.min() < 0):
        raise DataError(f"{path}: holds values from {mask.min()} to {mask.max()}, and class indices are 0..255; "
                        'if they are instance ids, FolderDataset(mask_encoding="binary") makes every id class 1')
    return mask.astype(np.uint8, copy=False)


def write_image(path: str | Path, image: np.ndarray) -> None:
    """Write uint8 (H, W, 3) or (H, W, 1) as PNG, or as JPEG where the suffix says so; whole or not at all."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ShapeError(f"write_image: {path}: got {image.dtype} {image.shape}; needs uint8 (H, W, 3) or (H, W, 1)")
    picture = Image.fromarray(image if image.shape[2] == 3 else image[..., 0])
    jpeg = Path(path).suffix.lower() in (".jpg", ".jpeg")
    with replacing(path) as file:
        picture.save(file, "JPEG" if jpeg else "PNG", quality=95)       # PNG has no quality, and ignores it


def write_mask(path: str | Path, mask: np.ndarray, palette: np.ndarray | None = None) -> None:
    """Write integer (H, W) indices 0..255 as a palette PNG, in VOC's colours unless told otherwise.

    `read_mask` gives the same indices back; image viewers show the colours.
    """
    if mask.ndim != 2 or mask.dtype.kind not in "iub":
        raise DTypeError(f"write_mask: {path}: got {mask.dtype} {mask.shape}; needs whole numbers (H, W)")
    if mask.size and (mask.min() < 0 or mask.max() > 255):
        raise ArgumentError(f"write_mask: {path}: values {mask.min()}..{mask.max()}; a palette PNG holds 0..255")
    if Path(path).suffix.lower() != ".png":
        raise ArgumentError(f"write_mask: {path}: masks are PNG, which keeps every label; name it .png")
    picture = Image.fromarray(mask.astype(np.uint8))
    picture.putpalette((voc_palette() if palette is None else np.asarray(palette, np.uint8)).tobytes())
    with replacing(path) as file:
        picture.save(file, "PNG")
