"""Operands of the weight gradient in the order in which the matrix unit reads them.

    dw[o, c, u, v] = Σ over output pixels (p, q) of   grad[o, p, q] · x[c, p·s - top + u·d, q·s - left + v·d]

is for each tap row u a product of two matrices, grad (outputs × pixels) and shifted rows of x (pixels × columns), a
column being a channel c and a tap column v.  Pixels are numbered row by row, and a row has an even number of them, so
that neighbours make words; a line is 16 words.

    tiles     of grad: 16 lines, one for each of 16 outputs, of 32 pixels
    panels    of x: for each pair of pixels a line, one word for each of 16 columns.  Any 16 lines that follow one
              another are a tile, so another tap row is the same panel read from another line

Split in two, hi = bf16(x) is in one line and lo = bf16(x - hi) in the next.  All arrays are flat.
"""

from typing import NamedTuple

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.vector import (
    LANES,
    bf16,
    deinterleave,
    load,
    load_part,
    load_rows,
    magnitude,
    pair,
    splat,
    store,
    store_part,
    store_rows,
    straddle,
    transpose,
    words,
)

__all__ = ["CHANNELS", "PANEL", "SOURCE", "TAPS", "Layer", "fill", "pack_grad", "pack_x"]


class Layer(NamedTuple):
    """Numbers of one convolution, as a kernel wants them."""

    images: int
    groups: int
    outputs: int                                     # of a group; and so are the channels
    channels: int
    height: int                                      # of x
    width: int
    rows: int                                        # of grad
    row: int                                         # its width, and that rounded up to even
    pitch: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    near: tuple[int, int]
    dilation: tuple[int, int]
    three_rows: bool                                 # are the products of three tap rows computed together?
    line: int                                        # elements: 16 for each bf16 number that stands for a float32
    band: int                                        # rows of grad that are multiplied at a time
    steps: int                                       # of 32 pixels in a band
    panel: int                                       # elements
    packed: int                                      # where in a thread's scratch packed x begins; and the lines of
    lines: int                                       # which that is made


# Panels that are shifted copies of one another share a source of 16 streams.  Element m of stream i, m < count, is
# x[channel[i], ·, s·m + offset[i]], zero outside of x and where the channel does not exist.
CHANNELS, TAPS, MIXED = range(3)                     # 16 neighbouring channels; 16 neighbouring tap columns; any
SOURCE = np.dtype([("kind", np.int64), ("count", np.int64), ("channel", np.int64, 16), ("offset", np.int64, 16),
                   ("begin", np.int64, 16), ("end", np.int64, 16),       # elements that are inside of x
                   ("before", np.int64)])            # pairs of zeros that its panels want before element 0
# Column i of a panel is stream i of its source, from element `shift` on.  `place[i]` says where its tap in tap row 0
# lies in a weight's (C/G, K_h, K_w), for the `count` columns that are some; places are `step` apart, unless that is 0.
PANEL = np.dtype([("source", np.int64), ("shift", np.int64), ("place", np.int64, 16), ("step", np.int64),
                  ("count", np.int64)])


@jit
def pack_grad(grad, layer, n, group, row, rows, tile, tiles, stage):
    """`rows` rows from `row` on, for 32 outputs of a group from 32 · `tile` on.  Returns their magnitudes.

    tiles    (outputs / 32, steps, 32 outputs · line + 16): the 16 keep steps from sharing few places of the cache
    """
    pixels, largest = rows * layer.pitch, splat(0)
    for o in range(32 * tile, 32 * tile + 32):
        place = tile * layer.steps * (32 * layer.line + 16) + o % 32 * layer.line
        source, start = grad, (((n * layer.groups + group) * layer.outputs + o) * layer.rows + row) * layer.row
        count = pixels
        if o >= layer.outputs:
            start, count = 0, 0
        elif layer.row != layer.pitch:               # an odd width: put a zero after each row
            for p in range(rows):
                for q in range(0, layer.pitch, LANES):
                    store_part(stage, p * layer.pitch + q,
                               load_part(grad, start + p * layer.row + q, layer.row - q), layer.pitch - q)
            source, start = stage, 0
        whole = count // 32 * 32
        for j in range(0, whole, 32):
            a, b = load(source, start + j), load(source, start + j + 16)
            store(tiles, place, words(a, b))
            if layer.line == 32:
                store(tiles, place + 16, words(a - bf16(a), b - bf16(b)))
            largest = magnitude(magnitude(largest, a), b)
            place += 32 * layer.line + 16
        for j in range(whole, pixels, 32):
            a, b = load_part(source, start + j, count - j), load_part(source, start + j + 16, count - j - 16)
            store(tiles, place, words(a, b))
            if layer.line == 32:
                store(tiles, place + 16, words(a - bf16(a), b - bf16(b)))
            largest = magnitude(magnitude(largest, a), b)
            place += 32 * layer.line + 16
    return largest


