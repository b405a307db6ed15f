"""The gradient of a convolution's weight on the matrix unit, from float32 arrays or lines of bf16.

N batch, C/O channels in/out, G groups.  The columns of the product are (channel, tap column) pairs, 48 at a time; see
`matrix_unit_weight_pack`.  Threads share pixels where the gradient is small, each with sums of its own, else columns.

`split` chooses between three products of numbers split in two and one of rounded numbers; see `amx`.
"""

from dataclasses import replace
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.blocked import Blocked
from tinyseg.kernels.cpu import im2col, workspace
from tinyseg.kernels.cpu.blocked import Lie, flat_lines
from tinyseg.kernels.cpu.matrix_unit_lines import representable
from tinyseg.kernels.cpu.matrix_unit_weight_pack import CHANNELS, MIXED, PANEL, SOURCE, TAPS, Layer
from tinyseg.kernels.cpu.matrix_unit_weight_product import weight_grad
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.registry import plain

__all__ = ["conv2d_weight_grad", "find_plan"]

L2_BYTES = 5 << 17                                  # of packed grad, or of packed x, at a time
L3_BYTES = 1 << 23                                  # of packed grad where that spares adding up sums in memory
SUMS_BYTES = 1 << 20                                # up to which each thread has sums for all
PIXELS = 4096                                       # in a band: a longer chain of float32 sums loses digits


