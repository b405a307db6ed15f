import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg.functional as F
from tinyseg import nn
from tinyseg.autograd import Tensor
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.nn import init

SHAPE = (64, 32, 3, 5)                               # fan_in 480, fan_out 960


def filled(function, *arguments, shape=SHAPE, **options):
    F.manual_seed(0)
    weight = nn.Parameter(np.zeros(shape))
    assert function(weight, *arguments, **options) is weight
    return weight.detach().data


@pytest.mark.parametrize(("function", "options", "deviation"), [
    (init.he_normal_, {}, np.sqrt(2 / 480)),
    (init.he_normal_, {"mode": "fan_out"}, np.sqrt(2 / 960)),
    (init.he_normal_, {"nonlinearity": "linear"}, np.sqrt(1 / 480)),
    (init.he_uniform_, {"a": 0.5}, np.sqrt(2 / 1.25 / 480)),
    (init.xavier_normal_, {}, np.sqrt(2 / 1440)),
    (init.xavier_uniform_, {"gain": 2.0}, 2 * np.sqrt(2 / 1440)),
    (init.normal_, {"mean": 5.0, "std": 0.5}, 0.5)])
def test_deviation(function, options, deviation):
    values = filled(function, **options)
    assert np.std(values) == pytest.approx(deviation, rel=0.02)
    assert np.mean(values) == pytest.approx(options.get("mean", 0), abs=4 * deviation / np.sqrt(values.size))


def test_uniform_keeps_its_bounds():
    values = filled(init.he_uniform_)
    bound = np.sqrt(3) * np.sqrt(2 / 480)            # the slope 0 by default
    assert 0.99 * bound < np.abs(values).max() <= bound


def test_constants():
    assert np.all(filled(init.constant_, 2.5) == 2.5)
    assert np.all(filled(init.zeros_) == 0)


def test_the_seed_decides():
    np.testing.assert_array_equal(filled(init.he_normal_), filled(init.he_normal_))
    F.manual_seed(5)
    one = nn.Conv2d(2, 3, 3).state_dict()
    F.manual_seed(5)
    two = nn.Conv2d(2, 3, 3).state_dict()
    for name in one:
        np.testing.assert_array_equal(one[name], two[name])


def test_a_layer_starts_as_in_pytorch():
    conv = nn.Conv2d(32, 64, 3, groups=2)
    bound = 1 / np.sqrt(16 * 9)
    for p in conv.parameters():
        assert 0.9 * bound < np.abs(p.detach().data).max() <= bound


@given(s=st.tuples(st.integers(1, 4), st.integers(1, 4)), h=st.integers(1, 5), w=st.integers(1, 5))
def test_bilinear_up_convolution_interpolates(s, h, w):
    """Inside, where no zeros from beyond the border are mixed in, it is resizing with align_corners=False."""
    kernel = tuple(2 * n - n % 2 for n in s)
    padding = tuple(n // 2 for n in s)
    up = nn.ConvTranspose2d(2, 2, kernel, stride=s, padding=padding, groups=2, bias=False).to("float64")
    init.bilinear_(up.weight)
    x = Tensor(np.random.default_rng(0).standard_normal((1, 2, h, w)))
    y = up(x).detach().data
    expected = F.interpolate(x, scale_factor=s, mode="bilinear").data
    assert y.shape == expected.shape
    top, left = s[0] // 2, s[1] // 2
    inner = (..., slice(top, y.shape[2] - top), slice(left, y.shape[3] - left))
    np.testing.assert_allclose(y[inner], expected[inner], atol=1e-12)


@pytest.mark.parametrize(("size", "weights"), [
    (1, [1]), (2, [0.5, 0.5]), (3, [0.5, 1, 0.5]), (4, [0.25, 0.75, 0.75, 0.25])])
def test_bilinear_kernel(size, weights):
    np.testing.assert_array_equal(init.bilinear_kernel(size), weights)


def test_bilinear_keeps_channels_apart():
    values = filled(init.bilinear_, shape=(3, 3, 4, 3))
    tent = np.multiply.outer([0.25, 0.75, 0.75, 0.25], [0.5, 1, 0.5])
    for i in range(3):
        for j in range(3):
            np.testing.assert_array_equal(values[i, j], tent if i == j else 0 * tent)


def test_what_cannot_be_initialised():
    with pytest.raises(ShapeError, match=r"\(3, 2, 4, 4\); needs as many channels out as in"):
        filled(init.bilinear_, shape=(3, 2, 4, 4))
    with pytest.raises(ShapeError, match="no fan"):
        filled(init.he_normal_, shape=(3,))
    with pytest.raises(ArgumentError, match="fan_avg"):
        filled(init.he_normal_, mode="fan_avg")
    with pytest.raises(ArgumentError, match="nonlinearity 'gelu'"):
        filled(init.he_normal_, nonlinearity="gelu")


def test_skipped_leaves_tensors_and_the_generator_alone():
    weight = Tensor(np.full((2, 3), 7.0, np.float32))
    before = F.get_rng_state()
    with init.skipped(), init.skipped():
        init.normal_(weight)
        init.zeros_(weight)
    assert (weight.data == 7).all()
    assert F.get_rng_state() == before
    init.zeros_(weight)
    assert not weight.data.any()
