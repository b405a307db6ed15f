"""The validation set of a run is the same when it is opened alone, and then the training masks stay closed."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tinyseg.data import StreetScenes, voc_palette
from tinyseg.training import DataConfig
from tinyseg.training.data import open_data, open_validation


def write(folder, count, first=0, colored=False):
    """Street scenes in two classes: not sky, and sky, as 0 and 255, or in colours, the rarer one not everywhere."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for k in range(count):
        sample = StreetScenes(count, (16, 16), first=first)[k]
        mask = np.where(sample.mask == 0, 255, 0).astype(np.uint8)
        if colored:
            mask = np.array([(9, 9, 9), (0, 0, 200), (200, 0, 0)], np.uint8)[np.where(mask, 2, k % 2)]
        Image.fromarray(sample.image).save(folder / "images" / f"{k}.png")
        Image.fromarray(mask).save(folder / "masks" / f"{k}.png")
    return str(folder / "images"), str(folder / "masks")


@pytest.mark.parametrize("colored", [False, True])
@pytest.mark.parametrize("apart", [False, True])
def test_opened_alone(tmp_path, colored, apart):
    images, masks = write(tmp_path / "a", 6, colored=colored)
    config = DataConfig("folder", images, masks, val_fraction=0.3)
    if apart:
        val_images, val_masks = write(tmp_path / "b", 1, 6, colored)
        config = replace(config, val_images=val_images, val_masks=val_masks)
    training, validation, config = open_data(config)
    assert config.recognised == ("color" if colored else "binary")
    held = {sample.name for sample in validation}
    for path in (tmp_path / "a" / "masks").iterdir():
        if apart or path.stem not in held:
            path.write_bytes(b"spoiled")
    alone = open_validation(config, tuple(training.classes), training.palette)
    assert alone.classes == training.classes
    assert [s.name for s in alone] == [s.name for s in validation]
    for k in range(len(alone)):
        np.testing.assert_array_equal(alone[k].mask, validation[k].mask)


def test_colors_of_the_validation_folder_have_their_numbers_in_training(tmp_path):
    images, masks = write(tmp_path / "a", 2, colored=True)               # (9,9,9), blue and red
    val_images, val_masks = write(tmp_path / "b", 1, colored=True)       # no blue
    _, validation, _ = open_data(DataConfig("folder", images, masks, val_images=val_images, val_masks=val_masks))
    raw = np.array(Image.open(tmp_path / "b" / "masks" / "0.png"))
    np.testing.assert_array_equal(validation[0].mask == 2, raw[..., 0] == 200)
    assert (validation.palette[:3] == [(0, 0, 200), (9, 9, 9), (200, 0, 0)]).all()


def test_a_config_of_before_scans_once_more(tmp_path):
    images, masks = write(tmp_path / "a", 4)
    config = DataConfig("folder", images, masks)
    _, validation, _ = open_data(config)
    alone = open_validation(config, ("class 0", "class 1"), voc_palette())
    assert [s.name for s in alone] == [s.name for s in validation]
