"""Hypothesis strategies for convolutions and poolings: geometries of every kind, and the arrays on them.

A geometry is drawn from its output: any output size, kernel, stride, dilation and remainder have an input size, so
nothing is rejected and examples shrink towards the 1x1 convolution of one pixel.  A falsifying example prints the
geometry as it can be pasted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from tinyseg.arithmetic import ConvGeometry, PoolGeometry
from tinyseg.errors import ArgumentError
from tinyseg.verify.cases import LAYOUTS, Case
from tinyseg.verify.operations import Operation

try:
    from hypothesis import strategies as st
except ModuleNotFoundError as error:
    raise ArgumentError('verify: hypothesis is not installed; pip install "tinyseg[verify]"') from error

__all__ = ["SEEDS", "axes", "cases", "convolutions", "floats", "geometries", "integers", "poolings"]

SEEDS = st.integers(0, 2**32 - 1)
_SMALL: dict[str, Sequence[int]] = {"kernel": range(1, 5), "stride": range(1, 4), "padding": range(4),
                                    "dilation": range(1, 4), "groups": range(1, 4), "channels": range(1, 4)}
_PLAIN = {"kernel": 1, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
EXACT = ("ones", "ramp", *("integers",) * 6)         # simple first, since examples shrink that way
# Kinds of large: where vectors, blocks, bands and threads begin and end.
_EDGES = (1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33)
_LARGE: tuple[dict[str, Sequence[int]], ...] = (
    {"outputs": (*_EDGES, 40), "channels": (1, 2, 3, 5)},
    {"outputs": (1, 2, 3, 6), "channels": (*_EDGES, 48, 64, 65), "kernel": (1, 2, 3), "groups": (1, 2)},
    {"outputs": (1, 2, 5, 64, 65, 130, 257), "channels": (1, 2), "kernel": (1, 3)},
    {"outputs": range(1, 9), "kernel": range(1, 12), "stride": range(1, 9), "dilation": range(1, 9),
     "padding": range(12)},
    {"outputs": range(1, 7), "batch": range(1, 10), "groups": (1, 2, 8, 17)},
    {"outputs": (24, 40), "channels": (16, 24), "kernel": (3,), "groups": (1,)},
)


@st.composite
def axes(draw: Any, kernel: Sequence[int] = range(1, 5), stride: Sequence[int] = range(1, 4),
         padding: Sequence[int] | str = range(4), dilation: Sequence[int] = range(1, 4),
         outputs: Sequence[int] = range(1, 5), output_padding: bool | None = True,
         symmetric: bool = False) -> tuple[Any, ...]:
    """(i, k, s, (near, far), d, a): one axis of a convolution, its values from the ranges given.

    padding           "same": as much as makes the output as large as the input
    output_padding    True: what a transposed convolution can name, 0 .. max(s, d) - 1.
                      False: the remainder that a convolution drops, 0 .. s - 1.  None: 0.
    symmetric         as much padding at the far side as at the near one
    """
    k, s, d, o = (draw(st.sampled_from(values)) for values in (kernel, stride, dilation, outputs))
    extras = 1 if output_padding is None else max(s, d) if output_padding else s
    a = draw(st.integers(0, extras - 1))
    padded = (o - 1) * s + d * (k - 1) + 1 + a
    if padding == "same":
        near = (padded - o) // 2
        far = near if symmetric else padded - o - near
    elif symmetric:
        near = far = min(draw(st.sampled_from(padding)), (padded - 1) // 2)
    else:
        near = min(draw(st.sampled_from(padding)), padded - 1)
        far = min(draw(st.sampled_from(padding)), padded - 1 - near)
    return padded - near - far, k, s, (near, far), d, a


@st.composite
def geometries(draw: Any, groups: Sequence[int] = range(1, 4), **limits: Any) -> ConvGeometry:
    """Rectangular, strided, asymmetrically padded, dilated, grouped, with remainders; `limits` as for `axes`."""
    sizes, kernels, strides, paddings, dilations, extras = zip(draw(axes(**limits)), draw(axes(**limits)), strict=True)
    return ConvGeometry(sizes, kernels, strides, paddings, dilations, draw(st.sampled_from(groups)), extras)


@st.composite
def poolings(draw: Any, kernel: Sequence[int] = range(1, 5), stride: Sequence[int] | None = range(1, 5),
             dilation: Sequence[int] = range(1, 4), padding: Sequence[int] = range(3),
             outputs: Sequence[int] = range(1, 5), ceil_mode: bool = True,
             count_include_pad: bool = False) -> PoolGeometry:
    """Rectangular, strided, padded by at most half the kernel, dilated, rounded down or up.

    Every window meets the input.

    stride               None: the kernel's size, as where a pooling is given none
    count_include_pad    whether to draw it too, for means; else it is true
    """
    rounded, counted = (draw(st.booleans()) if drawn else usual
                        for drawn, usual in ((ceil_mode, False), (count_include_pad, True)))
    sizes, kernels, strides, paddings, rates = [], [], [], [], []
    for _ in "HW":
        k, d, o = (draw(st.sampled_from(values)) for values in (kernel, dilation, outputs))
        s = k if stride is None else draw(st.sampled_from(stride))
        p = min(draw(st.sampled_from(padding)), k // 2)
        rest = draw(st.integers(0, s - 1))
        # With dilation and padding a small input may fall between two taps.
        sizes.append(max(1, d if p else 1, (o - 1) * s + d * (k - 1) + 1 + rest - 2 * p))
        for values, value in ((kernels, k), (strides, s), (paddings, p), (rates, d)):
            values.append(value)
    return ConvGeometry.pooling(sizes, kernels, strides, paddings, rates, rounded, counted)


def integers(shape: Any, largest: int = 4) -> Any:
    """float64 arrays of small integers: every sum of their products is exact."""
    return SEEDS.map(lambda seed: np.random.default_rng(seed).integers(-largest, largest + 1, shape).astype(np.float64))


def floats(shape: Any) -> Any:
    """Normally distributed float64."""
    return SEEDS.map(lambda seed: np.random.default_rng(seed).standard_normal(shape))


@st.composite
def convolutions(draw: Any, values: Callable[..., Any] = integers, batch: Sequence[int] = range(1, 3),
                 channels: Sequence[int] = range(1, 4), **limits: Any) -> tuple[Any, ...]:
    """(x, weight, y, geometry): an input, a weight and a cotangent of the output; `limits` as for `geometries`.

    channels    how many each group has in, and how many out; one of each is a depthwise convolution
    """
    geometry = draw(geometries(**limits))
    n, c, o = (draw(st.sampled_from(counts)) for counts in (batch, channels, channels))
    x = draw(values((n, geometry.groups * c, *geometry.input_size)))
    weight = draw(values((geometry.groups * o, c, *geometry.kernel_size)))
    y = draw(values((n, geometry.groups * o, *geometry.output_size)))
    return x, weight, y, geometry


@st.composite
def cases(draw: Any, operation: Operation, supports: Collection[str], values: Sequence[str] = EXACT,
          large: bool = False, batch: Sequence[int] = (1, 2), dtypes: Sequence[str] = ("float64",),
          layouts: Sequence[str] = LAYOUTS[:1], outputs: Sequence[int] = range(1, 5), plain: bool = True,
          possible: Mapping[str, Sequence[int]] | None = None) -> Case:
    """A `Case` that a kernel of `operation` with these options can do.

    large       of a kind where bands, blocks and threads begin and end
    plain       for a function of plain arguments: as much padding on both sides, and the remainder that a size leaves
    possible    values of kernel, stride, dilation and groups to keep to
    """
    if "indices" in operation.operands:              # the gradient of any pooling: its indices say all
        supports = {"stride", "padding", "dilation", "ceil_mode"}
    limits: dict[str, Any] = {**_SMALL, "batch": batch, "outputs": outputs}
    if large:
        limits |= draw(st.sampled_from(_LARGE))
    for name, these in (possible or {}).items():
        limits[name] = [v for v in limits[name] if v in these] or these[:3] or limits[name]
    for name, value in _PLAIN.items():
        lacking = name not in supports and name != "kernel"
        # Options are absent together more often than chance would have it: shortcuts are taken there.
        if lacking or (not large and value in limits[name] and draw(st.sampled_from((True, False, False)))):
            limits[name] = [value]
    batch, channels, groups = (limits.pop(name) for name in ("batch", "channels", "groups"))
    if operation.pools:
        if "stride" not in supports:
            limits["stride"] = None
        asked = {name: name in supports for name in ("ceil_mode", "count_include_pad")}
        geometry = draw(poolings(**asked, **limits))
    else:
        if "padding" in supports and not large and draw(st.sampled_from((False, False, False, True))):
            limits["padding"] = "same"
        chosen = "output_padding" in operation.options
        limits["output_padding"] = (True if "output_padding" in supports else None) if chosen else not plain
        limits["symmetric"] = "asymmetric padding" not in supports
        geometry = draw(geometries(groups, **limits))
    n, c, o = (draw(st.sampled_from(counts)) for counts in (batch, channels, channels))
    return Case(geometry, n, c, o, draw(st.sampled_from(values)), draw(st.integers(0, 99)),
                draw(st.sampled_from(dtypes)), draw(st.sampled_from(layouts)))
