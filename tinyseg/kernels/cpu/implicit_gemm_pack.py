"""What a matrix product reads, put side by side: the pixels that a tap sees, and the weights in panels."""

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.vector import (
    LANES,
    ROWS,
    deinterleave,
    gather,
    interleave,
    load,
    load_rows_part,
    splat,
    store,
    store_part,
    store_rows,
)

__all__ = ["pack_pixels", "pack_weight"]

_SHORT = 4                                           # weights read one by one where fewer lie side by side
_LONG = 4 * LANES                                    # pixels copied in one run, rather than for all channels in turn


@jit
def pack_pixels(x, part, taps, start, stop, step, segments, s, b, order):
    """What taps start .. stop - 1 see from the pixels of a segment, as far as they belong to a slice (c0, c1, t0, t1).

    b[k, j] = x[c, p·s + dy, q·s + dx], 0 outside x, where k numbers the pairs of channel and tap, and j the pixels
    (p, q) of the segment; a vector of zeros follows the last.  order[k] becomes the number of the pair in the slice.
    Returns how many rows there are.
    """
    c0, c1, t0, t1 = part
    while start < stop and taps[start, 0] < t0:
        start += 1
    while start < stop and taps[stop - 1, 0] >= t1:
        stop -= 1
    n = stop - start
    for i in range(n):
        _pack_tap(x, c0, c1, taps, start + i, step, segments, s, b, i, n)
    for k in range((c1 - c0) * n):
        store(b, (k, segments[s, 2]), splat(0))
        order[k] = k // n * (t1 - t0) + taps[start + k % n, 0] - t0
    return (c1 - c0) * n


@jit
def _pack_tap(x, c0, c1, taps, tap, step, segments, s, b, k, pitch):
    """Rows k, k + pitch, ... of b: what one tap sees in the channels."""
    _, H, W = x.shape
    dy, dx, lo, hi = taps[tap, 1], taps[tap, 2], taps[tap, 3], taps[tap, 4]      # from columns lo .. hi - 1 it sees x
    left, width, count, p, q = segments[s, 0], segments[s, 1], segments[s, 2], segments[s, 3], segments[s, 4]
    j = np.int64(0)                                  # no literal, for which kernels would be compiled anew
    contiguous = step[0] == 1 and step[1] == 1 and width == W            # in x the pixels lie one after the other
    if contiguous:
        above = min(count, max(0, left - q - (p + dy) * W))
        below = max(above, min(count, left - q + (H - p - dy) * W))
        _copy(x, c0, c1, (p + dy) * W + q + dx + above, step[1], b, k, pitch, above, below - above)
        _clear(b, k, pitch, c1 - c0, j, above)
        _clear(b, k, pitch, c1 - c0, below, count - below)
        if lo <= left and hi >= left + width:
            return
    while j < count:
        n = min(left + width - q, count - j)                             # pixels left in this row
        h, first, last = p * step[0] + dy, max(q, lo), min(q + n, hi)
        if h < 0 or h >= H or first >= last:
            _clear(b, k, pitch, c1 - c0, j, n)
        else:
            if not contiguous:
                _copy(x, c0, c1, h * W + q * step[1] + dx, step[1], b, k, pitch, j, n)
            _clear(b, k, pitch, c1 - c0, j, first - q)
            _clear(b, k, pitch, c1 - c0, j + last - q, q + n - last)
        j, p, q = j + n, p + 1, left


@jit
def _clear(b, k, pitch, rows, j, count):
    """Zeros to b[k + r·pitch, j:j + count] for so many rows."""
    for i in range(0, count, LANES):
        for r in range(rows):
            store_part(b, (k + r * pitch, j + i), splat(0), count - i)


@jit
def _copy(x, c0, c1, place, step, b, k, pitch, j, count):
    """b[k + r·pitch, j + i] = x[c0 + r].flat[place + i·step]; anything where that is outside of x.

    Whole vectors are written, so that up to LANES - 1 numbers after the last are lost.
    """
    plane, rows = x.shape[1] * x.shape[2], c1 - c0
    place += c0 * plane
    end = place + (rows - 1) * plane + (count + LANES - 1) // LANES * LANES * step       # of what vectors read
    if step <= 2 and place >= 0 and end <= x.size:
        if step == 1 and count > _LONG:
            for r in range(rows):
                for i in range(0, count, LANES):
                    store(b, (k + r * pitch, j + i), load(x, (0, 0, place + r * plane + i)))
        elif step == 1:
            for i in range(0, count, LANES):
                for r in range(rows):
                    store(b, (k + r * pitch, j + i), load(x, (0, 0, place + r * plane + i)))
        else:
            for i in range(0, count, LANES):
                for r in range(rows):
                    at = place + r * plane + i * step
                    two = load(x, (0, 0, at)), load(x, (0, 0, at + LANES))
                    store(b, (k + r * pitch, j + i), deinterleave(two)[0])
        return
    for r in range(rows):
        at, i = place + r * plane, 0
        while at + i * step < 0 and i < count:
            i += 1
        while i < count:
            inside = min(count - i, (x.size - at - i * step + step - 1) // step)
            store(b, (k + r * pitch, j + i), gather(x, (0, 0, at + i * step), step, inside))
            i += LANES


@jit
def pack_weight(weight, rows, shifts, first, depth, start, a):
    """Panels of ROWS rows: a[start + (panel·depth + k)·ROWS + i] = weight[rows[panel·ROWS + i] + shifts[first + k]].

    weight is flat.  Where rows is -1 there is no row: zero.
    """
    run = _run(shifts, first, depth)
    for row in range(0, len(rows), ROWS):
        place, k, pitch = start + row * depth, 0, _distance(rows, row)
        while k < depth:
            left = run - k % run
            # ROWS vectors at a time; what they write too much is written again after them.
            if pitch > 0 and left >= _SHORT and k + LANES <= depth:
                vectors = load_rows_part(weight, rows[row] + shifts[first + k], pitch, ROWS, 0, ROWS, left)
                store_rows(a, place + k * ROWS, LANES, interleave(vectors))
                k += min(left, LANES)
            else:
                for i in range(ROWS):
                    base = rows[row + i]
                    a[place + k * ROWS + i] = weight[base + shifts[first + k]] if base >= 0 else 0
                k += 1


@jit
def _run(shifts, first, depth):
    """The length of runs of consecutive numbers, if all have the same, else 1."""
    run = 1
    while run < depth and shifts[first + run] == shifts[first] + run:
        run += 1
    for k in range(depth):
        if shifts[first + k] != shifts[first + k // run * run] + k % run:
            return 1
    return run


@jit
def _distance(rows, first):
    """From each row of a panel to the next, or 0 where it is not always the same or rows are missing."""
    distance = rows[first + 1] - rows[first]
    for i in range(1, ROWS):
        if rows[first + i] < 0 or rows[first + i] - rows[first + i - 1] != distance:
            return 0
    return distance
