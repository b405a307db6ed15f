"""The search for parameters, and the file that keeps them."""

import numpy as np
import pytest
from crf.coarse import coarse

from tinyseg.crf import Appearance, DenseCRF, Gaussian, Smoothness, grid, read_settings, search, write_settings
from tinyseg.data import StreetScenes
from tinyseg.errors import ArgumentError, DataError
from tinyseg.metrics import ConfusionMatrix, near_borders


def test_a_grid_holds_every_combination():
    crfs = grid((1, 2), (10,), (3, 4, 5), iterations=3)
    assert len(crfs) == 2 * 1 * 3 * 1 * 2
    assert len({(c.potentials[0], c.potentials[1]) for c in crfs}) == 12
    assert all(c.iterations == 3 for c in crfs)


def test_a_search_measures_each_crf_and_none():
    scenes = StreetScenes(2, (96, 128))
    samples = [(s.image, coarse(s.mask, 8), s.mask) for s in scenes]
    crfs = grid((6,), (10,), (6,), smooth_sigmas_xy=(1,))
    tried = []
    before, after = search(iter(samples), crfs, scenes.classes, border=2, tried=lambda: tried.append(1))
    assert before.crf is None
    assert after.crf is crfs[0]
    assert len(tried) == 2
    expected, at_borders = ConfusionMatrix(8), ConfusionMatrix(8)
    for image, p, truth in samples:
        labels = crfs[0](image, p).argmax(axis=0)
        expected.update(truth, labels)
        at_borders.update(near_borders(truth, 2), labels)
    assert np.array_equal(after.confusion.counts, expected.counts)
    assert np.array_equal(after.borders.counts, at_borders.counts)
    assert after.borders.mean_iou > before.borders.mean_iou


def test_settings_come_back(tmp_path):
    path = tmp_path / "crf.json"
    crf = DenseCRF((Appearance(compatibility=4.5, sigma_xy=(30, 20), sigma_color=np.float64(3)),
                    Smoothness(compatibility=np.eye(2) - 1, normalization="after")), 7)
    write_settings(path, crf)
    again = read_settings(path)
    assert again.iterations == 7
    assert again.potentials[0] == Appearance(compatibility=4.5, sigma_xy=[30, 20], sigma_color=3.0)
    assert np.array_equal(again.potentials[1].compatibility, np.eye(2) - 1)
    with pytest.raises(ArgumentError, match="a Gaussian has no file form"):
        write_settings(path, DenseCRF((Gaussian(points=np.zeros((1, 1, 1))),)))


@pytest.mark.parametrize("text", ["", "[]", '{"iterations": 5}', '{"iterations": 5, "potentials": [{"kind": "magic"}]}',
                                  '{"iterations": 5, "potentials": [{"kind": "smoothness", "sigma_xy": 0}]}',
                                  '{"iterations": 5, "potentials": [{"kind": "smoothness", "sigma": 1}]}',
                                  '{"iterations": "many", "potentials": []}'])
def test_other_files_are_no_settings(tmp_path, text):
    path = tmp_path / "crf.json"
    path.write_text(text)
    with pytest.raises(DataError, match="is no settings of a CRF"):
        read_settings(path)
