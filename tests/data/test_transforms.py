"""Transforms move image, mask and weight together, and never invent a label."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.data import (
    BorderWeights,
    CenterCrop,
    ColorJitter,
    Compose,
    ElasticDeformation,
    GaussianNoise,
    HorizontalFlip,
    Pad,
    RandomCrop,
    RandomScale,
    Resize,
    Rotate,
    Rotate90,
    Sample,
    Shift,
    StreetScenes,
    VerticalFlip,
)
from tinyseg.data.resample import affine_map, elastic_map, pad, resize, warp
from tinyseg.errors import ArgumentError, DataError

FILLS = ("mean", "reflect", 7)
GEOMETRIC = [HorizontalFlip(), VerticalFlip(), Rotate90(), RandomCrop((9, 7)), CenterCrop(8), Pad(multiple=8),
             Pad((20, 5)), Resize(6), Resize((5, 11)), RandomScale(), RandomScale(choices=(0.5, 1.0, 1.75)),
             *(Rotate(180, fill) for fill in FILLS), *(Shift(0.5, fill) for fill in FILLS),
             *(ElasticDeformation(4, 3, fill) for fill in FILLS), RandomCrop(20, "reflect"), CenterCrop(20, "reflect")]
PIXELWISE = [ColorJitter(), GaussianNoise()]


@st.composite
def samples(draw, channels=(1, 3)):
    height, width = draw(st.integers(1, 16)), draw(st.integers(1, 16))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return Sample(rng.integers(0, 256, (height, width, draw(st.sampled_from(channels))), np.uint8),
                  rng.choice(np.array([0, 3, 9, 255], np.uint8), (height, width)), "drawn",
                  rng.integers(1, 4, (height, width)).astype(np.float32))


def equal(one, other):
    return (one.size == other.size and (one.image == other.image).all() and (one.mask == other.mask).all()
            and (one.weight == other.weight).all())


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("transform", GEOMETRIC + PIXELWISE, ids=repr)
@given(sample=samples(), seed=st.integers(0, 99))
def test_transforms_keep_labels_and_follow_from_their_generator(transform, sample, seed):
    before = sample.image.copy(), sample.mask.copy()
    changed = transform(sample, rng(seed))
    assert set(np.unique(changed.mask)) <= {*np.unique(sample.mask), 255}
    assert set(np.unique(changed.weight)) <= {*np.unique(sample.weight), 0}
    assert changed.image.shape[2] == sample.image.shape[2]
    assert equal(changed, transform(sample, rng(seed)))
    assert (sample.image == before[0]).all()                    # the input is left as it was
    assert (sample.mask == before[1]).all()
    bare = transform(Sample(sample.image), rng(seed))
    assert bare.mask is None
    assert bare.weight is None
    assert (bare.image == changed.image).all()


@pytest.mark.parametrize("transform", GEOMETRIC, ids=repr)
@given(sample=samples((1,)), seed=st.integers(0, 99))
def test_weights_move_with_their_labels(transform, sample, seed):
    """A weight that names its label still does afterwards; what comes from outside weighs nothing."""
    changed = transform(sample.replace(weight=sample.mask.astype(np.float32) + 1), rng(seed))
    inside = changed.weight > 0
    assert (changed.weight[inside] == changed.mask[inside].astype(np.float32) + 1).all()
    assert (changed.mask[~inside] == 255).all()


@pytest.mark.parametrize("flip", [HorizontalFlip(1.0), VerticalFlip(1.0)])
@given(sample=samples())
def test_flips_undo_themselves(flip, sample):
    once = flip(sample, rng())
    assert equal(flip(once, rng()), sample)
    axis = 1 if isinstance(flip, HorizontalFlip) else 0
    assert (once.image == np.flip(sample.image, axis)).all()
    assert (once.mask == np.flip(sample.mask, axis)).all()


@given(sample=samples())
def test_a_flip_of_probability_zero_never_happens(sample):
    assert all(HorizontalFlip(0.0)(sample, rng(seed)) is sample for seed in range(5))


def test_quarter_turns_reach_all_four():
    sample = StreetScenes(1, size=(16, 20))[0]
    turned = [Rotate90()(sample, rng(seed)) for seed in range(20)]
    for quarters in range(4):
        assert any(one.size == np.rot90(sample.mask, quarters).shape
                   and (one.mask == np.rot90(sample.mask, quarters)).all() for one in turned)


@given(sample=samples(), fill=st.sampled_from(FILLS))
def test_the_identity_map_is_the_identity(sample, fill):
    assert equal(warp(sample, affine_map(sample.size, np.eye(2)), fill), sample)
    assert equal(ElasticDeformation(0.0, fill=fill)(sample, rng()), sample)
    assert equal(Rotate(0.0, fill)(sample, rng()), sample)
    assert equal(resize(sample, sample.size), sample)


@given(sample=samples(), fill=st.sampled_from(FILLS), down=st.integers(-5, 5), right=st.integers(-5, 5))
def test_a_whole_shift_is_a_slice(sample, fill, down, right):
    """Against padding and slicing, which share no code with the sampler."""
    moved = warp(sample, affine_map(sample.size, np.eye(2), (down, right)), fill)
    around = pad(sample, 5, 5, 5, 5, fill)
    height, width = sample.size
    expected = (slice(5 - down, 5 - down + height), slice(5 - right, 5 - right + width))
    assert (moved.mask == around.mask[expected]).all()
    assert (moved.weight == around.weight[expected]).all()
    assert (moved.image == around.image[expected]).all()


@given(sample=samples((1,)), seed=st.integers(0, 99))
def test_the_sampler_against_its_definition(sample, seed):
    height, width = sample.size
    rows, columns = rng(seed).uniform(-2, 18, (2, 4, 5))
    warped = warp(sample, (rows, columns), 7)
    for at in np.ndindex(4, 5):
        row, column = rows[at], columns[at]
        if not (-0.5 <= row < height - 0.5 and -0.5 <= column < width - 0.5):
            assert (warped.image[at][0], warped.mask[at], warped.weight[at]) == (7, 255, 0)
            continue
        y, x = (np.clip(position, 0, size - 1) for position, size in ((row, height), (column, width)))
        tents = (np.maximum(1 - np.abs(np.arange(height) - y), 0), np.maximum(1 - np.abs(np.arange(width) - x), 0))
        value = tents[0] @ sample.image[..., 0].astype(float) @ tents[1]
        assert abs(int(warped.image[at][0]) - value) <= 0.5 + 1e-9
        nearest = int(np.floor(row + 0.5)), int(np.floor(column + 0.5))
        assert warped.mask[at] == sample.mask[nearest]


def test_a_positive_rotation_is_counter_clockwise():
    sample = StreetScenes(1, size=(20, 20))[0]
    turned = Rotate((90.0, 90.0))(sample, rng())
    assert (turned.mask == np.rot90(sample.mask)).all()
    assert (turned.image == np.rot90(sample.image)).all()


def test_outside_a_rotation_is_ignored_and_filled():
    sample = Sample(np.full((20, 20, 3), 100, np.uint8), np.zeros((20, 20), np.uint8))
    turned = Rotate((45.0, 45.0), fill=(1, 2, 3))(sample, rng())
    assert turned.mask[0, 0] == 255
    assert turned.image[0, 0].tolist() == [1, 2, 3]
    assert (Rotate((45.0, 45.0), "reflect")(sample, rng()).image == 100).all()


@given(grid=st.integers(2, 5), seed=st.integers(0, 99))
def test_displacements_are_reached_at_the_points_of_the_grid(grid, seed):
    displacements = rng(seed).normal(0, 10, (2, grid, grid))
    step = 6
    size = ((grid - 1) * step + 1,) * 2
    rows, columns = elastic_map(size, displacements)
    places = np.arange(grid) * step
    np.testing.assert_allclose(rows[::step, ::step] - places[:, None], displacements[0], atol=1e-12)
    np.testing.assert_allclose(columns[::step, ::step] - places[None, :], displacements[1], atol=1e-12)


@given(height=st.integers(1, 20), width=st.integers(1, 20), shift=st.floats(-5, 5))
def test_equal_displacements_are_a_shift(height, width, shift):
    rows, columns = elastic_map((height, width), np.full((2, 3, 3), shift))
    np.testing.assert_allclose(rows, np.arange(height)[:, None] + np.full(width, shift), atol=1e-12)
    np.testing.assert_allclose(columns, np.arange(width)[None, :] + np.full((height, 1), shift), atol=1e-12)


def test_displacements_have_the_deviation_that_is_asked_for():
    ramp = Sample(np.tile(np.arange(201, dtype=np.uint8), (3, 1))[..., None])     # shows where it was read
    moves = [int(ElasticDeformation(10.0)(ramp, rng(seed)).image[1, 100, 0]) - 100 for seed in range(400)]
    assert abs(np.mean(moves)) < 2
    assert 9 < np.std(moves) < 11


@given(sample=samples(), height=st.integers(1, 20), width=st.integers(1, 20))
def test_masks_resize_by_the_pixel_whose_area_holds_the_centre(sample, height, width):
    resized = resize(sample, (height, width))
    assert resized.image.shape == (height, width, sample.image.shape[2])
    rows = np.floor((np.arange(height) + 0.5) * (sample.size[0] / height) + 1e-9).astype(int)
    columns = np.floor((np.arange(width) + 0.5) * (sample.size[1] / width) + 1e-9).astype(int)
    assert (resized.mask == sample.mask[rows][:, columns]).all()
    assert (resize(sample, tuple(2 * length for length in sample.size)).mask
            == sample.mask.repeat(2, 0).repeat(2, 1)).all()


def test_image_and_mask_stay_aligned_when_resized():
    """A step edge in the image stays where the mask's edge is, at any size."""
    mask = np.zeros((32, 32), np.uint8)
    mask[:, 12:] = 1
    sample = Sample((mask * 200)[..., None], mask)
    for size in (8, 16, 24, 48, 64, 128):
        resized = resize(sample, (size, size))
        assert ((resized.image[..., 0] > 100) == resized.mask).mean() > 0.97


