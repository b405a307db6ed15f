"""Batch normalisation and sums of blocked activations: the lanes of a vector are channels, which needs no shuffling.

As in `normalize`: statistics are float64, and a number enters the last step as its distance from one near the mean.
Threads share blocks of channels of an image; the sums of the images are added up afterwards.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.blocked import BLOCK, Blocked
from tinyseg.kernels.cpu.blocked import alike, by_blocks, corner, end_row, like, numbers, pixel, put
from tinyseg.kernels.cpu.matrix_unit_lines import LINE, representable
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.vector import fma, load, magnitude, maximum, splat, store
from tinyseg.kernels.cpu.vector_math import where_positive

__all__ = ["affine", "channel_products", "channel_sums", "normalize", "normalize_grad"]

Sizes = tuple[int, int, int]

_RUN = 64                                            # pixels, at most, that are summed in float32


# Each of these is the operation of its name in the registry, or None where it must be done on plain arrays.

def normalize(x: Blocked, weight: np.ndarray, bias: np.ndarray, sizes: Sizes, eps: float,
              relu: bool) -> tuple[Blocked, np.ndarray, np.ndarray] | None:
    """Batch normalisation: all images together, each channel for itself."""
    if sizes != (*x.shape[:2], 1):
        return None
    near = _first_pixels(x)
    offset, square = _channel_sums(_moments, x, _table(near)) / (x.shape[0] * x.size[0] * x.size[1])
    mean, variance = near + offset, np.maximum(square - offset * offset, 0)
    y = affine(x, mean, weight / np.sqrt(variance + eps), bias, relu)
    return None if y is None else (y, mean, variance)


def affine(x: Blocked, centre: np.ndarray, scale: np.ndarray, shift: np.ndarray, relu: bool) -> Blocked | None:
    y, table, members = like(x), _table(*_near(centre, scale, shift), scale), team()
    peaks = np.zeros((members.size, LINE), np.float32)
    by_blocks(x, lambda channel, *places: _scale(members, *places, *x.size, table[channel // BLOCK:], relu, peaks), y)
    y.largest = peaks.max()
    return y if representable(y.largest) else None


def normalize_grad(grad: Blocked | np.ndarray, x: Blocked | np.ndarray, weight: np.ndarray, bias: np.ndarray,
                   mean: np.ndarray, variance: np.ndarray, sizes: Sizes, eps: float,
                   relu: bool) -> tuple[Blocked, np.ndarray, np.ndarray] | None:
    if not alike(grad, x) or sizes != (*x.shape[:2], 1):
        return None
    inverse = 1 / np.sqrt(variance + eps)
    scale, count = inverse * weight, x.shape[0] * x.size[0] * x.size[1]
    centre, shift = _near(mean, scale, bias)
    total, product = _channel_sums(_products, x, _table(centre, shift, scale), grad, relu)
    product = (product + (centre - mean) * total) * inverse
    slope = -scale * product * inverse / count
    table = _table(centre, shift, scale, slope, (centre - mean) * slope - scale * total / count)
    dx, members = like(x), team()
    peaks = np.zeros((members.size, LINE), np.float32)
    by_blocks(x, lambda channel, *places: _combine(members, *places, *x.size, table[channel // BLOCK:], relu, peaks),
              grad, dx)
    dx.largest = peaks.max()
    return (dx, product, total) if representable(dx.largest) else None


def channel_sums(x: Blocked) -> np.ndarray:
    return _channel_sums(_moments, x, _table(np.zeros(x.shape[1])))[0].astype(np.float32)


def channel_products(grad: Blocked | np.ndarray, x: Blocked | np.ndarray,
                     centre: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    if not alike(grad, x):
        return None
    near, nothing = centre.astype(np.float32).astype(np.float64), np.zeros(len(centre))
    total, product = _channel_sums(_products, x, _table(near, nothing, nothing), grad, False)
    return total, product + (near - centre) * total


def _near(centre: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same line by a float32 centre."""
    near = centre.astype(np.float32).astype(np.float64)
    return near, shift + (near - centre) * scale


def _first_pixels(x: Blocked) -> np.ndarray:
    """A number of each channel, (C,)."""
    first = np.concatenate([part[0, :, :, x.first] for part in x.parts]).view(np.uint32)         # (blocks, halves, 16)
    halves = np.stack([first << 16, first & np.uint32(0xFFFF0000)], 3).view(np.float32)
    return halves.sum(1, dtype=np.float64).reshape(-1)


