"""What a matrix product reads, put side by side: the pixels that a tap sees, and the weights in panels."""

from tinyseg.jit import jit
from tinyseg.kernels.cpu.implicit_gemm_tiles import tile_columns
from tinyseg.kernels.cpu.vector import (
    LANES,
    ROWS,
    deinterleave,
    gather,
    interleave,
    load,
    load_part,
    load_rows_part,
    splat,
    store,
    store_part,
    store_rows,
)

__all__ = ["number_pairs", "pack_panels", "pack_pixels", "pack_weight"]

_SHORT = 4                                           # weights read one by one where fewer lie side by side


@jit
def pack_pixels(x, channels, taps, start, stop, step, segments, s, runs, b):
    """What taps start .. stop - 1 see from the pixels of a segment, in some channels of x (C, H, W).

    b[k, j] = x[c, p·s + dy, q·s + dx], 0 outside x, where k numbers the pairs of channel and tap, and j the pixels
    (p, q) of the segment; a vector of zeros follows the last.  Returns how many rows there are.

    runs    scratch: (., 3), as many as the segment has pixels and one more
    """
    n = stop - start
    for i in range(n):
        count = _runs(x, taps, start + i, step, segments, s, runs)
        _pack_rows(x, channels, step[1], runs, count, b, i, n)
    return (channels[1] - channels[0]) * n


@jit
def pack_panels(x, channels, taps, start, stop, step, segments, s, runs, lines, b):
    """The same in panels as wide as the tiles of `multiply`: one row after another, one panel after another.

    lines    scratch: some rows, since what was just written in pieces is slow to read as a whole
    """
    n, width, some = stop - start, segments[s, 2], len(lines)
    depth = (channels[1] - channels[0]) * n
    for i in range(n):
        count = _runs(x, taps, start + i, step, segments, s, runs)
        for first in range(channels[0], channels[1], some):
            last = min(first + some, channels[1])
            _pack_rows(x, (first, last), step[1], runs, count, lines, 0, 1)
            for c in range(first, last):
                j, row = 0, (c - channels[0]) * n + i
                while j < width:
                    columns = tile_columns(width - j) * LANES
                    for v in range(0, columns, LANES):
                        store(b, j * depth + row * columns + v, load(lines, (c - first, j + v)))
                    j += columns
    return depth


