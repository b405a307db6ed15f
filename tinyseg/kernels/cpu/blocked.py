"""Blocked activations: made, taken apart, added, cut off below 0."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.blocked import BLOCK, Blocked
from tinyseg.kernels.cpu import workspace
from tinyseg.kernels.cpu.matrix_unit_lines import LINE, representable
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.vector import (
    bf16,
    evens,
    load,
    maximum,
    odds,
    pair,
    splat,
    store,
    store_part,
    transpose_square,
)
from tinyseg.kernels.cpu.vector_math import where_positive

__all__ = ["Lie", "add", "alike", "by_blocks", "concatenate", "corner", "empty", "end_row",
           "flat_lines", "like", "merged", "numbers", "pixel", "plain", "put", "relu", "relu_grad"]

GUARD = 128                                          # lines that the last tiles may read beyond the last plane


def empty(shape: tuple[int, int, int, int], split: bool) -> Blocked:
    """Memory to write to, with zeros above and below each image; C must be a multiple of 32.

    Who writes the last column also writes the line of zeros right of it: there it costs least.
    """
    images, channels, height, width = shape
    planes, lines = images * (channels // BLOCK) * (2 if split else 1), 1 + (height + 2) * (width + 1)
    memory = workspace.empty((planes * lines + GUARD) * LINE)
    _surround(memory, planes, height, width)
    part = memory[:planes * lines * LINE].reshape(images, channels // BLOCK, -1, lines, LINE)
    return Blocked((height, width), (part,), 0.0)


class Lie(NamedTuple):
    """Where lines lie in a flat array, in elements.

    image, block    from an image or a block of channels to the next
    below           from the upper halves of numbers to the lower ones; None without: then kernels are compiled so
    first, pitch    pixel (0, 0), and from a row to the next
    """

    image: int
    block: int
    below: int | None
    first: int
    pitch: int


def flat_lines(x: Blocked, part: np.ndarray) -> tuple[np.ndarray, Lie]:
    """A part of x with what its last tiles may read beyond it, and how it lies there."""
    image, block, half, _, _ = (stride // part.itemsize for stride in part.strides)
    size = (len(part) - 1) * image + part[0].size + GUARD * LINE
    lie = Lie(image, block, half if x.split else None, x.first * LINE, x.pitch * LINE)
    return np.lib.stride_tricks.as_strided(part, (size,), (part.itemsize,)), lie


def by_blocks(x: Blocked, work: Callable[..., None], *others: Blocked) -> None:
    """Call work(channel, blocks, lines, lie, ...) for each part of x.

    channel      its first one
    blocks       (how many, N) of 32 channels, numbered through its channels and the N images; see `corner`
    lines, lie   of the part, and of the same of each of `others`, which has parts alike
    """
    channel = 0
    for parts in zip(x.parts, *(other.parts for other in others), strict=True):
        images, blocks = parts[0].shape[:2]
        work(channel, (images * blocks, images),
             *(word for a, part in zip((x, *others), parts, strict=True) for word in flat_lines(a, part)))
        channel += blocks * BLOCK


def like(x: Blocked, size: tuple[int, int] | None = None) -> Blocked:
    """Memory to write to, with parts as x has them; images of another size if given."""
    parts = (empty((len(part), part.shape[1] * BLOCK, *(size or x.size)), x.split).parts[0] for part in x.parts)
    return Blocked(size or x.size, tuple(parts), 0.0)


def merged(x: Blocked) -> Blocked:
    """The same in one part."""
    if len(x.parts) == 1:
        return x
    y, channel = empty(x.shape, x.split), 0
    for part in x.parts:
        y.parts[0][:, channel:channel + part.shape[1]] = part
        channel += part.shape[1]
    y.largest = x.largest
    return y


def plain(x: Blocked) -> np.ndarray:
    """(N, C, H, W)."""
    y, members = workspace.empty(x.shape), team()
    scratch = workspace.empty((members.size, 2 * LINE * LINE))
    by_blocks(x, lambda channel, *source: _unpack(members, *source, y, channel, scratch))
    return y


def alike(*arrays: Any) -> bool:
    """Are all blocked, with the same parts?"""
    return len({tuple(part.shape for part in a.parts) if isinstance(a, Blocked) else None for a in arrays}) == 1


# Each of these is the operation of its name in the registry, or None where it must be done on plain arrays.

def add(a: Blocked, b: Blocked) -> Blocked | None:
    if not alike(a, b) or not representable(a.largest + b.largest):
        return None
    return _each(_add, a.largest + b.largest, a, b)


def relu(x: Blocked) -> Blocked:
    return _each(_relu, x.largest, x)


def relu_grad(grad: Blocked | np.ndarray, y: Blocked | np.ndarray) -> Blocked | None:
    return _each(_relu_grad, grad.largest, grad, y) if alike(grad, y) else None


def concatenate(axis: int, *xs: Blocked | np.ndarray) -> Blocked | None:
    """Of channels, without a copy."""
    if axis != 1 or not all(isinstance(x, Blocked) for x in xs) or len({x.split for x in xs}) > 1:
        return None
    return Blocked(xs[0].size, sum((x.parts for x in xs), ()), max(x.largest for x in xs))


def _each(kernel: Any, largest: float, *arrays: Blocked) -> Blocked:
    """Lane by lane; what it makes of zeros must be zero."""
    y = like(arrays[0])
    y.largest = largest
    count = arrays[0].parts[0][0, 0, 0].size
    by_blocks(y, lambda channel, *places: kernel(team(), *places, count), *arrays)
    return y


@jit
def _surround(memory, planes, height, width):
    """Zeros above and below each image, and before its first row."""
    zero, pitch = splat(0), width + 1
    for plane in range(planes):
        start = plane * (1 + (height + 2) * pitch)
        for k in range(1 + pitch):
            store(memory, (start + k) * LINE, zero)
        for k in range(pitch):
            store(memory, (start + 1 + (height + 1) * pitch + k) * LINE, zero)


@jit
def _unpack(team, blocks, x, lie, y, channel, scratch):
    """Lines to planes of y; those of block 0 are `channel` and the next."""
    share(team, blocks[0], _unpack_block, (blocks, x, lie, y, channel, scratch))


@jit
def _unpack_block(n, member, blocks, x, lie, y, channel, scratch):
    _, _, height, width = y.shape
    image, first, place = n % blocks[1], channel + n // blocks[1] * 2 * LINE, corner(lie, blocks, n)
    own = scratch[member]
    for h in range(height):
        for w in range(0, width, LINE):
            line, count = pixel(lie, place, h, w), min(LINE, width - w)
            transpose_square(x, line, LINE, own, 0, LINE)
            lower = _transpose_lower(x, line, lie.below, own)
            for k in range(LINE):
                even, odd = numbers(own, LINE * k, lower)
                store_part(y, (image, first + 2 * k, h, w), even, count)
                store_part(y, (image, first + 2 * k + 1, h, w), odd, count)


@jit
def _transpose_lower(x, line, below, scratch):
    """Returns where that went beyond the upper halves."""
    if below is None:
        return None
    transpose_square(x, line + below, LINE, scratch, LINE * LINE, LINE)
    return LINE * LINE


@jit
def _add(team, blocks, y, target, a, lie, b, other, count):
    share(team, blocks[0], _add_block, (blocks, y, target, a, lie, b, other, count))


@jit
def _add_block(n, member, blocks, y, target, a, lie, b, other, count):
    to, place, at = corner(target, blocks, n), corner(lie, blocks, n), corner(other, blocks, n)
    for k in range(0, count, LINE):
        even, odd = numbers(a, place + k, lie.below)
        more_even, more_odd = numbers(b, at + k, other.below)
        put(y, to + k, target.below, even + more_even, odd + more_odd)


@jit
def _relu(team, blocks, y, target, x, lie, count):
    share(team, blocks[0], _relu_block, (blocks, y, target, x, lie, count))


@jit
def _relu_block(n, member, blocks, y, target, x, lie, count):
    to, place = corner(target, blocks, n), corner(lie, blocks, n)
    for k in range(0, count, LINE):
        even, odd = numbers(x, place + k, lie.below)
        put(y, to + k, target.below, maximum(splat(0), even), maximum(splat(0), odd))


@jit
def _relu_grad(team, blocks, dx, target, grad, lie, y, other, count):
    share(team, blocks[0], _relu_grad_block, (blocks, dx, target, grad, lie, y, other, count))


@jit
def _relu_grad_block(n, member, blocks, dx, target, grad, lie, y, other, count):
    to, place, at = corner(target, blocks, n), corner(lie, blocks, n), corner(other, blocks, n)
    for k in range(0, count, LINE):
        even, odd = numbers(grad, place + k, lie.below)
        above_even, above_odd = numbers(y, at + k, other.below)
        put(dx, to + k, target.below, where_positive(above_even, even), where_positive(above_odd, odd))


@jit
def corner(lie, blocks, n):
    """Where block n of `blocks` begins: number n // N of image n % N."""
    return n % blocks[1] * lie.image + n // blocks[1] * lie.block


@jit
def pixel(lie, place, h, w):
    """Where the line of pixel (h, w) begins."""
    return place + lie.first + h * lie.pitch + w * LINE


@jit
def end_row(y, lie, place, h, width):
    """The line of zeros right of a row."""
    put(y, pixel(lie, place, h, width), lie.below, splat(0), splat(0))


@jit
def put(lines, line, below, even, odd):
    """Channels 0, 2, ... and 1, 3, ... to a line."""
    store(lines, line, pair(even, odd))
    if below is not None:
        store(lines, line + below, pair(even - bf16(even), odd - bf16(odd)))


@jit
def numbers(lines, line, below):
    """Channels 0, 2, ... and 1, 3, ... of a line."""
    upper = load(lines, line)
    even, odd = evens(upper), odds(upper)
    if below is not None:
        lower = load(lines, line + below)
        even, odd = even + evens(lower), odd + odds(lower)
    return even, odd
