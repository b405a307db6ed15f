"""A part of a data set, and a data set in two parts."""

from collections.abc import Sequence

import numpy as np

from tinyseg.data.sample import IGNORE, Dataset, Sample
from tinyseg.errors import ArgumentError

__all__ = ["Subset", "split", "split_indices"]


class Subset:
    """The samples of `dataset` at `indices`, in that order."""

    ignore_index = IGNORE

    def __init__(self, dataset: Dataset, indices: Sequence[int]):
        self.dataset = dataset
        self.indices = [int(index) for index in indices]
        for index in self.indices:
            if not 0 <= index < len(dataset):
                raise ArgumentError(f"Subset: index {index} of a data set of {len(dataset)}; "
                                    f"needs 0 <= index < {len(dataset)}")
        self.classes = dataset.classes
        self.palette = dataset.palette
        self.notices = dataset.notices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        return self.dataset[self.indices[index]]


def split(dataset: Dataset, fraction: float = 0.2, seed: int = 0) -> tuple[Subset, Subset]:
    """Training and validation parts: those of `split_indices`, each in the order of the data set."""
    training, validation = split_indices(len(dataset), fraction, seed)
    return Subset(dataset, training), Subset(dataset, validation)


def split_indices(count: int, fraction: float = 0.2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Increasing positions, of `count`, for training and for validation: `fraction` of them, drawn with `seed`.

    The same seed always draws the same, and neither part is empty.
    """
    if not 0 < fraction < 1:
        raise ArgumentError(f"split: fraction={fraction}; needs 0 < fraction < 1, for example 0.2")
    if count < 2:
        raise ArgumentError(f"split: a data set of {count} cannot be split; needs at least 2 images, "
                            "or a validation set of its own")
    held = min(max(round(fraction * count), 1), count - 1)
    order = np.random.default_rng(seed).permutation(count)
    return np.sort(order[held:]), np.sort(order[:held])
