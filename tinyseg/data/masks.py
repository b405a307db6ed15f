"""How a set of masks encodes its classes: recognised over the whole set, never file by file.

One mask alone cannot tell: a file holding 0 and 255 may be a binary mask, or a VOC mask of nothing but
background and border.
"""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from tinyseg.data.images import narrow, opened, oriented_size, raw_mask
from tinyseg.data.palette import voc_palette
from tinyseg.data.sample import IGNORE
from tinyseg.errors import ArgumentError, DataError

__all__ = ["MaskEncoding", "Masks", "recognise"]

MaskEncoding = Literal["auto", "index", "binary", "color"]
IgnoreValue = int | tuple[int, int, int] | None
VOC_LABELS = (*range(21), IGNORE)


@dataclass(frozen=True)
class Contents:
    """What one mask file holds.  `codes` are its distinct values: v for grey and palette, 0xRRGGBB for RGB."""

    path: Path
    kind: Literal["palette", "grey", "wide", "rgb"]
    codes: np.ndarray
    lossy: bool
    palette: np.ndarray | None      # uint8 (256, 3) of a palette file


@dataclass(frozen=True)
class Masks:
    """Reads every mask of one set in the same way.

    codes    sorted distinct values of the set as `pack` gives them
    labels   uint8, the label of each code
    """

    encoding: Literal["index", "binary", "color"]
    codes: np.ndarray
    labels: np.ndarray
    palette: np.ndarray
    notices: tuple[str, ...]

    def read(self, path: str | Path) -> np.ndarray:
        """The mask in `path` as uint8 labels (H, W)."""
        codes = pack(raw_mask(path), self.encoding)
        position = np.searchsorted(self.codes, codes).clip(max=len(self.codes) - 1)
        unknown = self.codes[position] != codes
        if unknown.any():
            raise DataError(f"{path}: holds {_told(int(codes[unknown][0]), self.encoding)}, which no mask held "
                            "when the set was scanned; the file has changed: open the data set again")
        return self.labels[position]


def pack(mask: np.ndarray, encoding: str) -> np.ndarray:
    """One number per pixel: a grey value as it is, RGB as 0xRRGGBB (or as grey where a value is meant)."""
    if mask.ndim == 3:
        red, green, blue = (mask[..., channel].astype(np.int32) for channel in range(3))
        return red << 16 | green << 8 | blue if encoding == "color" else np.maximum(np.maximum(red, green), blue)
    grey = mask.astype(np.int32)
    return grey * 0x010101 if encoding == "color" else grey


def scan(path: Path, image: Path | None = None) -> Contents:
    """Look at one mask: what it holds, and whether it is as large as its image."""
    with opened(path) as file:
        lossy, mode, palette = file.format in ("JPEG", "MPO", "WEBP"), file.mode, None
        if mode == "P":
            colors = np.array(file.getpalette("RGB"), np.uint8).reshape(-1, 3)[:256]
            palette = voc_palette()
            palette[:len(colors)] = colors
    mask = raw_mask(path)
    if image is not None:
        with opened(image) as file:
            size = oriented_size(file)
        if mask.shape[:2] != size:
            raise DataError(f"{path}: is {mask.shape[0]}x{mask.shape[1]} (HxW), but its image {image.name} is "
                            f"{size[0]}x{size[1]}; a mask needs the size of its image: resize it by nearest")
    kind = "rgb" if mask.ndim == 3 else "palette" if palette is not None else "grey"
    if mask.dtype != np.uint8:
        kind = "wide"
    return Contents(path, kind, _distinct(pack(mask, "color" if kind == "rgb" else "index")), lossy, palette)


def _distinct(codes: np.ndarray) -> np.ndarray:
    """np.unique, quick for masks: of every run of equal pixels only the first is sorted."""
    codes = codes.ravel()
    return np.unique(codes[np.flatnonzero(np.diff(codes, prepend=codes[0] - 1))])


