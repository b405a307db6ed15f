"""The loss of several scores is the sum of their losses, each by masks on its own grid."""

import numpy as np
import pytest

import tinyseg.functional as F
from tinyseg import models
from tinyseg.autograd import Tensor, no_grad
from tinyseg.data import Batch
from tinyseg.models.segmenter import Scored
from tinyseg.nn import init
from tinyseg.training.loss import build_loss, shrunk


def scores(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def batch(n, h, w, classes=3):
    rng = np.random.default_rng(5)
    return Batch(np.zeros((n, 3, h, w), np.float32), rng.integers(0, classes, (n, h, w)), None,
                 tuple(map(str, range(n))), ((h, w),) * n)


def test_weighted_sum():
    one, other, data = scores(2, 3, 9, 12), scores(2, 3, 9, 12, seed=1), batch(2, 9, 12)
    value = build_loss("ce")((Scored("out", one), Scored("aux", other, 0.5)), data)
    expected = F.cross_entropy(one, data.masks) + 0.5 * F.cross_entropy(other, data.masks)
    assert value.item() == pytest.approx(expected.item(), rel=1e-12)


def test_coarse_scores_are_judged_by_masks_at_their_cells():
    coarse, data = scores(1, 3, 5, 6), batch(1, 33, 41)
    value = build_loss("ce")((Scored("out", coarse, align_corners=True),), data)
    assert value.item() == pytest.approx(F.cross_entropy(coarse, data.masks[:, ::8, ::8]).item(), rel=1e-12)


@pytest.mark.parametrize(("n", "cells"), [(33, 5), (32, 4), (45, 6), (7, 7), (5, 1), (1, 1), (3, 6)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_labels_are_taken_where_interpolation_puts_the_cells(n, cells, align_corners):
    """A ramp, interpolated to the coarse grid, is what the nearest pixel's value rounds."""
    ramp = np.arange(n, dtype=np.float64)
    if align_corners:
        where = np.zeros(1) if cells == 1 else np.arange(cells) * (n - 1) / (cells - 1)
    else:
        where = (np.arange(cells) + 0.5) * n / cells - 0.5
    found = shrunk(np.broadcast_to(ramp, (1, 2, n)), (2, cells), align_corners)[0, 0]
    assert np.all(np.abs(found - where) <= 0.5)


def test_the_focal_loss_weighs_classes():
    x, data, weights = scores(2, 3, 4, 5), batch(2, 4, 5), np.array([1, 2, 0.5])
    value = build_loss("focal", weights)(x, data)
    assert value.item() == pytest.approx(F.focal_loss(x, data.masks, alpha=weights).item(), rel=1e-6)
    assert value.item() != pytest.approx(F.focal_loss(x, data.masks).item(), rel=1e-3)


def test_a_summed_loss_does_not_depend_on_the_batch():
    """As Caffe has it: summed over pixels, averaged over images."""
    x, data = scores(2, 3, 4, 5), batch(2, 4, 5)
    total = F.cross_entropy(x, data.masks, reduction="sum").item()
    assert build_loss("ce", reduction="sum")(x, data).item() == pytest.approx(total / 2, rel=1e-12)
    assert total / 2 == pytest.approx(build_loss("ce")(x, data).item() * 4 * 5, rel=1e-12)


def test_hard_pixels_of_every_score():
    one, other, data = scores(2, 3, 9, 12), scores(2, 3, 9, 12, seed=1), batch(2, 9, 12)
    value = build_loss("ohem", ohem_threshold=0.4, ohem_min_kept=0.1)((Scored("out", one), Scored("aux", other)), data)
    expected = sum(F.ohem_cross_entropy(x, data.masks, 0.4, 0.1).item() for x in (one, other))
    assert value.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("name", "options", "sizes"), [
    ("deeplab_v1", {"hidden": 4}, [(5, 7)]),                             # masks are shrunk to every eighth pixel
    ("deeplab_v2", {"backbone": "vgg16", "hidden": 4, "multi_scale": False}, [(5, 7)]),
    ("deeplab_v3", {"backbone": "mobilenet_v2"}, [(33, 49)]),            # scores are enlarged to the masks
    ("fcn32s", {"hidden": 4}, [(33, 49)]), ("fcn8s", {"hidden": 4}, [(33, 49)]),
    ("deeplabv3_mobilenet_v3_large", {}, [(33, 49), (33, 49)]), ("unet", {"base_channels": 2}, [(33, 49)])])
def test_where_masks_and_scores_meet(name, options, sizes):
    with init.skipped():
        net = models.build(name, 3, 3, **options)
    with no_grad():
        for p in net.parameters():
            p[...] = 0
        output = net(Tensor(np.zeros((2, 3, 33, 49), np.float32)))
    terms = [output] if isinstance(output, Tensor) else [term.scores for term in output]
    assert [term.shape[2:] for term in terms] == sizes
