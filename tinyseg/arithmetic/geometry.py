"""`ConvGeometry`: the one description of a two-dimensional convolution that every room shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from tinyseg.arithmetic.sizes import conv_transpose_output_size, same_padding, span
from tinyseg.errors import ArgumentError, ShapeError

__all__ = ["ConvGeometry", "Pair", "PoolGeometry", "Sides", "pair", "sides"]

Pair = tuple[int, int]
Sides = tuple[Pair, Pair]                            # ((top, bottom), (left, right))
_AXES = ("H", "W")


@dataclass(frozen=True)
class ConvGeometry:
    """The convolution C that maps an input of `input_size` to `output_size`; its transpose maps back.

    input_size, kernel_size, stride, dilation    pairs (height, width)
    padding          ((top, bottom), (left, right)) zeros around the input
    groups           the channels are split into so many independent convolutions
    output_padding   cells at the far end of the padded input that no window reaches.  A convolution drops its remainder
                     (i + 2p - d(k-1) - 1) mod s, the default; a transposed convolution *chooses among the input sizes
                     that give the same output* by naming it.  It adds no zeros.
    """

    input_size: Pair
    kernel_size: Pair
    stride: Pair = (1, 1)
    padding: Sides = ((0, 0), (0, 0))
    dilation: Pair = (1, 1)
    groups: int = 1
    output_padding: Pair | None = None

    def __post_init__(self):
        if self.groups < 1:
            raise ArgumentError(f"groups {self.groups}: needs groups >= 1")
        rests = []                                   # cells after the first window
        for a, axis in enumerate(_AXES):
            i, k, s, d = self.input_size[a], self.kernel_size[a], self.stride[a], self.dilation[a]
            near, far = self.padding[a]
            _check(axis, i, k, s, d, near, far)
            if span(k, d) > i + near + far:
                room = (i + near + far - 1) // (k - 1)
                legal = (f"with this input dilation <= {room}" if room else
                         f"with this input and dilation kernel <= {(i + near + far - 1) // d + 1}")
                raise ShapeError(f"kernel {k} with dilation {d} spans {span(k, d)} > padded input "
                                 f"{_padded(i, near, far)}={i + near + far} in {axis}. "
                                 f"Needs d·(k-1)+1 <= i+2p; {legal}.")
            rests.append(i + near + far - span(k, d))
        if self.output_padding is None:
            object.__setattr__(self, "output_padding", tuple(r % s for r, s in zip(rests, self.stride, strict=True)))
        for axis, a, r, s in zip(_AXES, self.output_padding, rests, self.stride, strict=True):
            if not 0 <= a <= r or (r - a) % s:
                raise ArgumentError(f"output_padding {a} in {axis} with stride {s}: needs a >= 0 and whole windows in "
                                    f"the rest, i + 2p - d·(k-1) - 1 - a = {r} - a = 0 or a multiple of s, "
                                    f"like a = {r % s}")

    @cached_property
    def output_size(self) -> Pair:
        """(height, width) of the convolution's output, floor((i + 2p - d(k-1) - 1) / s) + 1 on each axis."""
        h, w = ((self.input_size[a] + sum(self.padding[a]) - span(self.kernel_size[a], self.dilation[a])
                 - self.output_padding[a]) // self.stride[a] + 1 for a in (0, 1))
        return h, w

    @property
    def near_padding(self) -> Pair:
        """(top, left): all that a kernel needs, since the far side follows from the sizes."""
        return self.padding[0][0], self.padding[1][0]

    @property
    def taps(self) -> int:
        """Kernel cells, K_h · K_w."""
        return self.kernel_size[0] * self.kernel_size[1]

    @classmethod
    def convolution(cls, input_size: Sequence[int], kernel_size: int | Sequence[int], stride: int | Sequence[int] = 1,
                    padding: str | int | Sequence[int] | Sides = 0, dilation: int | Sequence[int] = 1,
                    groups: int = 1) -> ConvGeometry:
        """From the arguments of `conv2d`: numbers or pairs, and padding also `"same"` or `"valid"`."""
        kernel, step, rate = pair(kernel_size, "kernel_size"), pair(stride, "stride"), pair(dilation, "dilation")
        if isinstance(padding, str) and padding == "same" and step != (1, 1):
            raise ArgumentError(f'padding "same" with stride {step}: needs stride 1; '
                                "with another stride give the padding as numbers")
        return cls(pair(input_size, "input size"), kernel, step, sides(padding, kernel, rate), rate, groups)

    @classmethod
    def transposed(cls, input_size: Sequence[int], kernel_size: int | Sequence[int], stride: int | Sequence[int] = 1,
                   padding: int | Sequence[int] | Sides = 0, output_padding: int | Sequence[int] = 0,
                   dilation: int | Sequence[int] = 1, groups: int = 1) -> ConvGeometry:
        """From the arguments of `conv_transpose2d`: the convolution whose *output* has size `input_size`."""
        small, kernel, step = pair(input_size, "input size"), pair(kernel_size, "kernel_size"), pair(stride, "stride")
        rate, extra = pair(dilation, "dilation"), pair(output_padding, "output_padding")
        around = sides(padding, kernel, rate)
        large = []
        for a, axis in enumerate(_AXES):
            _check(axis, small[a], kernel[a], step[a], rate[a], *around[a])
            if not 0 <= extra[a] < max(step[a], rate[a]):
                raise ArgumentError(f"output_padding {extra[a]} in {axis} with stride {step[a]}, dilation {rate[a]}: "
                                    f"needs 0 <= output_padding < max(s, d) = {max(step[a], rate[a])}")
            size = conv_transpose_output_size(small[a], kernel[a], step[a], 0, rate[a], extra[a]) - sum(around[a])
            if size < 1:
                raise ShapeError(f"input {small[a]}, kernel {kernel[a]}, stride {step[a]}, padding {around[a]} give "
                                 f"output size {size} in {axis}. Needs (i-1)·s - 2p + d·(k-1) + 1 + a >= 1; "
                                 f"with this input 2p <= {size + sum(around[a]) - 1}.")
            large.append(size)
        return cls((large[0], large[1]), kernel, step, around, rate, groups, extra)

    @classmethod
    def pooling(cls, input_size: Sequence[int], kernel_size: int | Sequence[int],
                stride: int | Sequence[int] | None = None, padding: int | Sequence[int] = 0,
                dilation: int | Sequence[int] = 1, ceil_mode: bool = False,
                count_include_pad: bool = True) -> PoolGeometry:
        """From the arguments of a pooling.  Rounding up is padding more at the far end.

        A last window that would start beyond the input and its near padding is dropped.  Padding may be at most half
        the kernel, and every window must meet the input: with dilation its taps may fall on both sides of a small one.
        """
        size = pair(input_size, "input size")
        kernel, rate = pair(kernel_size, "kernel_size"), pair(dilation, "dilation")
        step = kernel if stride is None else pair(stride, "stride")
        around, added = [list(side) for side in sides(padding, kernel, rate)], [0, 0]
        for a, axis in enumerate(_AXES):
            widest = max(around[a])
            if 2 * widest > kernel[a]:
                raise ArgumentError(f"padding {widest} with kernel {kernel[a]} in {axis}: needs padding <= k/2; "
                                    f"with this kernel padding <= {kernel[a] // 2}")
            if ceil_mode and step[a] > 0:
                left = (size[a] + sum(around[a]) - span(kernel[a], rate[a])) % step[a]
                windows = (size[a] + sum(around[a]) - span(kernel[a], rate[a])) // step[a] + 1
                if left and windows * step[a] < size[a] + around[a][0]:
                    added[a] = step[a] - left
                    around[a][1] += added[a]
        geometry = PoolGeometry(size, kernel, step, (tuple(around[0]), tuple(around[1])), rate,
                                rounded_up=tuple(added) if ceil_mode else None, count_include_pad=count_include_pad)
        for a, axis in enumerate(_AXES):
            starts = range(-around[a][0], geometry.output_size[a] * step[a] - around[a][0], step[a])
            if rate[a] > 1 and any(all(not 0 <= first + u * rate[a] < size[a] for u in range(kernel[a]))
                                   for first in starts):
                raise ShapeError(f"kernel {kernel[a]} with dilation {rate[a]} has a window that meets only padding of "
                                 f"input {size[a]} in {axis}: needs a cell of the input in every window; "
                                 f"with this input dilation <= {max(1, (size[a] - 1) // (kernel[a] - 1))}")
        return geometry


@dataclass(frozen=True)
class PoolGeometry(ConvGeometry):
    """The geometry of a pooling, which knows what was asked for.

    rounded_up           cells that `ceil_mode` added to the far padding on each axis, maybe none; None: no `ceil_mode`
    count_include_pad    a mean divides by all cells of its window that lie in the padding asked for, too
    """

    rounded_up: Pair | None = None
    count_include_pad: bool = True

    @property
    def ceil_mode(self) -> bool:
        return self.rounded_up is not None

    @property
    def asked_padding(self) -> Sides:
        """The padding before it was rounded up."""
        more = self.rounded_up or (0, 0)
        (top, bottom), (left, right) = self.padding
        return (top, bottom - more[0]), (left, right - more[1])


def pair(value: int | Sequence[int], name: str) -> Pair:
    """A number twice, or the two numbers given."""
    values = (value, value) if isinstance(value, int) or not hasattr(value, "__len__") else tuple(value)
    if len(values) != 2 or not all(hasattr(v, "__index__") and not isinstance(v, bool) for v in values):
        raise ArgumentError(f"{name} {value!r}: needs a whole number or a pair (height, width) of them")
    return int(values[0]), int(values[1])


def sides(padding: str | int | Sequence[int] | Sides, kernel: Pair, dilation: Pair) -> Sides:
    """Padding as ((top, bottom), (left, right)), from a number, a pair, a pair of pairs, "same" or "valid"."""
    if isinstance(padding, str):
        if padding == "same":
            return same_padding(kernel[0], dilation[0]), same_padding(kernel[1], dilation[1])
        if padding == "valid":
            return (0, 0), (0, 0)
        raise ArgumentError(f'padding {padding!r}: needs a number, a pair, "same" or "valid"')
    if hasattr(padding, "__len__") and len(padding) == 2 and all(hasattr(p, "__len__") for p in padding):
        return pair(padding[0], "padding"), pair(padding[1], "padding")
    h, w = pair(padding, "padding")
    return (h, h), (w, w)


def _check(axis: str, i: int, k: int, s: int, d: int, near: int, far: int) -> None:
    for name, value in (("kernel", k), ("stride", s), ("dilation", d)):
        if value < 1:
            raise ArgumentError(f"{name} {value} in {axis}: needs {name} >= 1")
    if near < 0 or far < 0:
        raise ArgumentError(f"padding {near if near < 0 else far} in {axis}: needs padding >= 0")
    if i < 1:
        raise ShapeError(f"input size {i} in {axis}: needs at least 1")


def _padded(i: int, near: int, far: int) -> str:
    return f"{i}+2·{near}" if near == far else f"{i}+{near}+{far}"
