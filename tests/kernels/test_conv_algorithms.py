"""What every algorithm of a convolution must do, on integers in float64, where sums are exact.

The formulas are the tests.  C(w) is the convolution with weight w:  <y, C(w) x> is linear in x, w and y, and its three
readings are `conv2d`, `conv2d_input_grad` (transposed convolution) and `conv2d_weight_grad`.
"""

from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import numba
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinyseg import kernels
from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu import im2col, loops
from tinyseg.verify.strategies import convolutions, floats, integers

pytestmark = pytest.mark.parametrize("algorithm", kernels.algorithms("conv2d"))


def attempt(operation, a, b, geometry, algorithm):
    """Run a kernel; an example that its algorithm refuses is no example."""
    assume(kernels.find(operation, algorithm).refuses(geometry) is None)
    return kernels.run(operation, a, b, geometry, algorithm=algorithm)


def conv2d(x, weight, geometry, algorithm):
    return attempt("conv2d", x, weight, geometry, algorithm)


def input_grad(y, weight, geometry, algorithm):
    return attempt("conv2d_input_grad", y, weight, geometry, algorithm)


def weight_grad(y, x, geometry, algorithm):
    return attempt("conv2d_weight_grad", y, x, geometry, algorithm)


def all_three(x, weight, y, geometry, algorithm):
    return (conv2d(x, weight, geometry, algorithm), input_grad(y, weight, geometry, algorithm),
            weight_grad(y, x, geometry, algorithm))


def same(these, those):
    """Equal shapes, types and values."""
    return all(a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b)
               for a, b in zip(these, those, strict=True))


@given(operands=convolutions())
def test_agrees_with_the_definition(algorithm, operands):
    x, weight, y, geometry = operands
    assert same(all_three(*operands, algorithm), (loops.conv2d(x, weight, geometry),
                                                  loops.conv2d_input_grad(y, weight, geometry),
                                                  loops.conv2d_weight_grad(y, x, geometry)))


@given(operands=convolutions())
def test_three_readings_of_one_form(algorithm, operands):
    """<y, C(w) x> = <Cᵀ(w) y, x> = <d<y, C(w) x>/dw, w>."""
    x, weight, y, geometry = operands
    form = np.vdot(y, conv2d(x, weight, geometry, algorithm))
    assert form == np.vdot(input_grad(y, weight, geometry, algorithm), x)
    assert form == np.vdot(weight_grad(y, x, geometry, algorithm), weight)


@given(operands=convolutions(), data=st.data())
def test_linear_in_each_operand(algorithm, operands, data):
    x, weight, y, geometry = operands
    x2, weight2, y2 = (data.draw(integers(a.shape)) for a in (x, weight, y))
    for f, a, a2, b in ((conv2d, x, x2, weight), (input_grad, y, y2, weight), (weight_grad, y, y2, x)):
        assert same([f(3 * a - 2 * a2, b, geometry, algorithm)],
                    [3 * f(a, b, geometry, algorithm) - 2 * f(a2, b, geometry, algorithm)])
    for f, a, b, b2 in ((conv2d, x, weight, weight2), (input_grad, y, weight, weight2), (weight_grad, y, x, x2)):
        assert same([f(a, 3 * b - 2 * b2, geometry, algorithm)],
                    [3 * f(a, b, geometry, algorithm) - 2 * f(a, b2, geometry, algorithm)])


@given(operands=convolutions())
def test_images_of_a_batch_do_not_meet(algorithm, operands):
    x, weight, y, geometry = operands
    forward, back, gathered = all_three(x, weight, y, geometry, algorithm)
    single = [all_three(x[n:n + 1], weight, y[n:n + 1], geometry, algorithm) for n in range(len(x))]
    assert same([forward], [np.concatenate([each[0] for each in single])])
    assert same([back], [np.concatenate([each[1] for each in single])])
    assert same([gathered], [sum(each[2] for each in single)])


@given(operands=convolutions(batch=[0]))
def test_an_empty_batch_has_empty_results_and_a_zero_gradient(algorithm, operands):
    x, weight, y, _ = operands
    assert same(all_three(*operands, algorithm), (y, x, np.zeros_like(weight)))


