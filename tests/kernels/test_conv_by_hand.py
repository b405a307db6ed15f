"""Convolutions small enough to compute on paper.  They also hold with NUMBA_DISABLE_JIT=1."""

import numpy as np
import pytest

from tinyseg import kernels
from tinyseg.arithmetic import ConvGeometry

pytestmark = pytest.mark.parametrize("algorithm", kernels.algorithms("conv2d", dtype="float64"))

# The 3x3 kernel over a 4x4 input as a matrix: each row is the kernel laid on the flattened input.
KERNEL = [[1, 2, 3],
          [4, 5, 6],
          [7, 8, 9]]
C = [[1, 2, 3, 0,   4, 5, 6, 0,   7, 8, 9, 0,   0, 0, 0, 0],
     [0, 1, 2, 3,   0, 4, 5, 6,   0, 7, 8, 9,   0, 0, 0, 0],
     [0, 0, 0, 0,   1, 2, 3, 0,   4, 5, 6, 0,   7, 8, 9, 0],
     [0, 0, 0, 0,   0, 1, 2, 3,   0, 4, 5, 6,   0, 7, 8, 9]]


def maps(values):
    """Rows of numbers as (1, 1, H, W)."""
    return np.array(values, float)[None, None]


def convolve(x, weight, algorithm, *options, **named):
    geometry = ConvGeometry.convolution(x.shape[2:], weight.shape[2:], *options, **named)
    return kernels.conv2d(x, weight, geometry, algorithm).tolist()


def transpose(y, weight, algorithm, *options, **named):
    geometry = ConvGeometry.transposed(y.shape[2:], weight.shape[2:], *options, **named)
    return kernels.conv2d_input_grad(y, weight, geometry, algorithm).tolist()


def test_convolution_is_the_matrix(algorithm):
    x = np.arange(16.0)
    geometry = ConvGeometry((4, 4), (3, 3))
    assert kernels.conv2d(x.reshape(1, 1, 4, 4), maps(KERNEL), geometry, algorithm).ravel().tolist() == list(C @ x)
    assert (C @ x).tolist() == [303, 348, 483, 528]


def test_transposed_convolution_is_the_transposed_matrix(algorithm):
    y = np.array([1.0, 10, 100, 1000])
    geometry = ConvGeometry((4, 4), (3, 3))
    x = kernels.conv2d_input_grad(y.reshape(1, 1, 2, 2), maps(KERNEL), geometry, algorithm)
    assert x[0, 0].tolist() == [[1, 12, 23, 30],
                                [104, 1245, 2356, 3060],
                                [407, 4578, 5689, 6090],
                                [700, 7800, 8900, 9000]]
    assert x.ravel().tolist() == list(np.transpose(C) @ y)


def test_each_weight_gathers_what_it_met(algorithm):
    x = np.arange(16.0).reshape(1, 1, 4, 4)
    geometry = ConvGeometry((4, 4), (3, 3))
    weight = kernels.conv2d_weight_grad(maps([[1, 10], [100, 1000]]), x, geometry, algorithm)
    assert weight[0, 0].tolist() == [[5410, 6521, 7632],                 # x00 + 10·x01 + 100·x10 + 1000·x11, ...
                                     [9854, 10965, 12076],
                                     [14298, 15409, 16520]]


def test_cross_correlation_does_not_flip_the_kernel(algorithm):
    assert convolve(maps([[1, 10, 100]]), maps([[1, 2]]), algorithm) == [[[[21, 210]]]]


def test_stride_skips_and_drops_the_remainder(algorithm):
    assert convolve(maps([[1, 2, 3, 4, 5, 6]]), maps([[1, 10]]), algorithm, (1, 3)) == [[[[21, 54]]]]


def test_padding_sees_zeros(algorithm):
    padding = ((0, 0), (1, 2))
    assert convolve(maps([[1, 2]]), maps([[1, 10, 100]]), algorithm, 1, padding) == [[[[210, 21, 2]]]]


def test_a_1x1_kernel_strides_and_pads_like_any_other(algorithm):
    assert convolve(maps([[1, 2]]), maps([[10]]), algorithm, (1, 2), ((0, 0), (1, 0))) == [[[[0, 20]]]]


def test_dilation_spreads_the_taps(algorithm):
    assert convolve(maps([[1, 2, 3, 4]]), maps([[1, 10]]), algorithm, dilation=(1, 2)) == [[[[31, 42]]]]


def test_axes_are_height_then_width(algorithm):
    x = maps([[1, 2, 3],
              [4, 5, 6]])
    assert convolve(x, maps([[1], [10]]), algorithm, (1, 2)) == [[[[41, 63]]]]


def test_channels_are_summed_and_groups_kept_apart(algorithm):
    x = np.array([1.0, 2, 3, 4]).reshape(1, 4, 1, 1)
    assert convolve(x, np.array([[1.0, 10, 100, 1000]]).reshape(1, 4, 1, 1), algorithm) == [[[[4321]]]]
    weight = np.array([[1.0, 10], [100, 1000]]).reshape(2, 2, 1, 1)      # (O, C/G): one row for each group
    assert convolve(x, weight, algorithm, groups=2) == [[[[21]], [[4300]]]]
    depthwise = np.array([1.0, 10, 100, 1000]).reshape(4, 1, 1, 1)
    assert convolve(x, depthwise, algorithm, groups=4) == [[[[1]], [[20]], [[300]], [[4000]]]]


def test_transposed_stride_inserts_and_output_padding_extends(algorithm):
    y, weight = maps([[1, 2]]), maps([[1, 10]])
    assert transpose(y, weight, algorithm, (1, 3)) == [[[[1, 10, 0, 2, 20]]]]
    assert transpose(y, weight, algorithm, (1, 3), output_padding=(0, 2)) == [[[[1, 10, 0, 2, 20, 0, 0]]]]
    assert transpose(y, weight, algorithm, (1, 3), ((0, 0), (1, 0))) == [[[[10, 0, 2, 20]]]]


def test_output_padding_may_reach_the_stride_under_dilation(algorithm):
    y, weight = maps([[1, 2]]), maps([[1, 10]])
    assert transpose(y, weight, algorithm, output_padding=(0, 2), dilation=(1, 3)) == [[[[1, 2, 0, 10, 20, 0, 0]]]]


def test_a_kernel_as_large_as_the_input_is_a_dot_product(algorithm):
    assert convolve(maps(KERNEL), maps(KERNEL), algorithm) == [[[[285]]]]