@jit
def pack_x(x, layer, panels, sources, first, last, n, group, top, depth, packed, lines, stage, largest):
    """Every s-th row of x from `top`, `depth` of them, for the panels first .. last - 1.

    Rows outside of x are zeros, and so is a tile's worth of lines after the last row.

    packed    (panels, lines, line)
    """
    row_lines = layer.pitch // 2 * layer.line
    lowest, highest = panels[first]["source"], panels[first]["source"]
    for k in range(first, last):
        lowest, highest = min(lowest, panels[k]["source"]), max(highest, panels[k]["source"])
    for i in range(depth):
        h, place = top + i * layer.stride[0], i * row_lines
        if h < 0 or h >= layer.height:
            for k in range(last - first):
                fill(packed, k * layer.panel + place, row_lines)
            continue
        row = ((n * layer.groups + group) * layer.channels * layer.height + h) * layer.width
        for s in range(lowest, highest + 1):
            largest = _pack_lines(x, row, layer, sources[s], lines, stage, largest)
            for k in range(first, last):
                if panels[k]["source"] == s:
                    _shift(lines, panels[k]["shift"] + 2 * sources[s]["before"], packed,
                           (k - first) * layer.panel + place, row_lines, layer.line)
    for k in range(last - first):
        fill(packed, k * layer.panel + depth * row_lines, 16 * layer.line)
    return largest


@jit
def fill(array, start, count):
    """Zeros, a multiple of 16."""
    for i in range(start, start + count, LANES):
        store(array, i, splat(0))


@jit
def _shift(source, shift, target, place, count, line):
    """Lines of a panel from those of its source, `shift` pixels later."""
    start = shift // 2 * line
    if shift % 2:
        for i in range(0, count, 16):
            store(target, place + i, straddle(load(source, start + i), load(source, start + line + i)))
    else:
        for i in range(0, count, 16):
            store(target, place + i, load(source, start + i))


@jit
def _pack_lines(x, row, layer, source, lines, stage, largest):
    """A source's streams in one row of x, which begins at `row` in its first channel.  Zeros before and after."""
    line, step, count, plane = layer.line, layer.stride[1], source["count"], layer.height * layer.width
    place = source["before"] * line
    fill(lines, 0, place)
    row_c = row + source["channel"][0] * plane
    if source["kind"] == TAPS:
        at = source["offset"][0]
        for _ in range(0, count, 2):
            if at >= 0 and at + step + LANES <= layer.width:
                a, b = load(x, row_c + at), load(x, row_c + at + step)
            else:
                _copy_taps(x, row_c, at, layer.width, stage, 0)
                _copy_taps(x, row_c, at + step, layer.width, stage, 16)
                a, b = load(stage, 0), load(stage, 16)
            store(lines, place, pair(a, b))
            if line == 32:
                store(lines, place + 16, pair(a - bf16(a), b - bf16(b)))
            largest = magnitude(magnitude(largest, a), b)
            place += line
            at += 2 * step
    else:
        for m in range(0, count, 32):
            if source["kind"] == CHANNELS and step == 1 and row_c + 15 * plane + m + 32 <= len(x):
                largest = _pack_square(x, row_c + m, plane, lines, place, line, stage, largest)
            else:
                _stage(x, row, layer, source, m, stage)
                largest = _pack_square(stage, 0, 32, lines, place, line, stage, largest)
            place += min(16, (count - m) // 2) * line
        if count % 2:                                # a number of the next row, or zero
            for i in range(place, place + line, 16):
                store(lines, i, straddle(straddle(splat(0), load(lines, i)), splat(0)))
            place += line
    fill(lines, place, len(lines) - place)
    return largest


@jit
def _pack_square(source, start, pitch, lines, place, line, stage, largest):
    """16 rows of 32 numbers to 16 lines."""
    for i in range(16):
        a, b = load(source, start), load(source, start + 16)
        store(stage, 512 + 16 * i, words(a, b))
        if line == 32:
            store(stage, 768 + 16 * i, words(a - bf16(a), b - bf16(b)))
        largest = magnitude(magnitude(largest, a), b)
        start += pitch
    for part in range(0, line, 16):
        store_rows(lines, place + part, line, transpose(load_rows(stage, 512 + 16 * part, 16, 16)))
    return largest


@jit
def _copy_taps(x, row, at, width, stage, place):
    """Numbers `at` .. `at` + 15 of a row of x, zero outside of it."""
    for i in range(LANES):
        stage[place + i] = x[row + at + i] if 0 <= at + i < width else 0


@jit
def _stage(x, row, layer, source, m, stage):
    """The elements m .. m + 31 of 16 streams, 32 apart."""
    step = layer.stride[1]
    for i in range(16):
        begin, end = max(m, source["begin"][i]), min(m + 32, source["end"][i])
        start = row + source["channel"][i] * layer.height * layer.width + source["offset"][i] + begin * step
        count = end - begin
        place = 32 * i
        if count < 32:
            store(stage, place, splat(0))
            store(stage, place + 16, splat(0))
            place += begin - m
        if step == 2 and count == 32 and start + 64 <= len(x):
            store(stage, place, deinterleave((load(x, start), load(x, start + 16)))[0])
            store(stage, place + 16, deinterleave((load(x, start + 32), load(x, start + 48)))[0])
        elif step == 1:
            for j in range(0, count, LANES):
                store_part(stage, place + j, load_part(x, start + j, count - j), count - j)
        elif step == 2:
            for j in range(0, count, LANES):
                left = 2 * (count - j) - 1
                a, b = load_part(x, start + 2 * j, left), load_part(x, start + 2 * j + LANES, left - LANES)
                store_part(stage, place + j, deinterleave((a, b))[0], count - j)
        else:
            for j in range(count):
                stage[place + j] = x[start + j * step]