def test_sizes():
    sample = StreetScenes(1, size=(30, 45))[0]
    assert Resize(20)(sample).size == (20, 30)
    assert Resize((10, 50))(sample).size == (10, 50)
    assert RandomScale(2, 2)(sample, rng()).size == (60, 90)
    assert RandomScale(choices=(0.5,))(sample, rng()).size == (15, 22)
    assert RandomCrop((40, 20))(sample, rng()).size == (40, 20)
    assert CenterCrop(64)(sample).size == (64, 64)
    assert Pad(multiple=32)(sample).size == (32, 64)
    assert Pad((40, 40))(sample).size == (40, 45)


@given(sample=samples(), size=st.integers(1, 20), seed=st.integers(0, 99))
def test_a_crop_is_a_window_of_the_padded_image(sample, size, seed):
    crop = RandomCrop(size, fill=7)(sample, rng(seed))
    down, right = (max(size - length, 0) for length in sample.size)
    around = pad(sample, 0, down, 0, right, 7)
    windows = [(top, left) for top in range(around.size[0] - size + 1) for left in range(around.size[1] - size + 1)
               if (around.image[top:top + size, left:left + size] == crop.image).all()
               and (around.mask[top:top + size, left:left + size] == crop.mask).all()]
    assert windows


def test_crops_reach_every_corner():
    sample = Sample(np.arange(12, dtype=np.uint8).reshape(3, 4, 1))
    corners = {int(RandomCrop(2)(sample, rng(seed)).image[0, 0, 0]) for seed in range(100)}
    assert corners == {0, 1, 2, 4, 5, 6}


