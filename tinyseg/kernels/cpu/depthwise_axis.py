"""What a depthwise convolution reads along one axis, in numbers that a compiled loop takes."""

from typing import NamedTuple

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.jit import jit
from tinyseg.kernels.cpu.vector import LANES

__all__ = ["Axis", "axis", "ends", "inside", "transposed_axis"]


class Axis(NamedTuple):
    """The padded source is dealt out like cards: cell i goes to run i % deal.  Results are dealt out too, and each run
    of them has taps of its own: result k·runs + r meets, with the taps t from begin[r] to begin[r + 1] - 1, the padded
    cell cell[t] + k·deal, which lies at[t] + k from the beginning of its line.

    A convolution deals out its source by its stride; transposed, it deals out its results.
    """

    source: int                                      # sizes
    result: int
    near: int                                        # zeros before the source, at least
    deal: int
    runs: int
    width: int                                       # numbers in a run of a line
    reach: int                                       # the farthest cell[t]
    begin: np.ndarray                                # (runs + 1,)
    tap: np.ndarray                                  # (taps that ever meet the source,) each: which of the kernel's
    cell: np.ndarray
    at: np.ndarray


def axis(geometry: ConvGeometry, a: int) -> Axis:
    """Output k meets the padded input k·s + u·d."""
    taps, stride = np.arange(geometry.kernel_size[a]), geometry.stride[a]
    if a == 0:                                       # those side by side that meet the same rows
        taps = np.array(sorted(taps, key=lambda u: u * geometry.dilation[0] % stride))
    return _placed(geometry.input_size[a], geometry.output_size[a], geometry.near_padding[a], stride, 1,
                   [taps], [taps * geometry.dilation[a]])


def transposed_axis(geometry: ConvGeometry, a: int) -> Axis:
    """Input i meets output j with tap u where i + near = j·s + u·d: only each s-th input meets with the same taps."""
    near, stride = geometry.near_padding[a], geometry.stride[a]
    taps = np.arange(geometry.kernel_size[a])
    reach = taps * geometry.dilation[a]
    zeros = int(reach[-1]) // stride                 # before the first output
    runs = [taps[(near + r - reach) % stride == 0][::-1] for r in range(stride)]     # neighbours in the order of cells
    cells = [(near + r - reach[run]) // stride + zeros for r, run in enumerate(runs)]
    return _placed(geometry.output_size[a], geometry.input_size[a], zeros, 1, stride, runs, cells)


def _placed(source, result, near, deal, runs, taps, cells):
    """Keep what is ever met: a far dilation has taps, and zeros, that are not."""
    for r, cell in enumerate(cells):
        results = (result - r + runs - 1) // runs
        met = (cell < near + source) & (cell + (results - 1) * deal >= near) & (results > 0)
        taps[r], cells[r] = taps[r][met], cell[met]
    begin, tap, cell = np.cumsum([0, *map(len, taps)]), np.concatenate(taps), np.concatenate(cells)
    unmet = min(near, int(cell.min(initial=near))) // deal * deal        # zeros; a whole number for each run
    near, cell = near - unmet, cell - unmet
    reach = int(cell.max(initial=0))
    written = near // deal + 1 + _whole(-(-source // deal))              # whole vectors
    read = reach // deal + _whole(-(-result // runs))
    width = _whole(max(written, read))
    return Axis(source, result, near, deal, runs, width, reach, begin, tap, cell,
                cell % deal * width + cell // deal)


def _whole(count: int) -> int:
    return -(-count // LANES) * LANES


@jit
def inside(axis, t):
    """The first and the last-plus-one result that meets the source with tap t, in its run."""
    first = max(0, -((axis.cell[t] - axis.near) // axis.deal))           # ceil
    return first, max(first, min(axis.result, (axis.near + axis.source - 1 - axis.cell[t]) // axis.deal + 1))


@jit(allocates=True)
def ends(axis, step):
    """(runs, blocks, 2): the first and the last-plus-one tap with which a block of `step` results meets the source."""
    blocks = (axis.result + axis.runs * step - 1) // (axis.runs * step)
    table = np.empty((axis.runs, blocks, 2), np.int64)
    for r in range(axis.runs):
        for k in range(blocks):
            low, high = axis.begin[r], axis.begin[r + 1]
            while low < high and not _meets(axis, low, k * step, (k + 1) * step):
                low += 1
            while low < high and not _meets(axis, high - 1, k * step, (k + 1) * step):
                high -= 1
            table[r, k] = low, high
    return table


@jit
def _meets(axis, t, first, last):
    a, b = inside(axis, t)
    return a < b and first < b and last > a
