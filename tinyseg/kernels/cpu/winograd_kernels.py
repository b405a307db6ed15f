"""The parts of a Winograd convolution F(m x m, 3x3), for any m: transforms of tiles and filters, and the products.

Each takes the size m of a tile of outputs, the size n = m + 2 of a tile of inputs, and the transforms themselves as
arguments; `winograd2` and `winograd4` give them.  A transform maps a tuple of vectors to a tuple of vectors, and is
applied to the columns of a tile, then to its rows.

Tiles are numbered row by row and image by image, t = (image·down + row)·across + column for a `grid` = (down, across).
There are n·n points, one for each pair of interpolation points.  Arrays of scratch memory are named as in `winograd`.
"""

from tinyseg.jit import jit
from tinyseg.kernels.cpu.vector import (
    COLUMNS,
    LANES,
    ROWS,
    add_tile,
    deinterleave,
    fma_rows,
    gather,
    interleave,
    load,
    load_part,
    load_rows,
    load_rows_part,
    magnitude,
    maximum,
    outer_add,
    prefetch,
    splat,
    store,
    store_part,
    store_rows,
    store_tile,
    transpose_square,
    zero_tile,
)

__all__ = ["collect_filters", "invert", "multiply", "transform_by_channels", "transform_filters", "transform_tiles"]


@jit
def _run(t, last, grid):
    """The tiles from t to the end of their row, or to `last`: (image, row, column of the first, how many)."""
    down, across = grid
    row, column = t // across, t % across
    return row // down, row % down, column, min(across - column, last - t)


@jit
def _clear(array):
    zero = splat(0.0)
    for k in range(0, array.size, LANES):
        store_part(array, k, zero, array.size - k)


@jit
def _clear_vector(array, rows, column):
    """LANES columns of some rows at every point.

    What memory held before is computed with in lanes that nobody reads.  It may be denormal numbers, and one of those
    takes a hundred times as long as any other.
    """
    zero = splat(0.0)
    for p in range(len(array)):
        for r in range(rows[0], rows[1]):
            store(array, (p, r, column), zero)


@jit(constants=True)
def _load_column(n, x, image, c, y, w):
    """Rows y .. y + n - 1 of LANES pixels from w on; zero outside the image."""
    _, _, H, W = x.shape
    if y >= 0 and y + n <= H and w + LANES <= W:
        return load_rows(x, (image, c, y, w), W, n)
    return load_rows_part(x, (image, c, y, w), W, n, -y, H - y, W - w)


