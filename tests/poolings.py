"""Hypothesis strategies for pooling and resizing: arguments as a user gives them, with an input that fits."""

import numpy as np
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32 - 1)


@st.composite
def poolings(draw, dilation=range(1, 4)):
    """((H, W), {kernel_size, stride, padding, dilation, ceil_mode}), rectangular; every window meets the input."""
    axes = []
    for _ in "HW":
        k, d = draw(st.integers(1, 4)), draw(st.sampled_from(dilation))
        s, p = draw(st.integers(1, 4)), draw(st.integers(0, k // 2))
        i = draw(st.integers(max(1, d * (k - 1) + 1 - 2 * p, d if p else 1), 12))
        axes.append((i, k, s, p, d))
    size, kernel, stride, padding, rate = zip(*axes, strict=True)
    return size, {"kernel_size": kernel, "stride": stride, "padding": padding, "dilation": rate,
                  "ceil_mode": draw(st.booleans())}


@st.composite
def batches(draw, size, integers=False):
    """A (N, C, H, W) float64 array; with `integers` small ones, so that sums are exact and maxima tie."""
    rng = np.random.default_rng(draw(SEEDS))
    shape = draw(st.integers(1, 2)), draw(st.integers(1, 3)), *size
    return rng.integers(-3, 4, shape).astype(np.float64) if integers else rng.standard_normal(shape)


SIZES = st.tuples(st.integers(1, 9), st.integers(1, 9))
