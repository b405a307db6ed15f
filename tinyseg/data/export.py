"""Data sets as files that other programs, and `FolderDataset` and `VOCDataset`, read."""

from pathlib import Path

from tinyseg.data.images import write_image, write_mask
from tinyseg.data.sample import Dataset
from tinyseg.errors import DataError
from tinyseg.files import replacing

__all__ = ["write_folder", "write_voc"]


def write_folder(dataset: Dataset, folder: str | Path) -> None:
    """images/NAME.png, masks/NAME.png (palette PNG) and classes.txt, one name a line."""
    folder = Path(folder)
    for sample in _samples(dataset):
        write_image(folder / "images" / f"{sample.name}.png", sample.image)
        if sample.mask is not None:
            write_mask(folder / "masks" / f"{sample.name}.png", sample.mask, dataset.palette)
    _write_lines(folder / "classes.txt", dataset.classes)


def write_voc(dataset: Dataset, folder: str | Path, split: str = "train") -> None:
    """VOC's layout: JPEGImages, SegmentationClass, ImageSets/Segmentation/SPLIT.txt and class_names.txt.

    JPEG loses a little of the image; the masks are exact.  Several splits can go into one folder.
    """
    folder, names = Path(folder), []
    for sample in _samples(dataset):
        if sample.mask is None:
            raise DataError(f"{sample.name}: has no mask; VOC's segmentation task needs one for every image")
        write_image(folder / "JPEGImages" / f"{sample.name}.jpg", sample.image)
        write_mask(folder / "SegmentationClass" / f"{sample.name}.png", sample.mask, dataset.palette)
        names.append(sample.name)
    _write_lines(folder / "class_names.txt", dataset.classes)
    _write_lines(folder / "ImageSets" / "Segmentation" / f"{split}.txt", names)


def _samples(dataset: Dataset):
    return (dataset[index] for index in range(len(dataset)))


def _write_lines(path: Path, lines) -> None:
    with replacing(path) as file:
        file.write("".join(f"{line}\n" for line in lines).encode())