def stuffed(array, steps):
    """Zeros between the elements: `steps` cells from each to the next, along the last two axes."""
    h, w = array.shape[-2:]
    wide = np.zeros((*array.shape[:-2], (h - 1) * steps[0] + 1, (w - 1) * steps[1] + 1))
    wide[..., ::steps[0], ::steps[1]] = array
    return wide


@given(operands=convolutions())
def test_dilation_stuffs_the_kernel_with_zeros(algorithm, operands):
    x, weight, y, geometry = operands
    wide = stuffed(weight, geometry.dilation)
    plain = replace(geometry, kernel_size=wide.shape[2:], dilation=(1, 1))
    forward, back, gathered = all_three(x, wide, y, plain, algorithm)
    gathered = np.ascontiguousarray(gathered[..., ::geometry.dilation[0], ::geometry.dilation[1]])
    assert same(all_three(*operands, algorithm), (forward, back, gathered))


@given(operands=convolutions())
def test_stride_takes_every_sth_output_of_stride_1(algorithm, operands):
    x, weight, _, geometry = operands
    dense = replace(geometry, stride=(1, 1))         # its windows reach as far
    every = conv2d(x, weight, dense, algorithm)[..., ::geometry.stride[0], ::geometry.stride[1]]
    assert same([conv2d(x, weight, geometry, algorithm)], [every])


@given(operands=convolutions())
def test_padding_puts_zeros_around_the_input(algorithm, operands):
    x, weight, _, geometry = operands
    around = np.pad(x, ((0, 0), (0, 0), *geometry.padding))
    bare = replace(geometry, input_size=around.shape[2:], padding=((0, 0), (0, 0)))
    assert same([conv2d(x, weight, geometry, algorithm)], [conv2d(around, weight, bare, algorithm)])


@given(operands=convolutions())
def test_transposed_is_convolution_of_the_zero_stuffed_input_with_the_flipped_kernel(algorithm, operands):
    """Relationship 14: s - 1 zeros between the inputs, d(k-1) around them, a more at the far end, and unit stride."""
    _, weight, y, geometry = operands
    groups, (_, c, k_h, k_w) = geometry.groups, weight.shape
    flipped = weight.reshape(groups, -1, c, k_h, k_w).swapaxes(1, 2).reshape(groups * c, -1, k_h, k_w)[..., ::-1, ::-1]
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, geometry.kernel_size, strict=True)]
    around = [(r, r + a) for r, a in zip(reach, geometry.output_padding, strict=True)]
    stretched = np.pad(stuffed(y, geometry.stride), ((0, 0), (0, 0), *around))
    plain = ConvGeometry.convolution(stretched.shape[2:], (k_h, k_w), dilation=geometry.dilation, groups=groups)
    (top, _), (left, _) = geometry.padding           # the transpose of padding takes cells away
    (h, w) = geometry.input_size
    assert same([input_grad(y, weight, geometry, algorithm)],
                [conv2d(stretched, flipped, plain, algorithm)[..., top:top + h, left:left + w]])