def test_padding_fills():
    sample = Sample(np.array([[[10], [20], [60]]], np.uint8), np.zeros((1, 3), np.uint8))
    assert Pad((1, 5), fill="reflect")(sample).image.ravel().tolist() == [10, 20, 60, 20, 10]
    assert Pad((1, 5), fill="mean")(sample).image.ravel().tolist() == [10, 20, 60, 30, 30]
    assert Pad((1, 5), fill=0)(sample).image.ravel().tolist() == [10, 20, 60, 0, 0]
    assert Pad((1, 5), fill="reflect")(sample).mask.tolist() == [[0, 0, 0, 255, 255]]


@given(sample=samples(), seed=st.integers(0, 99))
def test_jitter_of_nothing_changes_nothing(sample, seed):
    assert (ColorJitter(0, 0, 0)(sample, rng(seed)).image == sample.image).all()
    assert (GaussianNoise(0)(sample, rng(seed)).image == sample.image).all()


def test_jitter_changes_what_it_says():
    image = np.random.default_rng(0).integers(60, 140, (30, 30, 3), np.uint8)
    grey = image @ [0.299, 0.587, 0.114]
    for seed in range(5):
        brighter = ColorJitter(0.5, 0, 0)(Sample(image), rng(seed)).image
        ratio = brighter.mean() / image.mean()
        np.testing.assert_allclose(brighter, image * ratio, atol=0.8)
        contrast = ColorJitter(0, 0.5, 0)(Sample(image), rng(seed)).image
        np.testing.assert_allclose((contrast @ [0.299, 0.587, 0.114]).mean(), grey.mean(), atol=0.5)
        saturated = ColorJitter(0, 0, 0.5)(Sample(image), rng(seed)).image
        np.testing.assert_allclose(saturated @ [0.299, 0.587, 0.114], grey, atol=0.8)
    assert (ColorJitter(0, 0, 1)(Sample(image[..., :1]), rng(1)).image == image[..., :1]).all()


