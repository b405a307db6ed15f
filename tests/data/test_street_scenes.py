import numpy as np
import pytest

from tinyseg.data import IGNORE, StreetScenes
from tinyseg.data.street import LANE_MARKING, ROAD, outline
from tinyseg.errors import ArgumentError


def same(one, other):
    return (one.image == other.image).all() and (one.mask == other.mask).all() and one.name == other.name


def test_a_scene_follows_from_its_seed_and_number_alone():
    few, many = StreetScenes(3, seed=7), StreetScenes(1000, seed=7)
    assert all(same(few[i], many[i]) for i in (2, 0, 1))
    assert same(StreetScenes(1, seed=7, first=2)[0], few[2])
    assert same(few[-1], few[2])
    assert not same(few[0], few[1])
    assert (StreetScenes(1, seed=8)[0].image != few[0].image).any()


def test_scenes_end():
    with pytest.raises(IndexError):
        StreetScenes(3)[3]
    assert len(list(StreetScenes(3, size=(16, 16)))) == 3


@pytest.mark.parametrize("size", [(16, 16), (97, 130), (40, 25)])
def test_scenes_have_the_size_that_is_asked_for(size):
    sample = StreetScenes(1, size=size)[0]
    assert sample.image.shape == (*size, 3)
    assert sample.mask.shape == size


def test_streets_hold_every_class_and_a_thin_border():
    scenes = StreetScenes(30)
    masks = np.stack([sample.mask for sample in scenes])
    share = np.bincount(masks.ravel(), minlength=256) / masks.size
    assert set(np.flatnonzero(share)) == {*range(len(scenes.classes)), IGNORE}
    assert share[:len(scenes.classes)].min() > 0.002
    assert 0.01 < share[IGNORE] < 0.1


def test_color_alone_does_not_tell_the_classes():
    """The best label for each of 512 colours, known from the very pixels it is judged on, still errs often."""
    scenes = list(StreetScenes(30))
    color = np.concatenate([(scene.image // 32).reshape(-1, 3) for scene in scenes]) @ [64, 8, 1]
    label = np.concatenate([scene.mask.ravel() for scene in scenes])
    counts = np.zeros((512, 256), int)
    np.add.at(counts, (color[label != IGNORE], label[label != IGNORE]), 1)
    assert counts.max(axis=1).sum() / counts.sum() < 0.75


def test_the_border_spares_what_stands_in_front():
    mask = np.array([[0, 0, 0], [0, 7, 0], [0, 0, 0]], np.uint8)
    assert outline(mask, 1).tolist() == [[0, 255, 0], [255, 7, 255], [0, 255, 0]]
    paint = np.array([[ROAD, LANE_MARKING, ROAD]], np.uint8)
    assert (outline(paint, 1) == paint).all()


@pytest.mark.parametrize(("options", "rule"), [
    ({"count": 0}, "count >= 1"), ({"count": 1, "seed": -1}, "seed >= 0"), ({"count": 1, "size": (8, 64)}, "16x16")])
def test_arguments_are_checked(options, rule):
    with pytest.raises(ArgumentError, match=rule):
        StreetScenes(**options)
    with pytest.raises(ArgumentError, match="layout='coco'"):
        StreetScenes(1).write("unused", layout="coco")
