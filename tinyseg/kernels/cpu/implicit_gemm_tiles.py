"""The inner loops of a matrix product: tiles of the result that stay in registers while their sums grow.

A tile has ROWS rows, or half of them where no more are left, and up to COLUMNS vectors of columns.  Each size is a
kernel of its own, and takes its time to compile: only those are here that are worth it.
"""

from tinyseg.jit import jit
from tinyseg.kernels.cpu.vector import (
    COLUMNS,
    LANES,
    ROWS,
    add_tile,
    load,
    outer_add,
    outer_add_down,
    prefetch,
    store,
    store_tile,
    zero_tile,
)

__all__ = ["multiply", "multiply_transposed", "tile_columns"]

_HALF = (ROWS + 1) // 2


def _column(rows, columns):
    """The kernel of a column of tiles of this size, a constant of its code: c += a[order]ᵀ · b, or = where fresh.

    Row k of b begins at b[place + k·step].  What comes next is asked for while this is multiplied: the tile of c, and
    the next panel of a, two rows of which fill a line of the cache.
    """
    @jit
    def add_products(a, start, pitch, order, depth, b, place, step, c, row, last_row, column, fresh):
        for i in range(row, last_row, rows):
            for line in range(rows):
                for j in range(0, columns * LANES, LANES):
                    prefetch(c, (i + line, column + j))
            tile = zero_tile(rows, columns)
            if order[depth - 1] == order[0] + depth - 1:                 # one after the other
                first = start + order[0] * ROWS
                for k in range(0, depth - 1, 2):
                    prefetch(a, first + pitch + k * ROWS)
                    tile = outer_add(tile, a, first + k * ROWS, b, place + k * step)
                    tile = outer_add(tile, a, first + (k + 1) * ROWS, b, place + (k + 1) * step)
                if depth % 2:
                    tile = outer_add(tile, a, first + (depth - 1) * ROWS, b, place + (depth - 1) * step)
            else:
                for k in range(depth):
                    prefetch(a, start + pitch + order[k] * ROWS)
                    tile = outer_add(tile, a, start + order[k] * ROWS, b, place + k * step)
            if not fresh:
                tile = add_tile(tile, c, (i, column))
            store_tile(tile, c, (i, column))
            start += pitch
    return add_products


def _transposed_column(rows, columns):
    """The kernel of a column of tiles of this size: c[order, j:] += a · b, row k of b at place + k·step."""
    @jit
    def add_products(a, row, column, height, depth, b, place, step, order, c, j, scratch):
        for i in range(0, height, rows):
            tile = zero_tile(rows, columns)
            for k in range(0, depth - 1, 2):
                tile = outer_add_down(tile, a, (row + i, column + k), b, place + k * step)
                tile = outer_add_down(tile, a, (row + i, column + k + 1), b, place + (k + 1) * step)
            if depth % 2:
                tile = outer_add_down(tile, a, (row + i, column + depth - 1), b, place + (depth - 1) * step)
            if i + rows <= height and order[i + rows - 1] == order[i] + rows - 1:
                store_tile(add_tile(tile, c, (order[i], j)), c, (order[i], j))
                continue
            store_tile(tile, scratch, (0, 0))
            for k in range(min(rows, height - i)):
                for v in range(0, columns * LANES, LANES):
                    to = order[i + k], j + v
                    store(c, to, load(c, to) + load(scratch, (k, v)))
    return add_products


_whole, _whole_2, _whole_1 = (_column(ROWS, columns) for columns in (COLUMNS, 2, 1))
_half, _half_1 = (_column(_HALF, columns) for columns in (COLUMNS, 1))
_down, _down_2, _down_1 = (_transposed_column(ROWS, columns) for columns in (COLUMNS, 2, 1))


@jit
def tile_columns(left):
    """How many vectors wide the next tile is where so many columns are left: no narrower than two if possible."""
    vectors = (left + LANES - 1) // LANES
    return COLUMNS if vectors >= COLUMNS and vectors != COLUMNS + 1 else min(vectors, 2)


@jit
def _whole_rows(height):
    """How many rows go to whole tiles, the last of which may reach beyond height."""
    return (height + ROWS - 1 - _HALF) // ROWS * ROWS


@jit
def multiply(a, start, pitch, order, depth, b, width, c, row, height, column, fresh):
    """c[row + i, column + j] += Σ a[i, order[k]] · b[k, j] over k < depth, for i < height and j < width.

    fresh    whether c holds nothing yet, which counts as 0

    a and b are flat and in panels: a[i, k] = a[start + i // ROWS · pitch + k·ROWS + i % ROWS], and b is as wide as the
    tiles, one after another as `tile_columns` says.  Tiles write up to their own size beyond height, and whole vectors.
    """
    middle, end = row + _whole_rows(height), row + height
    rest = start + _whole_rows(height) // ROWS * pitch
    j = 0
    while j < width:
        vectors, to = tile_columns(width - j), column + j
        place, step = j * depth, vectors * LANES
        if vectors == COLUMNS:
            _whole(a, start, pitch, order, depth, b, place, step, c, row, middle, to, fresh)
            _half(a, rest, pitch, order, depth, b, place, step, c, middle, end, to, fresh)
        elif vectors == 2:
            _whole_2(a, start, pitch, order, depth, b, place, step, c, row, middle, to, fresh)
            for k in range(0, 2 * LANES, LANES):
                _half_1(a, rest, pitch, order, depth, b, place + k, step, c, middle, end, to + k, fresh)
        else:
            _whole_1(a, start, pitch, order, depth, b, place, step, c, row, middle, to, fresh)
            _half_1(a, rest, pitch, order, depth, b, place, step, c, middle, end, to, fresh)
        j += step


@jit
def multiply_transposed(a, row, column, height, order, depth, b, width, c, scratch):
    """c[order[i], j] += Σ a[row + i, column + k] · b[k, j] over k < depth, for i < height and j < width.

    b is in panels as for `multiply`, a (rows, pixels) is not.  Rows of a beyond height are read, to whole tiles, and
    columns of c beyond width are written, to whole vectors.
    scratch    (ROWS, COLUMNS · LANES)
    """
    j = 0
    while j < width:
        vectors = tile_columns(width - j)
        place, step = j * depth, vectors * LANES
        if vectors == COLUMNS:
            _down(a, row, column, height, depth, b, place, step, order, c, j, scratch)
        elif vectors == 2:
            _down_2(a, row, column, height, depth, b, place, step, order, c, j, scratch)
        else:
            _down_1(a, row, column, height, depth, b, place, step, order, c, j, scratch)
        j += step
