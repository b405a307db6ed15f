"""Looking from several sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.errors import ArgumentError
from tinyseg.inference import VIEWS, averaged, averaged_scales


def lopsided(view):
    """Answers that depend on where a pixel lies, as no symmetric net would give them."""
    h, w = view.shape[1:]
    ramp = np.arange(h)[:, None] * 7 + np.arange(w)
    return np.stack([view[0] * (ramp + 1), view[0] - ramp]).astype(np.float32)


@given(h=st.integers(1, 6), w=st.integers(1, 6), turns=st.integers(0, 3), mirrored=st.booleans())
def test_all_eight_views_make_any_net_equivariant(h, w, turns, mirrored):
    def turned(a):
        return np.ascontiguousarray(np.rot90(a[..., ::-1] if mirrored else a, turns, axes=(1, 2)))
    image = np.random.default_rng(h * 7 + w).integers(0, 9, (1, h, w)).astype(np.float32)
    np.testing.assert_array_equal(averaged(lopsided, turned(image), "dihedral"),
                                  turned(averaged(lopsided, image, "dihedral")))


@pytest.mark.parametrize("views", VIEWS)
def test_what_is_pointwise_is_not_changed(views):
    image = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    np.testing.assert_allclose(averaged(lambda v: v * 2, image, views), image * 2, rtol=1e-6)


def test_one_view_is_the_answer_itself():
    image = np.ones((1, 4, 3), np.float32)
    np.testing.assert_array_equal(averaged(lopsided, image), lopsided(image))


def test_unknown_views():
    with pytest.raises(ArgumentError, match="legal: one, flip, dihedral"):
        averaged(lopsided, np.ones((1, 2, 2), np.float32), "twice")


def test_several_sizes_are_averaged():
    """A segment that answers with its image's height: 1, 2 and 3 times 4 rows."""
    image = np.zeros((4, 6, 3), np.uint8)
    seen = []

    def segment(scaled):
        seen.append(scaled.shape)
        return np.full((2, *scaled.shape[:2]), len(scaled), np.float32)

    answer = averaged_scales(segment, image, (0.5, 1, 3))
    assert seen == [(2, 3, 3), (4, 6, 3), (12, 18, 3)]
    np.testing.assert_allclose(answer, np.full((2, 4, 6), (2 + 4 + 12) / 3), rtol=1e-6)


def test_probabilities_stay_probabilities():
    image = np.random.default_rng(0).integers(0, 256, (9, 14, 3), np.uint8)

    def segment(scaled):
        return np.stack([scaled[..., 0], 255 - scaled[..., 0]]).astype(np.float32) / 255

    for scales in ((1.0,), (0.4,), (0.5, 0.75, 1.25, 2)):
        answer = averaged_scales(segment, image, scales)
        np.testing.assert_allclose(answer.sum(axis=0), 1, atol=1e-6)
        assert answer.shape == (2, 9, 14)
    np.testing.assert_array_equal(averaged_scales(segment, image), segment(image))


def test_what_is_even_is_even_at_every_size():
    image = np.full((7, 5, 1), 80, np.uint8)
    answer = averaged_scales(lambda scaled: scaled.transpose(2, 0, 1).astype(np.float32), image, (0.5, 1, 1.7))
    np.testing.assert_allclose(answer, 80, rtol=1e-6)


@pytest.mark.parametrize("scales", [(), (0,), (1, -1), (float("inf"),)])
def test_scales_that_are_none(scales):
    with pytest.raises(ArgumentError, match="needs one number or more above 0"):
        averaged_scales(lopsided, np.ones((2, 2, 1), np.uint8), scales)
