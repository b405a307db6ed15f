"""The inner loops of a matrix product: tiles of the result that stay in registers while their sums grow.

A tile has ROWS rows, or half of them where no more are left, and up to COLUMNS vectors of columns.
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
    store,
    store_tile,
    zero_tile,
)

__all__ = ["multiply", "multiply_transposed"]

_HALF = (ROWS + 1) // 2


def _tile(rows, columns):
    """The kernel of a tile of this size, a constant of its code: c += a[order]ᵀ · b."""
    @jit
    def add_product(a, start, order, depth, b, j, c, row, column):
        tile = zero_tile(rows, columns)
        for k in range(depth):
            tile = outer_add(tile, a, start + order[k] * ROWS, b, (k, j))
        store_tile(add_tile(tile, c, (row, column)), c, (row, column))
    return add_product


def _transposed_tile(rows, columns):
    """The kernel of a tile of this size: c = a · b."""
    @jit
    def product(a, row, depth, b, column, c):
        tile = zero_tile(rows, columns)
        for k in range(depth):
            tile = outer_add_down(tile, a, (row, k), b, (k, column))
        store_tile(tile, c, (0, 0))
    return product


_whole, _whole_2, _whole_1 = (_tile(ROWS, columns) for columns in (COLUMNS, 2, 1))
_half, _half_2, _half_1 = (_tile(_HALF, columns) for columns in (COLUMNS, 2, 1))
_down, _down_2, _down_1 = (_transposed_tile(ROWS, columns) for columns in (COLUMNS, 2, 1))
_half_down, _half_down_2, _half_down_1 = (_transposed_tile(_HALF, columns) for columns in (COLUMNS, 2, 1))


@jit
def _vectors(left):
    """How many vectors wide the next tile is where so many columns are left: no narrower than two if possible."""
    vectors = (left + LANES - 1) // LANES
    return COLUMNS if vectors >= COLUMNS and vectors != COLUMNS + 1 else min(vectors, 2)


@jit
def multiply(a, start, pitch, order, depth, b, width, c, row, height, column):
    """c[row + i, column + j] += Σ a[i, order[k]] · b[k, j] over k < depth, for i < height and j < width.

    a is flat and in panels, a[i, k] = a[start + i // ROWS · pitch + k·ROWS + i % ROWS].  Tiles write up to their own
    size beyond height, and whole vectors.
    """
    j = 0
    while j < width:
        vectors = _vectors(width - j)
        for i in range(0, height, ROWS):
            panel = start + i // ROWS * pitch
            if height - i > _HALF:
                if vectors == COLUMNS:
                    _whole(a, panel, order, depth, b, j, c, row + i, column + j)
                elif vectors == 2:
                    _whole_2(a, panel, order, depth, b, j, c, row + i, column + j)
                else:
                    _whole_1(a, panel, order, depth, b, j, c, row + i, column + j)
            elif vectors == COLUMNS:
                _half(a, panel, order, depth, b, j, c, row + i, column + j)
            elif vectors == 2:
                _half_2(a, panel, order, depth, b, j, c, row + i, column + j)
            else:
                _half_1(a, panel, order, depth, b, j, c, row + i, column + j)
        j += vectors * LANES


@jit
def multiply_transposed(a, height, order, depth, b, width, c, tile):
    """c[order[i], j] += Σ a[i, k] · b[k, j] over k < depth, for i < height and j < width, which whole vectors round up.

    tile    scratch (ROWS, COLUMNS · LANES).  Rows of a beyond height are read.
    """
    j = 0
    while j < width:
        vectors = _vectors(width - j)
        for i in range(0, height, ROWS):
            if height - i > _HALF:
                if vectors == COLUMNS:
                    _down(a, i, depth, b, j, tile)
                elif vectors == 2:
                    _down_2(a, i, depth, b, j, tile)
                else:
                    _down_1(a, i, depth, b, j, tile)
            elif vectors == COLUMNS:
                _half_down(a, i, depth, b, j, tile)
            elif vectors == 2:
                _half_down_2(a, i, depth, b, j, tile)
            else:
                _half_down_1(a, i, depth, b, j, tile)
            for k in range(min(ROWS, height - i)):
                for v in range(0, vectors * LANES, LANES):
                    target = order[i + k], j + v
                    store(c, target, load(c, target) + load(tile, (k, v)))
        j += vectors * LANES
