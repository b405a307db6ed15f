"""Convolution on the matrix unit from lines to lines: nothing is packed but the weight.

A `Blocked` activation is read where it lies, if the taps do not reach beyond the zeros around it; else its lines are
copied band by band.  It has a part for each array that was concatenated.  Two of them are read together; where there
are more, sums wait for the next two.
"""

from functools import lru_cache

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.blocked import BLOCK, Blocked
from tinyseg.kernels.cpu import matrix_unit_weight, workspace
from tinyseg.kernels.cpu.blocked import empty, flat_lines
from tinyseg.kernels.cpu.matrix_unit import (
    Packed,
    compute,
    extended,
    extensions,
    find_plan,
    finish,
    pack_weights,
    tables,
    target_of,
)
from tinyseg.kernels.cpu.matrix_unit_bands import Grid, convolve_lines, memory_of
from tinyseg.kernels.cpu.matrix_unit_lines import LINE, representable
from tinyseg.kernels.cpu.matrix_unit_pack import Source
from tinyseg.kernels.cpu.matrix_unit_plan import Correlation, correlation
from tinyseg.kernels.cpu.threads import num_threads, team
from tinyseg.kernels.registry import as_it_lies
from tinyseg.precision import get_float32_matmul_precision, permits

__all__ = ["conv2d_weight_grad", "convolve"]

_CACHED = 1 << 20                                    # bytes of lines, of sums or of weights that stay in a cache
_UNUSED = np.zeros(1, np.int64)


def convolve(operation: str, x: np.ndarray | Blocked, weight: np.ndarray, geometry: ConvGeometry,
             bias: np.ndarray | None = None, relu: bool = False, split: bool = True) -> np.ndarray | Blocked | None:
    """`conv2d` or `conv2d_input_grad` of one group.

    The result is Blocked if its channels are a multiple of 32.  None where a number is too large or too small.
    """
    outputs, size = ((len(weight), geometry.output_size) if operation == "conv2d"
                     else (weight.shape[1], geometry.input_size))
    channels = x.shape[1]
    kernels = [geometry.kernel_size] if operation == "conv2d" else extensions(geometry)
    lines, threads = outputs % BLOCK == 0, num_threads()
    plans = []
    if isinstance(x, Blocked):
        blocks = tuple(part.shape[1] for part in x.parts)
        plans = [_find_plan(operation, geometry, blocks, outputs, kernel, x.shape[0], split, threads, lines)
                 for kernel in kernels]
    in_place = any(plans)
    if not in_place:
        plans = [find_plan(operation, geometry, channels, outputs, kernel, x.shape[0], split, threads, lines)
                 for kernel in kernels]
    plan = min((plan for plan in plans if plan), key=lambda plan: plan.cost)
    shape = x.shape[0], outputs, *size
    y = empty(shape, split) if lines else workspace.empty(shape)
    fill = _compute if in_place else compute
    return y if fill(plan, x, extended(weight, plan.kernel), y, bias, relu, 1) else None


def conv2d_weight_grad(grad: np.ndarray | Blocked, x: np.ndarray | Blocked,
                       geometry: ConvGeometry) -> np.ndarray | None:
    """The operation of that name, or None: of one group, and as exact as the lines are that it is given."""
    splits = {a.split for a in (grad, x) if isinstance(a, Blocked)}
    if geometry.groups > 1 or splits != {get_float32_matmul_precision() == "high"} or not permits("high"):
        return None
    return matrix_unit_weight.conv2d_weight_grad(as_it_lies(grad), as_it_lies(x), geometry, True in splits)


