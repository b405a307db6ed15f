"""Looking from several sides."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.errors import ArgumentError
from tinyseg.inference import VIEWS, averaged


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