def recognise(paths: Sequence[Path], images: Sequence[Path | None] | None = None, *,
              encoding: MaskEncoding = "auto", num_classes: int | None = None,
              ignore_value: IgnoreValue = None, palette: np.ndarray | None = None) -> tuple[Masks, int]:
    """Scan a set of masks and decide how to read it.  Returns the reader and the number of classes.

    auto    values 0 and 255 alone are binary, unless 255 is known to mean "ignore": more than two classes,
            `ignore_value=255`, or a palette with VOC's border colour; other grey and palette values are
            indices; RGB colours are VOC's classes when all are VOC colours, otherwise numbered in sorted order
    index   values are class indices
    binary  0 is class 0 and every other value class 1
    color   the distinct colours (or grey values) of the set, numbered in sorted order

    palette    uint8 (256, 3): the colours of the classes, where they are known from another set, by whose labels a
               set of colours is read then instead of being numbered: it may not hold them all

    `ignore_value` (an index, or a colour) becomes 255.  Raises DataError, naming the file, for a label that
    is not below `num_classes`, and for masks that need to be told apart by hand.
    """
    if encoding not in ("auto", "index", "binary", "color"):
        raise ArgumentError(f'mask_encoding={encoding!r}; needs "auto", "index", "binary" or "color"')
    with ThreadPoolExecutor(2) as pool:         # decoding leaves Python's lock
        contents = list(pool.map(scan, paths, images or [None] * len(paths)))
    notices: list[str] = []
    chosen = _choose(contents, num_classes, ignore_value, notices) if encoding == "auto" else encoding
    if chosen == "color" and palette is not None:
        codes, labels = _numbered_by(palette, contents, num_classes or IGNORE, ignore_value)
    else:
        codes, labels, palette = _number(contents, chosen, encoding == "auto", notices)
    if ignore_value is not None:
        void = codes == _code(ignore_value, chosen)
        labels = np.where(void, IGNORE, labels)
        notices.append(f"masks: {_told(_code(ignore_value, chosen), chosen)} " +
                       ('is read as "ignore" (255)' if void.any() else "(ignore_value) never appears"))
    labels = labels.astype(np.uint8)
    classes = labels[labels != IGNORE]
    if not len(classes):
        raise DataError(f"{paths[0].parent}: no mask has a labelled pixel, all are ignored (255); "
                        'mask_encoding="binary" makes 255 class 1')
    count = num_classes or max(int(classes.max()) + 1, 2 if chosen == "binary" else 1)
    _check(contents, chosen, codes, labels, count)
    return Masks(chosen, codes, labels, palette, tuple(notices)), count


def _choose(contents: list[Contents], num_classes: int | None, ignore_value: IgnoreValue,
            notices: list[str]) -> Literal["index", "binary", "color"]:
    for file in contents:
        if file.lossy:
            raise DataError(f"{file.path}: JPEG and WebP change the values of a mask; save masks as PNG, "
                            'or use mask_encoding="binary", which takes values from 128 up as class 1')
        if file.kind == "wide":
            raise DataError(f"{file.path}: has 16-bit values up to {file.codes[-1]}, classes or instance ids? Use "
                            'mask_encoding="index" for classes, "binary" to make every id class 1')
    if not _grey(contents):
        return "color"
    values = set().union(*(_values(file).tolist() for file in contents))
    if not values <= {0, 255} or 255 not in values:
        return "index"
    border = any(file.palette is not None and (file.palette[IGNORE] == voc_palette()[IGNORE]).all()
                 for file in contents)
    if (num_classes or 2) > 2 or ignore_value == IGNORE or border:
        notices.append('masks: hold only 0 and 255; 255 is read as "ignore", not as a class '
                       '(mask_encoding="binary" would make it class 1)')
        return "index"
    notices.append('masks: hold only 0 and 255; read as classes 0 and 1 '
                   '(mask_encoding="index" would read 255 as "ignore")')
    return "binary"