@given(operands=convolutions())
def test_groups_are_blocks_on_the_diagonal(algorithm, operands):
    x, weight, y, geometry = operands
    groups, (outputs, c, k_h, k_w) = geometry.groups, weight.shape
    blocks = np.zeros((outputs, groups * c, k_h, k_w))
    rows = [slice(g * outputs // groups, (g + 1) * outputs // groups) for g in range(groups)]
    columns = [slice(g * c, (g + 1) * c) for g in range(groups)]
    for row, column in zip(rows, columns, strict=True):
        blocks[row, column] = weight[row]
    forward, back, gathered = all_three(x, blocks, y, replace(geometry, groups=1), algorithm)
    gathered = np.concatenate([gathered[row, column] for row, column in zip(rows, columns, strict=True)])
    assert same(all_three(*operands, algorithm), (forward, back, gathered))


@given(operands=convolutions(), shift=st.tuples(st.integers(0, 3), st.integers(0, 3)))
def test_shifting_the_input_by_strides_shifts_the_output(algorithm, operands, shift):
    x, weight, _, geometry = operands
    cells = [m * s for m, s in zip(shift, geometry.stride, strict=True)]
    moved = np.pad(x, ((0, 0), (0, 0), (cells[0], 0), (cells[1], 0)))
    shifted = conv2d(moved, weight, replace(geometry, input_size=moved.shape[2:]), algorithm)
    assert same([conv2d(x, weight, geometry, algorithm)], [shifted[..., shift[0]:, shift[1]:]])


@given(x=integers((2, 3, 4, 5)), weight=integers((2, 3, 1, 1)))
def test_1x1_is_a_matrix_over_channels(algorithm, x, weight):
    geometry = ConvGeometry((4, 5), (1, 1))
    assert same([conv2d(x, weight, geometry, algorithm)], [np.einsum("oc,nchw->nohw", weight[..., 0, 0], x)])


@contextmanager
def poisoned_memory():
    """Fresh arrays hold nan, so that an element that was not written shows."""
    with mock.patch.object(np, "empty", lambda *a, **k: np.full(*a[:1], np.nan, *a[1:], **k)):
        yield


@given(operands=convolutions())
def test_every_element_is_written(algorithm, operands):
    clean = all_three(*operands, algorithm)
    with poisoned_memory():
        assert same(all_three(*operands, algorithm), clean)


@given(operands=convolutions())
def test_operands_are_left_as_they_were(algorithm, operands):
    *arrays, geometry = operands
    kept = [a.copy() for a in arrays]
    results = all_three(*arrays, geometry, algorithm)
    assert same(arrays, kept)
    assert not any(np.shares_memory(r, a) for r in results for a in arrays)


@given(operands=convolutions())
def test_any_layout_of_memory_will_do(algorithm, operands):
    *plain, geometry = operands
    expected = all_three(*operands, algorithm)
    channels_last = [np.moveaxis(np.moveaxis(a, 1, 3).copy(), 3, 1) for a in plain]
    every_second = [np.repeat(a, 2, axis=-1)[..., ::2] for a in plain]
    backwards = [a[..., ::-1].copy()[..., ::-1] for a in plain]
    read_only = [a.copy() for a in plain]
    for a in read_only:
        a.flags.writeable = False
    for arrays in (channels_last, every_second, backwards, read_only):
        assert same(all_three(*arrays, geometry, algorithm), expected)


@given(operands=convolutions(outputs=range(1, 8)))
def test_many_bands_equal_one(algorithm, operands):
    expected = all_three(*operands, algorithm)
    with mock.patch.object(im2col, "BAND_BYTES", 1):
        assert same(all_three(*operands, algorithm), expected)


@contextmanager
def threads(n):
    before = numba.get_num_threads()
    numba.set_num_threads(n)
    try:
        yield
    finally:
        numba.set_num_threads(before)


@given(operands=convolutions(groups=range(1, 6), channels=range(1, 6)))
def test_the_number_of_threads_does_not_matter(algorithm, operands):
    with threads(1):
        expected = all_three(*operands, algorithm)
    for n in range(2, min(4, numba.config.NUMBA_NUM_THREADS) + 1):
        with threads(n), mock.patch("tinyseg.kernels.cpu.share._WORTH_A_THREAD", 1):
            assert same(all_three(*operands, algorithm), expected)


@given(operands=convolutions(values=floats, outputs=range(1, 12)), single=st.booleans())
def test_repeats_agree_to_the_last_bit(algorithm, operands, single):
    *arrays, geometry = operands
    arrays = [a.astype(np.float32 if single else np.float64) for a in arrays]
    expected = all_three(*arrays, geometry, algorithm)
    for _ in range(3):
        assert same(all_three(*arrays, geometry, algorithm), expected)


@given(operands=convolutions(values=floats, outputs=range(1, 12), channels=range(1, 20, 6)))
def test_float32_rounds_no_more_than_a_sum_in_any_order(algorithm, operands):
    """|fl(sum of n products) - sum| <= n·u / (1 - n·u) · sum of |products|  (Higham, Accuracy and Stability, 3.1)."""
    *arrays, geometry = operands
    x, weight, y = (a.astype(np.float32) for a in arrays)
    exact = all_three(*(a.astype(np.float64) for a in (x, weight, y)), geometry, "loops")
    absolute = all_three(*(np.abs(a).astype(np.float64) for a in (x, weight, y)), geometry, "loops")
    terms = weight[0].size, len(weight) // geometry.groups * geometry.taps, y[:, 0].size
    rounded = all_three(x, weight, y, geometry, algorithm)
    for result, truth, size, n in zip(rounded, exact, absolute, terms, strict=True):
        nu = n * 2.0**-24
        assert result.dtype == np.float32
        assert np.all(np.abs(result - truth) <= nu / (1 - nu) * size)
