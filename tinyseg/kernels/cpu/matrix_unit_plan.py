"""Convolutions and their transposes as lists of offsets: what is packed where, and which lines each tap reads.

A `Correlation` is what the matrix unit computes, whatever the operation was:

    y[m, i, j] = Σ_t Σ_c  w[m, c, t] · x[c, i·s + a_t, j·s + b_t]

It is a convolution read as it stands (a = u·d - top), or the transpose of one: position (i, j) of the result's grid
stands for s·s cells of the result, its phases, and each phase is an output of its own that uses the taps with
u·d = phase + s·n, on row a = i - n of the gradient.

Rows of x are packed beside one another, and the zeros right of a row are those left of the next: then every tap reads
at a constant distance from position i·width + j, narrow images fill tiles as well as wide ones, and what a tile
computes between two rows is not stored.  A stride is a plane for each remainder (row % s, column % s).
"""

from dataclasses import dataclass

import numpy as np

from tinyseg.arithmetic import ConvGeometry

__all__ = ["OUTPUTS", "Correlation", "Layout", "Part", "correlation"]

OUTPUTS = 16                                         # in a tile
_GUARD = 96                                          # lines that the last tiles may read beyond the last row


@dataclass(frozen=True, eq=False)
class Part:
    """Outputs that use the same taps.

    taps        their numbers among those of the correlation
    outputs     for each output m its first weight, its channel in y, and the row and column of y where position (0, 0)
                lies: a table (4, M)
    inputs      which weight belongs to a tap and a channel, counted from an output's first: a table (T, C)
    """

    taps: np.ndarray
    outputs: np.ndarray
    inputs: np.ndarray


@dataclass(frozen=True, eq=False)
class Correlation:
    """One group of a convolution or of its transpose.

    size        of x, (H, W)
    grid        of positions, (P, Q)
    stride      of the positions over x
    step        from a position to the next in y
    taps        row and column of x that each tap reads at position (0, 0), (T, 2), ordered by rows
    """

    channels: int
    size: tuple[int, int]
    grid: tuple[int, int]
    stride: tuple[int, int]
    step: tuple[int, int]
    taps: np.ndarray
    parts: tuple[Part, ...]

    def rows_apart(self) -> int:
        """Rows of positions so far apart that no tap of one reads a row between those that others of it read."""
        rows = self.taps[:, 0] // self.stride[0]
        return max(1, int(np.gcd.reduce(rows - rows.min())))

    def inside(self) -> float:
        """Which part of what taps read are rows of x, not of its padding."""
        rows = np.arange(self.grid[0])[:, None] * self.stride[0] + self.taps[:, 0]
        return float(((rows >= 0) & (rows < self.size[0])).mean())


def correlation(operation: str, geometry: ConvGeometry, channels: int, outputs: int,
                kernel: tuple[int, int]) -> Correlation:
    """`conv2d`, or `conv2d_input_grad` by a weight of that size, extended by zeros."""
    return (_convolution(geometry, channels, outputs) if operation == "conv2d"
            else _transposed_convolution(geometry, channels, outputs, kernel))


def _convolution(geometry: ConvGeometry, channels: int, outputs: int) -> Correlation:
    """`conv2d` from `channels` to `outputs`."""
    (k_h, k_w), (top, left), (d_h, d_w) = geometry.kernel_size, geometry.near_padding, geometry.dilation
    u, v = (axis.ravel() for axis in np.mgrid[:k_h, :k_w])
    m, cells = np.arange(outputs), np.arange(k_h * k_w)
    part = Part(cells, np.stack([m * channels * len(cells), m, 0 * m, 0 * m]),
                cells[:, None] + np.arange(channels) * len(cells))
    return Correlation(channels, geometry.input_size, geometry.output_size, geometry.stride, (1, 1),
                       np.stack([u * d_h - top, v * d_w - left], 1), (part,))


def _transposed_convolution(geometry: ConvGeometry, channels: int, outputs: int,
                            kernel: tuple[int, int]) -> Correlation:
    """`conv2d_input_grad` from the `channels` of the gradient to the `outputs` of the input.

    kernel    (K_h, K_w) of the weight, which may have been extended by zeros
    """
    (firsts_h, size_h, rows), (firsts_w, size_w, columns) = (_phases(geometry, kernel[a], a) for a in (0, 1))
    taps = [(a, b) for a in sorted({-n for phases in rows for n in phases.steps})
            for b in sorted({-n for phases in columns for n in phases.steps})]
    number = {tap: t for t, tap in enumerate(taps)}
    parts = []
    for h in rows:
        for w in columns:
            used = [(k, l) for k in reversed(range(len(h.steps))) for l in reversed(range(len(w.steps)))]
            m, r, q = (axis.ravel() for axis in np.mgrid[:outputs, :len(h.cells), :len(w.cells)])
            first = (m * kernel[0] + h.first_taps[r]) * kernel[1] + w.first_taps[q]
            further = np.array([h.further[k] * kernel[1] + w.further[l] for k, l in used], int)
            parts.append(Part(np.array([number[-h.steps[k], -w.steps[l]] for k, l in used], int),
                              np.stack([first, m, h.cells[r], w.cells[q]]),
                              further[:, None] + np.arange(channels) * outputs * kernel[0] * kernel[1]))
    where = np.array(taps) + np.array([firsts_h, firsts_w])
    return Correlation(channels, geometry.output_size, (size_h, size_w), (1, 1), geometry.stride, where, tuple(parts))


