"""Convolution on the matrix unit: exact on small integers, within its stated error on other numbers."""

import os
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

from tinyseg import precision
from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu import amx, im2col, loops, matrix_unit
from tinyseg.verify.strategies import convolutions

pytestmark = pytest.mark.skipif(not (amx.available() or config.DISABLE_JIT), reason="no matrix unit here")
both = pytest.mark.parametrize("split", [True, False], ids=["bf16x3", "bf16"])
SMALL = {"kernel": range(1, 4), "outputs": range(1, 4), "padding": range(3), "channels": range(1, 3)}
KINDS = {
    "any": {"padding": range(6), "outputs": range(1, 7)},
    "channels": {"channels": (1, 3, 16, 21, 32, 33, 64, 70), "groups": (1, 2)},
    "wide": {"outputs": (1, 15, 16, 17, 33, 65, 97), "kernel": (1, 3)},
    "far apart": {"kernel": range(1, 6), "dilation": (1, 5, 12), "outputs": range(1, 20), "padding": range(14)},
    "stride": {"stride": (2, 3, 4, 8, 16, 32), "kernel": (1, 2, 4, 5, 17), "outputs": (1, 3, 18)},
}


def check(x, weight, y, geometry, split):
    x, weight, y = (a.astype(np.float32) for a in (x, weight, y))
    np.testing.assert_array_equal(matrix_unit.conv2d(x, weight, geometry, split=split),
                                  loops.conv2d(x, weight, geometry))
    np.testing.assert_array_equal(matrix_unit.conv2d_input_grad(y, weight, geometry, split=split),
                                  loops.conv2d_input_grad(y, weight, geometry))


@both
@given(operands=convolutions(**SMALL))
@settings(max_examples=20)
def test_small(split, operands):
    """Runs without the compiler too, where every load and store is held to its array."""
    check(*operands, split)


@pytest.mark.skipif(config.DISABLE_JIT, reason="too slow")
@both
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_integers_are_exact(kind, split, data):
    check(*data.draw(convolutions(**KINDS[kind])), split)


@pytest.mark.skipif(config.DISABLE_JIT, reason="too slow")
@both
@given(operands=convolutions(channels=(33, 70), outputs=(5, 17, 40), batch=(1, 8), groups=(1,)),
       size=st.sampled_from([1, 1 << 15]))
@settings(max_examples=20)
def test_channels_that_do_not_fit_the_cache(split, operands, size):
    with mock.patch.object(matrix_unit, "LINES_BYTES", size):
        matrix_unit.find_plan.cache_clear()
        check(*operands, split)
    matrix_unit.find_plan.cache_clear()


@pytest.mark.skipif(config.DISABLE_JIT, reason="too slow")
@both
@given(operands=convolutions(channels=(33, 70), outputs=(5, 17, 40), padding=range(9), kernel=range(1, 5),
                             dilation=(1, 2, 4, 7)),
       size=st.sampled_from([1, 1 << 20]), chosen=st.randoms(use_true_random=False))
def test_whatever_the_plan(split, operands, size, chosen):
    """Bands of any rows and combs, whole or in runs."""
    consider = matrix_unit._Plan._consider

    def consider_some(plan, *candidate):
        if plan.cost == float("inf") or chosen.random() < 0.3:
            plan.cost = float("inf")
            consider(plan, *candidate)
    with mock.patch.object(matrix_unit, "LINES_BYTES", size), \
            mock.patch.object(matrix_unit._Plan, "_consider", consider_some):
        matrix_unit.find_plan.cache_clear()
        check(*operands, split)
    matrix_unit.find_plan.cache_clear()


@both
def test_sixteen_columns_of_two_planes(split):
    """Their first and last are as far apart as those of sixteen neighbours."""
    geometry = ConvGeometry((1, 16), (1, 3), stride=(1, 2))
    draw = np.random.default_rng(0).integers
    check(draw(-3, 4, (1, 32, 1, 16)), draw(-3, 4, (5, 32, 1, 3)), draw(-3, 4, (1, 5, 1, 7)), geometry, split)


def test_without_the_compiler():
    finished = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "small"],
                              env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, text=True, capture_output=True, timeout=300)
    assert finished.returncode == 0, finished.stdout


LAYERS = [(1, 64, 64, (40, 65), 3, {"padding": 1}), (2, 128, 48, 33, 3, {"padding": 6, "dilation": 6}),
          (1, 3, 64, (65, 257), 7, {"padding": 3, "stride": 2}), (1, 64, 40, 41, 3, {"padding": 1, "stride": 2}),
          (8, 96, 21, 17, 1, {}), (1, 40, 24, 9, 9, {"padding": 4}), (1, 21, 21, 70, 64, {"padding": 16, "stride": 32})]


@pytest.mark.skipif(config.DISABLE_JIT, reason="too slow")
@both
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_error(layer, split):
    n, channels, outputs, size, kernel, options = layer
    geometry = ConvGeometry.convolution(size, kernel, **options)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, channels, *geometry.input_size))
    weight = rng.standard_normal((outputs, channels, *geometry.kernel_size))
    y = rng.standard_normal((n, outputs, *geometry.output_size))
    x, weight, y = (a.astype(np.float32).astype(np.float64) for a in (x, weight, y))
    tolerance = 1e-5 if split else precision.ERRORS["medium"]
    for kernel_, exact, first in ((matrix_unit.conv2d, im2col.conv2d, x),
                                  (matrix_unit.conv2d_input_grad, im2col.conv2d_input_grad, y)):
        expected = exact(first, weight, geometry)
        got = kernel_(first.astype(np.float32), weight.astype(np.float32), geometry, split=split)
        assert np.abs(got - expected).max() <= tolerance * np.abs(expected).max()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@both
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3.4e38, 1e-42])
@pytest.mark.parametrize("where", ["x", "weight"])
def test_numbers_beyond_bf16_are_computed_in_float32(value, where, split):
    geometry = ConvGeometry.convolution((4, 5), 3, padding=1)
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape, dtype=np.float32) for shape in ((2, 3, 4, 5), (2, 3, 3, 3)))
    if value == 1e-42:
        x, weight = (a * np.float32(1e-42) if name == where else a for name, a in (("x", x), ("weight", weight)))
    else:
        {"x": x, "weight": weight}[where][1, 2, 1, 1] = value
    np.testing.assert_array_equal(matrix_unit.conv2d(x, weight, geometry, split=split),
                                  im2col.conv2d(x, weight, geometry))
    grad = x[:, :2].copy()
    grad[1, 1, 1, 1] = value if where == "x" else 1
    np.testing.assert_array_equal(matrix_unit.conv2d_input_grad(grad, weight, geometry, split=split),
                                  im2col.conv2d_input_grad(grad, weight, geometry))


@both
def test_zeros_and_nothing(split):
    geometry = ConvGeometry.convolution((4, 5), 3, padding=1)
    weight = np.ones((2, 3, 3, 3), np.float32)
    assert not matrix_unit.conv2d(np.zeros((1, 3, 4, 5), np.float32), weight, geometry, split=split).any()
    assert matrix_unit.conv2d(np.zeros((0, 3, 4, 5), np.float32), weight, geometry, split=split).shape == (0, 2, 4, 5)
