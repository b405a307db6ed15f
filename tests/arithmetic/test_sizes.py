"""Sizes along one axis: each formula against counting windows, and the guide's relationships by their numbers.

The guide is Dumoulin & Visin, "A guide to convolution arithmetic for deep learning" (arXiv:1603.07285).
"""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tinyseg import kernels
from tinyseg.arithmetic import (
    ConvGeometry,
    conv_input_sizes,
    conv_output_size,
    conv_transpose_output_size,
    dropped_remainder,
    same_padding,
    span,
)
from tinyseg.verify.strategies import geometries

I, K, S = st.integers(1, 12), st.integers(1, 6), st.integers(1, 4)
P, D = st.integers(0, 5), st.integers(1, 4)


def windows(i, k, s=1, p=0, d=1):
    """The cells of the padded input that each window reads, window by window."""
    taps = [[start + u * d for u in range(k)] for start in range(0, i + 2 * p, s)]
    return [w for w in taps if w[-1] < i + 2 * p]


@given(k=K, d=D)
def test_span_counts_from_first_to_last_cell(k, d):
    cells = range(0, k * d, d)
    assert span(k, d) == cells[-1] - cells[0] + 1 == k + (k - 1) * (d - 1)


@given(i=I, k=K, s=S, p=P, d=D)
def test_output_size_counts_windows(i, k, s, p, d):
    assume(span(k, d) <= i + 2 * p)
    assert conv_output_size(i, k, s, p, d) == len(windows(i, k, s, p, d))


@given(i=I, k=K, s=S, p=P, d=D)
def test_dropped_remainder_counts_cells_after_the_last_window(i, k, s, p, d):
    assume(span(k, d) <= i + 2 * p)
    assert dropped_remainder(i, k, s, p, d) == i + 2 * p - 1 - windows(i, k, s, p, d)[-1][-1]


@given(o=I, k=K, s=S, p=P, d=D)
def test_input_sizes_are_exactly_the_sizes_of_this_output(o, k, s, p, d):
    found = [i for i in range(-2 * p, o * s + span(k, d) + 1)
             if span(k, d) <= i + 2 * p and conv_output_size(i, k, s, p, d) == o]
    assert list(conv_input_sizes(o, k, s, p, d)) == found


@given(o=I, k=K, s=S, p=P, d=D)
def test_output_padding_chooses_among_the_input_sizes(o, k, s, p, d):
    for a, size in enumerate(conv_input_sizes(o, k, s, p, d)):
        assert conv_transpose_output_size(o, k, s, p, d, a) == size
        assert dropped_remainder(size, k, s, p, d) == a


@given(i=I, k=K, d=D)
def test_same_padding_keeps_the_size(i, k, d):
    near, far = same_padding(k, d)
    assert i + near + far - span(k, d) + 1 == i
    assert far - near == (span(k, d) + 1) % 2


@given(geometry=geometries())
def test_geometry_counts_windows_on_each_axis(geometry):
    for i, k, s, padding, d, a, o in zip(geometry.input_size, geometry.kernel_size, geometry.stride, geometry.padding,
                                         geometry.dilation, geometry.output_padding, geometry.output_size, strict=True):
        assert o == len(windows(i + sum(padding) - a, k, s, d=d))        # no window reaches the last a cells


# The relationships: `arrives` says what the formula and the kernel's shape must both be.

def arrives(o, i, k, s=1, p=0, d=1):
    """A convolution takes i to o, by the formula and in fact."""
    geometry = ConvGeometry.convolution((i, i), k, s, p, d)
    y = kernels.conv2d(np.zeros((1, 1, i, i)), np.zeros((1, 1, k, k)), geometry)
    return conv_output_size(i, k, s, p, d) == o and geometry.output_size == y.shape[2:] == (o, o)


def transposed_arrives(o, i, k, s=1, p=0, a=0):
    """The transposed convolution takes i to o, by the formula and in fact."""
    geometry = ConvGeometry.transposed((i, i), k, s, p, a)
    y = kernels.conv2d_input_grad(np.zeros((1, 1, i, i)), np.zeros((1, 1, k, k)), geometry)
    return conv_transpose_output_size(i, k, s, p, a=a) == o and geometry.input_size == y.shape[2:] == (o, o)


@given(i=I, k=K)
def test_relationship_1_no_padding_unit_stride(i, k):
    assume(k <= i)
    assert arrives((i - k) + 1, i, k)


@given(i=I, k=K, p=P)
def test_relationship_2_padding_unit_stride(i, k, p):
    assume(k <= i + 2 * p)
    assert arrives((i - k) + 2 * p + 1, i, k, p=p)


