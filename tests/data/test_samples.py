import numpy as np
import pytest

from tinyseg.data import Sample, StreetScenes, Subset, split
from tinyseg.data.sample import Dataset
from tinyseg.errors import ArgumentError, DTypeError, ShapeError

IMAGE = np.zeros((4, 6, 3), np.uint8)


@pytest.mark.parametrize(("changes", "error", "told"), [
    ({"image": np.zeros((4, 6), np.uint8)}, ShapeError, "(4, 6)"),
    ({"image": np.zeros((4, 6, 2), np.uint8)}, ShapeError, "(4, 6, 2)"),
    ({"image": np.zeros((0, 6, 3), np.uint8)}, ShapeError, "not empty"),
    ({"image": np.zeros((4, 6, 3), np.float32)}, DTypeError, "uint8"),
    ({"mask": np.zeros((6, 4), np.uint8)}, ShapeError, "mask.shape == (4, 6)"),
    ({"mask": np.zeros((4, 6), np.int64)}, DTypeError, "int64"),
    ({"weight": np.zeros((4, 5), np.float32)}, ShapeError, "weight"),
    ({"weight": np.zeros((4, 6))}, DTypeError, "float32"),
])
def test_a_sample_checks_that_its_parts_agree(changes, error, told):
    with pytest.raises(error) as caught:
        Sample(**{"image": IMAGE, "name": "cat", **changes})
    assert told in str(caught.value)
    assert "'cat'" in str(caught.value)


def test_every_data_set_is_a_dataset():
    scenes = StreetScenes(3)
    assert isinstance(scenes, Dataset)
    assert isinstance(Subset(scenes, [0]), Dataset)


def test_a_split_shares_nothing_and_loses_nothing():
    scenes = StreetScenes(20)
    train, validation = split(scenes, 0.25, seed=3)
    assert len(validation) == 5
    assert sorted(train.indices + validation.indices) == list(range(20))
    assert train.indices == sorted(train.indices)
    assert split(scenes, 0.25, seed=3)[1].indices == validation.indices
    assert split(scenes, 0.25, seed=4)[1].indices != validation.indices
    assert train.classes == scenes.classes
    assert train[0].name == scenes[train.indices[0]].name


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_no_part_of_a_split_is_empty(fraction):
    assert all(len(part) > 0 for part in split(StreetScenes(3), fraction))


def test_what_cannot_be_split_says_why():
    with pytest.raises(ArgumentError, match="at least 2 images"):
        split(StreetScenes(1))
    with pytest.raises(ArgumentError, match="0 < fraction < 1"):
        split(StreetScenes(4), 1.0)
    with pytest.raises(ArgumentError, match="index 4"):
        Subset(StreetScenes(4), [4])
