import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from tinyseg.draw import ERROR_LEGEND, colorize, error_map, image_grid, overlay, probability_map, save_png
from tinyseg.errors import ArgumentError, DataError, DTypeError, ShapeError

PALETTE = np.random.default_rng(0).permuted(np.arange(768) % 256).reshape(256, 3).astype(np.uint8)
RIGHT, WRONG, IGNORED = ERROR_LEGEND.values()

masks = arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.integers(0, 3))


def image_like(mask, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*mask.shape, 3)).astype(np.uint8)


@given(masks)
def test_every_pixel_takes_its_label_s_colour(mask):
    picture = colorize(mask, PALETTE)
    assert picture.dtype == np.uint8
    assert all((picture[at] == PALETTE[mask[at]]).all() for at in np.ndindex(mask.shape))


@given(masks)
def test_overlay_lies_between_image_and_mask(mask):
    image, colors = image_like(mask), colorize(mask, PALETTE)
    np.testing.assert_array_equal(overlay(image, mask, PALETTE, 0, outline=False), image)
    np.testing.assert_array_equal(overlay(image, mask, PALETTE, 1), colors)
    half = overlay(image, mask, PALETTE, 0.5, outline=False)
    assert (np.abs(half - (image / 2 + colors / 2)) <= 0.5).all()


@given(masks)
def test_outline_is_where_a_neighbour_differs(mask):
    image, colors = np.full((*mask.shape, 3), 7, np.uint8), colorize(mask, PALETTE)
    drawn = overlay(image, mask, PALETTE, alpha=0)
    around = np.pad(mask.astype(int), 1, mode="edge")
    for y, x in np.ndindex(mask.shape):
        neighbours = {around[y, x + 1], around[y + 2, x + 1], around[y + 1, x], around[y + 1, x + 2]}
        expected = colors[y, x] if neighbours - {mask[y, x]} else image[y, x]
        assert (drawn[y, x] == expected).all()


def test_overlay_takes_grey_images():
    mask = np.eye(4, dtype=int)
    grey = image_like(mask)[..., :1]
    rgb = overlay(grey.repeat(3, axis=-1), mask, PALETTE)
    np.testing.assert_array_equal(overlay(grey, mask, PALETTE), rgb)
    np.testing.assert_array_equal(overlay(grey[..., 0], mask, PALETTE), rgb)


def test_error_map_by_hand():
    picture = error_map([[0, 1, 255, 255]], [[0, 2, 0, 255]])
    np.testing.assert_array_equal(picture, [[RIGHT, WRONG, IGNORED, IGNORED]])
    np.testing.assert_array_equal(error_map([[255]], [[255]], ignore_index=None), [[RIGHT]])


def test_error_colours_differ_in_lightness():
    light = sorted(np.array([RIGHT, WRONG, IGNORED]) @ (0.2126, 0.7152, 0.0722))
    assert min(np.diff(light)) > 40


def test_probability_map_rises_in_lightness():
    picture = probability_map(np.append(np.linspace(0, 1, 50), np.nan)[None])
    assert (np.diff(picture[0, :50] @ (0.2126, 0.7152, 0.0722)) > 0).all()
    assert tuple(picture[0, 50]) == IGNORED


def test_grid_places_every_image():
    rng = np.random.default_rng(0)
    rows = [[rng.integers(0, 256, (5, 4, 3), np.uint8), rng.integers(0, 256, (7, 9, 1), np.uint8)],
            [rng.integers(0, 256, (3, 6), np.uint8)]]
    picture = image_grid(rows, gap=2)
    assert picture.shape == (2 + 7 + 2 + 3 + 2, 2 + 6 + 2 + 9 + 2, 3)
    np.testing.assert_array_equal(picture[3:8, 3:7], rows[0][0])         # in the middle of its cell
    np.testing.assert_array_equal(picture[2:9, 10:19], rows[0][1].repeat(3, axis=-1))
    np.testing.assert_array_equal(picture[11:14, 2:8, 1], rows[1][0])
    titled = image_grid(rows, ["image", "truth"], gap=2)
    np.testing.assert_array_equal(titled[-picture.shape[0] + 2:], picture[2:])
    assert (titled[:26] < 128).any()


@pytest.mark.parametrize(("draw", "error", "text"), [
    (lambda: colorize([[0.5]], PALETTE), DTypeError, "colorize: mask is float64"),
    (lambda: colorize([[256]], PALETTE), ArgumentError, "256"),
    (lambda: colorize([[-1]], PALETTE), ArgumentError, "-1"),
    (lambda: colorize([0], PALETTE), ShapeError, r"\(H, W\)"),
    (lambda: colorize([[0]], PALETTE[:21]), ShapeError, r"palette is uint8 \(21, 3\)"),
    (lambda: overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 3), int), PALETTE), ShapeError, "one size"),
    (lambda: overlay(np.zeros((2, 2, 3)), np.zeros((2, 2), int), PALETTE), DTypeError, "image is float64"),
    (lambda: overlay(np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2), int), PALETTE), ShapeError, "image"),
    (lambda: overlay(np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2), int), PALETTE, 2), ArgumentError, "alpha 2"),
    (lambda: error_map([[0]], [[0, 1]]), ShapeError, "error_map: truth"),
    (lambda: probability_map([[3.0]]), ArgumentError, "softmax"),
    (lambda: probability_map([0.5]), ShapeError, "one class"),
    (lambda: image_grid([]), ArgumentError, "no images"),
    (lambda: image_grid([[np.zeros((2, 2), np.uint8)]], ["a", "b"]), ArgumentError, "2 titles for 1"),
])
def test_bad_input_is_refused(draw, error, text):
    with pytest.raises(error, match=text):
        draw()


def test_saved_png_reads_back(tmp_path):
    image = image_like(np.zeros((5, 7)))
    save_png(tmp_path / "a" / "b.png", image)
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "a" / "b.png")), image)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        save_png(tmp_path / "file" / "b.png", image)
