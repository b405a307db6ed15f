"""What a matrix product reads, put side by side: the pixels that a tap sees, and the weights in panels."""

from tinyseg.jit import jit
from tinyseg.kernels.cpu.vector import (
    LANES,
    ROWS,
    deinterleave,
    gather,
    interleave,
    load,
    load_part,
    load_rows,
    splat,
    store,
    store_part,
    store_rows,
)

__all__ = ["inside", "pack_pixels", "pack_slice", "pack_weight"]


@jit
def inside(offset, step, size):
    """The first and the last-plus-one i for which 0 <= i·step + offset < size."""
    return max(0, -(offset // step)), (size - 1 - offset) // step + 1


@jit
def pack_pixels(x, c, dy, dx, step, segment, b, k):
    """b[k, j] = x[c, p·s + dy, q·s + dx] for the pixels (p, q) of a segment, 0 outside x, and a vector of 0 after them.

    A segment is (row, column and width of its region; the first pixel and how many): pixels are counted in the region
    row by row.
    """
    _, H, W = x.shape
    top, left, width, first, count = segment[0], segment[1], segment[2], segment[3], segment[4]
    lo, hi = inside(dx, step[1], W)
    p, q, j = top + first // width, left + first % width, 0
    while j < count:
        n = min(left + width - q, count - j)                             # pixels left in this row
        h, start, stop = p * step[0] + dy, max(q, lo), min(q + n, hi)
        if h < 0 or h >= H or start >= stop:
            _clear(b, k, j, n)
        else:
            _clear(b, k, j, start - q)
            _copy(x, c, h, start * step[1] + dx, step[1], b, k, j + start - q, stop - start)
            _clear(b, k, j + stop - q, q + n - stop)
        j, p, q = j + n, p + 1, left
    store(b, (k, count), splat(0))


@jit
def pack_slice(x, channel, part, taps, start, stop, step, segment, b, order):
    """Pack what taps start .. stop - 1 see in the channels of a slice (c0, c1, t0, t1), as far as it has the taps.

    channel    of x that the slice calls 0
    order      filled with the place in the slice of each row packed
    Returns the number of rows.
    """
    c0, c1, t0, t1 = part[0], part[1], part[2], part[3]
    k = 0
    for c in range(c0, c1):
        for i in range(start, stop):
            if t0 <= taps[i, 0] < t1:
                pack_pixels(x, channel + c, taps[i, 1], taps[i, 2], step, segment, b, k)
                order[k] = (c - c0) * (t1 - t0) + taps[i, 0] - t0
                k += 1
    return k


@jit
def _clear(b, k, j, count):
    for i in range(0, count, LANES):
        store_part(b, (k, j + i), splat(0), count - i)


@jit
def _copy(x, c, h, w, step, b, k, j, count):
    """b[k, j + i] = x[c, h, w + i·step]."""
    if step == 1:
        for i in range(0, count - LANES + 1, LANES):
            store(b, (k, j + i), load(x, (c, h, w + i)))
        i = count // LANES * LANES
        store_part(b, (k, j + i), load_part(x, (c, h, w + i), count - i), count - i)
    elif step == 2:
        for i in range(0, count, LANES):
            left = 2 * (count - i) - 1
            first = load_part(x, (c, h, w + 2 * i), left)
            second = load_part(x, (c, h, w + 2 * i + LANES), left - LANES)
            store_part(b, (k, j + i), deinterleave((first, second))[0], count - i)
    else:
        for i in range(0, count, LANES):
            store_part(b, (k, j + i), gather(x, (c, h, w + i * step), step, count - i), count - i)


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
