"""The implicit matrix product on geometries of every kind, against the definition."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu import implicit_gemm, implicit_gemm_plan, loops
from tinyseg.verify.strategies import geometries

OPERATIONS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")


def arrays(geometry, batch, channels, outputs, seed=0, draw=None):
    """(x, weight, y) in float32, small integers unless `draw` makes them: every sum is exact."""
    rng = np.random.default_rng(seed)
    shapes = ((batch, geometry.groups * channels, *geometry.input_size),
              (geometry.groups * outputs, channels, *geometry.kernel_size),
              (batch, geometry.groups * outputs, *geometry.output_size))
    return [(draw(rng, shape) if draw else rng.integers(-4, 5, shape)).astype(np.float32) for shape in shapes]


def operands(x, weight, y):
    return {"conv2d": (x, weight), "conv2d_input_grad": (y, weight), "conv2d_weight_grad": (y, x)}


def assert_exact(geometry, x, weight, y):
    for name, (a, b) in operands(x, weight, y).items():
        got = getattr(implicit_gemm, name)(a, b, geometry)
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, getattr(loops, name)(a, b, geometry), name)


@given(geometry=geometries(kernel=range(1, 6), stride=range(1, 6), padding=range(8), dilation=range(1, 6),
                           outputs=(*range(1, 6), 17, 33)),
       batch=st.integers(0, 3), channels=st.sampled_from([1, 2, 3, 7, 21, 33]),
       outputs=st.sampled_from([1, 3, 4, 5, 8, 9, 21, 50]), seed=st.integers(0, 99))
def test_any_geometry(geometry, batch, channels, outputs, seed):
    assert_exact(geometry, *arrays(geometry, batch, channels, outputs, seed))


@pytest.mark.parametrize("size", [33, 41, 65, 257])
@pytest.mark.parametrize(("kernel", "stride", "padding", "dilation"), [(1, 1, 0, 1), (3, 1, 1, 1), (3, 2, 1, 1),
                                                                       (3, 1, 12, 12), (4, 2, 1, 1), (7, 2, 3, 1)])
def test_sizes_where_blocks_end(size, kernel, stride, padding, dilation):
    geometry = ConvGeometry.convolution((size, min(size, 70)), kernel, stride, padding, dilation)
    for batch, channels, outputs in ((1, 3, 21), (2, 21, 3)):
        assert_exact(geometry, *arrays(geometry, batch, channels, outputs))


@pytest.mark.parametrize("geometry", [
    ConvGeometry((6, 7), (6, 7)),
    ConvGeometry((20, 24), (20, 24), padding=((3, 0), (2, 5))),          # a slice of one channel has too many taps
    ConvGeometry((2, 2), (3, 3), padding=((8, 0), (0, 8)), dilation=(4, 4)),
    ConvGeometry((5, 5), (1, 1), padding=((2, 2), (2, 2))),
    ConvGeometry((40, 9), (1, 1), (3, 2)),
    ConvGeometry((64, 64), (16, 16), (8, 8), ((4, 4), (4, 4))),
    ConvGeometry((30, 50), (2, 3), (20, 40)),
    ConvGeometry((1, 1), (3, 3), padding=((1, 1), (1, 1))),
    ConvGeometry((30, 13), (3, 5), (4, 1), ((5, 5), (2, 0)), (3, 3)),    # a region as wide as what it reads, elsewhere
], ids=str)
def test_unusual_geometries(geometry):
    assert_exact(geometry, *arrays(geometry, 2, 5, 11))


@pytest.mark.parametrize("geometry", [
    ConvGeometry((3, 40), (1, 1)),
    ConvGeometry((1, 40), (1, 1), padding=((0, 0), (1, 0)), output_padding=(0, 1)),
    ConvGeometry((1, 3), (1, 1), (1, 2), ((0, 0), (0, 2))),
    ConvGeometry((1, 40), (1, 3), padding=((0, 0), (1, 1))),
    ConvGeometry((1, 40), (1, 1), padding=((0, 0), (0, 3))),
    ConvGeometry((1, 40), (1, 1), padding=((0, 2), (0, 0))),
], ids=str)
def test_one_row_seen_as_it_lies_or_shifted(geometry):
    assert_exact(geometry, *arrays(geometry, 2, 16, 24))


def test_channels_and_pixels_of_several_blocks():
    for geometry, channels, outputs in ((ConvGeometry.convolution((40, 41), 3, padding=1), 40, 300),
                                        (ConvGeometry.convolution((30, 31), 3, 1, 12, 12), 70, 270),
                                        (ConvGeometry.convolution((60, 61), 4, 2, 1), 300, 20)):
        assert_exact(geometry, *arrays(geometry, 1, channels, outputs))


@given(geometry=geometries(padding=range(6)), relu=st.booleans(), seed=st.integers(0, 99))
def test_bias_and_relu_are_applied_before_the_result_is_written(geometry, relu, seed):
    x, weight, y = arrays(geometry, 2, 3, 4, seed)
    for name, (a, b) in list(operands(x, weight, y).items())[:2]:
        expected = getattr(loops, name)(a, b, geometry)
        bias = np.random.default_rng(seed).integers(-9, 9, expected.shape[1]).astype(np.float32)
        expected = expected + bias[:, None, None]
        np.testing.assert_array_equal(getattr(implicit_gemm, name)(a, b, geometry, bias=bias, relu=relu),
                                      np.maximum(expected, 0) if relu else expected)


@pytest.mark.parametrize("geometry", [
    ConvGeometry((99, 641), (40, 40), (32, 32)),
    ConvGeometry((70, 900), (20, 17), (17, 17), ((3, 2), (4, 1))),
], ids=str)
def test_many_phases_lie_side_by_side(geometry):
    _, weight, y = arrays(geometry, 1, 2, 3)
    expected = loops.conv2d_input_grad(y, weight, geometry)
    np.testing.assert_array_equal(implicit_gemm.conv2d_input_grad(y, weight, geometry), expected)
    bias = np.array([3, -5], np.float32)
    np.testing.assert_array_equal(implicit_gemm.conv2d_input_grad(y, weight, geometry, bias, relu=True),
                                  np.maximum(expected + bias[:, None, None], 0))


@given(geometry=geometries(padding=range(6)), seed=st.integers(0, 99))
def test_infinities_and_nans_come_out_where_they_should(geometry, seed):
    """Those of x and of the gradient that is convolved; padding's zeros may meet the other operand."""
    def draw(rng, shape):
        return rng.choice([1, -2, 3, np.inf, -np.inf, np.nan], shape, p=[.5, .25, .2, .02, .02, .01])

    (x, _, y), (_, weight, plain) = arrays(geometry, 2, 3, 5, seed, draw), arrays(geometry, 2, 3, 5, seed)
    for name, (a, b) in (operands(x, weight, y) | {"conv2d_weight_grad": (plain, x)}).items():
        np.testing.assert_array_equal(getattr(implicit_gemm, name)(a, b, geometry),
                                      getattr(loops, name)(a, b, geometry))


