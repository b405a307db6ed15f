"""Convolution and its transpose on the matrix unit: NCHW float32 in and out, lines of bf16 numbers between.

A thread packs the rows that a band of its results needs into memory that stays in its cache, multiplies from there, and
writes finished rows of y.  Where the channels of a band do not fit, it packs and multiplies some after the others and
keeps the sums meanwhile.

`split` chooses between three products of numbers split in two and one of rounded numbers; see `amx`.
"""

from functools import lru_cache
from math import ceil
from typing import Any

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.blocked import BLOCK, Blocked
from tinyseg.kernels.cpu import im2col, workspace
from tinyseg.kernels.cpu.blocked import flat_lines, largest_of
from tinyseg.kernels.cpu.constants import once
from tinyseg.kernels.cpu.matrix_unit_lines import LINE, representable
from tinyseg.kernels.cpu.matrix_unit_pack import (
    TILE,
    Source,
    clear_rows,
    copy_rows,
    pack_patches,
    pack_planes,
    pack_rows,
    pack_tiles,
)
from tinyseg.kernels.cpu.matrix_unit_plan import (
    OUTPUTS,
    Correlation,
    Layout,
    Part,
    correlation,
)
from tinyseg.kernels.cpu.matrix_unit_product import (
    DIRECT,
    LINES,
    SCATTERED,
    SCRATCH,
    STRETCH,
    Band,
    Result,
    multiply,
)
from tinyseg.kernels.cpu.threads import in_parallel, num_threads

__all__ = ["Packed", "Target", "compute", "conv2d", "conv2d_input_grad", "extended", "extensions", "find_plan",
           "pack_weights"]

LINES_BYTES = 1 << 20                               # packed at a time, of a second-level cache of 2 MB
_WEIGHTS_BYTES = 1 << 20                             # more are read once for each block of outputs


def conv2d(x: np.ndarray, weight: np.ndarray, geometry: ConvGeometry, bias: np.ndarray | None = None,
           relu: bool = False, split: bool = True) -> np.ndarray:
    """x (N, C, H, W), weight (O, C/G, K_h, K_w) -> (N, O, H', W')."""
    images = len(x) * geometry.groups
    plan = find_plan("conv2d", geometry, weight.shape[1], len(weight) // geometry.groups, geometry.kernel_size, images,
                 split, num_threads())
    y = workspace.empty((len(x), len(weight), *geometry.output_size))
    if compute(plan, x, weight, y, bias, relu, geometry.groups):
        return y
    return _exactly(im2col.conv2d(x, weight, geometry), bias, relu)


def conv2d_input_grad(grad: np.ndarray, weight: np.ndarray, geometry: ConvGeometry, bias: np.ndarray | None = None,
                      relu: bool = False, split: bool = True) -> np.ndarray:
    """grad (N, O, H', W'), weight (O, C/G, K_h, K_w) -> (N, C, H, W): the transpose of `conv2d` in x."""
    outputs = weight.shape[1]
    plan = min((find_plan("conv2d_input_grad", geometry, len(weight) // geometry.groups, outputs, kernel,
                          len(grad) * geometry.groups, split, num_threads()) for kernel in extensions(geometry)),
               key=lambda plan: plan.cost)
    x = workspace.empty((len(grad), outputs * geometry.groups, *geometry.input_size))
    if compute(plan, grad, extended(weight, plan.kernel), x, bias, relu, geometry.groups):
        return x
    return _exactly(im2col.conv2d_input_grad(grad, weight, geometry), bias, relu)


