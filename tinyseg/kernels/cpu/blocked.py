"""Blocked activations: made, taken apart, added, pooled."""

from typing import Any

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.jit import jit
from tinyseg.kernels.blocked import BLOCK, Blocked
from tinyseg.kernels.cpu import workspace
from tinyseg.kernels.cpu.matrix_unit_lines import LINE, representable
from tinyseg.kernels.cpu.threads import in_parallel
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

__all__ = ["add", "empty", "flat_lines", "max_pool2d", "plain", "relu"]

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


def flat_lines(part: np.ndarray) -> np.ndarray:
    """The elements of a part, and what its last tiles may read beyond them."""
    return np.lib.stride_tricks.as_strided(part, (part.size + GUARD * LINE,), (part.itemsize,))


def plain(x: Blocked) -> np.ndarray:
    """(N, C, H, W)."""
    y, first, cells = workspace.empty(x.shape), 0, x.size[0] * x.size[1]
    for part in x.parts:
        lines, plane, blocks, halves = flat_lines(part), part[0, 0, 0].size, part.shape[1], part.shape[2]

        def work(number: int, lines=lines, plane=plane, blocks=blocks, halves=halves, first=first) -> None:
            image, block = divmod(number, blocks)
            _unpack(lines, number * halves * plane + x.first * LINE, (halves - 1) * plane, x.pitch * LINE,
                    y.reshape(-1), (image * y.shape[1] + (first + block) * BLOCK) * cells, *x.size,
                    workspace.empty(2 * LINE * LINE))
        in_parallel(work, range(part.shape[0] * blocks))
        first += blocks
    return y


def add(a: Blocked, b: Blocked) -> Blocked | None:
    """a + b of one shape, or None where their parts or the sizes of their numbers do not fit."""
    if [p.shape for p in a.parts] != [p.shape for p in b.parts] or not representable(a.largest + b.largest):
        return None
    return _each(_add, a.largest + b.largest, a, b)


def relu(x: Blocked) -> Blocked:
    return _each(_relu, x.largest, x)


def _each(kernel: Any, largest: float, *arrays: Blocked) -> Blocked:
    """Lane by lane; what it makes of zeros must be zero."""
    first, parts = arrays[0], []
    for k, part in enumerate(first.parts):
        y = workspace.empty(part.size + GUARD * LINE)
        plane, halves = part[0, 0, 0].size, part.shape[2]
        flat = [flat_lines(x.parts[k]) for x in arrays]

        def work(number: int, y=y, flat=flat, plane=plane, halves=halves) -> None:
            kernel(*flat, y, number * halves * plane, plane, (halves - 1) * plane)
        in_parallel(work, range(part.shape[0] * part.shape[1]))
        parts.append(y[:part.size].reshape(part.shape))
    return Blocked(first.size, tuple(parts), largest)


def max_pool2d(x: Blocked, geometry: ConvGeometry) -> Blocked | None:
    """The largest number in each window, or None where windows reach beyond the image."""
    reach = [(n - 1) * s + (k - 1) * d + 1 for n, s, k, d in zip(
        geometry.output_size, geometry.stride, geometry.kernel_size, geometry.dilation, strict=True)]
    if geometry.near_padding != (0, 0) or reach[0] > x.size[0] or reach[1] > x.size[1]:
        return None
    pooled = []
    for part in x.parts:
        y = empty((len(part), part.shape[1] * BLOCK, *geometry.output_size), x.split)
        source, target = flat_lines(part), flat_lines(y.parts[0])
        halves, plane, small = part.shape[2], part[0, 0, 0].size, y.parts[0][0, 0, 0].size

        def work(number: int, source=source, target=target, halves=halves, plane=plane, small=small, y=y) -> None:
            _max_pool(source, number * halves * plane + x.first * LINE, (halves - 1) * plane, x.pitch, target,
                      number * halves * small + y.first * LINE, small, y.pitch, geometry.output_size,
                      geometry.kernel_size, geometry.stride, geometry.dilation)
        in_parallel(work, range(part.shape[0] * part.shape[1]))
        pooled.append(y.parts[0])
    return Blocked(geometry.output_size, tuple(pooled), x.largest)


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
def _unpack(lines, start, below, row, y, image, height, width, scratch):
    """The lines of 32 channels to as many planes of y from y[image] on."""
    plane = height * width
    for h in range(height):
        for w in range(0, width, LINE):
            line, place, count = start + h * row + w * LINE, image + h * width + w, min(LINE, width - w)
            transpose_square(lines, line, LINE, scratch, 0, LINE)
            if below:
                transpose_square(lines, line + below, LINE, scratch, LINE * LINE, LINE)
            for k in range(LINE):
                even, odd = _numbers(scratch, LINE * k, LINE * LINE if below else 0)
                store_part(y, place + 2 * k * plane, even, count)
                store_part(y, place + (2 * k + 1) * plane, odd, count)


@jit
def _max_pool(x, start, below, pitch, y, place, plane, row, size, kernel, stride, dilation):
    """One plane of y from one of x; planes of halves lie `below` and `plane` elements apart."""
    for p in range(size[0]):
        for q in range(size[1]):
            corner, to = start + (p * stride[0] * pitch + q * stride[1]) * LINE, place + (p * row + q) * LINE
            even = odd = splat(-np.inf)
            for u in range(kernel[0]):
                for v in range(kernel[1]):
                    a, b = _numbers(x, corner + (u * dilation[0] * pitch + v * dilation[1]) * LINE, below)
                    even, odd = maximum(even, a), maximum(odd, b)
            _put(y, to, plane if below else 0, even, odd)
        end = place + (p * row + size[1]) * LINE
        store(y, end, splat(0))
        if below:
            store(y, end + plane, splat(0))


@jit
def _add(a, b, y, start, count, below):
    for line in range(start, start + count, LINE):
        even, odd = _numbers(a, line, below)
        more_even, more_odd = _numbers(b, line, below)
        _put(y, line, below, even + more_even, odd + more_odd)


@jit
def _relu(x, y, start, count, below):
    zero = splat(0)
    for line in range(start, start + count, LINE):
        even, odd = _numbers(x, line, below)
        _put(y, line, below, maximum(zero, even), maximum(zero, odd))


@jit
def _put(lines, line, below, even, odd):
    store(lines, line, pair(even, odd))
    if below:
        store(lines, line + below, pair(even - bf16(even), odd - bf16(odd)))


@jit
def _numbers(lines, line, below):
    """Channels 0, 2, ... and 1, 3, ... of a line."""
    upper = load(lines, line)
    even, odd = evens(upper), odds(upper)
    if below:
        lower = load(lines, line + below)
        even, odd = even + evens(lower), odd + odds(lower)
    return even, odd