@dataclass(frozen=True, eq=False)
class _Phases:
    """The phases of one axis whose taps u have the same u·d = phase + s·n.

    steps         all n, ascending
    cells         where each phase's first position lies in the input
    first_taps    u of each phase for the first n
    further       u beyond it for each n
    """

    steps: tuple[int, ...]
    cells: np.ndarray
    first_taps: np.ndarray
    further: np.ndarray


def _phases(geometry: ConvGeometry, kernel: int, axis: int) -> tuple[int, int, list[_Phases]]:
    """(row of the gradient at position 0 for n = 0, positions, the phases)."""
    s, d, near, size = (values[axis] for values in (geometry.stride, geometry.dilation, geometry.near_padding,
                                                    geometry.input_size))
    first = near // s
    found: dict[tuple[int, ...], list[int]] = {}
    for phase in range(s):
        steps = tuple((u * d - phase) // s for u in range(kernel) if (u * d - phase) % s == 0)
        found.setdefault(steps, []).append(phase)
    phases = []
    for steps, residues in found.items():
        r, n = np.array(residues), np.array(steps or [0])
        phases.append(_Phases(steps, r + s * first - near, (r + s * n[0]) // d if steps else 0 * r,
                              s * (n - n[0]) // d))
    return first, (size - 1 + near) // s - first + 1, phases


class Layout:
    """Where what `rows` rows of positions read lies when it is packed.  Everything is counted in lines.

    width       from a position to the one below
    comb, lines    all rows, for one block of channels, and with what may be read after them
    row_step    from a row of x in a plane to the next
    columns     where each column of x goes, or -1: (1, W), shifted (planes, W)
    runs        the same as runs of every s-th column: for each plane its first column, where that goes, s, and how many
    planes, plane, lead    planes side by side in a row plane, their size, and the zeros before their first row
    row_planes  for each row % row_step, counted from a band's first, the first line of its planes, or -1 where no tap
                reads such rows
    first, count  rows in a plane: from row stride·(p + first) on for a band that begins with the positions of row p
    offsets     from a position to what each tap reads
    """

    def __init__(self, c: Correlation, rows: int, apart: int, shifted: bool):
        """apart: from a row of positions to the next.  More than 1 only where no tap reads rows between.

        shifted: a plane for each column of taps, in which it reads without distance.  No room between rows.
        """
        (s_h, s_w), (_, width), (_, positions) = c.stride, c.size, c.grid
        (a, b), taps = c.taps.T, len(c.taps)
        self.first = int((a // s_h).min())
        self.count = rows + (int((a // s_h).max()) - self.first) // apart
        self.rows, self.row_step = rows, s_h * apart
        if shifted:
            starts, plane = np.unique(b, return_inverse=True)
            lead, extent, self.width, shift = 0, positions, positions, np.zeros(taps, int)
        else:
            remainders, plane = np.unique(b % s_w, return_inverse=True)
            nearest, farthest = int((b // s_w).min()), int((b // s_w).max())
            begin = max(0, nearest)
            extent = max(0, min(-(-width // s_w), positions + farthest) - begin)
            lead, beyond = begin - min(nearest, begin), max(0, positions + farthest - begin - extent)
            self.width = max(extent + max(lead, beyond), positions)
            starts, shift = s_w * begin + remainders, b // s_w - begin
        size = lead + self.count * self.width
        remainders, row_plane = np.unique(a % s_h, return_inverse=True)
        self.row_planes = np.full(self.row_step, -1)
        self.row_planes[remainders] = np.arange(len(remainders)) * len(starts) * size
        cells, rest = np.divmod(np.arange(width) - starts[:, None], s_w)
        self.columns = np.where((rest == 0) & (cells >= 0) & (cells < extent),
                                cells + lead + size * np.arange(len(starts))[:, None], -1)
        inside = self.columns >= 0
        column = inside.argmax(1)
        self.runs = np.stack([column, self.columns[np.arange(len(column)), column], np.full(len(column), s_w),
                              inside.sum(1)], 1)
        if not shifted:                              # no column is in two planes
            self.columns = self.columns.max(0, keepdims=True)
        self.offsets = (row_plane * len(starts) + plane) * size + lead + shift \
            + (a // s_h - self.first) // apart * self.width
        self.planes, self.plane, self.lead = len(starts), size, lead
        self.comb = len(remainders) * self.planes * size
        self.lines = self.comb + self.width + _GUARD
