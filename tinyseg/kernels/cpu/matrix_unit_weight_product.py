"""Sums of the weight gradient in the registers of the matrix unit: 32 outputs × 48 columns at a time."""

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.amx import begin_tiles, end_tiles, tile_dot, tile_load, tile_store, tile_zero
from tinyseg.kernels.cpu.matrix_unit_weight_lines import pack_grad_lines, pack_x_lines
from tinyseg.kernels.cpu.matrix_unit_weight_pack import pack_grad, pack_x
from tinyseg.kernels.cpu.vector import (
    LANES,
    load,
    load_part,
    load_rows_part,
    peak,
    scatter,
    splat,
    store,
    store_part,
    store_rows,
    transpose,
)

__all__ = ["accumulate", "accumulate_rows", "finish", "pack_band"]


@jit
def pack_band(grad, lie, layer, group, row, rows, first, last, tiles, place, stage):
    """Some rows of one image, counted from `row` through the batch, for 32 outputs each from `first` to `last` - 1.

    lie    how its lines lie; of an array NCHW the pitch is 0.  Returns the largest magnitude met in such an array.
    """
    n, p = divmod(row, layer.rows)
    if lie.pitch:
        pack_grad_lines(grad, lie, layer, n, p, rows, first, last, tiles, place, stage)
        return np.float32(0)
    return peak(pack_grad(grad, layer, n, group, p, rows, first, last, tiles, place, stage))


