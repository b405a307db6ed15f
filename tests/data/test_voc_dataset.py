import shutil

import numpy as np
import pytest

from tinyseg.data import VOC_CLASSES, FolderDataset, StreetScenes, VOCDataset, write_image, write_mask
from tinyseg.errors import DataError


@pytest.fixture
def voc(tmp_path):
    """A VOC2012 of two images, in a VOCdevkit."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for name in ("2007_000001", "2007_000002"):
        write_image(root / "JPEGImages" / f"{name}.jpg", np.full((4, 6, 3), 90, np.uint8))
        write_mask(root / "SegmentationClass" / f"{name}.png", np.tile([0, 20, 255], (4, 2)))
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000001\n")
    (lists / "val.txt").write_text("2007_000002\n\n")
    return root


def test_the_devkit_its_year_and_its_parent_are_the_same(voc):
    for root in (voc, voc.parent, voc.parent.parent):
        data = VOCDataset(root, "val")
        assert len(data) == 1
        assert data[0].name == "2007_000002"
        assert data[0].mask.tolist() == [[0, 20, 255] * 2] * 4
        assert data.classes == VOC_CLASSES
    assert len(VOC_CLASSES) == 21


def test_the_newest_year_unless_told(voc):
    shutil.copytree(voc, voc.parent / "VOC2007")
    assert VOCDataset(voc.parent).root.name == "VOC2012"
    assert VOCDataset(voc.parent, year=2007).root.name == "VOC2007"
    with pytest.raises(DataError, match="no VOC2010/JPEGImages"):
        VOCDataset(voc.parent, year=2010)


def test_missing_parts_are_told(voc, tmp_path):
    with pytest.raises(DataError, match=r"test\.txt: does not exist; splits there: train, val"):
        VOCDataset(voc, "test")
    with pytest.raises(DataError, match="holds no JPEGImages"):
        VOCDataset(voc / "ImageSets")
    with pytest.raises(DataError, match="does not exist or is no folder"):
        VOCDataset(tmp_path / "absent")
    (voc / "SegmentationClass" / "2007_000002.png").unlink()
    with pytest.raises(DataError, match=r"2007_000002\.png: does not exist, but the split 'val' lists"):
        VOCDataset(voc, "val")
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val\.txt: lists no images"):
        VOCDataset(voc, "val")
    shutil.rmtree(voc / "SegmentationClass")
    with pytest.raises(DataError, match="SegmentationClass: does not exist"):
        VOCDataset(voc)


def test_wrong_masks_are_told_as_they_are_read(voc):
    path = voc / "SegmentationClass" / "2007_000001.png"
    write_mask(path, np.full((4, 6), 21))
    with pytest.raises(DataError, match=r"2007_000001\.png: holds label 21"):
        VOCDataset(voc)[0]
    write_mask(path, np.zeros((6, 4), int))
    with pytest.raises(DataError, match=r"is 6x4 \(HxW\), but its image is 4x6"):
        VOCDataset(voc)[0]


def test_streets_in_both_layouts(tmp_path):
    scenes = StreetScenes(2, size=(24, 32))
    scenes.write(tmp_path / "voc", layout="voc", split="val")
    data = VOCDataset(tmp_path / "voc", "val")
    assert data.classes == scenes.classes
    assert all((data[i].mask == scenes[i].mask).all() for i in range(2))

    scenes.write(tmp_path / "folder")
    data = FolderDataset(tmp_path / "folder" / "images", tmp_path / "folder" / "masks",
                         classes=tmp_path / "folder" / "classes.txt")
    assert data.classes == scenes.classes
    assert (data.palette == scenes.palette).all()
    assert all((data[i].image == scenes[i].image).all() and (data[i].mask == scenes[i].mask).all() for i in range(2))


def test_a_real_image_of_voc(voc, test_data):
    shutil.copy(test_data / "voc_real" / "2007_000129.jpg", voc / "JPEGImages")
    shutil.copy(test_data / "voc_real" / "fcn_label.png", voc / "SegmentationClass" / "2007_000129.png")
    (voc / "ImageSets" / "Segmentation" / "one.txt").write_text("2007_000129\n")
    sample = VOCDataset(voc, "one")[0]
    assert np.unique(sample.mask).tolist() == [0, VOC_CLASSES.index("bicycle"), VOC_CLASSES.index("person"), 255]
