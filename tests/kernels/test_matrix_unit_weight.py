"""The weight's gradient on the matrix unit: exact on small integers, within its stated error on other numbers."""

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
from tinyseg.kernels.cpu import amx, im2col, loops, matrix_unit_weight
from tinyseg.kernels.cpu.matrix_unit_weight import conv2d_weight_grad
from tinyseg.verify.strategies import convolutions

pytestmark = pytest.mark.skipif(not amx.available(), reason="no matrix unit here")
compiled = pytest.mark.skipif(config.DISABLE_JIT, reason="too slow")
both = pytest.mark.parametrize("split", [True, False], ids=["bf16x3", "bf16"])
SMALL = {"kernel": range(1, 4), "outputs": (1, 2, 3, 17), "padding": range(3), "channels": (1, 2, 17)}
KINDS = {
    "any": {"padding": range(6), "outputs": range(1, 7)},
    "channels": {"channels": (1, 3, 16, 21, 32, 33, 64, 70), "groups": (1, 2)},
    "wide": {"outputs": (1, 15, 16, 17, 33, 65, 97), "kernel": (1, 3), "channels": (1, 3, 16)},
    "far apart": {"kernel": range(1, 6), "dilation": (1, 5, 12), "outputs": range(1, 20), "padding": range(14)},
    "stride": {"stride": (2, 3, 4, 8, 16, 32), "kernel": (1, 2, 4, 5, 16, 17, 32), "outputs": (1, 3, 18)},
    "batch": {"batch": range(9), "channels": (1, 16, 40), "groups": (1, 3)},
}


def check(operands, split):
    x, _, y, geometry = operands
    x, y = x.astype(np.float32), y.astype(np.float32)
    np.testing.assert_array_equal(conv2d_weight_grad(y, x, geometry, split=split),
                                  loops.conv2d_weight_grad(y, x, geometry))


@both
@given(operands=convolutions(**SMALL))
@settings(max_examples=20)
def test_small(split, operands):
    """Runs without the compiler too, where every load and store is held to its array."""
    check(operands, split)


@compiled
@both
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_integers_are_exact(kind, split, data):
    check(data.draw(convolutions(**KINDS[kind])), split)


@compiled
@both
@pytest.mark.parametrize("limits", [("SUMS_BYTES", 1 << 12), ("SUMS_BYTES", 1 << 30), ("PIXELS", 40), ("L3_BYTES", 1)],
                         ids=str)
@given(operands=convolutions(channels=(1, 17, 70), outputs=(5, 17, 40), batch=(1, 3), groups=(1, 2)))
@settings(max_examples=20)
def test_bands_and_shares(limits, split, operands):
    with mock.patch.object(matrix_unit_weight, *limits):
        matrix_unit_weight.find_plan.cache_clear()
        check(operands, split)
    matrix_unit_weight.find_plan.cache_clear()


def test_without_the_compiler():
    finished = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "small"],
                              env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, text=True, capture_output=True, timeout=300)
    assert finished.returncode == 0, finished.stdout


LAYERS = [(1, 64, 64, (40, 65), 3, {"padding": 1}), (2, 128, 48, 33, 3, {"padding": 12, "dilation": 12}),
          (1, 3, 64, (65, 257), 7, {"padding": 3, "stride": 2}), (1, 64, 40, 41, 3, {"padding": 1, "stride": 2}),
          (8, 96, 21, 17, 1, {}), (1, 40, 24, 9, 9, {"padding": 4}),
          (1, 21, 21, 262, 64, {"padding": 16, "stride": 32}),
          (3, 16, 32, (128, 256), 3, {"padding": 1})]


@compiled
@both
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_error(layer, split):
    n, channels, outputs, size, kernel, options = layer
    geometry = ConvGeometry.convolution(size, kernel, **options)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((n, channels, *geometry.input_size), dtype=np.float32)
    y = rng.standard_normal((n, outputs, *geometry.output_size), dtype=np.float32)
    expected = im2col.conv2d_weight_grad(y.astype(np.float64), x.astype(np.float64), geometry)
    got = conv2d_weight_grad(y, x, geometry, split=split)
    assert np.abs(got - expected).max() <= (1e-5 if split else precision.ERRORS["medium"]) * np.abs(expected).max()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@both
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 3.4e38, 1e-42])
@pytest.mark.parametrize("where", ["x", "y"])
def test_numbers_beyond_bf16_are_computed_in_float32(value, where, split):
    geometry = ConvGeometry.convolution((4, 5), 3, padding=1)
    rng = np.random.default_rng(0)
    operands = {name: rng.standard_normal((2, 3, 4, 5), dtype=np.float32) for name in "xy"}
    if value == 1e-42:
        operands[where] *= np.float32(value)
    else:
        operands[where][1, 2, 1, 1] = value
    np.testing.assert_array_equal(conv2d_weight_grad(operands["y"], operands["x"], geometry, split=split),
                                  im2col.conv2d_weight_grad(operands["y"], operands["x"], geometry))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@compiled
@both
@pytest.mark.parametrize("sums", [0, 1 << 20], ids=["columns", "pixels"])
@pytest.mark.parametrize("where", ["x", "y"])
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (1, 32, 3, 4)], ids=["first", "last"])
def test_any_thread_may_meet_a_number_beyond_bf16(sums, place, where, split):
    geometry = ConvGeometry.convolution((4, 5), 3, padding=1)
    rng = np.random.default_rng(0)
    operands = {name: rng.standard_normal((2, 33, 4, 5), dtype=np.float32) for name in "xy"}
    operands[where][place] = 3.4e38
    with mock.patch.object(matrix_unit_weight, "SUMS_BYTES", sums):
        matrix_unit_weight.find_plan.cache_clear()
        got = conv2d_weight_grad(operands["y"], operands["x"], geometry, split=split)
    matrix_unit_weight.find_plan.cache_clear()
    np.testing.assert_array_equal(got, im2col.conv2d_weight_grad(operands["y"], operands["x"], geometry))


@both
def test_zeros(split):
    geometry = ConvGeometry.convolution((4, 5), 3, padding=1)
    x, y = np.zeros((1, 3, 4, 5), np.float32), np.ones((1, 2, 4, 5), np.float32)
    assert not conv2d_weight_grad(y, x, geometry, split=split).any()
