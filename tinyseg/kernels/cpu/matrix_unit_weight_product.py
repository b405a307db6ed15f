"""Sums of the weight gradient in the registers of the matrix unit: 32 outputs × 48 columns at a time.
"""

from tinyseg.jit import jit
from tinyseg.kernels.cpu.amx import begin_tiles, end_tiles, tile_dot, tile_load, tile_store, tile_zero
from tinyseg.kernels.cpu.matrix_unit_weight_lines import pack_grad_lines, pack_x_lines
from tinyseg.kernels.cpu.matrix_unit_weight_pack import pack_grad, pack_x
from tinyseg.kernels.cpu.team import share
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

__all__ = ["weight_grad"]


@jit
def weight_grad(team, grad, grad_lie, x, x_lie, layer, panels, sources, sums, weight, largest, tiles, scratch):
    """Write a weight's gradient.  Threads share pixels if `sums` has some for each, and add those up; else columns.

    grad, x                flat, and how their lines lie; of an array NCHW the pitch is 0
    panels, sources        columns of x; three panels are a block
    sums                   (G, threads that share pixels, blocks, outputs / 32 · K_h · 3 panels · 32 · 16)
    largest                (threads, 2): raised to the largest magnitudes met in arrays grad and x
    tiles                  packed grad: a band of each thread that shares pixels, or as many bands as all read together
    scratch                a row for each thread: its stage, packed x, and the lines of which that is made
    """
    blocks, bands = -(-len(panels) // 3), layer.images * _bands(layer)
    if sums.shape[1] > 1:
        share(team, layer.groups * sums.shape[1], _add_pixels,
              (grad, grad_lie, x, x_lie, layer, panels, sources, sums, largest, tiles, scratch))
        share(team, layer.groups * blocks, _add_threads, (layer, panels, sums, weight, scratch))
        return
    # Cores that write neighbouring columns take their lines from each other: a thread's columns lie together.
    parts = min(team.size, blocks)
    for group in range(layer.groups):
        for first in range(0, bands, len(tiles)):
            last = min(first + len(tiles), bands)
            share(team, (last - first) * _tiles(layer), _pack_tile,
                  (grad, grad_lie, layer, group, first, largest, tiles, scratch))
            share(team, parts, _add_blocks,
                  (x, x_lie, layer, panels, sources, group, parts, first, last, last == bands, sums, weight, largest,
                   tiles, scratch))


@jit
def _add_pixels(item, member, grad, grad_lie, x, x_lie, layer, panels, sources, sums, largest, tiles, scratch):
    group, thread = divmod(item, sums.shape[1])
    rows, threads, of_x = layer.images * layer.rows, sums.shape[1], splat(0)
    begin, end = rows * thread // threads, rows * (thread + 1) // threads
    row = begin
    while row < end:
        last = min(end, row + layer.band, (row // layer.rows + 1) * layer.rows)
        for tile in range(_tiles(layer)):
            _pack_rows(grad, grad_lie, layer, group, row, last, tile, tiles[member], largest[member], scratch[member])
        begin_tiles()
        for block in range(sums.shape[2]):
            of_x = _add_rows(x, x_lie, layer, panels, sources, group, block, row, last, row == begin,
                             sums[group, thread, block], tiles[member], scratch[member], of_x)
        end_tiles()
        row = last
    largest[member, 1] = _larger(largest[member, 1], peak(of_x))


@jit
def _add_threads(item, member, layer, panels, sums, weight, scratch):
    group, block = divmod(item, sums.shape[2])
    total = sums[group, 0, block]
    for thread in range(1, sums.shape[1]):
        more = sums[group, thread, block]
        for i in range(0, len(total), LANES):
            store(total, i, load(total, i) + load(more, i))
    _write(total, layer, panels, group, block, weight, scratch[member])


@jit
def _pack_tile(item, member, grad, lie, layer, group, first, largest, tiles, scratch):
    band, tile = divmod(item, _tiles(layer))
    begin, end = _rows(layer, first + band)
    _pack_rows(grad, lie, layer, group, begin, end, tile, tiles[band], largest[member], scratch[member])


@jit
def _add_blocks(part, member, x, lie, layer, panels, sources, group, parts, first, last, complete, sums, weight,
                largest, tiles, scratch):
    """A part of the blocks, for bands `first` .. `last` - 1, after which sums may be complete."""
    blocks, of_x = -(-len(panels) // 3), splat(0)
    begin_tiles()
    for block in range(blocks * part // parts, blocks * (part + 1) // parts):
        # Where all bands are packed at once, sums do not outlive their block, and each part has one block's.
        kept = sums[group, 0, block if sums.shape[2] == blocks else part]
        for band in range(first, last):
            begin, end = _rows(layer, band)
            of_x = _add_rows(x, lie, layer, panels, sources, group, block, begin, end, band == 0, kept,
                             tiles[band - first], scratch[member], of_x)
        if complete:
            _write(kept, layer, panels, group, block, weight, scratch[member])
    end_tiles()
    largest[member, 1] = _larger(largest[member, 1], peak(of_x))


@jit
def _tiles(layer):
    """Of 32 outputs each, in a group."""
    return -(-layer.outputs // 32)


@jit
def _bands(layer):
    """In an image."""
    return -(-layer.rows // layer.band)


@jit
def _rows(layer, band):
    """(first, after the last) of a band, counted through the batch."""
    image, k = divmod(band, _bands(layer))
    first = image * layer.rows + k * layer.band
    return first, min(first + layer.band, (image + 1) * layer.rows)


@jit
def _pack_rows(grad, lie, layer, group, begin, end, tile, tiles, largest, stage):
    """Rows `begin` .. `end` - 1 of one image, counted through the batch, for 32 outputs."""
    n, p = divmod(begin, layer.rows)
    if lie.pitch:
        pack_grad_lines(grad, lie, layer, n, p, end - begin, tile, tiles, stage)
    else:
        met = pack_grad(grad, layer, n, group, p, end - begin, tile, tiles, stage)
        largest[0] = _larger(largest[0], peak(met))


@jit
def _add_rows(x, lie, layer, panels, sources, group, block, begin, end, fresh, sums, tiles, scratch, largest):
    """Add up packed rows `begin` .. `end` - 1 of one image, counted through the batch, for a block of columns.

    fresh     are there no sums yet?
    Returns `largest` raised to the largest magnitudes met in an array x.
    """
    stage, packed, lines = scratch[:layer.packed], scratch[layer.packed:layer.lines], scratch[layer.lines:]
    first, last = 3 * block, min(3 * block + 3, len(panels))
    n, p = divmod(begin, layer.rows)
    for phase in range(layer.stride[0]):             # tap rows that meet the same rows of x
        depth = _depth(layer, phase)
        if depth < 0:
            continue
        top, depth = p * layer.stride[0] - layer.near[0] + phase, end - begin + depth
        if lie.pitch:
            pack_x_lines(x, lie, layer, panels, first, last, n, top, depth, packed)
        else:
            largest = pack_x(x, layer, panels, sources, first, last, n, group, top, depth, packed, lines, stage,
                             largest)
        _multiply_taps(layer, phase, p, end - begin, last - first, tiles, packed, sums, fresh, stage)
    return largest


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
def _multiply_taps(layer, phase, p, rows, panels, tiles, packed, sums, fresh, stage):
    """The products of `rows` packed rows, from output row p on, for the tap rows of a phase.

    Three of them together read most of a panel from the nearest cache, for which they read rows of zeros too.
    """
    row, tile = layer.pitch // 2 * layer.line, 32 * layer.line + 16
    for outputs in range(_tiles(layer)):
        a, sum_ = outputs * layer.steps * tile, outputs * layer.kernel[0] * 3 * 512
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
def _write(sums, layer, panels, group, block, weight, stage):
    """A block of columns."""
    K_h, K_w = layer.kernel
    first, last, taps = 3 * block, min(3 * block + 3, len(panels)), K_h * K_w
    target, row = group * layer.outputs * layer.channels * taps, layer.channels * taps
    if K_w == 3 and taps <= LANES and panels[first]["step"] == taps:
        _write_channels(sums, layer, weight, target, panels[first], stage)
        return
    for k in range(first, last):
        step, count = panels[k]["step"], panels[k]["count"]
        for u in range(K_h):
            to = target + panels[k]["place"][0] + u * K_w
            for o in range(layer.outputs):
                total = load(sums, (((o // 32 * K_h + u) * 3 + k - first) * 32 + o % 32) * 16)
                if step == 1:
                    store_part(weight, to + o * row, total, count)
                elif step:
                    scatter(weight, to + o * row, step, total, count)
                else:
                    store(stage, 0, total)
                    for i in range(count):
                        weight[target + o * row + u * K_w + panels[k]["place"][i]] = stage[i]


@jit
def _write_channels(sums, layer, weight, target, panel, stage):
    """All taps of the channels of a panel and the two beside it, 3 in a row and up to 16: (taps, 16) to (16, taps)."""
    taps = layer.kernel[0] * 3
    count = panel["count"] * taps
    for o in range(layer.outputs):
        place, to = (o // 32 * taps * 32 + o % 32) * 16, target + o * layer.channels * taps + panel["place"][0]
        rows = load_rows_part(sums, place, 512, 16, 0, taps, 16)
        store_rows(stage, 0, taps, transpose(rows))  # each covers what is too much of the one before
        whole = count // LANES * LANES
        for i in range(0, whole, LANES):
            store(weight, to + i, load(stage, i))
        store_part(weight, to + whole, load_part(stage, whole, count - whole), count - whole)
