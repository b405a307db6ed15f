"""An image through a net in tiles is the image through the net, wherever a tile sees all that matters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg as ts
from tinyseg import nn
from tinyseg.autograd import no_grad
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.functional import softmax
from tinyseg.inference import Tiling, probabilities
from tinyseg.models import build


class Local(nn.Module):
    """A net that sees `reach` pixels in each direction, and pads with zeros."""

    def __init__(self, reach=2):
        self.conv = nn.Conv2d(1, 3, 2 * reach + 1, padding=reach)

    def forward(self, x):
        return self.conv(x)


def whole(model, image):
    with no_grad():
        return softmax(model.eval()(ts.Tensor(image[None])), dim=1).numpy()[0]


@given(h=st.integers(1, 60), w=st.integers(1, 60), tile=st.integers(9, 30), seed=st.integers(0, 99))
def test_tiles_with_enough_overlap_equal_the_whole(h, w, tile, seed):
    """At the image's border too, where the net pads with zeros: windows stay inside."""
    model, image = Local(), np.random.default_rng(seed).normal(size=(1, h, w)).astype(np.float32)
    np.testing.assert_allclose(probabilities(model, image, tile=tile, overlap=4), whole(model, image), atol=1e-6)


@given(n=st.integers(1, 300), output=st.integers(1, 50), margin=st.integers(0, 40), mirrored=st.booleans())
def test_the_weights_of_all_windows_sum_to_one(n, output, margin, mirrored):
    window, total = output + 2 * margin, np.zeros(n)
    spans, _ = Tiling((output, output), (margin, margin), mirrored).spans((n, n))
    for span in spans:
        assert (span.weights >= 0).all()
        total[span.pixels] += span.weights
        if mirrored or n <= window:                  # the inner part answers, the image is mirrored around it
            assert span.start + margin == span.first
            assert len(span.weights) <= output
        else:                                        # the outer half of the margin is silent, but at the image's edge
            assert 0 <= span.start <= n - window
            silent = margin // 2
            assert span.start == 0 or not span.weights[:silent].any()
            assert span.start == n - window or not span.weights[window - silent:].any()
    np.testing.assert_allclose(total, 1, rtol=1e-6)


def test_one_window_gives_way_to_the_next():
    """Windows of 8 pixels share 4 of them: the first and last of these belong to one window, between they mix."""
    first, second = Tiling((4, 4), (2, 2), mirrored=False).spans((12, 12))[0]
    assert (first.start, second.start) == (0, 4)
    np.testing.assert_allclose(first.weights, [1, 1, 1, 1, 1, 0.75, 0.25, 0])
    np.testing.assert_allclose(second.weights, first.weights[::-1])


def test_without_a_tile_the_whole_image_goes_through_once():
    model, image = Local(), np.random.default_rng(0).normal(size=(1, 13, 17)).astype(np.float32)
    np.testing.assert_array_equal(probabilities(model, image), whole(model, image))


@given(h=st.integers(1, 150), w=st.integers(1, 150))
def test_a_valid_net_covers_any_image_by_mirroring(h, w):
    model = build("unet", 1, 2, base_channels=1, depth=2, padding="valid", norm=None)
    image = np.random.default_rng(h * 151 + w).normal(size=(1, h, w)).astype(np.float32)
    result = probabilities(model, image)
    assert result.shape == (2, h, w)
    np.testing.assert_allclose(result.sum(axis=0), 1, atol=1e-5)


@given(shift=st.sampled_from([0, 4, 8, 20]))
def test_valid_tiles_equal_one_large_valid_pass(shift):
    """Overlap-tile: a pixel's answer depends on what it sees, not on the tile it is computed in."""
    model = build("unet", 1, 2, base_channels=2, depth=2, padding="valid", norm=None)
    small, large = model.legal_sizes[3], model.legal_sizes[3] + 4 * 20
    image = np.random.default_rng(1).normal(size=(1, large, large)).astype(np.float32)
    everything = whole(model, image)                 # (2, o, o)
    part = whole(model, image[:, shift:shift + small, shift:shift + small])
    o = model.output_size(small)[0]
    np.testing.assert_allclose(part, everything[:, shift:shift + o, shift:shift + o], atol=1e-5)


def test_the_papers_net_takes_572_and_loses_92_on_each_side():
    model = build("unet_paper", 1, 2, base_channels=1)
    assert Tiling.plan(model, (512, 512)) == Tiling((388, 388), (92, 92))
    assert Tiling.plan(model, (300, 388)) == Tiling((308, 388), (92, 92))


def test_the_mode_of_the_model_is_left_alone():
    model = Local().train()
    probabilities(model, np.zeros((1, 8, 8), np.float32))
    assert model.training


@pytest.mark.parametrize(("tile", "overlap"), [(16, 8), (10, 32)])
def test_overlap_must_leave_something(tile, overlap):
    with pytest.raises(ArgumentError, match="tile > 2·overlap"):
        probabilities(Local(), np.zeros((1, 8, 8), np.float32), tile=tile, overlap=overlap)


def test_a_tile_that_a_net_cannot_take():
    dense = build("fc_densenet56", 1, 2, first=2, growth=2)
    with pytest.raises(ShapeError, match="nearest legal sizes are 64 and 96"):
        Tiling.plan(dense, (200, 200), 72, overlap=4)
    assert Tiling.plan(dense, (200, 60), 96, overlap=4) == Tiling((88, 64), (4, 0), mirrored=False)


def test_a_tile_that_a_valid_net_cannot_take():
    model = build("unet_paper", 1, 2, base_channels=1)
    with pytest.raises(ShapeError, match="nearest legal sizes"):
        probabilities(model, np.zeros((1, 300, 300), np.float32), tile=570)
