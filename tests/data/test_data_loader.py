"""The loader: the same batches whatever the threads, clear errors, no thread left behind."""

import gc
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.data import (
    IMAGENET,
    ColorJitter,
    Compose,
    DataLoader,
    HorizontalFlip,
    Normalize,
    RandomCrop,
    RandomScale,
    Sample,
    StreetScenes,
    collate,
    normalization_of,
    voc_palette,
)
from tinyseg.errors import ArgumentError, DataError

AUGMENT = Compose(HorizontalFlip(), RandomScale(), RandomCrop(24), ColorJitter())


class Numbered:
    """Samples whose pixels are their number, of sizes that are told; counts what is read."""

    classes, palette, ignore_index, notices = ("a", "b"), voc_palette(), 255, ()

    def __init__(self, sizes, broken=()):
        self.sizes, self.broken, self.read = sizes, broken, []

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        self.read.append(index)
        time.sleep(0.001 * (index % 3))                         # threads finish out of order
        if index in self.broken:
            raise DataError(f"{index}.png: is broken")
        size = self.sizes[index]
        return Sample(np.full((*size, 3), index, np.uint8), np.full(size, index % 2, np.uint8), str(index))


def same(one, other):
    return (one.names == other.names and one.sizes == other.sizes and (one.images == other.images).all()
            and (one.masks == other.masks).all())


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_the_number_of_workers_changes_nothing(workers):
    scenes = StreetScenes(11, size=(32, 32))
    expected = list(DataLoader(scenes, 3, AUGMENT, seed=4, workers=0).epoch(2))
    found = list(DataLoader(scenes, 3, AUGMENT, seed=4, workers=workers).epoch(2))
    assert len(found) == len(expected) == 4
    assert all(map(same, found, expected))


@pytest.mark.parametrize("start", range(5))
def test_an_epoch_entered_later_goes_on_the_same(start):
    data = Numbered([(4, 4)] * 10)
    loader = DataLoader(data, 3, AUGMENT, seed=1)
    expected = list(loader.epoch(6))
    data.read.clear()
    found = list(loader.epoch(6, start))
    assert len(found) == 4 - start
    assert all(map(same, found, expected[start:]))
    assert len(data.read) == max(10 - 3 * start, 0)             # nothing before it was read


@given(count=st.integers(1, 30), batch_size=st.integers(1, 8), drop_last=st.booleans(), seed=st.integers(0, 5))
def test_an_epoch_holds_every_sample_once(count, batch_size, drop_last, seed):
    if drop_last and count < batch_size:
        return
    loader = DataLoader(Numbered([(1, 1)] * count), batch_size, seed=seed, workers=0, drop_last=drop_last)
    batches = list(loader.epoch(0))
    names = [int(name) for batch in batches for name in batch.names]
    assert len(batches) == len(loader)
    assert len(set(names)) == len(names) == (count - count % batch_size if drop_last else count)
    assert names == loader.order(0)[:len(names)].tolist()


def test_order_follows_from_seed_and_epoch():
    data = Numbered([(1, 1)] * 50)
    orders = {tuple(DataLoader(data, 5, seed=seed).order(epoch).tolist()) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert DataLoader(data, 5, shuffle=False).order(3).tolist() == list(range(50))


def test_a_sample_is_changed_anew_each_epoch():
    loader = DataLoader(StreetScenes(1, size=(32, 32)), 1, AUGMENT)
    first, second = (next(iter(loader.epoch(epoch))) for epoch in range(2))
    assert (first.images != second.images).any()


@pytest.mark.parametrize("batch_size", [1, 2])
def test_two_copies_in_one_epoch_are_changed_differently(batch_size):
    scene = StreetScenes(1, size=(32, 32))[0]
    loader = DataLoader([scene, scene], batch_size, AUGMENT, shuffle=False)
    first, second = np.concatenate([batch.images for batch in loader.epoch(0)])
    assert (first != second).any()


def test_smaller_samples_are_padded_at_bottom_and_right():
    batch = next(DataLoader(Numbered([(2, 5), (4, 3)]), 2, shuffle=False, normalize=IMAGENET).epoch(0))
    assert batch.images.shape == (2, 3, 4, 5)
    assert batch.images.dtype == np.float32
    assert batch.masks.dtype == np.int64
    assert batch.sizes == ((2, 5), (4, 3))
    assert (batch.images[0, :, 2:] == 0).all()
    assert (batch.masks[0, 2:] == 255).all()
    assert (batch.masks[0, :2] == 0).all()
    assert (batch.masks[1, :, 3:] == 255).all()
    assert (batch.images[1, :, :, :3] == IMAGENET(np.full((4, 3, 3), 1, np.uint8))).all()


def test_weights_are_one_where_nothing_is_said_and_zero_in_the_padding():
    image, mask = np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2), np.uint8)
    plain, weighted = Sample(image[:1], mask[:1]), Sample(image, mask, weight=np.full((2, 2), 3, np.float32))
    assert collate([plain, plain], Normalize()).weights is None
    weights = collate([plain, weighted], Normalize()).weights
    assert weights.tolist() == [[[1, 1], [0, 0]], [[3, 3], [3, 3]]]


