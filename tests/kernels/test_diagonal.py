"""Weights that are zero between different channels: up-sampling channel by channel, and all that only looks like it."""

from unittest import mock

import numpy as np
import pytest

from tinyseg import kernels
from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu import depthwise, loops

OPERATIONS = ("conv2d", "conv2d_input_grad")
GEOMETRY = ConvGeometry.transposed((5, 6), 8, 4, 2)


def operands(operation, channels=3, geometry=GEOMETRY):
    rng = np.random.default_rng(0)
    size = geometry.input_size if operation == "conv2d" else geometry.output_size
    a = rng.integers(-4, 5, (2, channels, *size)).astype(np.float32)
    weight = np.zeros((channels, channels, *geometry.kernel_size), np.float32)
    weight[range(channels), range(channels)] = rng.integers(-4, 5, (channels, *geometry.kernel_size))
    return a, weight


def assert_defined(operation, a, weight, apart, geometry=GEOMETRY):
    """The result is the definition's, made channel by channel or not."""
    with np.errstate(invalid="ignore"):
        expected = getattr(loops, operation)(a, weight, geometry)
        with mock.patch.object(depthwise, operation, wraps=getattr(depthwise, operation)) as spy:
            found = kernels.run(operation, a, weight, geometry, algorithm="diagonal")
    np.testing.assert_array_equal(found, expected)
    assert spy.called == apart


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_diagonal_weight_is_done_channel_by_channel(operation):
    assert_defined(operation, *operands(operation), True)
    assert_defined(operation, *operands(operation, 1), True)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("place", [(0, 1, 0, 0), (2, 0, 7, 7), (1, 2, 3, 4)])
def test_one_number_beside_the_diagonal_is_enough(operation, place):
    a, weight = operands(operation)
    weight[place] = 1
    assert_defined(operation, a, weight, False)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_meets_the_zeros_too(operation, value):
    a, weight = operands(operation)
    a[1, 2, 1, 1] = value
    assert_defined(operation, a, weight, False)      # inf · 0 is nan: it spoils the other channels


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_nan_on_the_diagonal_stays_in_its_channel(operation):
    a, weight = operands(operation)
    weight[1, 1, 0, 0] = np.nan
    assert_defined(operation, a, weight, True)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_groups_and_other_shapes_are_left_to_others(operation):
    geometry = ConvGeometry.transposed((5, 6), 8, 4, 2, groups=2)
    a, weight = operands(operation, 4)
    assert_defined(operation, a, weight[:, :2], False, geometry)
    a, weight = operands(operation, 3)
    keep = (a, weight[:, :2]) if operation == "conv2d_input_grad" else (a[:, :2], weight[:, :2])
    assert_defined(operation, *keep, False)


def test_auto_looks_at_few_channels_and_large_kernels_only():
    def chosen(channels, kernel, stride):
        g = ConvGeometry.transposed((8, 8), kernel, stride)
        return kernels.find("conv2d_input_grad", "auto", "cpu", g, "float32", (1, channels, 8, 8),
                            (channels, channels, kernel, kernel)).algorithm

    assert chosen(21, 64, 32) == chosen(21, 4, 2) == "diagonal"
    assert "diagonal" not in (chosen(21, 3, 2), chosen(21, 3, 1), chosen(256, 4, 2))
