"""PASCAL VOC, and data sets laid out like it."""

from pathlib import Path

from tinyseg.data.folder import read_classes
from tinyseg.data.images import read_image, read_mask
from tinyseg.data.palette import voc_palette
from tinyseg.data.sample import IGNORE, Sample
from tinyseg.errors import DataError

__all__ = ["VOC_CLASSES", "VOCDataset"]

VOC_CLASSES = ("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
               "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
               "tvmonitor")


class VOCDataset:
    """The segmentation task of PASCAL VOC: 21 classes, a border of 255 around every object.

    root    the folder with JPEGImages in it (VOC2012), the VOCdevkit around it, or the folder around that
    split   a list in ImageSets/Segmentation without its suffix: "train", "val", "trainval", or your own
    year    which VOC<year> of the VOCdevkit; the newest when left out

    A `class_names.txt` beside JPEGImages replaces VOC's 21 names, for data of your own in VOC's layout.
    Raises DataError for what is missing, naming it; labels are checked as masks are read.
    """

    ignore_index = IGNORE

    def __init__(self, root: str | Path, split: str = "train", year: int | str | None = None):
        self.root = _find(Path(root), year)
        names = self.root / "class_names.txt"
        self.classes = read_classes(names) if names.exists() else VOC_CLASSES
        self.palette = voc_palette()
        self.split = split
        self.notices: list[str] = []
        self.names = self._read_split(split)
        for name in self.names:
            for path in self._paths(name):
                if not path.is_file():
                    raise DataError(f"{path}: does not exist, but the split {split!r} lists {name}; "
                                    "extract the archive again")

    def _read_split(self, split: str) -> list[str]:
        folder = self.root / "ImageSets" / "Segmentation"
        path = folder / f"{split}.txt"
        if not path.is_file():
            known = sorted(file.stem for file in folder.glob("*.txt"))
            raise DataError(f"{path}: does not exist; " + (f"splits there: {', '.join(known)}" if known else
                            "the split lists belong in ImageSets/Segmentation"))
        names = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
        if not names:
            raise DataError(f"{path}: lists no images; needs one name a line, without a suffix")
        return names

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.root / "JPEGImages" / f"{name}.jpg", self.root / "SegmentationClass" / f"{name}.png"

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        image, path = self._paths(self.names[index])
        mask = read_mask(path)
        wrong = (mask >= len(self.classes)) & (mask != IGNORE)
        if wrong.any():
            raise DataError(f"{path}: holds label {mask[wrong][0]}; with {len(self.classes)} classes a label is "
                            f"0..{len(self.classes) - 1} or 255; {self.root.name}/class_names.txt may name others")
        pixels = read_image(image)
        if pixels.shape[:2] != mask.shape:
            raise DataError(f"{path}: is {mask.shape[0]}x{mask.shape[1]} (HxW), but its image is "
                            f"{pixels.shape[0]}x{pixels.shape[1]}; a mask needs the size of its image")
        return Sample(pixels, mask, self.names[index])


def _find(root: Path, year: int | str | None) -> Path:
    """The folder that holds JPEGImages: `root`, or one below it as the archives unpack."""
    if not root.is_dir():
        raise DataError(f"{root}: does not exist or is no folder; name the VOCdevkit folder or VOC2012 in it")
    if (root / "JPEGImages").is_dir() and year is None:
        found = root
    else:
        pattern = "VOC*" if year is None else f"VOC{year}"
        folders = [root, *root.glob(pattern), *root.glob(f"VOCdevkit/{pattern}"), *root.glob(f"*/VOCdevkit/{pattern}")]
        folders = [folder for folder in folders if (folder / "JPEGImages").is_dir()
                   and (year is None or folder.name == f"VOC{year}")]
        if not folders:
            what = "JPEGImages" if year is None else f"VOC{year}/JPEGImages"
            raise DataError(f"{root}: holds no {what}; name the VOCdevkit folder, VOC2012 in it, "
                            "or the folder around it")
        found = max(folders, key=lambda folder: folder.name)
    if not (found / "SegmentationClass").is_dir():
        raise DataError(f"{found / 'SegmentationClass'}: does not exist; the masks of VOC belong there "
                        "(the archive VOCtrainval holds them)")
    return found
