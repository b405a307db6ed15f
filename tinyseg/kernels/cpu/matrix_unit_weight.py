"""The gradient of a convolution's weight on the matrix unit: float32 in and out, bf16 numbers between.

N batch, C/O channels in/out, G groups.  The columns of the product are (channel, tap column) pairs, 48 at a time; see
`matrix_unit_weight_pack`.  Threads share pixels where the gradient is small, each with sums of its own, else columns.

`split` chooses between three products of numbers split in two and one of rounded numbers; see `amx`.
"""

from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from math import prod
from typing import NamedTuple

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu import im2col, workspace
from tinyseg.kernels.cpu.matrix_unit_lines import representable
from tinyseg.kernels.cpu.matrix_unit_weight_pack import CHANNELS, MIXED, PANEL, SOURCE, TAPS, Layer
from tinyseg.kernels.cpu.matrix_unit_weight_product import accumulate, finish
from tinyseg.kernels.cpu.threads import in_parallel, num_threads

__all__ = ["conv2d_weight_grad", "find_plan"]

L2_BYTES = 5 << 17                                  # of packed grad, or of packed x, at a time
L3_BYTES = 1 << 23                                  # of packed grad where that spares adding up sums in memory
SUMS_BYTES = 1 << 20                                # up to which each thread has sums for all
PIXELS = 4096                                       # in a band: a longer chain of float32 sums loses digits
_NOTHING = np.empty(0, np.float32)


def conv2d_weight_grad(grad: np.ndarray, x: np.ndarray, geometry: ConvGeometry, split: bool = True) -> np.ndarray:
    """grad (N, O, H', W'), x (N, C, H, W) -> (O, C/G, K_h, K_w)."""
    shape = grad.shape[1], x.shape[1] // geometry.groups, *geometry.kernel_size
    if len(x) == 0:
        return np.zeros(shape, np.float32)
    plan = find_plan(geometry, len(x), grad.shape[1], x.shape[1], split, num_threads())
    weight, sums = workspace.empty(shape), workspace.empty(plan.sums)
    flat_grad, flat_x, flat = grad.reshape(-1), x.reshape(-1), weight.reshape(-1)
    largest = np.empty((len(plan.items), 2, 16), np.float32)
    together = len(sums[0]) == 1                     # no other thread adds to the same columns

    def add(number: int) -> None:
        group, rows, blocks, thread, slots = plan.items[number]
        accumulate(flat_grad, flat_x, plan.layer, plan.panels, plan.sources, group, rows, blocks,
                   sums[group, thread:thread + 1, slots], flat if together else _NOTHING, largest[number],
                   *map(workspace.empty, plan.scratch))

    def write(number: int) -> None:
        group, block = divmod(number, sums.shape[2])
        finish(sums[group], block, plan.layer, plan.panels, group, block, flat, workspace.empty(plan.scratch[3]))

    in_parallel(add, range(len(plan.items)))
    if not together:
        in_parallel(write, range(geometry.groups * sums.shape[2]))
    if not representable(*largest.max((0, 2))):
        return im2col.conv2d_weight_grad(grad, x, geometry)
    return weight


class _Plan(NamedTuple):
    """How one call is shared and laid out.

    items      (group, rows, blocks, whose sums, which of their blocks) for each turn of a thread
    sums       (G, threads that share columns, blocks, outputs / 32, K_h, 3 panels, 32, 16)
    scratch    sizes of tiles, packed, lines and stage
    """

    layer: Layer
    panels: np.ndarray
    sources: np.ndarray
    items: list[tuple]
    sums: tuple[int, ...]
    scratch: tuple[int, ...]


