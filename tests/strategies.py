"""Hypothesis strategies for convolutions: geometries of every kind, and arrays whose sums are exact.

A geometry is drawn from its output: any output size, kernel, stride, dilation and remainder have an input size, so
nothing is rejected and examples shrink towards the 1x1 convolution of one pixel.  A falsifying example prints the
geometry as it can be pasted.
"""

import numpy as np
from hypothesis import strategies as st

from tinyseg.arithmetic import ConvGeometry

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def axes(draw, kernel=range(1, 5), stride=range(1, 4), padding=range(4), dilation=range(1, 4), outputs=range(1, 5),
         output_padding=True):
    """(i, k, s, (near, far), d, a): one axis of a convolution, its values from the ranges given.

    output_padding    True: what a transposed convolution can name, 0 .. max(s, d) - 1.
                      False: the remainder that a convolution drops, 0 .. s - 1.
    """
    k, s, d, o = (draw(st.sampled_from(values)) for values in (kernel, stride, dilation, outputs))
    a = draw(st.integers(0, (max(s, d) if output_padding else s) - 1))
    padded = (o - 1) * s + d * (k - 1) + 1 + a
    near = min(draw(st.sampled_from(padding)), padded - 1)
    far = min(draw(st.sampled_from(padding)), padded - 1 - near)
    return padded - near - far, k, s, (near, far), d, a


@st.composite
def geometries(draw, groups=range(1, 4), **limits):
    """Rectangular, strided, asymmetrically padded, dilated, grouped, with remainders; `limits` as for `axes`."""
    sizes, kernels, strides, paddings, dilations, extras = zip(draw(axes(**limits)), draw(axes(**limits)), strict=True)
    return ConvGeometry(sizes, kernels, strides, paddings, dilations, draw(st.sampled_from(groups)), extras)


def integers(shape, largest=4):
    """float64 arrays of small integers: every sum of their products is exact."""
    return SEEDS.map(lambda seed: np.random.default_rng(seed).integers(-largest, largest + 1, shape).astype(np.float64))


def floats(shape):
    """Normally distributed float64."""
    return SEEDS.map(lambda seed: np.random.default_rng(seed).standard_normal(shape))


@st.composite
def convolutions(draw, values=integers, batch=range(1, 3), channels=range(1, 4), **limits):
    """(x, weight, y, geometry): an input, a weight and a cotangent of the output; `limits` as for `geometries`.

    channels    how many each group has in, and how many out; one of each is a depthwise convolution
    """
    geometry = draw(geometries(**limits))
    n, c, o = (draw(st.sampled_from(counts)) for counts in (batch, channels, channels))
    x = draw(values((n, geometry.groups * c, *geometry.input_size)))
    weight = draw(values((geometry.groups * o, c, *geometry.kernel_size)))
    y = draw(values((n, geometry.groups * o, *geometry.output_size)))
    return x, weight, y, geometry
