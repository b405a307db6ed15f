"""U-Net's weight map against its definition."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.data import BorderWeights, FolderDataset, Sample, border_weight_map
from tinyseg.data.kernels import label_cells
from tinyseg.errors import ArgumentError, ShapeError


@st.composite
def masks(draw):
    height, width = draw(st.integers(1, 14)), draw(st.integers(1, 14))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    density = draw(st.sampled_from([0.02, 0.1, 0.5, 0.9]))
    labels = rng.choice(np.array([1, 1, 2, 255], np.uint8), (height, width))
    return np.where(rng.random((height, width)) < density, labels, 0).astype(np.uint8)


def cells_of(mask):
    """The 4-connected regions of equal label as lists of pixels, by repeated merging."""
    parent = {tuple(at): tuple(at) for at in np.argwhere((mask != 0) & (mask != 255)).tolist()}

    def root(at):
        while parent[at] != at:
            at = parent[at]
        return at
    for y, x in list(parent):
        for other in ((y + 1, x), (y, x + 1)):
            if other in parent and mask[other] == mask[y, x]:
                parent[root(other)] = root((y, x))
    regions = {}
    for at in parent:
        regions.setdefault(root(at), []).append(at)
    return list(regions.values())


def by_definition(mask, w0, sigma):
    weight = (mask != 255).astype(float)
    regions = [np.array(region) for region in cells_of(mask)]
    for at in np.argwhere(mask == 0):
        distances = sorted(np.sqrt(((region - at) ** 2).sum(axis=1).min()) for region in regions)
        if len(distances) >= 2:
            weight[tuple(at)] += w0 * np.exp(-(distances[0] + distances[1]) ** 2 / (2 * sigma**2))
    return weight


@given(mask=masks(), w0=st.sampled_from([0.0, 1.0, 10.0]), sigma=st.sampled_from([0.7, 2.0, 5.0]))
def test_the_map_is_its_definition(mask, w0, sigma):
    weight = border_weight_map(mask, w0, sigma, balance=False)
    assert weight.dtype == np.float32
    np.testing.assert_allclose(weight, by_definition(mask, w0, sigma), rtol=1e-6, atol=2e-8 * w0)


@given(mask=masks())
def test_cells_are_regions_of_equal_label(mask):
    cells, count = label_cells(mask.astype(np.int32), 0, 255)
    regions = cells_of(mask)
    assert count == len(regions)
    for region in regions:
        assert len({int(cells[at]) for at in region}) == 1
    assert ((cells == 0) == ((mask == 0) | (mask == 255))).all()


@given(mask=masks())
def test_balance_gives_both_sides_the_same_sum(mask):
    weight = border_weight_map(mask, w0=0)
    background, cells = mask == 0, (mask != 0) & (mask != 255)
    assert (weight[mask == 255] == 0).all()
    if background.any() and cells.any() and weight.max() < 10:
        assert weight[background].sum() == pytest.approx(weight[cells].sum(), rel=1e-5)
        assert weight.sum() == pytest.approx((mask != 255).sum(), rel=1e-5)
    assert weight.max() <= 10


def test_a_gap_between_cells_weighs_most():
    mask = np.zeros((21, 31), np.uint8)
    mask[5:16, 5:15] = mask[5:16, 16:26] = 1                    # a gap one pixel wide: d1 = d2 = 1
    weight = border_weight_map(mask, balance=False)
    assert weight.argmax() // 31 in range(5, 16)
    assert weight.argmax() % 31 == 15
    assert weight[10, 15] == pytest.approx(1 + 10 * np.exp(-4 / 50))
    assert (weight[mask == 1] == 1).all()


def test_one_cell_has_no_gap():
    mask = np.zeros((9, 9), np.uint8)
    mask[4, 4] = 1
    assert (border_weight_map(mask, balance=False) == 1).all()
    assert (border_weight_map(np.zeros((3, 3), np.uint8)) == 1).all()


def test_touching_instances_are_two_cells():
    ids = np.zeros((9, 12), np.uint16)
    ids[:4, :6], ids[:4, 6:] = 700, 255
    assert border_weight_map(ids, balance=False, ignore_index=-1)[4, 6] > 9
    assert border_weight_map(ids > 0, balance=False)[4, 6] == 1


def test_the_transform_sets_the_weight():
    mask = np.zeros((9, 9), np.uint8)
    mask[2, 2] = mask[6, 6] = 1
    sample = Sample(np.zeros((9, 9, 1), np.uint8), mask)
    assert (BorderWeights(3, 2)(sample).weight == border_weight_map(mask, 3, 2)).all()


def test_what_it_cannot_take():
    with pytest.raises(ShapeError, match="whole numbers"):
        border_weight_map(np.zeros((3, 3)))
    with pytest.raises(ArgumentError, match="sigma > 0"):
        border_weight_map(np.zeros((3, 3), int), sigma=0)


def test_distances_against_scipy_on_nuclei(test_data: Path):
    ndimage = pytest.importorskip("scipy.ndimage")
    data = FolderDataset(test_data / "dsb2018" / "images", test_data / "dsb2018" / "labels", mask_encoding="binary")
    mask = data[0].mask
    cells, count = ndimage.label(mask)
    distances = np.sort([ndimage.distance_transform_edt(cells != cell) for cell in range(1, count + 1)], axis=0)
    expected = 1 + 10 * np.exp(-(distances[0] + distances[1]) ** 2 / 50) * (mask == 0)
    np.testing.assert_allclose(border_weight_map(mask, balance=False), expected, rtol=1e-6, atol=2e-7)
