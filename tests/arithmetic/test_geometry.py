"""`ConvGeometry`: its constructors, and errors whose legal value is legal."""

import re
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.arithmetic import ConvGeometry, pair, sides
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.verify.strategies import axes, geometries


@given(geometry=geometries())
def test_repr_can_be_pasted(geometry):
    assert eval(repr(geometry)) == geometry


@given(geometry=geometries(output_padding=False))
def test_convolution_and_transposed_name_the_same_matrix(geometry):
    g = geometry
    assert ConvGeometry.convolution(g.input_size, g.kernel_size, g.stride, g.padding, g.dilation, g.groups) == g


@given(geometry=geometries())
def test_transposed_takes_the_output_back_to_the_input(geometry):
    g = geometry
    assert g == ConvGeometry.transposed(g.output_size, g.kernel_size, g.stride, g.padding, g.output_padding,
                                        g.dilation, g.groups)


def test_numbers_pairs_and_sides():
    assert ConvGeometry.convolution((9, 8), 3, 2, 1, 2) == ConvGeometry(
        (9, 8), (3, 3), (2, 2), ((1, 1), (1, 1)), (2, 2))
    assert ConvGeometry.convolution([9, 8], [3, 2], [2, 1], [1, 0]) == ConvGeometry(
        (9, 8), (3, 2), (2, 1), ((1, 1), (0, 0)))
    assert ConvGeometry.convolution((9, 8), (3, 2), padding="same").output_size == (9, 8)
    assert ConvGeometry.convolution((9, 8), (3, 2), padding="valid").output_size == (7, 7)
    assert sides(((1, 2), (3, 4)), (1, 1), (1, 1)) == ((1, 2), (3, 4))
    assert ConvGeometry((4, 4), (3, 2)).taps == 6
    assert ConvGeometry((4, 4), (3, 3), padding=((1, 2), (3, 4))).near_padding == (1, 3)


