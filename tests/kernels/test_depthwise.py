"""Depthwise convolutions: bands, vectors and what is no vector, in every geometry, against the definition."""

import os
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg import kernels
from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu import depthwise, loops
from tinyseg.verify.strategies import SEEDS, geometries

OPERATIONS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
# Where vectors, blocks of rows, and taps below one another begin and end.
WIDE = geometries(groups=(1, 3), kernel=(1, 2, 3, 5, 6), outputs=(1, 2, 7, 8, 9, 15, 16, 17, 33), dilation=(1, 2, 12),
                  stride=(1, 2, 3, 17), padding=range(13))


def operands(geometry, results=1, batch=1, seed=0):
    """Small whole numbers in float32, so that sums are exact: {operation: (its two arrays)}."""
    rng = np.random.default_rng(seed)
    x, weight, y = (rng.integers(-4, 5, shape).astype(np.float32) for shape in (
        (batch, geometry.groups, *geometry.input_size), (geometry.groups * results, 1, *geometry.kernel_size),
        (batch, geometry.groups * results, *geometry.output_size)))
    return dict(zip(OPERATIONS, ((x, weight), (y, weight), (y, x)), strict=True))


def assert_defined(operation, a, b, geometry):
    with np.errstate(invalid="ignore"):
        expected = getattr(loops, operation)(a, b, geometry)
        found = getattr(depthwise, operation)(a, b, geometry)
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("operation", OPERATIONS)
@given(geometry=geometries() | WIDE, results=st.integers(1, 3), batch=st.integers(0, 2), seed=SEEDS,
       band=st.sampled_from([1, depthwise.BAND]))
def test_any_geometry(operation, geometry, results, batch, seed, band):
    with mock.patch.object(depthwise, "BAND", band):
        assert_defined(operation, *operands(geometry, results, batch, seed)[operation], geometry)


def test_nothing_outside_the_arrays_is_read_or_written():
    """Without the compiler every load and store is held to its array."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k", "any_geometry"]
    finished = subprocess.run(command, text=True, env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True,
                              timeout=300)
    assert finished.returncode == 0, finished.stdout


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("geometry", [ConvGeometry.convolution((9, 21), 3, 1, 1, groups=2),
                                      ConvGeometry.convolution((12, 12), 3, 2, 4, 3, groups=2)], ids=str)
def test_what_is_not_finite_goes_where_the_definition_has_it(geometry, operation, which, value):
    """At a corner, where it meets padding: zeros that are not there make no nan."""
    arrays = operands(geometry)[operation]
    arrays[which][0, 0, 0, 0] = value
    assert_defined(operation, *arrays, geometry)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("operation", OPERATIONS[:2])
def test_bias_and_relu(operation, stride):
    geometry = ConvGeometry.convolution((11, 37), 5, stride, 2, groups=3)
    a, b = operands(geometry, 2)[operation]
    a[0, 1, 2, 2] = np.nan
    plain = getattr(loops, operation)(a, b, geometry)
    bias = np.arange(plain.shape[1], dtype=np.float32) - 2
    found = getattr(depthwise, operation)(a, b, geometry, bias=bias, relu=True)
    np.testing.assert_array_equal(found, np.maximum(plain + bias[:, None, None], 0))


@pytest.mark.parametrize("operation", OPERATIONS)
def test_auto_takes_it_where_each_group_has_one_channel(operation):
    def chosen(groups, channels, outputs):
        g = ConvGeometry.convolution((8, 8), 3, padding=1, groups=groups)
        x, weight, y = (1, channels, 8, 8), (outputs, channels // groups, 3, 3), (1, outputs, 8, 8)
        shapes = dict(zip(OPERATIONS, ((x, weight), (y, weight), (y, x)), strict=True))[operation]
        return kernels.find(operation, "auto", "cpu", g, "float32", *shapes).algorithm

    assert chosen(6, 6, 6) == chosen(6, 6, 12) == "depthwise"
    assert "depthwise" not in (chosen(1, 6, 6), chosen(3, 6, 6), chosen(2, 4, 2), chosen(1, 1, 64))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("geometry", [
    ConvGeometry.convolution((112, 112), 3, 1, 1, groups=4), ConvGeometry.convolution((56, 56), 5, 2, 2, groups=4),
    ConvGeometry.convolution((33, 33), 3, 1, 12, 12, groups=4), ConvGeometry.transposed((8, 8), 64, 32, 16, groups=4),
    ConvGeometry.convolution((300, 1000), 3, 1, 1, groups=1)], ids=str)
def test_sums_are_as_exact_as_they_claim(geometry, operation):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(a.shape, np.float32) for a in operands(geometry)[operation]]
    exact = getattr(loops, operation)(*(a.astype(np.float64) for a in arrays), geometry)
    error = abs(getattr(depthwise, operation)(*arrays, geometry) - exact).max() / abs(exact).max()
    assert error <= 1e-6