def extensions(geometry: ConvGeometry) -> list[tuple[int, int]]:
    """Kernel sizes to try for the transpose: zeros at the end give the phases of an axis the same taps, so that few
    outputs fill tiles, and neighbouring columns are computed together."""
    (k_h, k_w), (s_h, s_w) = geometry.kernel_size, geometry.stride
    if geometry.dilation != (1, 1):
        return [(k_h, k_w)]
    whole_h, whole_w = -(-k_h // s_h) * s_h, -(-k_w // s_w) * s_w
    return list(dict.fromkeys([(k_h, k_w), (k_h, whole_w), (whole_h, whole_w)]))


def extended(weight: np.ndarray, kernel: tuple[int, int]) -> np.ndarray:
    """With zeros at the end of its taps."""
    if weight.shape[2:] == kernel:
        return weight
    y = np.zeros((*weight.shape[:2], *kernel), np.float32)
    y[..., :weight.shape[2], :weight.shape[3]] = weight
    return y


def _exactly(y: np.ndarray, bias: np.ndarray | None, relu: bool) -> np.ndarray:
    if bias is not None:
        y += bias[:, None, None]
    return np.maximum(y, 0, out=y) if relu else y


class Packed:
    """The tables of one part: whose weights go where, and which lines their taps read."""

    def __init__(self, c: Correlation, part: Part, offsets: np.ndarray, patches: bool, split: bool, lines: bool):
        """offsets: where each tap of the correlation reads, in lines from a position.  lines: is the result blocked?"""
        count = part.outputs.shape[1]
        ordered = part.outputs[:, np.lexsort(part.outputs[[1, 3, 2]])] if lines else part.outputs    # by place, channel
        if patches:                                  # a "channel" for each tap and channel, and one tap
            inputs = part.inputs.T.reshape(1, -1)
            self.offsets = np.zeros(1, np.int64)
            self.tap_rows = np.zeros(1, np.int64)
        else:
            inputs = part.inputs
            self.offsets = LINE * offsets[part.taps]
            self.tap_rows = np.ascontiguousarray(c.taps[part.taps, 0])
        taps = len(inputs)
        self.blocks = -(-inputs.shape[1] // BLOCK)
        table = np.full((taps, self.blocks * BLOCK), -1)
        table[:, :inputs.shape[1]] = inputs
        self.inputs = np.ascontiguousarray(table.reshape(taps, self.blocks, BLOCK).swapaxes(0, 1)).ravel()
        self.output_blocks = -(-count // OUTPUTS)
        self.outputs = np.ascontiguousarray(np.pad(ordered, ((0, 0), (0, -count % OUTPUTS)), mode="edge"))
        self.result = np.ascontiguousarray(ordered)
        self.tile = TILE * (2 if split else 1)
        self.block_size = taps * self.blocks * self.tile                 # elements, for 16 outputs
        self.size = self.output_blocks * self.block_size
        self.form = LINES if lines else _form(c, part)
        self.square = lines or (split and self.output_blocks % 2 == 0)
        self.work = taps * self.blocks * self.output_blocks * (3 if split else 1)     # products for each 16 positions

    def sums(self, positions: int) -> int:
        """Elements that keep the sums of so many positions."""
        return OUTPUTS * STRETCH * ceil(positions / STRETCH) * (self.output_blocks + self.output_blocks % 2)


def _form(c: Correlation, part: Part) -> int:
    """See `Result`."""
    step, columns = c.step[1], part.outputs[3]
    if step == 1:
        return 1
    if len(columns) % step or (np.diff(columns.reshape(-1, step)) != 1).any():
        return SCATTERED
    return DIRECT if step % OUTPUTS == 0 else 2 if step == 2 else SCATTERED


class _Plan:
    """How to compute one correlation of so many images: by bands of `rows` rows and runs of `blocks` blocks.

    cost    roughly, in cycles of one thread
    """

    def __init__(self, c: Correlation, images: int, split: bool, threads: int, lines: bool, patches: bool,
                 shifted: bool):
        self.c, self.split, self.writes_lines, self.patches, self.shifted = c, split, lines, patches, shifted
        self.cost = float("inf")
        rows = c.grid[0]
        for bands in sorted({1, 2, 3, 4, threads, 2 * threads, 4 * threads, *(8 * 2**k for k in range(12)), rows}):
            if bands <= rows:
                self._consider(-(-rows // bands), images, threads)

    def _consider(self, rows: int, images: int, threads: int) -> None:
        c = self.c
        layout = Layout(c, rows, self.shifted)
        parts = [Packed(c, part, layout.offsets, self.patches, self.split, self.writes_lines) for part in c.parts]
        all_blocks = max(part.blocks for part in parts)
        lines = rows * layout.width + 2 * 96 if self.patches else layout.lines
        filled = lines * min(1, -(-c.size[0] // c.stride[0]) / layout.count)         # the others are read by no tap
        line = 64 * (2 if self.split else 1)
        blocks = all_blocks if self.patches else max(1, min(all_blocks, int(LINES_BYTES // (line * filled))))
        runs = -(-all_blocks // blocks)
        blocks = -(-all_blocks // runs)
        positions = rows * layout.width
        sums = sum(part.sums(positions) for part in parts) * (runs > 1)
        memory = threads * (blocks * line * lines + 4 * sums + (4 * layout.lines * c.channels if self.patches else 0))
        work = 17 * 6 * ceil(positions / 96) * sum(part.work for part in parts)
        pack = (20 if self.split else 10) * all_blocks * (1.25 * positions if self.patches else filled)
        weights = 4 * self.weight_size(parts)
        stream = weights / 24 if weights > _WEIGHTS_BYTES else 0
        keep = (runs - 1) * sums / (4 if 4 * sums < LINES_BYTES else 2)
        misses = max(0, blocks * line * filled - LINES_BYTES) / 4
        write = positions * sum(part.output_blocks * (60 if part.form == SCATTERED else 10) for part in parts)
        turns = -(-images * -(-c.grid[0] // rows) // threads)
        cost = turns * (work + pack + stream + keep + misses + write + 20_000 * runs)
        if cost < self.cost and (memory < 30 << 20 or rows == 1):
            self.cost, self.rows, self.layout, self.parts, self.blocks = cost, rows, layout, parts, blocks
            self.all_blocks, self.lines, self.sums = all_blocks, lines, sums

    def weight_size(self, parts: list[Packed] | None = None) -> int:
        return sum(part.size for part in parts or self.parts)


@lru_cache(maxsize=256)
def find_plan(operation: str, geometry: ConvGeometry, channels: int, outputs: int, kernel: tuple[int, int], images: int,
              split: bool, threads: int, lines: bool = False) -> _Plan:
    """The cheapest of the ways to pack.  lines: is the result blocked?"""
    c = correlation(operation, geometry, channels, outputs, kernel)
    ways = [(False, False), (False, True)] + [(True, False)] * (len(c.parts) == 1 and channels % BLOCK != 0)
    plan = min((_Plan(c, max(images, 1), split, threads, lines, *way) for way in ways), key=lambda plan: plan.cost)
    plan.kernel = kernel
    return plan


def compute(plan: _Plan, x: np.ndarray | Blocked, weight: np.ndarray, y: np.ndarray | Blocked, bias: np.ndarray | None,
            relu: bool, groups: int) -> bool:
    """Fill y; False where some number is too large, too small or none at all for the matrix unit."""
    c = plan.c
    if 0 in x.shape:
        return True
    tiles, largest_weight = pack_weights(plan, weight, groups)
    if not representable(largest_weight):
        return False

    bands = range(0, c.grid[0], plan.rows)
    items = [(image, row) for image in range(x.shape[0] * groups) for row in bands]
    spare = [_Turn(plan) for _ in range(min(num_threads(), len(items)))]
    target, source = Target(y, c.step, bias, relu, groups), _Lines(x) if isinstance(x, Blocked) else _Planes(x, groups)

    def work(item: tuple[int, int]) -> None:
        (image, row), turn = item, spare.pop()
        turn.run(source, image, row, tiles, image % groups * plan.weight_size(), target.flat, target.result(image))
        spare.append(turn)

    in_parallel(work, items)
    return (representable(largest_of(turn.largest for turn in spare), largest_weight)
            and target.finish(largest_of(turn.written for turn in spare)))


class _Planes:
    """x, an array NCHW, and where the channels of each group begin."""

    def __init__(self, x: np.ndarray, groups: int):
        cells, channels = x.shape[2] * x.shape[3], x.shape[1] // groups
        pitch = max(cells, LINE)                     # a line's worth of pixels can be read at once
        padded = x if cells >= LINE else np.pad(x.reshape(-1, cells), ((0, 0), (0, LINE - cells)))
        self.flat, self.image = padded.reshape(-1), channels * pitch
        self.channels = np.zeros(-(-channels // BLOCK) * BLOCK, np.int64)
        self.channels[:channels] = np.arange(channels) * pitch

    def pack(self, turn: "_Turn", image: int, block: int, blocks: int, row: int, count: int) -> np.float32:
        """Blocks of the rows that `count` rows of a plane want, from the positions of row `row` on."""
        return pack_rows(turn.lines, self.flat, image * self.image, self.channels, block, blocks, row, count,
                         turn.source, turn.scratch)


class _Lines:
    """x, Blocked, whose lines are copied to where the taps of any convolution can read them."""

    def __init__(self, x: Blocked):
        self._largest, places = np.float32(x.largest), [flat_lines(x, part) for part in x.parts]
        self._blocks = [(lines, lie, k * lie.block) for (lines, lie), part in zip(places, x.parts, strict=True)
                        for k in range(part.shape[1])]

    def pack(self, turn: "_Turn", image: int, block: int, blocks: int, row: int, count: int) -> np.float32:
        for b in range(blocks):
            lines, lie, place = self._blocks[block + b]
            copy_rows(turn.lines, b * turn.source.block, turn.source, lines, image * lie.image + place + lie.first,
                      lie.pitch, lie.below or 0, row, count)
        return self._largest


class Target:
    """Where results go: an array NCHW, or lines."""

    def __init__(self, y: np.ndarray | Blocked, step: tuple[int, int], bias: np.ndarray | None, relu: bool,
                 groups: int = 1):
        self._y, self._groups, outputs = y, groups, y.shape[1] // groups
        bias = np.zeros(y.shape[1], np.float32) if bias is None else np.ascontiguousarray(bias, np.float32)
        self._bias = bias.reshape(groups, outputs)
        if isinstance(y, Blocked):
            self.flat, lie = flat_lines(y, y.parts[0])
            self._first, self._size, self._memory = lie.first, lie.image, (lie.pitch, lie.block, lie.below or 0)
        else:
            self.flat, self._first, self._size = y.reshape(-1), 0, outputs * y.shape[2] * y.shape[3]
            self._memory = 0, 0, 0
        self._rest = y.shape[2], y.shape[3], step, np.zeros((4, 0), np.int64), SCATTERED
        self._relu = relu

    def result(self, image: int) -> Result:
        """For one image or group of it, without what the parts of a correlation differ in."""
        return Result(self._first + image * self._size, *self._rest, self._bias[image % self._groups], self._relu,
                      *self._memory)

    def finish(self, largest: np.float32) -> bool:
        """Lines hold no number larger than that.  Could they hold all?"""
        if isinstance(self._y, Blocked):
            self._y.largest = largest
            return representable(largest)
        return True


def pack_weights(plan: Any, weight: np.ndarray, groups: int = 1) -> tuple[np.ndarray, np.float32]:
    """All tiles of all parts of a plan, and the largest magnitude; kept for a constant weight."""
    return once(weight, plan, lambda: _pack_weights(plan, weight.reshape(-1), groups))


def _pack_weights(plan: Any, weight: np.ndarray, groups: int) -> tuple[np.ndarray, np.float32]:
    tiles, items, place = workspace.empty(groups * sum(part.size for part in plan.parts)), [], 0
    for group in range(groups):
        for part in plan.parts:
            for block in range(part.output_blocks):
                items.append((part, group * (weight.size // groups), place, block))
                place += part.block_size
    largest = []

    def work(item: tuple[Packed, int, int, int]) -> None:
        part, start, place, block = item
        largest.append(pack_tiles(tiles, place, TILE if plan.split else 0, weight, start, part.outputs[0],
                                  OUTPUTS * block, part.inputs))

    in_parallel(work, items)
    return tiles, largest_of(largest)


class _Turn:
    """One thread's memory, and what it does with a band."""

    def __init__(self, plan: _Plan):
        c, layout = plan.c, plan.layout
        self.plan, self.largest, self.written = plan, np.float32(0), np.float32(0)
        self.lines = workspace.empty((2 if plan.split else 1) * plan.blocks * plan.lines * LINE)
        self.sums = workspace.empty(max(1, plan.sums))
        self.scratch = workspace.empty(SCRATCH)
        line_block, below = plan.lines * LINE, plan.blocks * plan.lines * LINE if plan.split else 0
        self.source = Source(c.size[0], c.size[1], c.stride[0], layout.first, layout.width, line_block, below,
                             layout.planes, layout.plane, layout.lead, layout.row_planes, layout.columns)
        if plan.patches:
            self.planes = workspace.zeros(c.channels * layout.lines)
            self.plane_source = self.source._replace(block=layout.lines, below=0)
            steps = np.arange(c.channels)[:, None] * layout.lines + layout.offsets
            self.steps = np.zeros(plan.all_blocks * BLOCK, np.int64)
            self.steps[:steps.size] = steps.ravel()
            # The rows of a band are all that patches know: no tap lies beyond them.
            self.source = self.source._replace(height=1 << 40)
        else:
            self.lines.fill(0)

    def run(self, x: _Planes | _Lines, image, row, tiles, weights, y, result) -> None:
        """Compute the positions of `rows` rows from `row` on."""
        plan, c, layout = self.plan, self.plan.c, self.plan.layout
        rows = min(plan.rows, c.grid[0] - row)
        count = layout.count - plan.rows + rows
        if plan.patches:
            clear_rows(self.planes, 1, c.channels, row, count, self.plane_source)
            pack_planes(self.planes, x.flat, image * x.image, x.channels[:c.channels], row, count, self.plane_source)
            self._keep(pack_patches(self.lines, self.source.block, self.source.below, plan.all_blocks, self.planes,
                                    self.steps, rows * layout.width))
        else:
            clear_rows(self.lines, LINE, plan.blocks, row, count, self.source)
        for block in range(0, plan.all_blocks, plan.blocks):
            blocks = min(plan.blocks, plan.all_blocks - block)
            if not plan.patches:
                self._keep(x.pack(self, image, block, blocks, row, count))
            place, sums = weights, self.sums
            for part in plan.parts:
                band = Band(row, rows, c.grid[1], layout.width, LINE, 0, block, blocks, blocks, 0, plan.all_blocks,
                            4 * part.size * blocks <= _WEIGHTS_BYTES * plan.all_blocks, part.square)
                written = multiply(self.lines, self.lines, self.source, tiles, place, part.offsets, part.tap_rows, sums,
                                   band, y, result._replace(outputs=part.result, form=part.form), self.scratch)
                self.written = largest_of((written, self.written))
                place += part.size
                sums = sums[part.sums(plan.rows * layout.width) * (plan.blocks < plan.all_blocks):]

    def _keep(self, largest: np.float32) -> None:
        self.largest = largest_of((largest, self.largest))
