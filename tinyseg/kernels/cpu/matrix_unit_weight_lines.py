"""Operands of the weight gradient from activations that are lines already; see `matrix_unit_weight_pack`.

A line holds 32 channels of one pixel, and what is wanted are words of two pixels: the lines of a pair of pixels give 16
words of their first 16 channels and 16 of their last.  These are lines of a panel; for a tile of grad squares of them
are transposed.
"""

from tinyseg.jit import jit
from tinyseg.kernels.cpu.matrix_unit_lines import LINE
from tinyseg.kernels.cpu.matrix_unit_weight_pack import fill
from tinyseg.kernels.cpu.vector import load, load_rows, splat, store, store_rows, transpose, zip_first, zip_last

__all__ = ["pack_grad_lines", "pack_x_lines"]

_SQUARE = LINE * LINE


@jit
def pack_grad_lines(grad, lie, layer, n, row, rows, tile, tiles, stage):
    """As `pack_grad`, from lines that lie so; all outputs are of one group, and a multiple of 32."""
    start = n * lie.image + tile * lie.block + lie.first + row * lie.pitch
    place, p, q = tile * layer.steps * (32 * layer.line + 16), 0, 0
    for _ in range(0, rows * layer.pitch, 32):
        for k in range(LINE):
            for half in range(layer.line // LINE):
                at = start + p * lie.pitch + q * LINE + half * lie.below
                a = b = splat(0)
                if p < rows:
                    a, b = load(grad, at), load(grad, at + LINE)         # right of an odd width is a line of zeros
                store(stage, 2 * half * _SQUARE + k * LINE, zip_first(a, b))
                store(stage, (2 * half + 1) * _SQUARE + k * LINE, zip_last(a, b))
            q += 2
            if q == layer.pitch:
                p, q = p + 1, 0
        for half in range(layer.line // LINE):
            for last in range(2):
                store_rows(tiles, place + last * LINE * layer.line + half * LINE, layer.line,
                           transpose(load_rows(stage, (2 * half + last) * _SQUARE, LINE, 16)))
        place += 32 * layer.line + 16


@jit
def pack_x_lines(x, lie, layer, panels, first, last, n, top, depth, packed):
    """As `pack_x`, from lines that lie so."""
    row_lines, step, halves = layer.pitch // 2 * layer.line, layer.stride[1], layer.line // LINE
    for k in range(first, last):
        block, upper = divmod(panels[k]["source"], 2)
        offset, panel = panels[k]["shift"], (k - first) * layer.panel
        # Pairs `begin` .. `end` - 1 lie inside of x.
        begin = min(layer.pitch // 2, (max(0, -(offset // step)) + 1) // 2)
        end = max(begin, min(layer.pitch // 2, ((layer.width - 1 - offset) // step + 1) // 2))
        for i in range(depth):
            h, place = top + i * layer.stride[0], panel + i * row_lines
            if h < 0 or h >= layer.height:
                fill(packed, place, row_lines)
                continue
            row = n * lie.image + block * lie.block + lie.first + h * lie.pitch
            for half in range(halves):
                start, to = row + offset * LINE + half * lie.below, place + half * LINE
                for pair in range(begin):
                    _pack_edge(x, start, 2 * pair * step, step, offset, layer.width, packed, to, pair, layer.line,
                               upper)
                if upper:
                    for pair in range(begin, end):
                        at = start + 2 * pair * step * LINE
                        store(packed, to + pair * layer.line, zip_last(load(x, at), load(x, at + step * LINE)))
                else:
                    for pair in range(begin, end):
                        at = start + 2 * pair * step * LINE
                        store(packed, to + pair * layer.line, zip_first(load(x, at), load(x, at + step * LINE)))
                for pair in range(end, layer.pitch // 2):
                    _pack_edge(x, start, 2 * pair * step, step, offset, layer.width, packed, to, pair, layer.line,
                               upper)
        fill(packed, panel + depth * row_lines, 16 * layer.line)


@jit
def _pack_edge(x, start, w, step, offset, width, packed, to, pair, line, upper):
    """A pair of which one pixel or both may lie outside of x."""
    a = load(x, start + w * LINE) if 0 <= w + offset < width else splat(0)
    b = load(x, start + (w + step) * LINE) if 0 <= w + step + offset < width else splat(0)
    store(packed, to + pair * line, zip_last(a, b) if upper else zip_first(a, b))