def _number(contents: list[Contents], encoding: str, auto: bool,
            notices: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The distinct codes of the set under an encoding, the label of each, and the palette to show them in."""
    palette = voc_palette()
    if encoding == "binary":
        codes = _union(_values(file) for file in contents)
        least = 128 if any(file.lossy for file in contents) else 1
        if not auto:
            notices.append(f"masks: values from {least} up are read as class 1, others as class 0")
        return codes, (codes >= least).astype(np.uint8), palette
    if encoding == "index":
        for file in contents:
            if not _grey([file]):
                raise DataError(f'{file.path}: is an RGB mask, and mask_encoding="index" needs grey or palette; '
                                'use mask_encoding="color"')
            narrow(_values(file), file.path)
        shown = next((file.palette for file in contents if file.palette is not None), palette)
        if (shown[1:16] != shown[1:16, :1]).any():          # a palette of greys would show every class alike
            palette = shown
        if any(file.kind == "rgb" for file in contents):
            notices.append("masks: RGB files whose pixels are all grey; read as their grey values")
        codes = _union(_values(file) for file in contents)
        return codes, codes, palette
    codes = _color_codes(contents)
    colors = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)
    voc = {tuple(palette[label].tolist()): label for label in VOC_LABELS}
    if auto and all(tuple(color) in voc for color in colors.tolist()):
        notices.append(f"masks: {len(colors)} RGB colours, all of them VOC's; read as its classes")
        return codes, np.array([voc[tuple(color)] for color in colors.tolist()]), palette
    if len(codes) > IGNORE:
        raise DataError(f"{contents[0].path.parent}: its masks hold {len(codes)} colours; needs at most 255: they may "
                        "be anti-aliased, resized with smoothing, or photographs instead of masks")
    told = ", ".join(f"{label}={_told(code, 'color')}" for label, code in enumerate(codes[:8].tolist()))
    notices.append(f"masks: {len(codes)} colours, numbered in sorted order: {told}{', ...' * (len(codes) > 8)}")
    palette[:len(codes)] = colors
    return codes, np.arange(len(codes)), palette


def _numbered_by(palette: np.ndarray, contents: list[Contents], count: int,
                 ignore_value: IgnoreValue) -> tuple[np.ndarray, np.ndarray]:
    """The distinct colours of the set, and the label that each has in a palette of `count` classes."""
    codes = _color_codes(contents)
    known = {int(r) << 16 | int(g) << 8 | int(b): label
             for label, (r, g, b) in reversed([*enumerate(palette[:count]), (IGNORE, palette[IGNORE])])}
    if ignore_value is not None:
        known[_code(ignore_value, "color")] = IGNORE
    stray = next((code for code in codes.tolist() if code not in known), None)
    if stray is not None:
        file = next(file for file in contents if stray in _codes(file, "color"))
        raise DataError(f"{file.path}: holds {_told(stray, 'color')}, which is the colour of none of the {count} "
                        f"classes: {', '.join(_told(code, 'color') for code in list(known)[::-1][:6])} ...")
    return codes, np.array([known[code] for code in codes.tolist()])


def _color_codes(contents: list[Contents]) -> np.ndarray:
    mixed = next((file for file in contents if file.kind == "palette"), None)
    if mixed is not None and not _grey(contents):
        raise DataError(f"{mixed.path}: is a palette mask in a set with RGB masks; save all of them in one way")
    return _union(_codes(file, "color") for file in contents)


def _check(contents: list[Contents], encoding: str, codes: np.ndarray, labels: np.ndarray, count: int) -> None:
    illegal = codes[(labels != IGNORE) & (labels >= count)]
    if not len(illegal):
        return
    label = int(labels[codes == illegal[0]][0])
    file = next(file for file in contents if illegal[0] in _codes(file, encoding))
    raise DataError(f"{file.path}: holds label {label} ({_told(int(illegal[0]), encoding)} in the file), but with "
                    f"{count} classes a label is 0..{count - 1} or 255 (ignore); give num_classes={label + 1}, "
                    f"or ignore_value={label} if it means void")


def _codes(file: Contents, encoding: str) -> np.ndarray:
    """The codes of one file as its set's encoding counts them."""
    if encoding == "color":
        return file.codes if file.kind == "rgb" else file.codes * 0x010101
    return _values(file)


def _grey(contents: list[Contents]) -> bool:
    """Whether every file holds plain values, be it as RGB with R = G = B."""
    return all(file.kind != "rgb" or (file.codes % 0x010101 == 0).all() for file in contents)


def _values(file: Contents) -> np.ndarray:
    """What a file holds as plain values; of an RGB colour the largest channel, its value where it is grey."""
    if file.kind != "rgb":
        return file.codes
    return np.unique(np.max([file.codes >> 16, file.codes >> 8 & 255, file.codes & 255], axis=0))


def _union(codes: Iterable[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate(list(codes)))


def _code(value: int | tuple[int, int, int], encoding: str) -> int:
    if isinstance(value, tuple):
        red, green, blue = value
        return red << 16 | green << 8 | blue
    return value * 0x010101 if encoding == "color" else value


def _told(code: int, encoding: str) -> str:
    return f"({code >> 16},{code >> 8 & 255},{code & 255})" if encoding == "color" else f"value {code}"