def test_an_infinity_meets_no_zero_that_fills_up_a_kernel():
    geometry = ConvGeometry.convolution(20, 7, 2, 3)
    _, weight, y = arrays(geometry, 1, 3, 5)
    assert implicit_gemm_plan.filled_up(geometry, weight)[0].kernel_size == (8, 8)
    y[0, 0, 4, 5], y[0, 1, 0, 0] = np.inf, np.nan
    np.testing.assert_array_equal(implicit_gemm.conv2d_input_grad(y, weight, geometry),
                                  loops.conv2d_input_grad(y, weight, geometry))


@pytest.mark.parametrize(("kernel", "dilation", "channels", "size"), [(3, 1, 64, 60), (3, 12, 512, 33),
                                                                      (1, 1, 900, 33)])
def test_error_is_that_of_float32(kernel, dilation, channels, size):
    geometry = ConvGeometry.convolution(size, kernel, 1, dilation * (kernel - 1) // 2, dilation)
    x, weight, y = arrays(geometry, 1, channels, 32, draw=lambda rng, shape: rng.standard_normal(shape))
    for name, (a, b) in operands(x, weight, y).items():
        exact = getattr(loops, name)(a.astype(np.float64), b.astype(np.float64), geometry)
        assert np.abs(getattr(implicit_gemm, name)(a, b, geometry) - exact).max() <= 1e-6 * np.abs(exact).max()


def test_two_calls_and_any_number_of_threads_agree():
    geometry = ConvGeometry.convolution(50, 3, 2, 1)
    pairs = operands(*arrays(geometry, 2, 20, 30))
    before = numba.get_num_threads()
    for name, (a, b) in pairs.items():
        first = getattr(implicit_gemm, name)(a, b, geometry)
        try:
            for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
                numba.set_num_threads(threads)
                np.testing.assert_array_equal(getattr(implicit_gemm, name)(a, b, geometry), first)
        finally:
            numba.set_num_threads(before)


@given(geometry=geometries(kernel=range(1, 6), stride=range(1, 6), padding=range(8), outputs=range(1, 30)))
def test_jobs_cover_every_line_and_pixel_once(geometry):
    for plan in implicit_gemm_plan.plans_of(geometry, True, 5, 40, 1, 2):
        seen = {(line, segment) for l0, l1, s0, s1 in plan.jobs for line in range(l0, l1) for segment in range(s0, s1)}
        assert len(seen) == 40 * len(plan.phases) * len(plan.segments)
        assert sum((l1 - l0) * (s1 - s0) for l0, l1, s0, s1 in plan.jobs) == len(seen)


@pytest.mark.parametrize(("geometry", "channels", "outputs"), [
    (ConvGeometry((7, 19), (3, 2), (1, 1), ((1, 0), (1, 2)), (2, 1)), 3, 9),
    (ConvGeometry((9, 21), (3, 3), (2, 2), ((1, 1), (1, 1))), 2, 10),
    (ConvGeometry((8, 20), (4, 5), (3, 3), ((1, 2), (0, 1)), groups=2), 2, 3),
    (ConvGeometry((5, 7), (1, 1)), 3, 5),
    (ConvGeometry((4, 5), (1, 1)), 24, 5),
    (ConvGeometry((12, 12), (3, 3), (1, 1), ((9, 9), (9, 9)), (9, 9)), 2, 3),
    (ConvGeometry((17, 18), (2, 2), (2, 2)), 2, 3),
], ids=str)
def test_small_geometries(geometry, channels, outputs):
    assert_exact(geometry, *arrays(geometry, 1, channels, outputs))


@pytest.mark.parametrize("environment", [{"NUMBA_DISABLE_JIT": "1"}, {"NUMBA_CPU_FEATURES": ""}], ids=str)
def test_small_geometries_without_the_compiler_and_with_short_vectors(environment):
    """Loads and stores assert their bounds without it.  Four lanes are fewer than the rows of a tile."""
    finished = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k",
                               "test_small_geometries["],
                              text=True, capture_output=True, timeout=300, env=os.environ | environment)
    assert finished.returncode == 0, finished.stdout