@given(i=I, n=st.integers(0, 3))
def test_relationship_3_half_padding(i, n):
    k = 2 * n + 1
    assert arrives(i, i, k, p=k // 2)
    assert ConvGeometry.convolution((i, i), k, padding="same").padding == ((n, n), (n, n))


@given(i=I, k=K)
def test_relationship_4_full_padding(i, k):
    assert arrives(i + (k - 1), i, k, p=k - 1)


@given(i=I, k=K, s=S)
def test_relationship_5_no_padding_strided(i, k, s):
    assume(k <= i)
    assert arrives((i - k) // s + 1, i, k, s)


@given(i=I, k=K, s=S, p=P)
def test_relationship_6_padding_strided(i, k, s, p):
    assume(k <= i + 2 * p)
    assert arrives((i + 2 * p - k) // s + 1, i, k, s, p)


@given(i=I, k=K, s=S)
def test_relationship_7_pooling(i, k, s):
    assume(k <= i)
    o = (i - k) // s + 1
    geometry = ConvGeometry.pooling((i, i), k, s)
    y, _ = kernels.run("max_pool2d", np.zeros((1, 1, i, i)), geometry)
    assert geometry.output_size == y.shape[2:] == (o, o)


@given(i=I, k=K)
def test_relationship_8_transposed_no_padding_unit_stride(i, k):
    assert transposed_arrives(i + (k - 1), i, k)
    assert arrives(i + (k - 1), i, k, p=k - 1)                           # the convolution it equals: p' = k - 1


@given(i=I, k=K, p=P)
def test_relationship_9_transposed_padding_unit_stride(i, k, p):
    assume(p < k and i + (k - 1) - 2 * p >= 1)
    assert transposed_arrives(i + (k - 1) - 2 * p, i, k, p=p)
    assert arrives(i + (k - 1) - 2 * p, i, k, p=k - p - 1)               # p' = k - p - 1


@given(i=I, n=st.integers(0, 3))
def test_relationship_10_transposed_half_padding(i, n):
    k = 2 * n + 1
    assert transposed_arrives(i, i, k, p=k // 2)


@given(i=I, k=K)
def test_relationship_11_transposed_full_padding(i, k):
    assume(i >= k)
    assert transposed_arrives(i - (k - 1), i, k, p=k - 1)
    assert arrives(i - (k - 1), i, k)                                    # p' = 0


@given(i=I, k=K, s=S)
def test_relationship_12_transposed_no_padding_strided(i, k, s):
    stretched = i + (i - 1) * (s - 1)                                    # s - 1 zeros between the inputs
    assert transposed_arrives(s * (i - 1) + k, i, k, s)
    assert arrives(s * (i - 1) + k, stretched, k, p=k - 1)


@given(i=I, k=K, s=S, p=P)
def test_relationship_13_transposed_padding_strided(i, k, s, p):
    assume(p < k and s * (i - 1) + k - 2 * p >= 1)
    stretched = i + (i - 1) * (s - 1)
    assert transposed_arrives(s * (i - 1) + k - 2 * p, i, k, s, p)
    assert arrives(s * (i - 1) + k - 2 * p, stretched, k, p=k - p - 1)


@given(o=I, k=K, s=S, p=P)
def test_relationship_14_output_padding(o, k, s, p):
    for a in range(s):
        i = s * (o - 1) + a + k - 2 * p
        if i >= 1:
            assert a == (i + 2 * p - k) % s
            assert transposed_arrives(i, o, k, s, p, a)
            assert arrives(o, i, k, s, p)


@given(i=I, k=K, s=S, p=P, d=D)
def test_relationship_15_dilation(i, k, s, p, d):
    assume(k + (k - 1) * (d - 1) <= i + 2 * p)
    assert arrives((i + 2 * p - k - (k - 1) * (d - 1)) // s + 1, i, k, s, p, d)


@given(geometry=geometries(groups=[1]))
def test_kernels_return_the_sizes_of_the_geometry(geometry):
    x, y, weight = (np.zeros((1, 1, *size)) for size in
                    (geometry.input_size, geometry.output_size, geometry.kernel_size))
    assert kernels.conv2d(x, weight, geometry).shape == y.shape
    assert kernels.conv2d_input_grad(y, weight, geometry).shape == x.shape
    assert kernels.conv2d_weight_grad(y, x, geometry).shape == weight.shape


@pytest.mark.parametrize(("i", "pools", "fc6", "up_32s", "up2", "up_16s", "up4", "up_8s"), [
    (500, [349, 175, 88, 44, 22], 16, 544, 34, 560, 70, 568),
    (224, [211, 106, 53, 27, 14], 8, 288, 18, 304, 38, 312),
])
def test_sizes_of_fcn(i, pools, fc6, up_32s, up2, up_16s, up4, up_8s):
    """VGG16 with its first convolution padded by 100, poolings that round up, up-sampling from strides 32, 16 and 8."""
    size, found = conv_output_size(i, 3, p=100), []
    for _ in range(5):
        size = ConvGeometry.pooling((size, size), 2, ceil_mode=True).output_size[0]
        found.append(size)
    size = conv_output_size(size, 7)
    assert (found, size) == (pools, fc6)
    assert conv_transpose_output_size(size, 64, 32) == up_32s
    assert conv_transpose_output_size(size, 4, 2) == up2
    assert conv_transpose_output_size(up2, 32, 16) == up_16s
    assert conv_transpose_output_size(up2, 4, 2) == up4
    assert conv_transpose_output_size(up4, 16, 8) == up_8s


def test_sizes_of_unet():
    """The original net, with no padding, takes 572 to 388; each skip is cropped to what the up-convolution returns."""
    size, skips, crops = 572, [], []
    for _ in range(4):
        size = conv_output_size(conv_output_size(size, 3), 3)
        skips.append(size)
        assert dropped_remainder(size, 2, 2) == 0
        size = conv_output_size(size, 2, 2)
    size = conv_output_size(conv_output_size(size, 3), 3)
    for skip in reversed(skips):
        size = conv_transpose_output_size(size, 2, 2)
        crops.append((size, (skip - size) // 2))
        size = conv_output_size(conv_output_size(size, 3), 3)
    assert skips == [568, 280, 136, 64]
    assert crops == [(56, 4), (104, 16), (200, 40), (392, 88)]
    assert size == 388
