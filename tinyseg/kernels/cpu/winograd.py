"""Convolution with few multiplications: Winograd's F(m x m, 3x3), for 3x3 kernels with stride 1.

Two polynomials of degrees m - 1 and 2 have a product of degree m + 1, known by its values at n = m + 2 points, and the
value of a product is the product of the values: n multiplications in place of 3m.  With G the values of a filter g at
the points, Aᵀ those of what is convolved with it, and B the matrix that finds a polynomial from its values, the product
is B (G g * A y); its transpose in y is a convolution as nets mean it,

    m outputs from n inputs d:  y = Aᵀ (G g * Bᵀ d),         in two dimensions:  Y = Aᵀ (G g Gᵀ * Bᵀ d B) A

The points are 0, ±1 and ∞ (the leading coefficient) for m = 2, also ±2 for m = 4.  Over all channels the product at
each point is one matrix product:

    U[p, c, o] = G g Gᵀ         V[p, c, t] = Bᵀ d B         M[p, o, t] = Σ_c U[p, c, o] V[p, c, t]       y = Aᵀ M A

p one of n·n points, c and o channels in and out, t one of the tiles of m x m outputs.  The input gradient is the same
with filters turned round and c, o exchanged.  The weight gradient reads it the third way, with D = A dy Aᵀ:

    dU[p, o, c] = Σ_t D[p, t, o] V[p, t, c]         dw = Gᵀ dU G

(Lavin & Gray, Fast algorithms for convolutional neural networks, arXiv:1509.09308.)  Interpolation loses digits, the
more the larger m.  A tile with an infinity or a NaN has them in all its outputs, so a result with such numbers is
computed again by `im2col`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu import im2col, workspace
from tinyseg.kernels.cpu.team import Team
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.vector import COLUMNS, LANES
from tinyseg.kernels.cpu.winograd_ways import BLOCK, Convolution, Filters, Memory, Sum, SumMemory

__all__ = ["Kernels", "conv2d", "conv2d_input_grad", "conv2d_weight_grad"]

CACHE = 5 << 17                                      # bytes of a core's second-level cache for one array
SHARED = 10 << 20                                    # bytes for an array that all threads read
CHAIN = 64                                           # tiles summed without a pause: longer sums lose digits
RUN = 6 * COLUMNS * LANES                            # tiles of products between two transforms
PART = 512                                           # tiles that share a sum


@dataclass(frozen=True)
class Kernels:
    """The ways of `winograd_ways` for tiles of m x m outputs."""

    m: int
    convolve_by_tiles: Callable[..., None]
    convolve_by_filters: Callable[..., None]
    sum_by_tiles: Callable[..., None]
    sum_by_points: Callable[..., None]

    @property
    def points(self) -> int:
        return (self.m + 2) ** 2

    def scratch(self, threads: int, tiles: int) -> np.ndarray:
        """Memory of each thread for the rows of a run of tiles, or for a square of channels by pixels."""
        n = self.m + 2
        pitch = _up(self.m * (tiles + 2 * LANES), LANES) + LANES
        return workspace.zeros((threads, n * max(pitch, LANES * LANES)))

    def pixels(self, threads: int, tiles: int, grid: tuple[int, int]) -> np.ndarray:
        """Memory of each thread for the rows of a run of tiles, LANES channels of each pixel."""
        return workspace.empty((threads, self.m + 2, self.m * min(tiles, grid[1]) + 2 + LANES, LANES))

    def by_channels(self, tiles: int, channels: int) -> tuple[int, int, int]:
        """The shape (points, tiles, channels), with room for what whole tiles of products reach."""
        return self.points, tiles + 1, _up(channels, LANES) + LANES


def conv2d(kernels: Kernels, x: np.ndarray, weight: np.ndarray, geometry: ConvGeometry, bias: np.ndarray | None = None,
           relu: bool = False) -> np.ndarray:
    """x (N, C, H, W), weight (O, C, 3, 3) -> (N, O, H', W')."""
    y = workspace.empty((len(x), len(weight), *geometry.output_size))
    filters = Filters(weight.reshape(-1), len(weight), weight.shape[1], (9 * weight.shape[1], 9, 0, 1))
    if not _convolve(kernels, x, filters, geometry.near_padding, y, bias, relu):
        y = _finish(im2col.conv2d(x, weight, geometry), bias, relu)
    return y


def conv2d_input_grad(kernels: Kernels, grad: np.ndarray, weight: np.ndarray, geometry: ConvGeometry,
                      bias: np.ndarray | None = None, relu: bool = False) -> np.ndarray:
    """grad (N, O, H', W'), weight (O, C, 3, 3) -> (N, C, H, W): filters turned round, padding 2 - p before."""
    x = workspace.empty((len(grad), weight.shape[1], *geometry.input_size))
    filters = Filters(weight.reshape(-1), weight.shape[1], len(weight), (9, 9 * weight.shape[1], 8, -1))
    near = 2 - geometry.near_padding[0], 2 - geometry.near_padding[1]
    if not _convolve(kernels, grad, filters, near, x, bias, relu):
        x = _finish(im2col.conv2d_input_grad(grad, weight, geometry), bias, relu)
    return x


def _convolve(kernels: Kernels, x: np.ndarray, filters: Filters, near: tuple[int, int], y: np.ndarray,
              bias: np.ndarray | None, relu: bool) -> bool:
    """Fill y; are all its numbers finite?

    The smaller operand is transformed first and as a whole: the filters, then each thread takes blocks of tiles; or the
    tiles, then each thread takes blocks of filters.
    """
    bias = np.zeros(filters.rows, np.float32) if bias is None else bias
    grid = -(-y.shape[2] // kernels.m), -(-y.shape[3] // kernels.m)
    task = Convolution(x, near, grid, len(y) * grid[0] * grid[1], filters, bias, relu, y)
    way = _by_tiles if filters.rows * filters.depth * kernels.points * 4 <= SHARED / 2 else _by_filters
    return bool(np.isfinite(way(kernels, task, team())).all())


def _by_tiles(kernels: Kernels, task: Convolution, threads: Team) -> np.ndarray:
    points, depth = kernels.points, task.filters.depth
    U = workspace.empty((-(-task.filters.rows // BLOCK), points, depth + 1, BLOCK))
    size = _block(task.tiles, U.nbytes, threads.size)
    memory = Memory(kernels.scratch(threads.size, min(size, task.grid[1])), U,
                    workspace.empty((threads.size, points, depth + 1, size + LANES)),
                    workspace.empty((threads.size, points, BLOCK + 1, size + LANES)),
                    np.zeros((threads.size, LANES), np.float32))
    kernels.convolve_by_tiles(threads, task, size, memory)
    return memory.largest


def _by_filters(kernels: Kernels, task: Convolution, threads: Team) -> np.ndarray:
    points, depth = kernels.points, task.filters.depth
    part = -(-depth // -(-4 * points * BLOCK * depth // CACHE))
    size = max(RUN, SHARED // (4 * points * depth) // LANES * LANES)
    if part < depth:                                 # each run of tiles transforms the filters again: few of them
        size = min(size, RUN)
    run = min(size, RUN)
    memory = Memory(kernels.scratch(threads.size, min(size, task.grid[1])),
                    workspace.empty((threads.size, points, part + 1, BLOCK)),
                    workspace.empty((points, depth + 1, min(size, _up(task.tiles, LANES)) + LANES)),
                    workspace.empty((threads.size, points, BLOCK + 1, run + LANES)),
                    np.zeros((threads.size, LANES), np.float32))
    kernels.convolve_by_filters(threads, task, size, run, memory)
    return memory.largest


def conv2d_weight_grad(kernels: Kernels, grad: np.ndarray, x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """grad (N, O, H', W'), x (N, C, H, W) -> (O, C, 3, 3)."""
    weight = np.zeros((grad.shape[1], x.shape[1], 3, 3), np.float32)
    grid = -(-grad.shape[2] // kernels.m), -(-grad.shape[3] // kernels.m)
    tiles = len(x) * grid[0] * grid[1]
    if not tiles:
        return weight
    task = Sum(x, geometry.near_padding, grad, grid, tiles, weight)
    way = _sum_by_tiles if 4 * kernels.points * weight.size // 9 <= 4 * CACHE else _sum_by_points
    largest = way(kernels, task, team())
    return weight if np.isfinite(largest).all() else im2col.conv2d_weight_grad(grad, x, geometry)


def _sum_by_tiles(kernels: Kernels, task: Sum, threads: Team) -> np.ndarray:
    outputs, channels = task.weight.shape[:2]
    size = max(PART, -(-task.tiles // 16))
    V, D = (workspace.empty((threads.size, *kernels.by_channels(CHAIN, count))) for count in (channels, outputs))
    dU = workspace.empty((-(-task.tiles // size), kernels.points, _up(outputs, BLOCK) + 1, _up(channels, LANES)))
    memory = SumMemory(kernels.scratch(threads.size, 0), kernels.pixels(threads.size, CHAIN, task.grid), V, D, dU,
                       np.zeros((threads.size, LANES), np.float32))
    kernels.sum_by_tiles(threads, task, size, CHAIN, memory)
    return memory.largest


def _sum_by_points(kernels: Kernels, task: Sum, threads: Team) -> np.ndarray:
    outputs, channels = task.weight.shape[:2]
    size = max(CHAIN, SHARED // (4 * kernels.points * max(outputs, channels)) // CHAIN * CHAIN)
    size = min(size, _up(task.tiles, CHAIN))
    rows = max(BLOCK, SHARED // (4 * kernels.points * channels) // BLOCK * BLOCK)
    V, D = (workspace.empty(kernels.by_channels(min(size, task.tiles), count)) for count in (channels, outputs))
    dU = workspace.empty((1, kernels.points, min(rows, _up(outputs, BLOCK)) + 1, _up(channels, LANES)))
    memory = SumMemory(kernels.scratch(threads.size, 0), kernels.pixels(threads.size, size, task.grid), V, D, dU,
                       np.zeros((threads.size, LANES), np.float32))
    kernels.sum_by_points(threads, task, rows, size, CHAIN, memory)
    return memory.largest


def _block(tiles: int, filter_bytes: int, threads: int) -> int:
    """Tiles for a thread to take at a time: whole panels, and enough blocks to share them evenly."""
    panel = COLUMNS * LANES
    many = 1 if filter_bytes <= CACHE else 2         # filters that leave the cache serve more tiles each time they come
    return max(1, min(many, tiles // (4 * threads * panel))) * panel


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _finish(y: np.ndarray, bias: np.ndarray | None, relu: bool) -> np.ndarray:
    """The epilogue, in place."""
    if bias is not None:
        y += bias[:, None, None]
    return np.maximum(y, 0, out=y) if relu else y