def conv2d_weight_grad(grad: np.ndarray | Blocked, x: np.ndarray | Blocked, geometry: ConvGeometry,
                       split: bool = True) -> np.ndarray:
    """grad (N, O, H', W'), x (N, C, H, W) -> (O, C/G, K_h, K_w).  Blocked operands have one group."""
    weight = workspace.empty((grad.shape[1], x.shape[1] // geometry.groups, *geometry.kernel_size))
    if 0 in x.shape:
        weight.fill(0)
        return weight
    if isinstance(grad, Blocked) and len(grad.parts) > 1:
        grad = grad.plain()
    done, first = True, 0
    for part in x.parts if isinstance(x, Blocked) else (x,):
        done = done and _fill(weight, grad, x, part, first, geometry, split)
        first += part.shape[1]
    return weight if done else im2col.conv2d_weight_grad(plain(grad), plain(x), geometry)


def _fill(weight: np.ndarray, grad: np.ndarray | Blocked, x: np.ndarray | Blocked, part: np.ndarray, first: int,
          geometry: ConvGeometry, split: bool) -> bool:
    """The columns of those channels of x that are in `part`, whose first block of lines is number `first`.

    False where some number is too large or too small for the matrix unit.
    """
    members = team()
    plan = find_plan(geometry, len(part), grad.shape[1], x.shape[1], split, members.size, isinstance(grad, Blocked),
                     (first, part.shape[1]) if isinstance(x, Blocked) else None)
    largest = np.zeros((members.size, 2), np.float32)
    weight_grad(members, *_flat(grad, grad.parts[0] if isinstance(grad, Blocked) else grad), *_flat(x, part),
                plan.layer, plan.panels, plan.sources, workspace.empty(plan.sums), weight.reshape(-1), largest,
                workspace.empty(plan.tiles), workspace.empty((members.size, plan.scratch)))
    met = zip(largest.max(0), (grad, x), strict=True)
    return representable(*(a.largest if isinstance(a, Blocked) else number for number, a in met))


def _flat(x: np.ndarray | Blocked, part: np.ndarray) -> tuple[np.ndarray, Lie]:
    if isinstance(x, Blocked):
        flat, lie = flat_lines(x, part)
        return flat, lie._replace(below=lie.below or 0)
    return x.reshape(-1), Lie(0, 0, 0, 0, 0)


class _Plan(NamedTuple):
    """How one call is laid out.

    sums       (G, threads that share pixels, blocks of columns, elements of a block); or, where threads share columns
               and all of grad is packed at once, one block for each of them
    tiles      (threads, or bands that are packed together; elements)
    scratch    elements, of each thread
    """

    layer: Layer
    panels: np.ndarray
    sources: np.ndarray
    sums: tuple[int, ...]
    tiles: tuple[int, int]
    scratch: int


@lru_cache(256)
def find_plan(geometry: ConvGeometry, batch: int, outputs: int, channels: int, split: bool, threads: int,
              grad_lines: bool = False, x_lines: tuple[int, int] | None = None) -> _Plan:
    """x_lines: the first of the blocks of lines, and how many, if x has some."""
    plain_1x1 = geometry == ConvGeometry(geometry.input_size, (1, 1), groups=geometry.groups)
    if plain_1x1 and not grad_lines and x_lines is None:
        geometry = replace(geometry, input_size=(1, prod(geometry.input_size)))      # 1x1: rows need not be told apart
    groups, (rows, row) = geometry.groups, geometry.output_size
    pitch, line = row + row % 2, 32 if split else 16
    panels, sources = (_columns(geometry, channels // groups, pitch) if x_lines is None
                       else (_line_columns(geometry, *x_lines), np.zeros(0, SOURCE)))
    blocks, tiles = -(-len(panels) // 3), -(-outputs // groups // 32)
    block = tiles * geometry.kernel_size[0] * 3 * 32 * 16                # its sums
    by_rows = 4 * blocks * block <= SUMS_BYTES or blocks * groups < threads
    sharing = min(threads, batch * rows) if by_rows else 1

    reach = geometry.dilation[0] * (geometry.kernel_size[0] - 1) // geometry.stride[0]
    grad_row, x_row = tiles * 32 * pitch * line // 8, 3 * pitch // 2 * line * 4
    band = min(rows, PIXELS // pitch, (L2_BYTES if by_rows else L3_BYTES) // grad_row, L2_BYTES // x_row - reach)
    band = max(1, band, min(rows, 2 * reach, L3_BYTES // grad_row))
    band = -(-rows // -(-rows // band))              # as many in each
    steps, panel = -(-band * pitch // 32), ((band + reach) * pitch // 2 + 16) * line
    packed, stage, pixels = tiles * steps * (32 * line + 16), max(3 * 512, -(-band * pitch // 16) * 16), 0
    if len(sources):
        used = sources[panels["source"]]
        pixels = int(max(np.maximum(panels["shift"] + pitch + 2, used["count"] + 32) + 2 * used["before"]))
    layer = Layer(batch, groups, outputs // groups, channels // groups, *geometry.input_size, rows, row, pitch,
                  geometry.kernel_size, geometry.stride, geometry.near_padding, geometry.dilation,
                  geometry.kernel_size[0] == 3 and geometry.stride[0] == 1 and 8 * geometry.dilation[0] <= rows,
                  line, band, steps, panel, stage, stage + 3 * panel)

    bands, at_a_time = batch * -(-rows // band), max(1, L3_BYTES // (4 * packed))
    kept = min(threads, blocks) if sharing == 1 and bands <= at_a_time else blocks
    return _Plan(layer, panels, sources, (groups, sharing, kept, block),
                 (sharing if sharing > 1 else min(bands, at_a_time), packed), layer.lines + (pixels // 2 + 1) * line)


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


def _line_columns(geometry: ConvGeometry, first: int, blocks: int) -> np.ndarray:
    """Panels of half a block's channels and a tap column each; `source` is twice the block, one more for its last
    channels, and `shift` where its column of x begins."""
    (K_h, K_w), step, panels = geometry.kernel_size, geometry.dilation[1], []
    for half in range(2 * blocks):
        channels = 32 * first + 16 * half + np.arange(16)
        panels += [(half, v * step - geometry.near_padding[1], channels * K_h * K_w + v, K_h * K_w, 16)
                   for v in range(K_w)]
    return np.array(panels, PANEL)


def _places(places: list[int]) -> list[int]:
    return places + [-1] * (16 - len(places))
