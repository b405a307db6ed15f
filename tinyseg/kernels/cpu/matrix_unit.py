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
from tinyseg.kernels.cpu.blocked import flat_lines, merged
from tinyseg.kernels.cpu.constants import once
from tinyseg.kernels.cpu.matrix_unit_bands import (
    Grid,
    Operand,
    convolve_copied,
    convolve_patches,
    convolve_planes,
    memory_of,
)
from tinyseg.kernels.cpu.matrix_unit_lines import LINE, representable
from tinyseg.kernels.cpu.matrix_unit_pack import TILE, Source, Weights, pack_tiles
from tinyseg.kernels.cpu.matrix_unit_plan import OUTPUTS, Correlation, Layout, Part, correlation
from tinyseg.kernels.cpu.matrix_unit_product import FORM, OUTPUT, SQUARE, STAY, SUMS, TAP, TILES, Parts
from tinyseg.kernels.cpu.matrix_unit_result import DIRECT, LINES, SCATTERED, STRETCH, Images
from tinyseg.kernels.cpu.threads import num_threads, team

__all__ = ["Packed", "compute", "conv2d", "conv2d_input_grad", "extended", "extensions", "find_plan", "finish",
           "pack_weights", "tables", "target_of"]

LINES_BYTES = 1 << 20                               # packed at a time, of a second-level cache of 2 MB
_WEIGHTS_BYTES = 1 << 20                             # more are read once for each block of outputs
_FEW_BLOCKS = 2                                      # of channels: there 2 x 2 accumulators write lines faster
_NOWHERE = np.zeros(1, np.int64)


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

    def __init__(self, c: Correlation, part: Part, patches: bool, split: bool, lines: bool):
        """lines: is the result blocked?"""
        count = part.outputs.shape[1]
        ordered = part.outputs[:, np.lexsort(part.outputs[[1, 3, 2]])] if lines else part.outputs    # by place, channel
        if patches:                                  # a "channel" for each tap and channel, and one tap
            inputs = part.inputs.T.reshape(1, -1)
            self.offsets = np.zeros(1, np.int64)     # the only one
            self.tap_rows = np.zeros(1, np.int64)
        else:
            inputs = part.inputs
            self.tap_rows = np.ascontiguousarray(c.taps[part.taps, 0])
        taps = len(inputs)
        self.blocks = -(-inputs.shape[1] // BLOCK)
        table = np.full((taps, self.blocks * BLOCK), -1)
        table[:, :inputs.shape[1]] = inputs
        self.inputs = np.ascontiguousarray(table.reshape(taps, self.blocks, BLOCK).swapaxes(0, 1)).ravel()
        self.output_blocks = -(-count // OUTPUTS)
        self.first_weights = np.pad(ordered[0], (0, -count % OUTPUTS), mode="edge")
        self.outputs = np.ascontiguousarray(ordered.T)
        self.block_size = taps * self.blocks * TILE * (2 if split else 1)            # elements, for 16 outputs
        self.size = self.output_blocks * self.block_size
        self.form = LINES if lines else _form(c, part)
        self.square = self.output_blocks % 2 == 0 and (split or (lines and self.blocks <= _FEW_BLOCKS))
        self.along = 2 if self.square else 6
        self.taps = part.taps
        self.kept = 0                                # elements that keep sums of one band
        self.work = taps * self.blocks * self.output_blocks * (3 if split else 1)     # products for each 16 positions

    def place(self, offsets: np.ndarray) -> None:
        """offsets: where each tap of the correlation reads, in lines from a position."""
        self.offsets = LINE * offsets[self.taps]

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
    """How to compute one correlation of so many images: by bands of `combs` times `rows` rows, `apart` from one to the
    next, and runs of `blocks` blocks.

    cost    roughly, in cycles of one thread
    """

    def __init__(self, c: Correlation, images: int, split: bool, threads: int, lines: bool, patches: bool,
                 shifted: bool, apart: int):
        self.c, self.split, self.patches, self.apart = c, split, patches, apart
        self.side = min(apart, c.grid[0])            # as many combs come between one another
        self.parts = [Packed(c, part, patches, split, lines) for part in c.parts]
        self.all_blocks = max(part.blocks for part in self.parts)
        self.cost = float("inf")
        rows, inside = -(-c.grid[0] // apart), c.inside()
        for count in sorted({*range(1, 16), *(2**k for k in range(4, 16)), rows}):
            if count <= rows:
                layout = Layout(c, -(-rows // count), apart, shifted)
                for combs in {-(-self.side // k) for k in range(1, self.side + 1)}:
                    self._consider(layout, combs, inside, images, threads)

    def _consider(self, layout: Layout, combs: int, inside: float, images: int, threads: int) -> None:
        """inside: which part of what taps read is no padding."""
        c, parts, rows = self.c, self.parts, layout.rows
        positions = (rows - 1) * layout.width + c.grid[1]
        lines = rows * layout.width + 2 * 96 if self.patches else (combs - 1) * layout.comb + layout.lines
        filled = lines * min(1, -(-c.size[0] // layout.row_step) / layout.count)     # the others are read by no tap
        line = 64 * (2 if self.split else 1)
        blocks = self.all_blocks if self.patches else max(1, min(self.all_blocks, int(LINES_BYTES // (line * filled))))
        runs = -(-self.all_blocks // blocks)
        blocks = -(-self.all_blocks // runs)
        sums = combs * sum(part.sums(positions) for part in parts) * (runs > 1)
        memory = threads * (blocks * line * lines + 4 * sums + (4 * layout.lines * c.channels if self.patches else 0))
        work = 17 * inside * sum(combs * part.along * ceil(positions / (part.along * LINE)) * part.work
                                 for part in parts)
        far = 10 * (self.apart > 1)                  # rows that do not follow one another come from memory more slowly
        pack = ((20 if self.split else 10) + far) * self.all_blocks * (1.25 * positions if self.patches else filled)
        weights = 4 * sum(part.size for part in parts)
        stream = weights / 9 if weights > _WEIGHTS_BYTES else 0
        keep = (runs - 1) * sums / (4 if 4 * sums < LINES_BYTES else 1)
        misses = max(0, blocks * line * filled - LINES_BYTES) / 4
        write = combs * positions * sum(part.output_blocks * (60 if part.form == SCATTERED else 10) for part in parts)
        turns = -(-images * self._bands(rows, combs) // threads)
        cost = turns * (work + pack + stream + keep + misses + write + 20_000 * runs)
        if cost < self.cost and (memory < 30 << 20 or rows == 1):
            self.cost, self.layout, self.rows, self.combs = cost, layout, rows, combs
            self.blocks, self.lines, self.sums, self.bands = blocks, lines, sums, self._bands(rows, combs)

    def _bands(self, rows: int, combs: int) -> int:
        """Of an image."""
        return -(-self.c.grid[0] // (rows * self.apart)) * -(-self.side // combs)

    def finish(self) -> None:
        for part in self.parts:
            if not self.patches:
                part.place(self.layout.offsets)
            part.kept = self.combs * part.sums(self.rows * self.layout.width) if self.blocks < self.all_blocks else 0
        stay = [4 * part.size * self.blocks <= _WEIGHTS_BYTES * self.all_blocks for part in self.parts]
        self.tables, self.weights = tables(self.parts, stay)


@lru_cache(maxsize=256)
def find_plan(operation: str, geometry: ConvGeometry, channels: int, outputs: int, kernel: tuple[int, int], images: int,
              split: bool, threads: int, lines: bool = False) -> _Plan:
    """The cheapest of the ways to pack.  lines: is the result blocked?"""
    c = correlation(operation, geometry, channels, outputs, kernel)
    ways = {(False, shifted, apart) for shifted in (False, True) for apart in (1, c.rows_apart())}
    if len(c.parts) == 1 and channels % BLOCK != 0:
        ways.add((True, False, 1))
    plan = min((_Plan(c, max(images, 1), split, threads, lines, *way) for way in ways), key=lambda plan: plan.cost)
    plan.kernel = kernel
    plan.finish()
    return plan


def compute(plan: _Plan, x: np.ndarray | Blocked, weight: np.ndarray, y: np.ndarray | Blocked, bias: np.ndarray | None,
            relu: bool, groups: int) -> bool:
    """Fill y; False where some number is too large, too small or none at all for the matrix unit."""
    if 0 in x.shape:
        return True
    tiles, largest_weight = pack_weights(plan, weight, groups)
    if not representable(largest_weight):
        return False

    c, layout, images = plan.c, plan.layout, x.shape[0] * groups
    bands = images * plan.bands
    members = team(bands)
    halves, patches = (2 if plan.split else 1), plan.patches
    below = plan.blocks * plan.lines * LINE if plan.split else 0
    # The rows of a band are all that patches know: no tap lies beyond them.
    source = Source(1 << 40 if patches else c.size[0], c.size[1], c.stride[0], layout.first, layout.row_step,
                    layout.width, plan.lines * LINE, below, layout.planes, layout.plane, layout.lead, layout.row_planes,
                    layout.columns, layout.runs)
    grid = Grid(*c.grid, plan.rows, plan.apart, plan.combs, layout.comb * LINE, layout.width, LINE, 0, plan.all_blocks,
                plan.blocks, layout.count)
    memory = memory_of(members.size, halves * plan.blocks * plan.lines * LINE,
                       c.channels * layout.lines if patches else 0, plan.sums)
    flat, target = target_of(y, c.step, bias, relu, groups)
    operand, rest = _operand(x, plan, groups), (grid, plan.tables, tiles, flat, target, memory)
    if patches:
        convolve_patches(members, bands, operand, source, source._replace(height=c.size[0], block=layout.lines,
                                                                           below=0), *rest)
    elif isinstance(x, Blocked):
        convolve_copied(members, bands, operand, source, *rest)
    else:
        convolve_planes(members, bands, operand, source, *rest)
    largest_x, largest_y = memory.peaks.max((0, 2))
    return representable(x.largest if isinstance(x, Blocked) else largest_x, largest_weight) and finish(y, largest_y)


def _operand(x: np.ndarray | Blocked, plan: _Plan, groups: int) -> Operand:
    if isinstance(x, Blocked):
        flat, lie = flat_lines(x, merged(x).parts[0])
        return Operand(flat, lie.first, lie.image, lie.block, lie.pitch, lie.below or 0, _NOWHERE, _NOWHERE)
    cells, channels = x.shape[2] * x.shape[3], x.shape[1] // groups
    pitch = max(cells, LINE)                         # a line's worth of pixels can be read at once
    padded = x if cells >= LINE else np.pad(x.reshape(-1, cells), ((0, 0), (0, LINE - cells)))
    places, steps = np.arange(channels) * pitch, _NOWHERE
    if plan.patches:
        steps = np.zeros(plan.all_blocks * BLOCK, np.int64)
        which = np.arange(channels)[:, None] * plan.layout.lines + plan.layout.offsets
        steps[:which.size] = which.ravel()
    else:
        places = np.pad(places, (0, -channels % BLOCK))
    return Operand(padded.reshape(-1), 0, channels * pitch, 0, 0, 0, places, steps)


def target_of(y: np.ndarray | Blocked, step: tuple[int, int], bias: np.ndarray | None, relu: bool,
              groups: int = 1) -> tuple[np.ndarray, Images]:
    """The memory of y, and where results go there.  step: see `Images`."""
    outputs = y.shape[1] // groups
    bias = np.zeros(y.shape[1], np.float32) if bias is None else np.ascontiguousarray(bias, np.float32)
    if isinstance(y, Blocked):
        flat, lie = flat_lines(y, y.parts[0])
        first, image, memory = lie.first, lie.image, (lie.pitch, lie.block, lie.below or 0)
    else:
        flat, first, image, memory = y.reshape(-1), 0, outputs * y.shape[2] * y.shape[3], (0, 0, 0)
    return flat, Images(first, image, y.shape[2], y.shape[3], step, bias.reshape(groups, outputs), relu, *memory)


def finish(y: np.ndarray | Blocked, largest: np.float32) -> bool:
    """Lines hold no number larger than that.  Could they hold all?"""
    if isinstance(y, Blocked):
        y.largest = largest
        return representable(largest)
    return True


def pack_weights(plan: Any, weight: np.ndarray, groups: int = 1) -> tuple[np.ndarray, np.float32]:
    """All tiles of all parts of a plan, and the largest magnitude; kept for a constant weight."""
    return once(weight, plan, lambda: _pack_weights(plan.weights, plan.split, weight.reshape(-1), groups))


def _pack_weights(table: Weights, split: bool, weight: np.ndarray, groups: int) -> tuple[np.ndarray, np.float32]:
    tiles, members = workspace.empty(groups * table.size), team(groups * len(table.blocks))
    peaks = np.zeros((members.size, LINE), np.float32)
    pack_tiles(members, tiles, TILE if split else 0, weight, groups, table, peaks)
    return tiles, peaks.max()


def tables(parts: list[Packed], stay: list[bool], square: bool = False) -> tuple[Parts, Weights]:
    """Those of all parts of a correlation, for its products and for its weights.

    stay     for each part, do its weights fit the cache?
    square   must accumulators be 2 x 2?
    """
    numbers, blocks = np.zeros((len(parts) + 1, 7), np.int64), []
    inputs = outputs = 0
    for p, (part, stays) in enumerate(zip(parts, stay, strict=True)):
        tiles = numbers[p, TILES]
        numbers[p, FORM], numbers[p, SQUARE], numbers[p, STAY] = part.form, part.square or square, stays
        numbers[p + 1] = numbers[p]
        numbers[p + 1, [TAP, OUTPUT, TILES, SUMS]] += len(part.offsets), len(part.outputs), part.size, part.kept
        together = (np.diff(part.first_weights.reshape(-1, OUTPUTS)) == 1).all(1)
        for block in range(part.output_blocks):
            blocks.append((inputs, len(part.inputs), outputs + OUTPUTS * block, tiles + block * part.block_size,
                           together[block]))
        inputs, outputs = inputs + len(part.inputs), outputs + len(part.first_weights)
    size = int(numbers[-1, TILES])
    return (Parts(numbers, *(np.concatenate([getattr(part, name) for part in parts])
                             for name in ("offsets", "tap_rows", "outputs")), size),
            Weights(np.array(blocks, np.int64).reshape(-1, 5), np.concatenate([part.inputs for part in parts]),
                    np.concatenate([part.first_weights for part in parts]), size))
