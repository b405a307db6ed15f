"""How an implicit matrix product covers its result: which outputs share their taps, in which blocks they are computed.

A convolution and its transpose are one sum over channels c and taps t:

    result[r, i·cell + phase] = Σ  weight[row(r, phase) + shift(c, t)] · source[c, i·step + offset(t)]

on each axis.  A convolution has step = stride, cell = 1 and one phase.  Its transpose has step = 1 and cell = stride:
outputs that differ by a multiple of the stride read the source at the same distances, so the output falls into phases,
each a convolution with every stride-th tap.  Phases with the same offsets are rows of one matrix product.

All sizes are pairs (height, width); a plan is a handful of small integer arrays, kept for the next call.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise, product
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu.vector import COLUMNS, LANES, ROWS

__all__ = ["DEPTH", "PIXELS", "Phases", "Plan", "filled_up", "flattened", "forward", "odd_pitch", "plans_of",
           "regions_of", "round_up", "segments_of", "slices_of", "table", "taps_of", "transposed"]

DEPTH = 192                                          # (channel, tap) pairs multiplied at a time
PIXELS = 4 * COLUMNS * LANES                         # pixels packed at a time: with DEPTH, a part of the L2 cache
_RESULT = 96 << 10                                   # numbers of the result in a job, which stays there, too
_ROWS = 512                                          # of the result in a job
_JOBS = 8                                            # for each thread, so that none waits long for the last
_WORTH_A_JOB = 4 << 20                               # multiplications: some 40 µs
_PACKING = 24                                        # to pack pixels takes as long as to multiply so many rows by them
_PANELS = 8                                          # of the weights that a thread packs at a time
_WORTH_SPLITTING = 0.92                              # of the work must be left, or padding is multiplied as well


class Phases(NamedTuple):
    """Outputs i·cell + phase of one axis that read the source at i·step + offset, for the same offsets."""

    offsets: tuple[int, ...]                         # one for each tap
    phases: tuple[int, ...]
    taps: tuple[tuple[int, ...], ...]                # (phases, offsets): index in the kernel


class Plan(NamedTuple):
    """One family of phases in H with all families in W.

    A line is a row of pixels of one channel in one phase of H: line = channel · len(phases) + index of the phase.
    A job computes some lines of some segments; segments are runs of pixels in one region.
    """

    phases: np.ndarray                               # (P_h,) of H
    columns: np.ndarray                              # (P_w, 3) for each phase of W: phases and row of its family, index
    families: np.ndarray                             # (F, 5) of W: phases, row in a job's part, taps, where the panels
                                                     # of its weights begin, numbers in a panel
    segments: np.ndarray                             # (., 6) column and width of the region; pixels; p, q of the first;
                                                     # region
    taps: np.ndarray                                 # (., 5) t, offsets in H and W, columns from .. to that it sees
    slices: np.ndarray                               # (., 4) channels first, last; taps first, last
    ranges: np.ndarray                               # (regions, F, 2) of slices
    rows: np.ndarray                                 # where in the weight the row of a product begins, -1 for no row
    shifts: np.ndarray                               # and how far from there each of its (channel, tap) pairs is
    packing: np.ndarray                              # (., 6) rows first, last; shifts first, last; where their panels
                                                     # begin, numbers in a panel
    jobs: np.ndarray                                 # (., 4) lines first, last; segments first, last
    size: int                                        # numbers in all panels
    scratch: tuple[int, int, int, int]               # rows and columns of a job's result; pixels and depth packed


def round_up(number: int, step: int) -> int:
    return -(-number // step) * step


def forward(geometry: ConvGeometry, axis: int) -> list[Phases]:
    """Of a convolution: one phase, all taps."""
    k, d, near = geometry.kernel_size[axis], geometry.dilation[axis], geometry.near_padding[axis]
    return [Phases(tuple(u * d - near for u in range(k)), (0,), (tuple(range(k)),))]


def transposed(geometry: ConvGeometry, axis: int) -> list[Phases]:
    """Of its transpose: tap u brings grad[p] to i·s + r = p·s - near + u·d, so p = i + (r + near - u·d) / s."""
    k, d, near, s = (a[axis] for a in (geometry.kernel_size, geometry.dilation, geometry.near_padding, geometry.stride))
    families: dict[tuple[int, ...], list[tuple[int, tuple[int, ...]]]] = {}
    for r in range(min(s, geometry.input_size[axis])):
        taps = tuple(u for u in range(k) if (r + near - u * d) % s == 0)
        families.setdefault(tuple((r + near - u * d) // s for u in taps), []).append((r, taps))
    return [Phases(offsets, *zip(*members, strict=True)) for offsets, members in families.items()]


def flattened(geometry: ConvGeometry, *arrays: np.ndarray) -> tuple[Any, ...]:
    """A 1x1 convolution that keeps its pixels, and its arrays, with all of them in one row."""
    if geometry.taps > 1 or geometry.output_size != geometry.input_size or any(map(any, geometry.padding)):
        return geometry, *arrays
    flat = _one_row(geometry)
    return flat, *(array.reshape(*array.shape[:2], *flat.input_size) for array in arrays)


@lru_cache(maxsize=512)
def _one_row(geometry: ConvGeometry) -> ConvGeometry:
    return ConvGeometry((1, prod(geometry.input_size)), (1, 1), groups=geometry.groups)


def filled_up(geometry: ConvGeometry, weight: np.ndarray) -> tuple[ConvGeometry, np.ndarray]:
    """A convolution and its weight with zeros around the kernel where that makes its transpose cheaper.

    The kernel grows until it covers whole strides: all phases then have the same taps and are rows of one product, for
    which pixels are packed once.  With few channels packing is what costs.  An infinity times a zero is no number,
    which is for the caller to see.
    """
    near = tuple(-p % s for p, s in zip(geometry.near_padding, geometry.stride, strict=True))
    kernel = tuple(round_up(k + n, s) for k, n, s in zip(geometry.kernel_size, near, geometry.stride, strict=True))
    phases, channels = prod(geometry.stride), weight.shape[1]
    apart = geometry.taps * (round_up(channels, ROWS // 2) + _PACKING)
    together = prod(kernel) // phases * (round_up(channels * phases, ROWS // 2) + _PACKING)
    if geometry.dilation != (1, 1) or kernel == geometry.kernel_size or together >= apart:
        return geometry, weight
    whole = np.zeros((*weight.shape[:2], *kernel), np.float32)
    inner = tuple(slice(n, n + k) for n, k in zip(near, geometry.kernel_size, strict=True))
    whole[(..., *inner)] = weight
    padding = tuple((a + n, b + k - old - n) for (a, b), n, k, old in zip(
        geometry.padding, near, kernel, geometry.kernel_size, strict=True))
    return replace(geometry, kernel_size=kernel, padding=padding), whole


@lru_cache(maxsize=512)
def plans_of(geometry: ConvGeometry, transpose: bool, source: int, channels: int, repeats: int,
            threads: int) -> tuple[Plan, ...]:
    """One plan for each family of phases in H.

    source, channels    of one group, in the source and in the result
    repeats             images · groups, which all follow the plan
    """
    axes = [(transposed if transpose else forward)(geometry, axis) for axis in (0, 1)]
    sizes = geometry.output_size if transpose else geometry.input_size
    step = (1, 1) if transpose else geometry.stride
    cells = (tuple(-(-i // s) for i, s in zip(geometry.input_size, geometry.stride, strict=True)) if transpose
             else geometry.output_size)
    taps = geometry.taps
    across, inward = (taps, channels * taps) if transpose else (source * taps, taps)
    return tuple(_plan(rows, axes[1], sizes, step, cells, geometry.kernel_size[1], source, channels, across, inward,
                       repeats, threads) for rows in axes[0])


def _plan(rows: Phases, columns: list[Phases], sizes, step, cells, kernel_width: int, source: int, channels: int,
          across: int, inward: int, repeats: int, threads: int) -> Plan:
    """across, inward    distance in the weight between two channels of the result, of the source"""
    lines, breadth = channels * len(rows.phases), sum(len(family.phases) for family in columns)
    block = _line_block(lines, breadth)
    families, packing, height, size = [], [], 0, 0
    places, distances = [], []                       # the plan's rows and shifts
    for family in columns:
        taps, phases = len(rows.offsets) * len(family.offsets), len(family.phases)
        # One tap further is as far in the kernel for every phase: where a weight lies is the sum of two numbers.
        starts = [u[0] * kernel_width + v[0] if taps else 0 for u, v in product(rows.taps, family.taps)]
        steps = [(u - rows.taps[0][0]) * kernel_width + v - family.taps[0][0]
                 for u, v in product(rows.taps[0], family.taps[0])]
        place = np.full(round_up(lines * phases, ROWS), -1)
        place[:lines * phases] = np.add.outer(np.arange(channels) * across, starts).ravel()
        shifts = np.add.outer(np.arange(source) * inward, np.array(steps, np.int64)).ravel()
        pitch = odd_pitch(len(shifts), 64) * ROWS
        before, ahead = sum(map(len, places)), sum(map(len, distances))
        packing += [(before + row, before + min(row + _PANELS * ROWS, len(place)), ahead, ahead + len(shifts),
                     size + row // ROWS * pitch, pitch) for row in range(0, len(place), _PANELS * ROWS)]
        places.append(place)
        distances.append(shifts)
        families.append((phases, height, taps, size, pitch))
        height += round_up(block * phases, ROWS)
        size += len(place) // ROWS * pitch

    regions = regions_of(rows, columns, sizes, step, cells)
    taps, seen = taps_of(regions, rows, columns, sizes, step)
    slices, ranges = [], np.zeros_like(seen)
    for place in np.ndindex(*seen.shape[:2]):
        start, stop = seen[place]
        ranges[place][0] = len(slices)
        slices += [(c0, c1, start + t0, start + t1) for c0, c1, t0, t1 in slices_of(source, stop - start)]
        ranges[place][1] = len(slices)

    blocks = -(-lines // block) * max(1, repeats)    # an empty batch has a plan, too
    pixels = sum(h * w for (_, h), (_, w) in regions)
    parts = _parts(pixels, max(COLUMNS * LANES, _RESULT // height), blocks, threads)
    part = -(-pixels // parts)
    segments = segments_of(regions, round_up(-(-part // -(-part // PIXELS)), LANES))
    work = [round_up(count, LANES) * sum(int(b - a) for a, b in seen[region]) for _, _, count, _, _, region in segments]
    some = min(len(segments), -(-_JOBS * threads // blocks), sum(work) * height * source // _WORTH_A_JOB)
    groups = _even_parts(work, max(parts, some))
    jobs = [(line, min(line + block, lines), *group) for group in groups for line in range(0, lines, block)]

    deepest = max((int((c1 - c0) * (t1 - t0)) for c0, c1, t0, t1 in slices), default=1)
    longest = max(s[2] for s in segments)
    widest = max(sum(round_up(s[2], LANES) for s in segments[a:b]) for a, b in groups)
    order = {phase: (*families[f][:2], j) for f, family in enumerate(columns) for j, phase in enumerate(family.phases)}
    return Plan(np.array(rows.phases), np.array([order[p] for p in sorted(order)]), table(families, 5),
                table(segments, 6), taps, table(slices, 4), ranges, np.concatenate(places), np.concatenate(distances),
                table(packing, 6), table(jobs, 4), size,
                (height, odd_pitch(widest + COLUMNS * LANES), round_up(longest, LANES), deepest))


def slices_of(channels: int, taps: int) -> Iterator[tuple[int, int, int, int]]:
    """(c0, c1, t0, t1): the (channel, tap) pairs in portions of DEPTH, whole channels or a part of one."""
    depth = max(1, DEPTH // max(1, taps))
    portion = min(taps, DEPTH)
    for c in range(0, channels, depth):
        for t in range(0, taps, portion or 1):
            yield c, min(c + depth, channels), t, min(t + portion, taps)


def regions_of(rows: Phases, columns: list[Phases], sizes, step, cells) -> list[tuple[tuple[int, int], ...]]:
    """((top, height), (left, width)) of rectangles that cover the cells.

    Where many taps fall into padding the cells are split so that in each region a tap falls inside everywhere or
    nowhere: then nothing multiplies padding.
    """
    offsets = [rows.offsets], [family.offsets for family in columns]
    whole = [[(0, cells[axis])] for axis in (0, 1)]
    split = [list(_split(offsets[axis], sizes[axis], step[axis], cells[axis])) for axis in (0, 1)]

    def padded(choice) -> int:
        """Multiplications, where runs of pixels are filled up to whole vectors and a region costs some extra."""
        total = 0
        for (top, h), (left, w) in product(*choice):
            taps = (_tap_count(offsets[0], top, h, step[0], sizes[0])
                    * _tap_count(offsets[1], left, w, step[1], sizes[1]))
            total += (round_up(h * w, LANES) + LANES // 2) * taps
        return total

    best = min(product((whole[0], split[0]), (whole[1], split[1])), key=padded)
    return list(product(*(best if padded(best) < _WORTH_SPLITTING * padded(whole) else whole)))


def _split(offsets, size: int, step: int, cells: int) -> Iterator[tuple[int, int]]:
    """(first, count): runs of cells for which the same offsets fall inside."""
    cuts = {0, cells}
    for offset in {o for family in offsets for o in family}:
        cuts |= {min(cells, max(0, -(offset // step))), min(cells, max(0, (size - 1 - offset) // step + 1))}
    return ((a, b - a) for a, b in pairwise(sorted(cuts)))


def _seen(offset: int, step: int, size: int) -> tuple[int, int]:
    """(first, last + 1) of the cells that read inside the source."""
    return max(0, -(offset // step)), max(0, (size - 1 - offset) // step + 1)


def _meets(offset: int, first: int, count: int, step: int, size: int) -> bool:
    """Does any of these cells read inside the source?"""
    lo, hi = _seen(offset, step, size)
    return max(first, lo) < min(first + count, hi)


def _tap_count(offsets, first: int, count: int, step: int, size: int) -> int:
    return sum(_meets(o, first, count, step, size) for family in offsets for o in family)


def taps_of(regions, rows: Phases, columns: list[Phases], sizes, step) -> tuple[np.ndarray, np.ndarray]:
    """The taps that fall inside in each region, as in `Plan`, and where those of each family are."""
    taps, ranges = [], np.zeros((len(regions), len(columns), 2), np.int64)
    for r, ((top, h), (left, w)) in enumerate(regions):
        for f, family in enumerate(columns):
            ranges[r, f, 0] = len(taps)
            taps += [(t, dy, dx, *_seen(dx, step[1], sizes[1])) for t, (dy, dx) in
                     enumerate(product(rows.offsets, family.offsets))
                     if _meets(dy, top, h, step[0], sizes[0]) and _meets(dx, left, w, step[1], sizes[1])]
            ranges[r, f, 1] = len(taps)
    return table(taps, 5), ranges


def segments_of(regions, most: int) -> list[tuple[int, int, int, int, int, int]]:
    """Runs of at most so many pixels, each in one region, as in `Plan`."""
    segments = []
    for region, ((top, height), (left, width)) in enumerate(regions):
        count = height * width
        run = round_up(-(-count // -(-count // most)), LANES)
        segments += [(left, width, min(run, count - first), top + first // width, left + first % width, region)
                     for first in range(0, count, run)]
    return segments


def _line_block(lines: int, breadth: int) -> int:
    """Lines of a job, each `breadth` rows."""
    most = max(1, _ROWS // (breadth * ROWS)) * ROWS
    return min(lines, round_up(-(-lines // -(-lines // most)), ROWS))


def _parts(pixels: int, most: int, repeats: int, threads: int) -> int:
    """Into how many jobs the pixels go: a multiple of the threads where there are few."""
    parts = -(-pixels // most)
    if threads > 1 and parts * repeats < 8 * threads:
        while parts * repeats % threads and pixels > parts * COLUMNS * LANES:
            parts += 1
    return parts


def _even_parts(sizes: list[int], parts: int) -> list[tuple[int, int]]:
    """(first, last): so many runs of nearly the same total, or fewer."""
    ends = np.cumsum([0, *sizes])
    cuts = np.searchsorted(ends, np.linspace(0, ends[-1], parts + 1) - max(sizes) / 4)
    cuts[-1] = len(sizes)
    return [(int(a), int(b)) for a, b in pairwise(cuts) if a < b]


def odd_pitch(numbers: int, unit: int = LANES) -> int:
    """At least so many, an odd number of units: then rows, or panels, spread over the whole cache."""
    return (-(-numbers // unit) | 1) * unit


def table(rows: Sequence[tuple[int, ...]], columns: int) -> np.ndarray:
    return np.array(rows, np.int64).reshape(-1, columns)