def _table(*numbers: np.ndarray) -> np.ndarray:
    """For each block the numbers of its even and of its odd channels: (blocks, numbers, 2, 16)."""
    table = np.stack(numbers).astype(np.float32).reshape(len(numbers), -1, LINE, 2)
    return np.ascontiguousarray(table.transpose(1, 0, 3, 2))


def _channel_sums(kernel: Callable[..., None], x: Blocked, table: np.ndarray, grad: Blocked | None = None,
                  *options: Any) -> np.ndarray:
    """Two sums for each channel, (2, C)."""
    sums, members = np.zeros((x.shape[1] // BLOCK, x.shape[0], 2, 2, LINE)), team()
    stage = np.empty((members.size, 2, 2, LINE), np.float32)
    by_blocks(x, lambda channel, *places: kernel(members, *places, *x.size, table[channel // BLOCK:], *options,
                                                 sums[channel // BLOCK:], stage), *(() if grad is None else (grad,)))
    return sums.sum(1).transpose(1, 0, 3, 2).reshape(2, -1)


@jit
def _moments(team, blocks, x, lie, height, width, table, sums, stage):
    """Σ d and Σ d² with d = x - table[block, 0]; sums (blocks, N, 2, 2, 16)."""
    share(team, blocks[0], _moments_block, (blocks, x, lie, height, width, table, sums, stage))


@jit
def _moments_block(n, member, blocks, x, lie, height, width, table, sums, stage):
    zero = splat(0)
    block, place, run = n // blocks[1], corner(lie, blocks, n), 0
    near_even, near_odd = load(table, (block, 0, 0, 0)), load(table, (block, 0, 1, 0))
    even = odd = square_even = square_odd = zero
    for h in range(height):
        start = pixel(lie, place, h, 0)
        for first in range(0, width, _RUN):
            count = min(_RUN, width - first)
            if run + count > _RUN:
                _add_up(stage[member], even, odd, square_even, square_odd, sums[block, n % blocks[1]])
                even = odd = square_even = square_odd = zero
                run = 0
            for w in range(first, first + count):
                a, b = numbers(x, start + w * LINE, lie.below)
                a, b = a - near_even, b - near_odd
                even, odd = even + a, odd + b
                square_even, square_odd = fma(a, a, square_even), fma(b, b, square_odd)
            run += count
    _add_up(stage[member], even, odd, square_even, square_odd, sums[block, n % blocks[1]])


@jit
def _add_up(stage, a, b, c, d, sums):
    store(stage, (0, 0, 0), a)
    store(stage, (0, 1, 0), b)
    store(stage, (1, 0, 0), c)
    store(stage, (1, 1, 0), d)
    flat, totals = stage.reshape(-1), sums.reshape(-1)
    for k in range(len(flat)):
        totals[k] += flat[k]


@jit
def _scale(team, blocks, x, lie, y, target, height, width, table, relu, peaks):
    """scale·(x - centre) + shift, and to `peaks` the largest magnitudes of each member.

    table (blocks, 3, 2, 16): centre, shift, scale
    """
    share(team, blocks[0], _scale_block, (blocks, x, lie, y, target, height, width, table, relu, peaks))


@jit
def _scale_block(n, member, blocks, x, lie, y, target, height, width, table, relu, peaks):
    floor, largest = splat(0 if relu else -np.inf), splat(0)
    block, place, to = n // blocks[1], corner(lie, blocks, n), corner(target, blocks, n)
    centre_even, centre_odd = load(table, (block, 0, 0, 0)), load(table, (block, 0, 1, 0))
    shift_even, shift_odd = load(table, (block, 1, 0, 0)), load(table, (block, 1, 1, 0))
    scale_even, scale_odd = load(table, (block, 2, 0, 0)), load(table, (block, 2, 1, 0))
    for h in range(height):
        start, end = pixel(lie, place, h, 0), pixel(target, to, h, 0)
        for w in range(width):
            a, b = numbers(x, start + w * LINE, lie.below)
            a = maximum(floor, fma(a - centre_even, scale_even, shift_even))
            b = maximum(floor, fma(b - centre_odd, scale_odd, shift_odd))
            largest = magnitude(magnitude(largest, a), b)
            put(y, end + w * LINE, target.below, a, b)
        end_row(y, target, to, h, width)
    store(peaks, (member, 0), magnitude(load(peaks, (member, 0)), largest))


@jit
def _products(team, blocks, x, lie, grad, given, height, width, table, relu, sums, stage):
    """Σ g and Σ g·(x - centre), where g is the gradient, 0 where ReLU stopped it; sums (blocks, N, 2, 2, 16)."""
    share(team, blocks[0], _products_block, (blocks, x, lie, grad, given, height, width, table, relu, sums, stage))


@jit
def _products_block(n, member, blocks, x, lie, grad, given, height, width, table, relu, sums, stage):
    zero = splat(0)
    block, place, at, run = n // blocks[1], corner(lie, blocks, n), corner(given, blocks, n), 0
    centre_even, centre_odd = load(table, (block, 0, 0, 0)), load(table, (block, 0, 1, 0))
    shift_even, shift_odd = load(table, (block, 1, 0, 0)), load(table, (block, 1, 1, 0))
    scale_even, scale_odd = load(table, (block, 2, 0, 0)), load(table, (block, 2, 1, 0))
    even = odd = product_even = product_odd = zero
    for h in range(height):
        start, there = pixel(lie, place, h, 0), pixel(given, at, h, 0)
        for first in range(0, width, _RUN):
            count = min(_RUN, width - first)
            if run + count > _RUN:
                _add_up(stage[member], even, odd, product_even, product_odd, sums[block, n % blocks[1]])
                even = odd = product_even = product_odd = zero
                run = 0
            for w in range(first, first + count):
                a, b = numbers(x, start + w * LINE, lie.below)
                a, b = a - centre_even, b - centre_odd
                c, d = numbers(grad, there + w * LINE, given.below)
                if relu:
                    c = where_positive(fma(a, scale_even, shift_even), c)
                    d = where_positive(fma(b, scale_odd, shift_odd), d)
                even, odd = even + c, odd + d
                product_even, product_odd = fma(a, c, product_even), fma(b, d, product_odd)
            run += count
    _add_up(stage[member], even, odd, product_even, product_odd, sums[block, n % blocks[1]])


@jit
def _combine(team, blocks, x, lie, grad, given, dx, target, height, width, table, relu, peaks):
    """scale·g + slope·(x - centre) + constant.  To `peaks` the largest magnitudes of each member.

    table (blocks, 5, 2, 16): centre, shift, scale, slope, constant
    """
    share(team, blocks[0], _combine_block, (blocks, x, lie, grad, given, dx, target, height, width, table, relu, peaks))


@jit
def _combine_block(n, member, blocks, x, lie, grad, given, dx, target, height, width, table, relu, peaks):
    largest = splat(0)
    block, place, at, to = n // blocks[1], corner(lie, blocks, n), corner(given, blocks, n), corner(target, blocks, n)
    centre_even, centre_odd = load(table, (block, 0, 0, 0)), load(table, (block, 0, 1, 0))
    shift_even, shift_odd = load(table, (block, 1, 0, 0)), load(table, (block, 1, 1, 0))
    scale_even, scale_odd = load(table, (block, 2, 0, 0)), load(table, (block, 2, 1, 0))
    slope_even, slope_odd = load(table, (block, 3, 0, 0)), load(table, (block, 3, 1, 0))
    constant_even, constant_odd = load(table, (block, 4, 0, 0)), load(table, (block, 4, 1, 0))
    for h in range(height):
        start, there, end = pixel(lie, place, h, 0), pixel(given, at, h, 0), pixel(target, to, h, 0)
        for w in range(width):
            a, b = numbers(x, start + w * LINE, lie.below)
            a, b = a - centre_even, b - centre_odd
            c, d = numbers(grad, there + w * LINE, given.below)
            if relu:
                c = where_positive(fma(a, scale_even, shift_even), c)
                d = where_positive(fma(b, scale_odd, shift_odd), d)
            a = fma(scale_even, c, fma(slope_even, a, constant_even))
            b = fma(scale_odd, d, fma(slope_odd, b, constant_odd))
            largest = magnitude(magnitude(largest, a), b)
            put(dx, end + w * LINE, target.below, a, b)
        end_row(dx, target, to, h, width)
    store(peaks, (member, 0), magnitude(load(peaks, (member, 0)), largest))
