"""Reading and writing images and masks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tinyseg.data import read_image, read_mask, voc_palette, write_image, write_mask
from tinyseg.errors import ArgumentError, DataError, DTypeError, ShapeError


@pytest.mark.parametrize(("label", "color"), [
    (0, (0, 0, 0)), (1, (128, 0, 0)), (2, (0, 128, 0)), (15, (192, 128, 128)), (20, (0, 64, 128)),
    (255, (224, 224, 192))])
def test_the_palette_is_that_of_voc(label, color):
    assert tuple(voc_palette()[label].tolist()) == color


def test_no_two_labels_share_a_color():
    assert len(np.unique(voc_palette(), axis=0)) == 256


@given(mask=st.integers(1, 9).flatmap(lambda width: st.lists(
    st.lists(st.integers(0, 255), min_size=width, max_size=width), min_size=1, max_size=9)))
def test_a_written_mask_reads_back(tmp_path_factory, mask):
    path = tmp_path_factory.mktemp("masks") / "mask.png"
    write_mask(path, np.array(mask))
    assert (read_mask(path) == mask).all()
    with Image.open(path) as image:
        assert image.mode == "P"
        assert (np.array(image.convert("RGB")) == voc_palette()[np.array(mask)]).all()


def test_palette_masks_are_indices_whatever_their_colors(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8))
    image.putpalette([9, 9, 9] * 256)
    image.save(tmp_path / "same.png")
    assert read_mask(tmp_path / "same.png").tolist() == [[0, 1, 2]]


def test_one_bit_masks_are_zero_and_one(tmp_path):
    Image.fromarray(np.array([[False, True]])).save(tmp_path / "bits.png")
    assert read_mask(tmp_path / "bits.png").tolist() == [[0, 1]]


def test_alpha_of_a_grey_mask_is_dropped(tmp_path):
    Image.fromarray(np.array([[[3, 0], [4, 255]]], np.uint8), "LA").save(tmp_path / "alpha.png")
    assert read_mask(tmp_path / "alpha.png").tolist() == [[3, 4]]


def test_wide_masks_are_read_while_they_fit(tmp_path):
    Image.fromarray(np.array([[0, 255]], np.uint16)).save(tmp_path / "fits.png")
    assert read_mask(tmp_path / "fits.png").tolist() == [[0, 255]]
    Image.fromarray(np.array([[0, 256]], np.uint16)).save(tmp_path / "ids.png")
    with pytest.raises(DataError, match=r'ids\.png: holds values from 0 to 256.*mask_encoding="binary"'):
        read_mask(tmp_path / "ids.png")


def test_a_color_mask_alone_is_refused(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "color.png")
    with pytest.raises(DataError, match=r'color\.png: is an RGB mask.*mask_encoding="color"'):
        read_mask(tmp_path / "color.png")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_written_image_reads_back(tmp_path, channels):
    image = np.random.default_rng(0).integers(0, 256, (5, 7, channels), np.uint8)
    write_image(tmp_path / "image.png", image)
    assert (read_image(tmp_path / "image.png", channels) == image).all()
    assert read_image(tmp_path / "image.png", 4 - channels).shape == (5, 7, 4 - channels)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_camera_is_applied(tmp_path, orientation):
    upright = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    stored = {1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1], 5: upright.T,
              6: np.rot90(upright), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1)}[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "photo.png", exif=exif)
    assert (read_image(tmp_path / "photo.png", 1)[..., 0] == upright).all()


def test_alpha_and_transparent_palettes_become_plain_color(tmp_path):
    Image.fromarray(np.array([[[10, 20, 30, 0]]], np.uint8)).save(tmp_path / "alpha.png")
    assert read_image(tmp_path / "alpha.png").tolist() == [[[10, 20, 30]]]
    image = Image.fromarray(np.array([[1]], np.uint8))
    image.putpalette([0, 0, 0, 50, 60, 70])
    image.save(tmp_path / "palette.png", transparency=bytes([255, 0]))
    assert read_image(tmp_path / "palette.png").tolist() == [[[50, 60, 70]]]


@pytest.mark.parametrize(("values", "expected"), [
    ([0, 255], [0, 255]), ([0, 4095], [0, 255]), ([2048, 4000], [128, 249]), ([0, 65535], [0, 255])])
def test_deep_grey_is_scaled_by_its_depth(tmp_path, values, expected):
    Image.fromarray(np.array([values], np.uint16)).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png", 1).ravel().tolist() == expected


def test_floating_point_grey_is_unit_or_byte_range(tmp_path):
    for values, expected in (([0, 0.5, 1], [0, 128, 255]), ([0, 7, 255], [0, 7, 255])):
        Image.fromarray(np.array([values], np.float32)).save(tmp_path / "float.tif")
        assert read_image(tmp_path / "float.tif", 1).ravel().tolist() == expected
    for values in ([0, np.nan], [-1, 0], [0, 256]):
        Image.fromarray(np.array([values], np.float32)).save(tmp_path / "float.tif")
        with pytest.raises(DataError, match=r"float\.tif: holds values"):
            read_image(tmp_path / "float.tif", 1)


def bad_files(folder):
    photo = folder / "photo.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(photo)
    Image.open(photo).save(folder / "whole.png")
    (folder / "cut.jpg").write_bytes(photo.read_bytes()[:1000])
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:1000])
    (folder / "header.png").write_bytes((folder / "whole.png").read_bytes()[:20])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("not an image")
    (folder / "folder.png").mkdir()
    return {"absent.png": "does not exist", "cut.jpg": "truncated", "cut.png": "truncated", "header.png": "",
            "empty.png": "empty", "text.png": "not an image", "folder.png": "is a folder"}


@pytest.mark.parametrize("read", [read_image, read_mask])
def test_files_that_are_no_images_are_told_by_name(tmp_path, read):
    for name, told in bad_files(tmp_path).items():
        with pytest.raises(DataError) as caught:
            read(tmp_path / name)
        text = str(caught.value)
        assert text.startswith(str(tmp_path / name))
        assert told in text
        assert "\n" not in text


def test_bombs_are_not_opened(tmp_path, monkeypatch):
    Image.new("1", (100, 100)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match=r"large\.png: has more than 200 pixels"):
        read_image(tmp_path / "large.png")


def test_what_cannot_be_written_is_refused_and_leaves_nothing(tmp_path):
    mask = np.zeros((2, 2), np.uint8)
    for path, array, error in (("m.png", mask[0], DTypeError), ("m.png", mask * 1.0, DTypeError),
                               ("m.png", mask.astype(int) + 256, ArgumentError), ("m.jpg", mask, ArgumentError)):
        with pytest.raises(error, match="write_mask"):
            write_mask(tmp_path / path, array)
    with pytest.raises(ShapeError, match="write_image"):
        write_image(tmp_path / "i.png", mask)
    with pytest.raises(ArgumentError, match="channels=2"):
        read_image(tmp_path / "i.png", 2)
    assert not list(tmp_path.iterdir())


def test_the_border_of_voc_survives(test_data):
    mask = read_mask(test_data / "voc_real" / "fcn_label.png")
    assert np.unique(mask).tolist() == [0, 2, 15, 255]
    assert (mask == read_mask(test_data / "voc_real" / "2007_000129.png")).mean() > 0.9
    assert read_image(test_data / "voc_real" / "2007_000129.jpg").shape == (*mask.shape, 3)