@lru_cache(256)
def find_plan(geometry: ConvGeometry, batch: int, outputs: int, channels: int, split: bool, threads: int) -> _Plan:
    if geometry == ConvGeometry(geometry.input_size, (1, 1), groups=geometry.groups):
        geometry = replace(geometry, input_size=(1, prod(geometry.input_size)))      # 1x1: rows need not be told apart
    groups, (rows, row) = geometry.groups, geometry.output_size
    pitch, line = row + row % 2, 32 if split else 16
    panels, sources = _columns(geometry, channels // groups, pitch)
    blocks, tiles = -(-len(panels) // 3), -(-outputs // groups // 32)
    block = tiles, geometry.kernel_size[0], 3, 32, 16                    # its sums
    by_rows = 4 * blocks * prod(block) <= SUMS_BYTES or blocks * groups < threads
    sharing, parts = (min(threads, batch * rows), 1) if by_rows else (1, min(threads, blocks))

    reach = geometry.dilation[0] * (geometry.kernel_size[0] - 1) // geometry.stride[0]
    grad_row, x_row = tiles * 32 * pitch * line // 8, 3 * pitch // 2 * line * 4
    band = min(rows, PIXELS // pitch, (L2_BYTES if by_rows else L3_BYTES) // grad_row, L2_BYTES // x_row - reach)
    band = max(1, band, min(rows, 2 * reach, L3_BYTES // grad_row))
    band = -(-rows // -(-rows // band))              # as many in each
    steps, lines = -(-band * pitch // 32), (band + reach) * pitch // 2 + 16
    layer = Layer(groups, outputs // groups, channels // groups, *geometry.input_size, rows, row, pitch,
                  geometry.kernel_size, geometry.stride, geometry.near_padding, geometry.dilation, line, band, steps,
                  lines * line)

    one_band = sharing == 1 and batch == 1 and band == rows
    items = [(group, ends, cut, thread, slice(part, part + 1) if one_band else slice(*cut))
             for group in range(groups)
             for thread, ends in enumerate(_shares(batch * rows, sharing))
             for part, cut in enumerate(_shares(blocks, parts))]
    used = sources[panels["source"]]
    pixels = max(np.maximum(panels["shift"] + pitch + 2, used["count"] + 32) + 2 * used["before"])
    return _Plan(layer, panels, sources, items, (groups, sharing, parts if one_band else blocks, *block),
                 (tiles * steps * (32 * line + 16), 3 * layer.panel, (int(pixels) // 2 + 1) * line,
                  max(3 * 512, 48 * geometry.kernel_size[0], band * pitch)))


def _shares(count: int, parts: int) -> list[tuple[int, int]]:
    return list(pairwise(count * t // parts for t in range(parts + 1)))


def _columns(geometry: ConvGeometry, channels: int, pitch: int) -> tuple[np.ndarray, np.ndarray]:
    """Panels of 16 channels and a tap column each; or, where channels are few, of 16 (channel, tap column) pairs."""
    (K_h, K_w), step = geometry.kernel_size, geometry.stride[1]
    offsets = [v * geometry.dilation[1] - geometry.near_padding[1] for v in range(K_w)]
    taps, width = K_h * K_w, geometry.input_size[1]
    panels, sources = [], []

    def add_source(kind: int, count: int, streams: list[tuple[int, int]], before: int) -> None:
        """From 16 or fewer pairs (channel, offset)."""
        c, e = np.array(streams + [(0, width)] * (16 - len(streams))).T
        sources.append((kind, count, c, e, -(e // step), (width - 1 - e) // step + 1, before))

    if -(-channels // 16) * K_w * 4 > -(-channels * K_w // 16) * 5:
        adjacent = K_w % 16 == 0 and geometry.dilation[1] == 1
        for first in range(0, channels * K_w, 16):
            pairs = [divmod(j, K_w) for j in range(first, min(first + 16, channels * K_w))]
            panels.append((len(sources), 0, _places([c * taps + v for c, v in pairs]), int(adjacent or K_h == 1),
                           len(pairs)))
            add_source(TAPS if adjacent else MIXED, pitch, [(c, offsets[v]) for c, v in pairs], 0)
    else:
        phases = sorted({e % step for e in offsets})
        for first in range(0, channels, 16):
            mine = range(first, min(first + 16, channels))
            for v, e in enumerate(offsets):
                panels.append((len(sources) + phases.index(e % step), e // step, _places([c * taps + v for c in mine]),
                               taps, len(mine)))
            for phase in phases:
                lowest = min(e // step for e in offsets if e % step == phase)
                add_source(CHANNELS if len(mine) == 16 else MIXED, (width - 1 - phase) // step + 1,
                           [(c, phase) for c in mine], max(0, (1 - lowest) // 2))
    return np.array(panels, PANEL), np.array(sources, SOURCE)


def _places(places: list[int]) -> list[int]:
    return places + [-1] * (16 - len(places))
