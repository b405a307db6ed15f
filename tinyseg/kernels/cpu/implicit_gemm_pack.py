"""What a matrix product reads, put side by side: the pixels that a tap sees, and the weights in panels."""

from tinyseg.jit import jit
from tinyseg.kernels.cpu.vector import (
    LANES,
    ROWS,
    deinterleave,
    gather,
    interleave,
    load,
    load_rows,
    splat,
    store,
    store_part,
    store_rows,
)

__all__ = ["pack_pixels", "pack_weight"]


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
    contiguous = step[0] == 1 and step[1] == 1 and width == W            # in x the pixels lie one after the other
    if contiguous:
        above = min(count, max(0, left - q - (p + dy) * W))
        below = max(above, min(count, left - q + (H - p - dy) * W))
        _copy(x, c0, c1, (p + dy) * W + q + dx + above, 1, b, k, pitch, above, below - above)
        _clear(b, k, pitch, c1 - c0, 0, above)
        _clear(b, k, pitch, c1 - c0, below, count - below)
        if lo <= left and hi >= left + width:
            return
    j = 0
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
        for i in range(0, count, LANES):
            at = place + i * step
            if step == 1:
                for r in range(rows):
                    store(b, (k + r * pitch, j + i), load(x, (0, 0, at + r * plane)))
            else:
                for r in range(rows):
                    two = load(x, (0, 0, at + r * plane)), load(x, (0, 0, at + r * plane + LANES))
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
    vectors = depth // LANES if _evenly(shifts, first, depth) == 1 else 0
    for row in range(0, len(rows), ROWS):
        place, done = start + row * depth, 0
        pitch = _evenly(rows, row, ROWS)
        if pitch > 0:                                # neighbours in the weight: ROWS vectors at a time
            while done < vectors * LANES:
                source = rows[row] + shifts[first] + done
                store_rows(a, place + done * ROWS, LANES, interleave(load_rows(weight, source, pitch, ROWS)))
                done += LANES
        for k in range(done, depth):
            shift = shifts[first + k]
            for i in range(ROWS):
                a[place + k * ROWS + i] = weight[rows[row + i] + shift] if rows[row + i] >= 0 else 0


@jit
def _evenly(numbers, first, count):
    """The distance between `count` numbers if it is always the same and none is negative, else 0."""
    if count < 2 or numbers[first + count - 1] < 0:
        return 0
    distance = numbers[first + 1] - numbers[first]
    for i in range(first + 2, first + count):
        if numbers[i] - numbers[i - 1] != distance:
            return 0
    return distance