@jit(inline="always")
def transform_tiles(m, n, transform, channels, tiles, x, near, grid, scratch, V):
    """V[:, c, t] = Bᵀ d B for the n x n inputs d of tile number tiles[0] + t.  x (N, C, H, W), V (n·n, >= C, >= tiles).

    Lanes are pixels, then tiles: columns are transformed along whole rows of the image, then every m-th pixel of a row
    belongs to the next tile.
    """
    W = x.shape[3]
    step, pitch = V.shape[1] * V.shape[2], scratch.size // n             # from point to point; of the rows in scratch
    if (tiles[1] - tiles[0]) % LANES:
        _clear_vector(V, channels, (tiles[1] - tiles[0]) // LANES * LANES)
    t = tiles[0]
    while t < tiles[1]:
        image, row, column, count = _run(t, tiles[1], grid)
        y, left = row * m - near[0], column * m - near[1]
        first, last = max(left, 0), min(left + count * m + n - m, W)
        if first > left or last < left + count * m + n - m:
            _clear(scratch)
        for c in range(channels[0], channels[1]):
            for w in range(first, last, LANES):
                store_rows(scratch, w - left, pitch, transform(_load_column(n, x, image, c, y, w)))
            for k in range(0, count, LANES):
                for i in range(n):
                    # Tile k has pixels m·k .. m·k + n - 1, the last two of which the next tile begins with.
                    own = deinterleave(load_rows(scratch, i * pitch + m * k, LANES, m))
                    following = deinterleave(load_rows(scratch, i * pitch + m * k + m, LANES, m))
                    store_rows(V, (i * n, c, t - tiles[0] + k), step, transform(own + following[:2]))
        t += count


@jit(inline="always")
def transform_filters(n, transform, rows, depth, filters, taps, scratch, U):
    """U[:, k - depth[0], r - rows[0]] = G g Gᵀ for the 3x3 filters g from depth k to row r of the products.

    filters    all weights, flat
    taps       (row_step, depth_step, origin, sign): tap number j of a filter is the weight
               r·row_step + k·depth_step + origin + sign·j
    """
    row_step, depth_step, origin, sign = taps
    step = U.shape[1] * U.shape[2]
    for k in range(depth[0], depth[1]):
        for r in range(rows[0], rows[1], LANES):
            at, count = r * row_step + k * depth_step + origin, rows[1] - r
            for v in range(3):
                g = (gather(filters, at + sign * v, row_step, count),
                     gather(filters, at + sign * (3 + v), row_step, count),
                     gather(filters, at + sign * (6 + v), row_step, count))
                store_rows(scratch, v * LANES, 3 * LANES, transform(g))
            for i in range(n):
                g = load_rows(scratch, i * 3 * LANES, LANES, 3)
                store_rows(U, (i * n, k - depth[0], r - rows[0]), step, transform(g))


@jit(inline="always")
def _panel(columns, p, rows, c, depth, k0, c0, chain, A, B, C, add):
    """`multiply` for one point and the columns c .. c + columns·LANES - 1."""
    for r in range(0, rows[1] - rows[0], ROWS):
        ahead = c + r // ROWS * LANES                # the next point's numbers are far away: ask for them now
        for first in range(depth[0], depth[1], chain):
            tile = zero_tile(ROWS, columns)
            for k in range(first, min(first + chain, depth[1])):
                prefetch(B, (p + 1, k, ahead))
                tile = outer_add(tile, A, (p, k - k0, rows[0] + r), B, (p, k, c))
            if add or first > depth[0]:
                tile = add_tile(tile, C, (p, r, c - c0))
            store_tile(tile, C, (p, r, c - c0))


@jit(constants=True)
def multiply(rows, columns, depth, k0, chain, A, B, C, add):
    """C[p, r, c] = Σ_k A[p, k - k0, r] B[p, k, c] at every point p for ranges of r, c and k; or added to it.

    A (points, depth, rows), B (points, depth, columns); C (points, rows, columns) begins at the first of each range.
    All have room for whole tiles.  Sums of `chain` products are added to those before: long chains lose digits.
    """
    for p in range(len(C)):
        c = columns[0]
        while c < columns[1]:
            vectors = (columns[1] - c + LANES - 1) // LANES
            # Of four vectors left, two and two: a tile of one column has too little to do at a time.
            if vectors >= COLUMNS and (vectors != 4 or COLUMNS != 3):
                _panel(COLUMNS, p, rows, c, depth, k0, columns[0], chain, A, B, C, add)
                c += COLUMNS * LANES
            elif vectors >= 2:
                _panel(2, p, rows, c, depth, k0, columns[0], chain, A, B, C, add)
                c += 2 * LANES
            else:
                _panel(1, p, rows, c, depth, k0, columns[0], chain, A, B, C, add)
                c += LANES


@jit(inline="always")
def invert(m, n, transform, rows, tiles, grid, M, y, bias, relu, scratch, largest):
    """Rows `rows` of y = Aᵀ M A + bias for `tiles`, with M[:, r - rows[0], t - tiles[0]]."""
    _, _, P, Q = y.shape
    step, zero = M.shape[1] * M.shape[2], splat(0.0)
    top = load(largest, 0)
    line = n * m * LANES                             # where a row of outputs lies in the scratch memory
    if (tiles[1] - tiles[0]) % LANES or grid[1] % LANES:                 # a run of tiles ends within a vector
        _clear_vector(M, (0, rows[1] - rows[0]), (tiles[1] - tiles[0] + LANES - 1) // LANES * LANES)
    t = tiles[0]
    while t < tiles[1]:
        image, row, column, count = _run(t, tiles[1], grid)
        for r in range(rows[0], rows[1]):
            shift = splat(bias[r])
            for k in range(0, count, LANES):
                for j in range(n):
                    column_of_points = load_rows(M, (j, r - rows[0], t - tiles[0] + k), n * step, n)
                    store_rows(scratch, j * LANES, n * LANES, transform(column_of_points))
                w = (column + k) * m
                end = min((column + count) * m, Q)
                for i in range(min(m, P - row * m)):
                    store_rows(scratch, line, LANES,
                               interleave(transform(load_rows(scratch, i * n * LANES, LANES, n))))
                    for q in range(w, min(w + m * LANES, end), LANES):
                        v = load(scratch, line + q - w) + shift
                        if relu:
                            v = maximum(zero, v)
                        if q + LANES <= end:
                            store(y, (image, r, row * m + i, q), v)
                        else:                        # the other lanes hold tiles that are none
                            store_part(y, (image, r, row * m + i, q), v, end - q)
                            v = load_part(y, (image, r, row * m + i, q), end - q)
                        top = magnitude(top, v)
        t += count
    store(largest, 0, top)


@jit(inline="always")
def transform_by_channels(m, n, height, transform, channels, tiles, x, near, grid, scratch, pixels, V):
    """V[:, t, c] for `height` x `height` cells of x at every tile and n x n of V.  V (n·n, >= tiles, >= C + LANES).

    Lanes are pixels, then channels: after the columns are transformed, squares of LANES channels by LANES pixels are
    turned over into `pixels` (n, columns, LANES), where a tile's row is `height` consecutive vectors.
    """
    _, C, _, W = x.shape
    step = V.shape[1] * V.shape[2]
    t = tiles[0]
    while t < tiles[1]:
        image, row, column, count = _run(t, tiles[1], grid)
        y, left = row * m - near[0], column * m - near[1]
        first, last = max(left, 0), min(left + count * m + height - m, W)
        if first > left or last < left + count * m + height - m:
            _clear(pixels.reshape(-1))
        for c in range(channels[0], channels[1], LANES):
            for w in range(first, last, LANES):
                for lane in range(min(LANES, C - c)):
                    column_of_pixels = _load_column(height, x, image, c + lane, y, w)
                    store_rows(scratch, lane * LANES, LANES * LANES, transform(column_of_pixels))
                for i in range(n):
                    transpose_square(scratch, i * LANES * LANES, LANES, pixels, (i, w - left, 0), LANES)
            for k in range(count):
                for i in range(n):
                    row_of_pixels = load_rows(pixels, (i, m * k, 0), LANES, height)
                    store_rows(V, (i * n, t - tiles[0] + k, c), step, transform(row_of_pixels))
        t += count


@jit(inline="always")
def collect_filters(n, transform, rows, first, dU, scratch, weight, largest):
    """weight[o, c] = Gᵀ (Σ dU[:, :, o - first, c]) G for a range of rows o.  dU (parts, n·n, > rows, >= C)."""
    C, one = weight.shape[1], splat(1.0)
    step = dU.shape[2] * dU.shape[3]
    top = load(largest, 0)
    for o in range(rows[0], rows[1]):
        for c in range(0, C, LANES):
            for j in range(n):
                u = load_rows(dU, (0, j, o - first, c), n * step, n)
                for part in range(1, len(dU)):
                    u = fma_rows(one, load_rows(dU, (part, j, o - first, c), n * step, n), u)
                store_rows(scratch, j * LANES, n * LANES, transform(u))
            g = (transform(load_rows(scratch, 0, LANES, n)) + transform(load_rows(scratch, n * LANES, LANES, n)) +
                 transform(load_rows(scratch, 2 * n * LANES, LANES, n)))
            for v in g:
                top = magnitude(top, v)
            filters = interleave(g)                  # LANES times nine taps
            if c + LANES <= C:
                store_rows(weight, (o, c, 0, 0), LANES, filters)
            else:
                store_rows(scratch, 0, LANES, filters)
                for k in range(0, 9 * (C - c), LANES):
                    store_part(weight, (o, c, 0, k), load(scratch, k), 9 * (C - c) - k)
    store(largest, 0, top)
