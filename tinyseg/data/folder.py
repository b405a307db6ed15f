"""Two folders: images, and masks of the same names."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from tinyseg.data.images import IMAGE_SUFFIXES, read_image
from tinyseg.data.masks import IgnoreValue, MaskEncoding, recognise
from tinyseg.data.palette import voc_palette
from tinyseg.data.sample import IGNORE, Sample
from tinyseg.errors import ArgumentError, DataError

__all__ = ["FolderDataset", "read_classes"]

MASK_SUFFIXES = ("_mask", "_masks", "-mask", "_label", "_labels", "_gt", "_seg", "_segmentation", "_annotation", "_L")
IMAGE_ONLY_SUFFIXES = ("_image", "_img", "_sat", "_rgb")


class FolderDataset:
    """Images of one folder with masks of another, paired by stem.

    images        a folder of images (PNG, JPEG, TIFF, ...); other files in it are passed over
    masks         a folder of masks, or None for images alone; `cat.jpg` belongs to `cat.png`, `cat_mask.png`,
                  `cat_label.png`, `cat_gt.png` ...; may be the same folder as `images`
    classes       names in order of label, or a text file with one name a line; numbered when left out
    num_classes   found in the masks when neither it nor `classes` is given
    channels      3 to read images as RGB, 1 as grey
    ignore_value  the value (or RGB colour) in the masks that means "do not count"; becomes 255
    mask_encoding "auto", "index", "binary" or "color": see `tinyseg.data.masks.recognise`; the attribute tells which
                  one was recognised
    palette       the colours of the classes where another set's are known, as `recognise` takes it
    part          maps the number of images to the positions, in order of name, of those that belong to the data set;
                  the masks of others are not opened

    All masks are scanned once.  `notices` then tells, a line each, how their values were read and which
    classes never appear.  Raises DataError, naming the file, for a missing partner, a mask of another size
    than its image, a label that is not below the number of classes, or no images at all.
    """

    ignore_index = IGNORE

    def __init__(self, images: str | Path, masks: str | Path | None = None,
                 classes: Sequence[str] | str | Path | None = None, num_classes: int | None = None,
                 channels: int = 3, ignore_value: IgnoreValue = None, mask_encoding: MaskEncoding = "auto",
                 palette: np.ndarray | None = None, part: Callable[[int], Sequence[int]] | None = None):
        if channels not in (1, 3):
            raise ArgumentError(f"FolderDataset: channels={channels}; needs 3 (RGB) or 1 (grey)")
        names = read_classes(classes) if isinstance(classes, str | Path) else tuple(classes or ())
        if num_classes is not None and names and num_classes != len(names):
            raise ArgumentError(f"FolderDataset: num_classes={num_classes}, but classes has {len(names)} names; "
                                "give one of them, or make them agree")
        count = num_classes or len(names) or None
        if count is not None and not 1 <= count <= IGNORE:
            raise ArgumentError(f"FolderDataset: {count} classes; needs 1..255, since label 255 means ignore")

        self.channels = channels
        self.notices: list[str] = []
        self.palette = voc_palette() if palette is None else palette
        self.images, self.masks = list_images(images), None
        if masks is not None:
            self.images, self.masks = _pair(self.images, images, masks)
        if part is not None:
            kept = [int(index) for index in part(len(self.images))]
            self.images = [self.images[index] for index in kept]
            self.masks = self.masks and [self.masks[index] for index in kept]
        self._reader, self.mask_encoding = None, mask_encoding
        if self.masks is not None:
            self._reader, count = recognise(self.masks, self.images, encoding=mask_encoding, num_classes=count,
                                            ignore_value=ignore_value, palette=palette)
            self.mask_encoding = self._reader.encoding
            self.notices.extend(self._reader.notices)
            self.palette = self._reader.palette
        self.classes = names or tuple(f"class {label}" for label in range(count or 0))
        if self._reader is not None:
            self.notices.extend(_unseen(self.classes, self._reader.labels))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sample:
        path = self.images[index]
        mask = None if self.masks is None else self._reader.read(self.masks[index])
        return Sample(read_image(path, self.channels), mask, path.stem)

    def __repr__(self) -> str:
        return f"FolderDataset({str(self.images[0].parent)!r}: {len(self)} images, {len(self.classes)} classes)"


def read_classes(path: str | Path) -> tuple[str, ...]:
    """Class names from a text file, one a line in order of label; blank lines are passed over."""
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as class names ({error}); "
                        "needs UTF-8 text, one name a line") from error
    names = tuple(line.strip() for line in lines if line.strip())
    if not names:
        raise DataError(f"{path}: holds no class names; needs one name a line, in order of label")
    return names


def list_images(folder: str | Path) -> list[Path]:
    """The image files of a folder in order of name; hidden files and other kinds are passed over."""
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: {'is a file, not a folder' if folder.exists() else 'does not exist'}; "
                        "name a folder of images")
    paths = sorted(path for path in folder.iterdir()
                   if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file())
    if not paths:
        raise DataError(f"{folder}: holds no images; needs files ending in one of {' '.join(sorted(IMAGE_SUFFIXES))}")
    return paths


def _pair(images: list[Path], image_folder: str | Path, mask_folder: str | Path) -> tuple[list[Path], list[Path]]:
    masks = list_images(mask_folder)
    if Path(image_folder).resolve() == Path(mask_folder).resolve():
        masks = [path for path in masks if _key(path, MASK_SUFFIXES) != path.stem]
        images = [path for path in images if path not in set(masks)]
        if not images or not masks:
            raise DataError(f"{image_folder}: images and masks in one folder are told apart by the masks' suffix; "
                            f"found {len(images)} images and {len(masks)} masks ending in _mask, _label or _gt")
    by_stem = _unique((path.stem, path) for path in masks)
    by_key = _unique((_key(path, MASK_SUFFIXES), path) for path in masks)
    _unique((path.stem, path) for path in images)
    partners = []
    for image in images:
        stem, key = image.stem, _key(image, IMAGE_ONLY_SUFFIXES)
        partner = by_stem.get(stem) or by_key.get(stem) or by_key.get(key)
        if partner is None:
            raise DataError(f"{image}: has no mask in {mask_folder}; needs {stem}.png there (or {stem}_mask.png, "
                            f"{stem}_label.png, {stem}_gt.png): add it, or remove the image")
        partners.append(partner)
    alone = set(masks) - set(partners)
    if alone:
        raise DataError(f"{min(alone)}: has no image in {image_folder}; needs the same stem there: "
                        "add the image, or remove the mask")
    return images, partners


def _key(path: Path, suffixes: tuple[str, ...]) -> str:
    """The stem without what marks it as a mask or an image."""
    return next((path.stem.removesuffix(end) for end in suffixes if path.stem.endswith(end)), path.stem)


def _unique(named) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for name, path in named:
        if name in found:
            raise DataError(f"{path}: {found[name].name} beside it has the same stem {name!r}, so a partner cannot "
                            "be told; keep one of the two")
        found[name] = path
    return found


def _unseen(classes: Sequence[str], labels: np.ndarray) -> list[str]:
    unseen = [f"{label} ({name})" for label, name in enumerate(classes) if label not in set(labels.tolist())]
    if not unseen:
        return []
    told = ", ".join(unseen[:6]) + (f" and {len(unseen) - 6} more" if len(unseen) > 6 else "")
    advice = ""
    if len(unseen) > len(set(labels.tolist()) - {IGNORE}):
        advice = '; if the values are shades, not indices, mask_encoding="color" numbers them 0, 1, 2 ...'
    return [f"masks: never hold {told}{advice}"]
