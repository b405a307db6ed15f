"""Max pooling of blocked activations: windows side by side or overlapping, also over the edges."""

from math import prod
from typing import NamedTuple

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.jit import jit
from tinyseg.kernels import registry
from tinyseg.kernels.blocked import Blocked
from tinyseg.kernels.cpu import pool
from tinyseg.kernels.cpu.blocked import by_blocks, corner, end_row, like, numbers, pixel, put
from tinyseg.kernels.cpu.matrix_unit_lines import representable
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.vector import maximum, splat
from tinyseg.kernels.cpu.vector_math import where_equal

__all__ = ["max_pool2d", "max_pool2d_grad"]


class Window(NamedTuple):
    """Of a pooling; `size` is that of its result."""

    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    near: tuple[int, int]
    dilation: tuple[int, int]


def max_pool2d(x: Blocked, geometry: ConvGeometry) -> tuple[Blocked, Blocked]:
    """In place of indices x: the gradient finds out again where the maxima were."""
    y = like(x, geometry.output_size)
    y.largest = x.largest
    by_blocks(x, lambda channel, *places: _max_pool(team(), *places, *x.size, _window(geometry)), y)
    return y, x


def max_pool2d_grad(grad: Blocked | np.ndarray, x: Blocked | np.ndarray,
                    geometry: ConvGeometry) -> Blocked | np.ndarray | None:
    """x: in place of indices what `max_pool2d` returned, if it was this one."""
    if not isinstance(x, Blocked):
        return None
    channels = [[part.shape[:3] for part in a.parts] for a in (grad, x) if isinstance(a, Blocked)]
    # As many windows may meet in a pixel, whose gradients add up.
    most = prod(-(-((k - 1) * d + 1) // s) for k, d, s in zip(geometry.kernel_size, geometry.dilation, geometry.stride,
                                                              strict=True))
    if channels != 2 * channels[-1:] or not representable(most * grad.largest):
        _, indices = pool.max_pool2d(x.plain(), geometry)
        return pool.max_pool2d_grad(registry.plain(grad), indices, geometry)
    dx = like(x)
    dx.largest = most * grad.largest
    by_blocks(x, lambda channel, *places: _max_pool_grad(team(), *places, *x.size, _window(geometry), most > 1), dx,
              grad)
    return dx


def _window(geometry: ConvGeometry) -> Window:
    return Window(geometry.output_size, geometry.kernel_size, geometry.stride, geometry.near_padding, geometry.dilation)


@jit
def _max_pool(team, blocks, x, lie, y, target, height, width, window):
    share(team, blocks[0], _max_pool_block, (blocks, x, lie, y, target, height, width, window))


@jit
def _max_pool_block(n, member, blocks, x, lie, y, target, height, width, window):
    place, to = corner(lie, blocks, n), corner(target, blocks, n)
    for p in range(window.size[0]):
        for q in range(window.size[1]):
            even, odd = _peaks(x, lie, place, height, width, window, p, q)
            put(y, pixel(target, to, p, q), target.below, even, odd)
        end_row(y, target, to, p, window.size[1])



@jit
def _peaks(x, lie, place, height, width, window, p, q):
    """The largest numbers in a window, of those inside of x."""
    even = odd = splat(-np.inf)
    for u in range(window.kernel[0]):
        h = p * window.stride[0] - window.near[0] + u * window.dilation[0]
        if 0 <= h < height:
            for v in range(window.kernel[1]):
                w = q * window.stride[1] - window.near[1] + v * window.dilation[1]
                if 0 <= w < width:
                    a, b = numbers(x, pixel(lie, place, h, w), lie.below)
                    even, odd = maximum(even, a), maximum(odd, b)
    return even, odd


@jit
def _max_pool_grad(team, blocks, x, lie, y, target, grad, given, height, width, window, overlap):
    """Of the largest in a window the first takes all."""
    share(team, blocks[0], _max_pool_grad_block,
          (blocks, x, lie, y, target, grad, given, height, width, window, overlap))


@jit
def _max_pool_grad_block(n, member, blocks, x, lie, y, target, grad, given, height, width, window, overlap):
    place, to, at = corner(lie, blocks, n), corner(target, blocks, n), corner(given, blocks, n)
    for h in range(height):
        for w in range(width + 1):
            put(y, pixel(target, to, h, w), target.below, splat(0), splat(0))
    for p in range(window.size[0]):
        for q in range(window.size[1]):
            even, odd = _peaks(x, lie, place, height, width, window, p, q)
            left_even, left_odd = numbers(grad, pixel(given, at, p, q), given.below)
            for u in range(window.kernel[0]):
                h = p * window.stride[0] - window.near[0] + u * window.dilation[0]
                for v in range(window.kernel[1]):
                    w = q * window.stride[1] - window.near[1] + v * window.dilation[1]
                    if 0 <= h < height and 0 <= w < width:
                        a, b = numbers(x, pixel(lie, place, h, w), lie.below)
                        more_even, more_odd = where_equal(a, even, left_even), where_equal(b, odd, left_odd)
                        left_even, left_odd = left_even - more_even, left_odd - more_odd
                        line = pixel(target, to, h, w)
                        if overlap:
                            a, b = numbers(y, line, target.below)
                            more_even, more_odd = more_even + a, more_odd + b
                        put(y, line, target.below, more_even, more_odd)