@jit
def number_pairs(channels, taps, start, stop, total, first, order):
    """order[k] = c·total + t - first for the k-th pair of channel and tap that `pack_pixels` packs."""
    n = stop - start
    for k in range((channels[1] - channels[0]) * n):
        order[k] = (channels[0] + k // n) * total + taps[start + k % n, 0] - first


@jit
def _runs(x, taps, tap, step, segments, s, runs):
    """Where the pixels of a segment lie in a channel of x as one tap sees them: how many runs there are.

    runs[r] = (pixels before it, place in the channel of its first or -1 where the tap sees padding, pixels)
    """
    _, H, W = x.shape
    dy, dx, lo, hi = taps[tap, 1], taps[tap, 2], taps[tap, 3], taps[tap, 4]      # from columns lo .. hi - 1 it sees x
    left, width, count, p, q = segments[s, 0], segments[s, 1], segments[s, 2], segments[s, 3], segments[s, 4]
    j, r = 0, 0
    while j < count:
        n = min(left + width - q, count - j)                             # pixels left in this row
        h, first, last = p * step[0] + dy, max(q, lo), min(q + n, hi)
        if h < 0 or h >= H or first >= last:
            r = _add_run(runs, r, j, -1, n, step[1])
        else:
            r = _add_run(runs, r, j, -1, first - q, step[1])
            r = _add_run(runs, r, j + first - q, h * W + first * step[1] + dx, last - first, step[1])
            r = _add_run(runs, r, j + last - q, -1, q + n - last, step[1])
        j, p, q = j + n, p + 1, left
    return _add_run(runs, r, count, -1, LANES, step[1])


@jit
def _add_run(runs, r, j, place, n, step):
    """As a run of its own, or as the rest of the one before."""
    if n <= 0:
        return r
    if r > 0 and place == (runs[r - 1, 1] + runs[r - 1, 2] * step if runs[r - 1, 1] >= 0 else -1):
        runs[r - 1, 2] += n
        return r
    runs[r, 0], runs[r, 1], runs[r, 2] = j, place, n
    return r + 1


@jit
def _pack_rows(x, channels, step, runs, count, b, row, pitch):
    """Rows row, row + pitch, ... of b from some channels.

    Whole vectors are written: what is too much the next run writes over.
    """
    if step == 1:
        _copy_rows(x, channels, runs, count, b, row, pitch)
    elif step == 2:
        _halve_rows(x, channels, runs, count, b, row, pitch)
    else:
        _gather_rows(x, channels, step, runs, count, b, row, pitch)


@jit
def _copy_rows(x, channels, runs, count, b, row, pitch):
    plane = x.shape[1] * x.shape[2]
    for c in range(channels[0], channels[1]):
        for r in range(count):
            j, place, n = runs[r, 0], c * plane + runs[r, 1], runs[r, 2]
            if runs[r, 1] < 0:
                _clear(b, row, j, n)
            elif place + n + LANES <= x.size:
                for i in range(0, n, LANES):
                    store(b, (row, j + i), load(x, (0, 0, place + i)))
            else:
                for i in range(0, n, LANES):
                    store(b, (row, j + i), load_part(x, (0, 0, place + i), n - i))
        row += pitch


@jit
def _halve_rows(x, channels, runs, count, b, row, pitch):
    """Every second pixel."""
    plane = x.shape[1] * x.shape[2]
    for c in range(channels[0], channels[1]):
        for r in range(count):
            j, place, n = runs[r, 0], c * plane + runs[r, 1], runs[r, 2]
            if runs[r, 1] < 0:
                _clear(b, row, j, n)
            elif place + 2 * (n + LANES) <= x.size:
                for i in range(0, n, LANES):
                    two = load(x, (0, 0, place + 2 * i)), load(x, (0, 0, place + 2 * i + LANES))
                    store(b, (row, j + i), deinterleave(two)[0])
            else:
                for i in range(0, n, LANES):
                    store(b, (row, j + i), gather(x, (0, 0, place + 2 * i), 2, n - i))
        row += pitch


@jit
def _gather_rows(x, channels, step, runs, count, b, row, pitch):
    """Every step-th pixel."""
    plane = x.shape[1] * x.shape[2]
    for c in range(channels[0], channels[1]):
        for r in range(count):
            j, place, n = runs[r, 0], c * plane + runs[r, 1], runs[r, 2]
            if runs[r, 1] < 0:
                _clear(b, row, j, n)
            else:
                for i in range(0, n, LANES):
                    store(b, (row, j + i), gather(x, (0, 0, place + i * step), step, n - i))
        row += pitch


@jit
def _clear(b, row, j, count):
    for i in range(0, count, LANES):
        store_part(b, (row, j + i), splat(0), count - i)                 # whole vectors would become a call


@jit
def pack_weight(weight, rows, shifts, start, pitch, a):
    """Panels of ROWS rows: a[start + panel·pitch + k·ROWS + i] = weight[rows[panel·ROWS + i] + shifts[k]].

    weight is flat.  Where rows is -1 there is no row: zero.
    """
    if _distance(rows, 0, len(rows)) == 1:           # numbers for one k lie side by side
        for k in range(len(shifts)):
            for row in range(0, len(rows), ROWS):
                for i in range(0, ROWS, LANES):
                    numbers = load_part(weight, rows[row] + shifts[k] + i, ROWS - i)
                    store_part(a, start + row // ROWS * pitch + k * ROWS + i, numbers, ROWS - i)
        return
    run = _run(shifts)
    # Short runs of all rows lie near one another, long ones of a few rows at a time are read more evenly.
    portion = run if run < LANES else len(shifts)
    for first in range(0, len(shifts), portion):
        for row in range(0, len(rows), ROWS):
            place, distance = start + row // ROWS * pitch, _distance(rows, row, row + ROWS)
            k, last = first, min(first + portion, len(shifts))
            while k < last:
                left = run - k % run
                # ROWS vectors at a time; what they write too much is written again after them.
                if distance > 0 and left >= _SHORT and k + LANES <= len(shifts):
                    vectors = load_rows_part(weight, rows[row] + shifts[k], distance, ROWS, 0, ROWS, left)
                    store_rows(a, place + k * ROWS, LANES, interleave(vectors))
                    k += min(left, LANES)
                else:
                    for i in range(ROWS):
                        base = rows[row + i]
                        a[place + k * ROWS + i] = weight[base + shifts[k]] if base >= 0 else 0
                    k += 1


@jit
def _run(shifts):
    """The length of runs of consecutive numbers, if all have the same, else 1."""
    run = 1
    while run < len(shifts) and shifts[run] == shifts[0] + run:
        run += 1
    for k in range(len(shifts)):
        if shifts[k] != shifts[k // run * run] + k % run:
            return 1
    return run


@jit
def _distance(rows, first, last):
    """From each of some rows to the next, or 0 where it is not always the same or rows are missing."""
    distance = rows[first + 1] - rows[first]
    for i in range(first + 1, last):
        if rows[i] < 0 or rows[i] - rows[i - 1] != distance:
            return 0
    return distance
