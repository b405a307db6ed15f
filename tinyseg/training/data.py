"""The data sets and transforms that a configuration describes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tinyseg.data import (
    IGNORE,
    BorderWeights,
    ColorJitter,
    Compose,
    Dataset,
    ElasticDeformation,
    FolderDataset,
    GaussianNoise,
    HorizontalFlip,
    RandomCrop,
    RandomScale,
    Resize,
    Rotate,
    Rotate90,
    Sample,
    StreetScenes,
    VerticalFlip,
    VOCDataset,
    split,
    split_indices,
)
from tinyseg.errors import ArgumentError
from tinyseg.training.config import AugmentConfig, DataConfig

__all__ = ["augmentation", "open_data", "open_validation"]


MEMORY = 1 << 30                                     # bytes of samples kept, for each data set


class Prepared:
    """A data set whose samples are read, or drawn, and resized once, and kept while there is room.

    resize   brings every sample to one size, so that training, validation and use see the same; None keeps sizes
    """

    def __init__(self, dataset: Dataset, resize: int | tuple[int, int] | None = None):
        self.dataset = dataset
        self.resize = None if resize is None else Resize(resize)
        self.classes, self.palette, self.ignore_index = dataset.classes, dataset.palette, IGNORE
        self.notices = list(dataset.notices)
        self._kept: dict[int, Sample] = {}
        self._room = MEMORY

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        sample = self._kept.get(index)
        if sample is None:
            sample = self.dataset[index]
            if self.resize is not None:
                sample = self.resize(sample)
            size = sample.image.nbytes + (0 if sample.mask is None else sample.mask.nbytes)
            if size <= self._room:                   # two threads may both read a sample; both reads are the same
                self._room -= size
                self._kept[index] = sample
        return sample


Tell = Callable[[str], None]


def open_data(config: DataConfig, tell: Tell = lambda line: None) -> tuple[Dataset, Dataset, DataConfig]:
    """The training and the validation set, and the configuration with what was recognised.

    What was found out about the masks goes to `tell`, a line each.
    """
    train, validation, config = _OPENERS[_legal("data", config.kind, _OPENERS)](config)
    for line in dict.fromkeys([*train.notices, *validation.notices]):
        tell(line)
    return Prepared(train, config.resize), Prepared(validation, config.resize), config


def open_validation(config: DataConfig, classes: tuple[str, ...], palette: np.ndarray,
                    tell: Tell = lambda line: None) -> Dataset:
    """The validation set of a run alone, whose classes and their colours are known.

    The training masks are opened only where the run has not noted how they are to be read.
    """
    if config.kind == "folder" and (config.val_images or config.recognised):
        validation: Dataset = _validation_folder(config, classes, palette)
    elif config.kind == "voc":
        validation = VOCDataset(config.root, config.val_split)
    else:
        return open_data(config, tell)[1]
    for line in validation.notices:
        tell(line)
    return Prepared(validation, config.resize)


def _open_folder(config: DataConfig) -> tuple[Dataset, Dataset, DataConfig]:
    if config.images is None or config.masks is None:
        raise ArgumentError("train: a folder of images needs a folder of masks; give --images and --masks")
    train = FolderDataset(config.images, config.masks, config.classes, config.num_classes, **_reading(config))
    config = replace(config, recognised=train.mask_encoding)
    if config.val_images is None:
        return *split(train, config.val_fraction, config.seed), config
    if config.val_masks is None:
        raise ArgumentError("train: validation images need masks; give --val-masks too")
    return train, _validation_folder(config, train.classes, train.palette), config


def _validation_folder(config: DataConfig, classes: tuple[str, ...], palette: np.ndarray) -> FolderDataset:
    """Colours have the numbers that they have in training."""
    reading = {**_reading(config), "palette": palette}
    if config.val_images is not None:
        return FolderDataset(config.val_images, config.val_masks, classes, **reading)
    reading["mask_encoding"] = config.recognised     # that of the whole folder, which a part may not show
    return FolderDataset(config.images, config.masks, classes, **reading,
                         part=lambda count: split_indices(count, config.val_fraction, config.seed)[1])


def _reading(config: DataConfig) -> dict[str, Any]:
    return {"channels": config.channels, "ignore_value": config.ignore_value, "mask_encoding": config.mask_encoding}


def _open_voc(config: DataConfig) -> tuple[Dataset, Dataset, DataConfig]:
    if config.root is None:
        raise ArgumentError("train: VOC data needs its folder; give --voc")
    return VOCDataset(config.root, config.train_split), VOCDataset(config.root, config.val_split), config


def _open_street(config: DataConfig) -> tuple[Dataset, Dataset, DataConfig]:
    size = tuple(config.size)
    return (StreetScenes(config.count, size, config.seed),
            StreetScenes(config.val_count, size, config.seed, first=config.count), config)


_OPENERS = {"folder": _open_folder, "voc": _open_voc, "street": _open_street}


def augmentation(config: AugmentConfig, border_weights: float = 0.0) -> Compose:
    """The random transforms of a configuration, in its order."""
    steps = [
        config.scale and _scale(tuple(config.scale)),
        config.rotate and Rotate(config.rotate),
        config.elastic and ElasticDeformation(config.elastic),
        config.crop and RandomCrop(tuple(config.crop)),
        config.flip and HorizontalFlip(config.flip),
        config.vertical_flip and VerticalFlip(config.vertical_flip),
        config.rotate90 and Rotate90(),
        config.color and ColorJitter(config.color, config.color, config.color),
        config.noise and GaussianNoise(config.noise),
        border_weights and BorderWeights(border_weights),
    ]
    return Compose(*(step for step in steps if step))


def _scale(factors: tuple[float, ...]) -> RandomScale:
    return RandomScale(*factors) if len(factors) == 2 else RandomScale(choices=factors)


def _legal(what: str, value: str, known) -> str:
    if value not in known:
        raise ArgumentError(f"{what} {value!r}: legal: {', '.join(known)}")
    return value