@jit
def accumulate(tiles, x, lie, layer, panels, sources, group, begin, end, fresh, blocks, sums, weight, packed, lines,
               stage):
    """Add up the pixels of rows `begin` .. `end` - 1, counted through the batch, for some blocks of three panels.

    tiles     their grad, packed by `pack_band`
    lie       how lines of x lie; of an array NCHW the pitch is 0
    fresh     are there no sums yet?
    blocks    (first, after the last)
    sums      (1, blocks, outputs / 32, K_h, 3 panels, 32 outputs, 16 columns); if these are all rows, for one block
    weight    written to, unless it has no elements
    Returns the largest magnitude met in an array x.
    """
    largest = splat(0)
    begin_tiles()
    for block in range(blocks[0], blocks[1]):
        first, last = 3 * block, min(3 * block + 3, len(panels))
        slot = (block - blocks[0]) % sums.shape[1]
        row, place = begin, 0
        while row < end:
            n, p = divmod(row, layer.rows)
            count = min(layer.band, layer.rows - p, end - row)
            for phase in range(layer.stride[0]):     # tap rows that meet the same rows of x
                depth = _depth(layer, phase)
                if depth < 0:
                    continue
                top = p * layer.stride[0] - layer.near[0] + phase
                if lie.pitch:
                    pack_x_lines(x, lie, layer, panels, first, last, n, top, count + depth, packed)
                else:
                    largest = pack_x(x, layer, panels, sources, first, last, n, group, top, count + depth, packed,
                                     lines, stage, largest)
                _multiply_taps(layer, phase, p, count, last - first, tiles, place, packed, sums.reshape(-1),
                               slot * (sums.size // sums.shape[1]), fresh and row == begin, stage)
            row, place = row + count, place + layer.tiles
        if len(weight):
            finish(sums, slot, layer, panels, group, block, weight, stage)
    end_tiles()
    return peak(largest)


@jit
def accumulate_rows(grad, grad_lie, x, x_lie, layer, panels, sources, group, begin, end, blocks, sums, tiles, packed,
                    lines, stage):
    """Pack and add up rows band by band.  Returns the largest magnitudes met in arrays grad and x."""
    of_grad, of_x, row = np.float32(0), np.float32(0), begin
    while row < end:
        last = min(end, row + layer.band, (row // layer.rows + 1) * layer.rows)
        more = pack_band(grad, grad_lie, layer, group, row, last - row, 0, -(-layer.outputs // 32), tiles, 0, stage)
        of_grad = _larger(of_grad, more)
        more = accumulate(tiles, x, x_lie, layer, panels, sources, group, row, last, row == begin, blocks, sums,
                          stage[:0], packed, lines, stage)
        of_x, row = _larger(of_x, more), last
    return of_grad, of_x


@jit
def _larger(a, b):
    """NaN if one is."""
    return a if a > b or a != a else b


@jit
def _depth(layer, phase):
    """How many rows of x, a stride apart, the tap rows of this phase reach beyond the first; -1 without any."""
    depth = -1
    for u in range(layer.kernel[0]):
        if u * layer.dilation[0] % layer.stride[0] == phase:
            depth = max(depth, u * layer.dilation[0] // layer.stride[0])
    return depth


@jit
def _multiply_taps(layer, phase, p, rows, panels, tiles, place, packed, sums, start, fresh, stage):
    """The products of `rows` packed rows, from output row p on, for the tap rows of a phase.

    Three of them together read most of a panel from the nearest cache, for which they read rows of zeros too.
    """
    row, tile = layer.pitch // 2 * layer.line, 32 * layer.line + 16
    for outputs in range(-(-layer.outputs // 32)):
        a, sum_ = place + outputs * layer.steps * tile, start + outputs * layer.kernel[0] * 3 * 512
        if layer.three_rows:
            reach = layer.dilation[0] * row
            for k in range(panels):
                b = k * layer.panel
                _zero_sums()
                _add_products(tiles, a, packed, b, b + reach, b + 2 * reach, layer.line, -(-rows * layer.pitch // 32),
                              True)
                _keep_sums(sums, sum_ + k * 512, 3 * 512, fresh, stage)
            continue
        for u in range(layer.kernel[0]):
            reach = u * layer.dilation[0]
            if reach % layer.stride[0] != phase:
                continue
            # Steps whose rows lie wholly in the padding add nothing.
            begin = max(0, -((reach - layer.near[0]) // layer.stride[0]) - p)
            end = min(rows, (layer.height - 1 + layer.near[0] - reach) // layer.stride[0] + 1 - p)
            first = begin * layer.pitch // 32
            count = max(0, (end * layer.pitch + 31) // 32 - first)
            if count > 0 or fresh:
                b = reach // layer.stride[0] * row + first * 16 * layer.line
                _zero_sums()
                _add_products(tiles, a + first * tile, packed, b, b + layer.panel, b + 2 * layer.panel, layer.line,
                              count, panels == 3)
                _keep_sums(sums, sum_ + u * 3 * 512, 512, fresh, stage)


@jit
def _keep_sums(sums, place, apart, fresh, stage):
    """Accumulators to sums[place] and on, `apart` for each column of two; added up, unless they are the first."""
    if fresh:
        _store_sums(sums, place, apart)
    else:                                            # a chain of additions no longer than a band keeps its digits
        _store_sums(stage, 0, 512)
        for k in range(3):
            for i in range(0, 512, 16):
                to = place + k * apart + i
                store(sums, to, load(sums, to) + load(stage, 512 * k + i))


@jit
def _zero_sums():
    tile_zero(0)
    tile_zero(1)
    tile_zero(2)
    tile_zero(3)
    tile_zero(4)
    tile_zero(5)


@jit
def _store_sums(c, place, apart):
    tile_store(0, c, place, 16)
    tile_store(1, c, place + apart, 16)
    tile_store(2, c, place + 2 * apart, 16)
    tile_store(3, c, place + 256, 16)
    tile_store(4, c, place + apart + 256, 16)
    tile_store(5, c, place + 2 * apart + 256, 16)


@jit
def _add_products(a, i, b, j0, j1, j2, line, steps, three):
    """Two tiles of grad by two or three of x for each step; of two numbers each hi·hi + hi·lo + lo·hi.

    Consecutive products share an operand, so that only the other is loaded.
    """
    if line == 16:
        for _ in range(steps):
            tile_load(6, a, i, 16)
            tile_load(7, b, j0, 16)
            tile_dot(0, 6, 7)
            tile_load(7, b, j1, 16)
            tile_dot(1, 6, 7)
            if three:
                tile_load(7, b, j2, 16)
                tile_dot(2, 6, 7)
            tile_load(6, a, i + 256, 16)
            if three:
                tile_dot(5, 6, 7)
                tile_load(7, b, j1, 16)
            tile_dot(4, 6, 7)
            tile_load(7, b, j0, 16)
            tile_dot(3, 6, 7)
            i, j0, j1, j2 = i + 528, j0 + 256, j1 + 256, j2 + 256
    else:
        for _ in range(steps):
            tile_load(6, a, i, 32)
            tile_load(7, b, j0, 32)
            tile_dot(0, 6, 7)
            tile_load(7, b, j1, 32)
            tile_dot(1, 6, 7)
            if three:
                tile_load(7, b, j2, 32)
                tile_dot(2, 6, 7)
            tile_load(7, b, j0 + 16, 32)
            tile_dot(0, 6, 7)
            tile_load(7, b, j1 + 16, 32)
            tile_dot(1, 6, 7)
            if three:
                tile_load(7, b, j2 + 16, 32)
                tile_dot(2, 6, 7)
            tile_load(6, a, i + 512, 32)
            if three:
                tile_dot(5, 6, 7)
                tile_load(7, b, j1 + 16, 32)
            tile_dot(4, 6, 7)
            tile_load(7, b, j0 + 16, 32)
            tile_dot(3, 6, 7)
            if three:
                tile_load(7, b, j2, 32)
                tile_dot(5, 6, 7)
            tile_load(7, b, j1, 32)
            tile_dot(4, 6, 7)
            tile_load(7, b, j0, 32)
            tile_dot(3, 6, 7)
            tile_load(6, a, i + 528, 32)
            tile_dot(3, 6, 7)
            tile_load(7, b, j1, 32)
            tile_dot(4, 6, 7)
            if three:
                tile_load(7, b, j2, 32)
                tile_dot(5, 6, 7)
            tile_load(6, a, i + 16, 32)
            if three:
                tile_dot(2, 6, 7)
                tile_load(7, b, j1, 32)
            tile_dot(1, 6, 7)
            tile_load(7, b, j0, 32)
            tile_dot(0, 6, 7)
            i, j0, j1, j2 = i + 1040, j0 + 512, j1 + 512, j2 + 512


@jit
def finish(sums, slot, layer, panels, group, block, weight, stage):
    """Write a block of columns: the sum over the threads' `sums`, as `accumulate` made them."""
    K_h, K_w = layer.kernel
    first, last, taps = 3 * block, min(3 * block + 3, len(panels)), K_h * K_w
    flat, part = sums.reshape(-1), sums.size // len(sums)
    start = slot * (part // sums.shape[1])
    target, row = group * layer.outputs * layer.channels * taps, layer.channels * taps
    for thread in range(1, len(sums)):
        for i in range(start, start + part // sums.shape[1], LANES):
            store(flat, i, load(flat, i) + load(flat, thread * part + i))
    if K_w == 3 and taps <= LANES and panels[first]["step"] == taps:
        _write_channels(flat, start, layer, weight, target, panels[first], stage)
        return
    for k in range(first, last):
        step, count = panels[k]["step"], panels[k]["count"]
        for u in range(K_h):
            to = target + panels[k]["place"][0] + u * K_w
            for o in range(layer.outputs):
                total = load(flat, start + (((o // 32 * K_h + u) * 3 + k - first) * 32 + o % 32) * 16)
                if step == 1:
                    store_part(weight, to + o * row, total, count)
                elif step:
                    scatter(weight, to + o * row, step, total, count)
                else:
                    store(stage, 0, total)
                    for i in range(count):
                        weight[target + o * row + u * K_w + panels[k]["place"][i]] = stage[i]


@jit
def _write_channels(sums, start, layer, weight, target, panel, stage):
    """All taps of the channels of a panel and the two beside it, 3 in a row and up to 16: (taps, 16) to (16, taps)."""
    taps = layer.kernel[0] * 3
    count = panel["count"] * taps
    for o in range(layer.outputs):
        place, to = start + (o // 32 * taps * 32 + o % 32) * 16, target + o * layer.channels * taps + panel["place"][0]
        rows = load_rows_part(sums, place, 512, 16, 0, taps, 16)
        store_rows(stage, 0, taps, transpose(rows))  # each covers what is too much of the one before
        whole = count // LANES * LANES
        for i in range(0, whole, LANES):
            store(weight, to + i, load(stage, i))
        store_part(weight, to + whole, load_part(stage, whole, count - whole), count - whole)