def test_batches_without_masks():
    image = Sample(np.zeros((2, 2, 3), np.uint8), name="bare")
    assert collate([image], Normalize()).masks is None
    with pytest.raises(DataError, match="bare: has no mask"):
        collate([image.replace(mask=np.zeros((2, 2), np.uint8)), image], Normalize())
    with pytest.raises(DataError, match="RGB and grey"):
        collate([image, Sample(image.image[..., :1])], Normalize())


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_error_in_a_worker_is_raised_to_the_caller(workers):
    before = threading.active_count()
    batches = DataLoader(Numbered([(2, 2)] * 9, broken={5}), 2, shuffle=False, workers=workers).epoch(0)
    assert [next(batches).names for _ in range(2)] == [("0", "1"), ("2", "3")]
    with pytest.raises(DataError, match=r"^5\.png: is broken$"):
        next(batches)
    assert threading.active_count() == before


def test_leaving_half_way_leaves_no_thread():
    before = threading.active_count()
    for _ in DataLoader(Numbered([(8, 8)] * 40), 2, workers=4).epoch(0):
        break
    gc.collect()
    assert threading.active_count() == before


def test_only_a_few_batches_are_made_ahead():
    data = Numbered([(2, 2)] * 100)
    batches = DataLoader(data, 1, workers=2).epoch(0)
    next(batches)
    time.sleep(0.05)
    assert len(data.read) <= 3
    batches.close()


@pytest.mark.parametrize(("options", "told"), [
    ({"batch_size": 0}, "batch_size >= 1"), ({"batch_size": 2, "workers": -1}, "workers >= 0"),
    ({"batch_size": 2, "seed": -1}, "seed >= 0"), ({"batch_size": 9, "drop_last": True}, "with drop_last")])
def test_arguments_are_checked(options, told):
    with pytest.raises(ArgumentError, match=told):
        DataLoader(Numbered([(2, 2)] * 4), **options)
    loader = DataLoader(Numbered([(2, 2)] * 4), 2)
    for epoch, start in ((-1, 0), (0, 3), (0, -1)):
        with pytest.raises(ArgumentError, match="0 <= start <= 2"):
            loader.epoch(epoch, start)
    assert list(loader.epoch(0, 2)) == []


@pytest.mark.parametrize("normalize", [Normalize(), IMAGENET, Normalize((0.2,), (0.3,))], ids=repr)
def test_normalisation_is_its_formula_and_has_a_way_back(normalize):
    image = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    seen = normalize(image)
    assert seen.dtype == np.float32
    assert seen.shape == (3, 16, 16)
    expected = (image / 255 - normalize.mean) / normalize.std
    np.testing.assert_allclose(seen, expected.transpose(2, 0, 1), rtol=1e-6, atol=1e-7)
    assert (normalize.inverse(seen) == image).all()


def test_normalisation_is_measured():
    scenes = StreetScenes(6)
    pixels = np.concatenate([scene.image.reshape(-1, 3) for scene in scenes]) / 255
    measured = normalization_of(scenes)
    np.testing.assert_allclose(measured.mean, pixels.mean(axis=0))
    np.testing.assert_allclose(measured.std, pixels.std(axis=0))
    data = Numbered([(2, 2)] * 50)
    normalization_of(data, limit=5)
    assert data.read == [0, 12, 24, 36, 49]
    assert min(normalization_of(Numbered([(1, 1)])).std) > 0    # even where nothing varies


def test_normalisation_that_does_not_fit():
    with pytest.raises(ArgumentError, match="1 channel for 3 means"):
        IMAGENET(np.zeros((2, 2, 1), np.uint8))
    for mean, std in (((0.5, 0.5), (1, 1)), ((0.5,), (0,)), ((0.5,), (1, 1, 1))):
        with pytest.raises(ArgumentError, match="Normalize"):
            Normalize(mean, std)