@pytest.mark.parametrize("k", [1, 2, 3, 4])
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pooling_counts_its_windows(k, ceil_mode):
    """Windows start at multiples of s; rounding up adds one that leaves the padded input, if it starts before its end.

    Padding at the far end is no reason to add one.
    """
    for i, s, p in product(range(1, 10), range(1, 6), range(k // 2 + 1)):
        if k <= i + 2 * p:
            whole = [start for start in range(0, i + 2 * p, s) if start + k <= i + 2 * p]
            partial = [start for start in range(0, i + p, s) if start > whole[-1] and whole[-1] + k < i + 2 * p]
            geometry = ConvGeometry.pooling((i, i), k, s, p, ceil_mode=ceil_mode)
            assert geometry.output_size == (len(whole + partial[:ceil_mode]),) * 2


@given(i=st.integers(1, 6), k=st.integers(1, 5), s=st.integers(1, 3), d=st.integers(1, 6), p=st.integers(0, 2))
def test_every_window_of_a_pooling_meets_the_input(i, k, s, d, p):
    if 2 * p > k or d * (k - 1) + 1 > i + 2 * p:
        return
    cells = [[first * s - p + u * d for u in range(k)] for first in range((i + 2 * p - d * (k - 1) - 1) // s + 1)]
    arguments = (i, 1), (k, 1), (s, 1), (p, 0)
    if all(any(0 <= cell < i for cell in window) for window in cells):
        assert ConvGeometry.pooling(*arguments, (d, 1)).output_size == (len(cells), 1)
    else:
        text = message(ShapeError, ConvGeometry.pooling, *arguments, (d, 1))
        ConvGeometry.pooling(*arguments, (int(re.search(r"dilation <= (\d+)$", text)[1]), 1))


def message(error, make, *arguments, **options):
    with pytest.raises(error) as caught:
        make(*arguments, **options)
    return str(caught.value)


@pytest.mark.parametrize(("make", "error", "text"), [
    (lambda: ConvGeometry((9, 9), (5, 3), padding=((1, 1), (0, 0)), dilation=(3, 1)), ShapeError,
     "kernel 5 with dilation 3 spans 13 > padded input 9+2·1=11 in H. Needs d·(k-1)+1 <= i+2p; "
     "with this input dilation <= 2."),
    (lambda: ConvGeometry((9, 2), (1, 5), padding=((0, 0), (1, 0)), dilation=(1, 3)), ShapeError,
     "kernel 5 with dilation 3 spans 13 > padded input 2+1+0=3 in W. Needs d·(k-1)+1 <= i+2p; "
     "with this input and dilation kernel <= 1."),
    (lambda: ConvGeometry((0, 4), (1, 1)), ShapeError, "input size 0 in H: needs at least 1"),
    (lambda: ConvGeometry((4, 4), (3, 0)), ArgumentError, "kernel 0 in W: needs kernel >= 1"),
    (lambda: ConvGeometry((4, 4), (3, 3), stride=(0, 1)), ArgumentError, "stride 0 in H: needs stride >= 1"),
    (lambda: ConvGeometry((4, 4), (3, 3), dilation=(1, -1)), ArgumentError, "dilation -1 in W: needs dilation >= 1"),
    (lambda: ConvGeometry((4, 4), (3, 3), padding=((0, -2), (0, 0))), ArgumentError,
     "padding -2 in H: needs padding >= 0"),
    (lambda: ConvGeometry((4, 4), (3, 3), groups=0), ArgumentError, "groups 0: needs groups >= 1"),
    (lambda: ConvGeometry((4, 4), (3, 3), output_padding=(0, -1)), ArgumentError,
     "output_padding -1 in W with stride 1: needs a >= 0 and whole windows in the rest, "
     "i + 2p - d·(k-1) - 1 - a = 1 - a = 0 or a multiple of s, like a = 0"),
    (lambda: ConvGeometry.convolution((4, 4), 3, 2, "same"), ArgumentError,
     'padding "same" with stride (2, 2): needs stride 1; with another stride give the padding as numbers'),
    (lambda: ConvGeometry.convolution((4, 4), 3, padding="full"), ArgumentError,
     "padding 'full': needs a number, a pair, \"same\" or \"valid\""),
    (lambda: ConvGeometry.convolution((4, 4), 3, 1.5), ArgumentError,
     "stride 1.5: needs a whole number or a pair (height, width) of them"),
    (lambda: ConvGeometry.convolution((4, 4), (3, 3, 3)), ArgumentError,
     "kernel_size (3, 3, 3): needs a whole number or a pair (height, width) of them"),
    (lambda: ConvGeometry.convolution((4, 4), 3, dilation=True), ArgumentError,
     "dilation True: needs a whole number or a pair (height, width) of them"),
    (lambda: ConvGeometry.transposed((4, 4), 3, 2, output_padding=(0, 2)), ArgumentError,
     "output_padding 2 in W with stride 2, dilation 1: needs 0 <= output_padding < max(s, d) = 2"),
    (lambda: ConvGeometry.transposed((2, 4), 3, 1, (2, 0)), ShapeError,
     "input 2, kernel 3, stride 1, padding (2, 2) give output size 0 in H. "
     "Needs (i-1)·s - 2p + d·(k-1) + 1 + a >= 1; with this input 2p <= 3."),
    (lambda: ConvGeometry.transposed((0, 4), 3), ShapeError, "input size 0 in H: needs at least 1"),
    (lambda: ConvGeometry.transposed((4, 4), 3, -2), ArgumentError, "stride -2 in H: needs stride >= 1"),
    (lambda: ConvGeometry.pooling((4, 4), 3, padding=(1, 2)), ArgumentError,
     "padding 2 with kernel 3 in W: needs padding <= k/2; with this kernel padding <= 1"),
])
def test_messages(make, error, text):
    assert message(error, make) == text


@given(axis=axes(output_padding=False), cut=st.integers(1, 50))
def test_the_legal_value_for_a_kernel_too_large_is_the_largest_legal(axis, cut):
    i, k, s, (near, far), d, _ = axis
    k, d = k + cut // 5, d + cut % 5
    if d * (k - 1) + 1 <= i + near + far:
        return
    geometry = {"input_size": (i, 1), "kernel_size": (k, 1), "stride": (s, 1), "padding": ((near, far), (0, 0)),
                "dilation": (d, 1)}
    text = message(ShapeError, ConvGeometry, **geometry)
    name, legal = re.search(r"(dilation|kernel) <= (\d+)\.$", text).groups()
    field = {"dilation": "dilation", "kernel": "kernel_size"}[name]
    ConvGeometry(**geometry | {field: (int(legal), 1)})
    message(ShapeError, ConvGeometry, **geometry | {field: (int(legal) + 1, 1)})


@given(geometry=geometries(), more=st.integers(0, 9))
def test_the_legal_values_for_a_transposed_convolution_are_the_largest_legal(geometry, more):
    arguments = (geometry.output_size, geometry.kernel_size, geometry.stride)

    def padded(near, far):
        return ConvGeometry.transposed(*arguments, ((near, far), (0, 0)), geometry.output_padding, geometry.dilation)

    text = message(ShapeError, padded, geometry.input_size[0] + sum(geometry.padding[0]) + more, 0)
    legal = int(re.search(r"2p <= (\d+)\.$", text)[1])
    padded(legal, 0)
    message(ShapeError, padded, legal, 1)

    def extended(a):
        return ConvGeometry.transposed(*arguments, 0, (a, 0), geometry.dilation)

    beyond = max(geometry.stride[0], geometry.dilation[0])
    text = message(ArgumentError, extended, beyond + more)
    assert text.endswith(f"< max(s, d) = {beyond}")
    extended(beyond - 1)


@given(geometry=geometries(output_padding=False), more=st.integers(1, 30))
def test_output_padding_must_leave_whole_windows(geometry, more):
    """A remainder that is not one of the convolution's would shift what "cells that no window reaches" means."""
    (a, b), (s, _) = geometry.output_padding, geometry.stride
    room = geometry.input_size[0] + sum(geometry.padding[0]) - geometry.dilation[0] * (geometry.kernel_size[0] - 1) - 1
    if (room - a - more) % s == 0 and a + more <= room:
        assert replace(geometry, output_padding=(a + more, b)).output_size[0] == (room - a - more) // s + 1
    else:
        legal = int(re.search(r"like a = (\d+)$", message(ArgumentError, replace, geometry,
                                                      output_padding=(a + more, b)))[1])
        replace(geometry, output_padding=(legal, b))


@given(value=st.none() | st.text(max_size=3) | st.floats() | st.lists(st.integers(), min_size=3, max_size=4))
def test_only_whole_numbers_and_pairs(value):
    assert f"stride {value!r}: needs a whole number" in message(ArgumentError, pair, value, "stride")