def test_noise_has_at_most_its_deviation():
    sample = Sample(np.full((100, 100, 1), 128, np.uint8))
    deviations = [GaussianNoise(12)(sample, rng(seed)).image.std() for seed in range(10)]
    assert 0.2 < min(deviations) < max(deviations) < 12.3


def test_compose_is_one_after_the_other_from_one_generator():
    sample, transforms = StreetScenes(1)[0], (RandomScale(), Rotate(), RandomCrop(64), ColorJitter())
    together, generator = Compose(*transforms)(sample, rng(5)), rng(5)
    for transform in transforms:
        sample = transform(sample, generator)
    assert (together.image == sample.image).all()
    assert Compose()(sample, rng()) is sample
    assert repr(Compose(Resize(4))) == "Compose(Resize(size=4))"


@pytest.mark.parametrize(("make", "told"), [
    (lambda: HorizontalFlip(1.5), "0 <= p <= 1"), (lambda: RandomScale(0, 1), "0 < low <= high"),
    (lambda: RandomScale(choices=(-1.0,)), "choices above 0"), (lambda: Pad(), "one of the two"),
    (lambda: Pad(4, 4), "one of the two"), (lambda: Pad(multiple=0), "at least 1"),
    (lambda: ElasticDeformation(grid=1), "grid >= 2"), (lambda: ElasticDeformation(-1), "sigma >= 0"),
    (lambda: ColorJitter(1.5), "values 0..1")])
def test_wrong_settings_are_told_at_once(make, told):
    with pytest.raises(ArgumentError) as caught:
        make()
    assert told in str(caught.value)


@pytest.mark.parametrize(("transform", "told"), [
    (RandomCrop(0), "at least 1x1"), (Resize(0), "at least 1x1"), (Resize((3, 0)), "at least 1x1"),
    (RandomCrop(99, "mirror"), "'mirror'"), (Rotate(5, (1, 2)), "one for each channel"), (Shift(0.1, 256), "256")])
def test_wrong_settings_are_told_when_used(transform, told):
    with pytest.raises(ArgumentError) as caught:
        transform(StreetScenes(1)[0], rng())
    assert told in str(caught.value)


def test_border_weights_need_a_mask():
    with pytest.raises(DataError, match="cell7: BorderWeights needs a mask"):
        BorderWeights()(Sample(np.zeros((4, 4, 1), np.uint8), name="cell7"))