class _Plan:
    """How to compute one correlation from where the lines of x lie: by bands of `rows` rows of positions.

    cost    roughly, in products of tiles
    """

    def __init__(self, c: Correlation, kernel: tuple[int, int], blocks: tuple[int, ...], images: int, split: bool,
                 threads: int, lines: bool):
        self.c, self.split, self.kernel = c, split, kernel
        self.pitch = _positions_pitch(c)
        pitch, (a, b) = c.size[1] + 1, c.taps.T
        self.parts = [Packed(c, part, False, split, lines) for part in c.parts]
        self.cost = sum(part.work for part in self.parts)
        line = pitch * sum(blocks) * (128 if split else 64)              # bytes of a row of x
        reach, groups = int(np.ptp(a)), sum(part.output_blocks for part in self.parts) / 2
        weights = 4 * sum(part.size for part in self.parts)

        def moved(bands: int) -> float:
            """Bytes from beyond the second-level cache: a band's weights once, its lines once or for all outputs."""
            band = line * (c.stride[0] * c.grid[0] / bands + reach)
            return bands * (weights + band * (1 if weights <= _CACHED or band <= _CACHED else groups))
        bands = min(range(1, c.grid[0] + 1), key=moved)
        if len(blocks) > 2:
            while bands < c.grid[0] and 4 * self.sums(-(-c.grid[0] // bands) * self.pitch) > _CACHED:
                bands += 1
        while images * bands % threads and bands < c.grid[0]:
            bands += 1
        self.rows = -(-c.grid[0] // bands)
        self.kept = self.sums(self.rows * self.pitch) if len(blocks) > 2 else 0
        for part in self.parts:
            part.place(a * pitch + b)
            part.kept = part.sums(self.rows * self.pitch) if len(blocks) > 2 else 0
        self.tables, self.weights = tables(self.parts, [4 * part.size <= _CACHED for part in self.parts],
                                           square=c.stride != (1, 1))

    def sums(self, positions: int) -> int:
        """Elements that keep those of so many positions."""
        return sum(part.sums(positions) for part in self.parts)


def _positions_pitch(c: Correlation) -> int:
    """From a row of positions to the next: that of x, so that tiles go on from row to row; or by whole tiles."""
    return c.size[1] + 1 if c.stride == (1, 1) else -(-c.grid[1] // LINE) * LINE


@lru_cache(maxsize=256)
def _find_plan(operation: str, geometry: ConvGeometry, blocks: tuple[int, ...], outputs: int, kernel: tuple[int, int],
               images: int, split: bool, threads: int, lines: bool) -> _Plan | None:
    """None where a tap reads beyond the zeros around x."""
    c = correlation(operation, geometry, BLOCK * sum(blocks), outputs, kernel)
    nearest, farthest = c.taps.min(0), c.taps.max(0) + c.stride * (np.array(c.grid) - 1)
    if (nearest < -1).any() or (farthest > c.size).any():
        return None
    if c.grid[1] > c.size[1] + 1 if c.stride == (1, 1) else _positions_pitch(c) > 1.5 * c.grid[1] or c.stride[1] > 4:
        return None
    return _Plan(c, kernel, blocks, images, split, threads, lines)


def _compute(plan: _Plan, x: Blocked, weight: np.ndarray, y: np.ndarray | Blocked, bias: np.ndarray | None, relu: bool,
             groups: int) -> bool:
    """Fill y; False where some number is too large or too small for the matrix unit."""
    c = plan.c
    tiles, largest_weight = pack_weights(plan, weight)
    if not representable(x.largest, largest_weight):
        return False
    flat, target = target_of(y, c.step, bias, relu)
    places = [(*flat_lines(x, part), part.shape[1]) for part in x.parts]
    if len(places) % 2:
        places.append((*places[-1][:2], 0))
    lie = places[0][1]                               # the same for all, but for the images
    source = Source(*c.size, c.stride[0], 0, 1, x.pitch, lie.block, lie.below or 0, 1, 0, 0, _UNUSED, _UNUSED[None],
                    _UNUSED[None])
    blocks = sum(part.shape[1] for part in x.parts)
    grid = Grid(*c.grid, plan.rows, 1, 1, 0, plan.pitch, c.stride[1] * LINE, c.stride[0] * lie.pitch, blocks, blocks, 0)
    bands = x.shape[0] * -(-c.grid[0] // plan.rows)
    members = team(bands)
    memory = memory_of(members.size, 0, 0, plan.kept)
    at_once = bands if len(places) == 2 else members.size            # bands whose sums wait for further parts

    for first in range(0, bands, at_once):
        done = 0
        for (lines, lie, here), (others, other, more) in zip(places[::2], places[1::2], strict=True):
            convolve_lines(members, (first, min(at_once, bands - first)), lines, (lie.first, lie.image), others,
                           (other.first, other.image), (done, here, more), source, grid, plan.tables, tiles, flat,
                           target, memory)
            done += here + more
    return finish(y, memory.peaks.max())
