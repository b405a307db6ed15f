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
from typing import Any

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels.cpu import im2col, workspace
from tinyseg.kernels.cpu.threads import in_parallel, num_threads
from tinyseg.kernels.cpu.vector import COLUMNS, LANES, ROWS
from tinyseg.kernels.cpu.winograd_kernels import multiply

__all__ = ["Kernels", "conv2d", "conv2d_input_grad", "conv2d_weight_grad"]

BLOCK = 4 * ROWS                                     # rows of products between two transforms
CACHE = 5 << 17                                      # bytes of a core's second-level cache for one array
SHARED = 10 << 20                                    # bytes for an array that all threads read
CHAIN = 64                                           # tiles summed without a pause: longer sums lose digits
RUN = 6 * COLUMNS * LANES                            # tiles of products between two transforms
PART = 512                                           # tiles that share a sum


@dataclass(frozen=True)
class Kernels:
    """The functions of `winograd_kernels` for tiles of m x m outputs."""

    m: int
    transform_tiles: Callable[..., None]
    transform_filters: Callable[..., None]
    convolve_tiles: Callable[..., None]
    convolve_filters: Callable[..., None]
    transform_inputs_by_channels: Callable[..., None]
    transform_grads_by_channels: Callable[..., None]
    sum_tiles: Callable[..., None]
    collect_filters: Callable[..., None]

    @property
    def points(self) -> int:
        return (self.m + 2) ** 2

    def scratch(self, tiles: int) -> np.ndarray:
        """Memory for the rows of a run of tiles, or for a square of channels by pixels."""
        n = self.m + 2
        pitch = _up(self.m * (tiles + 2 * LANES), LANES) + LANES
        return workspace.zeros(n * max(pitch, LANES * LANES))

    def pixels(self, tiles: int, grid: tuple[int, int]) -> np.ndarray:
        """Memory for the rows of a run of tiles, LANES channels of each pixel."""
        return workspace.empty((self.m + 2, self.m * min(tiles, grid[1]) + 2 + LANES, LANES))

    def by_channels(self, tiles: int, channels: int) -> np.ndarray:
        """(points, tiles, channels), with room for what whole tiles of products reach."""
        return workspace.empty((self.points, tiles + 1, _up(channels, LANES) + LANES))


def conv2d(kernels: Kernels, x: np.ndarray, weight: np.ndarray, geometry: ConvGeometry, bias: np.ndarray | None = None,
           relu: bool = False) -> np.ndarray:
    """x (N, C, H, W), weight (O, C, 3, 3) -> (N, O, H', W')."""
    y = workspace.empty((len(x), len(weight), *geometry.output_size))
    filters = _Filters(weight, len(weight), weight.shape[1], (9 * weight.shape[1], 9, 0, 1))
    if not _convolve(kernels, x, filters, geometry.near_padding, y, bias, relu):
        y = _finish(im2col.conv2d(x, weight, geometry), bias, relu)
    return y


def conv2d_input_grad(kernels: Kernels, grad: np.ndarray, weight: np.ndarray, geometry: ConvGeometry,
                      bias: np.ndarray | None = None, relu: bool = False) -> np.ndarray:
    """grad (N, O, H', W'), weight (O, C, 3, 3) -> (N, C, H, W): filters turned round, padding 2 - p before."""
    x = workspace.empty((len(grad), weight.shape[1], *geometry.input_size))
    filters = _Filters(weight, weight.shape[1], len(weight), (9, 9 * weight.shape[1], 8, -1))
    near = 2 - geometry.near_padding[0], 2 - geometry.near_padding[1]
    if not _convolve(kernels, grad, filters, near, x, bias, relu):
        x = _finish(im2col.conv2d_input_grad(grad, weight, geometry), bias, relu)
    return x


@dataclass(frozen=True)
class _Filters:
    """rows x depth filters of 3x3 taps; `taps` says where, see `winograd_kernels.transform_filters`."""

    weight: np.ndarray
    rows: int
    depth: int
    taps: tuple[int, int, int, int]

    @property
    def flat(self) -> np.ndarray:
        return self.weight.reshape(-1)


def _convolve(kernels: Kernels, x: np.ndarray, filters: _Filters, near: tuple[int, int], y: np.ndarray,
              bias: np.ndarray | None, relu: bool) -> bool:
    """Fill y; are all its numbers finite?

    The smaller operand is transformed first and as a whole: the filters, then each thread takes blocks of tiles; or the
    tiles, then each thread takes blocks of filters.
    """
    bias = np.zeros(filters.rows, np.float32) if bias is None else bias
    down, across = (-(-size // kernels.m) for size in y.shape[2:])
    tiles = len(y) * down * across
    way = _by_tiles if filters.rows * filters.depth * kernels.points * 4 <= SHARED / 2 else _by_filters
    largest = way(kernels, x, filters, near, (down, across), tiles, y, bias, relu)
    return bool(np.isfinite(largest).all())


def _by_tiles(kernels, x, filters, near, grid, tiles, y, bias, relu):
    U = workspace.empty((-(-filters.rows // BLOCK), kernels.points, filters.depth + 1, BLOCK))

    def transform(b: int) -> None:
        rows = b * BLOCK, min((b + 1) * BLOCK, filters.rows)
        kernels.transform_filters(rows, (0, filters.depth), filters.flat, filters.taps, kernels.scratch(0), U[b])

    in_parallel(transform, range(len(U)))
    size = _block(tiles, U.nbytes)
    blocks = iter(_parts(tiles, size))
    largest = np.zeros((num_threads(), LANES), np.float32)

    def convolve(top: np.ndarray) -> None:
        scratch = kernels.scratch(min(size, grid[1]))
        V = workspace.empty((kernels.points, filters.depth + 1, size + LANES))
        M = workspace.empty((kernels.points, BLOCK + 1, size + LANES))
        for block in blocks:
            kernels.convolve_tiles(block, x, near, grid, U, y, bias, relu, scratch, V, M, top)

    in_parallel(convolve, largest)
    return largest


def _by_filters(kernels, x, filters, near, grid, tiles, y, bias, relu):
    depth = filters.depth
    part = -(-depth // -(-4 * kernels.points * BLOCK * depth // CACHE))
    size = max(RUN, SHARED // (4 * kernels.points * depth) // LANES * LANES)
    if part < depth:                                 # each run of tiles transforms the filters again: few of them
        size = min(size, RUN)
    run = min(size, RUN)
    V = workspace.empty((kernels.points, depth + 1, min(size, _up(tiles, LANES)) + LANES))
    largest = np.zeros((num_threads(), LANES), np.float32)
    for group in _parts(tiles, size):
        def transform(channels: tuple[int, int], group=group) -> None:
            kernels.transform_tiles(channels, group, x, near, grid, kernels.scratch(min(size, grid[1])), V)

        in_parallel(transform, _parts(depth, -(-depth // num_threads())))
        blocks = iter(_parts(filters.rows, BLOCK))

        def convolve(top: np.ndarray, group=group, blocks=blocks) -> None:
            scratch = kernels.scratch(0)
            U = workspace.empty((kernels.points, part + 1, BLOCK))
            M = workspace.empty((kernels.points, BLOCK + 1, run + LANES))
            for rows in blocks:
                kernels.convolve_filters(rows, group, run, grid, filters.flat, filters.taps, depth, V, y, bias, relu,
                                         scratch, U, M, top)

        in_parallel(convolve, largest)
    return largest


def conv2d_weight_grad(kernels: Kernels, grad: np.ndarray, x: np.ndarray, geometry: ConvGeometry) -> np.ndarray:
    """grad (N, O, H', W'), x (N, C, H, W) -> (O, C, 3, 3)."""
    weight = np.zeros((grad.shape[1], x.shape[1], 3, 3), np.float32)
    grid = -(-grad.shape[2] // kernels.m), -(-grad.shape[3] // kernels.m)
    tiles = len(x) * grid[0] * grid[1]
    if not tiles:
        return weight
    way = _sum_by_tiles if 4 * kernels.points * weight.size // 9 <= 4 * CACHE else _sum_by_points
    largest = way(kernels, grad, x, geometry.near_padding, grid, tiles, weight)
    return weight if np.isfinite(largest).all() else im2col.conv2d_weight_grad(grad, x, geometry)


def _sum_by_tiles(kernels, grad, x, near, grid, tiles, weight):
    """Parts of the tiles have a dU each, and V and D only for a block of tiles."""
    outputs, channels = weight.shape[:2]
    parts = _parts(tiles, max(PART, -(-tiles // 16)))
    dU = workspace.empty((len(parts), kernels.points, _up(outputs, BLOCK) + 1, _up(channels, LANES)))

    def work(part: int) -> None:
        kernels.sum_tiles(CHAIN, parts[part], x, near, grad, grid, kernels.scratch(0), kernels.pixels(CHAIN, grid),
                          kernels.by_channels(CHAIN, channels), kernels.by_channels(CHAIN, outputs), dU[part])

    in_parallel(work, range(len(parts)))
    return _collect(kernels, dU, (0, outputs), weight)


def _sum_by_points(kernels, grad, x, near, grid, tiles, weight):
    """V and D of a group of tiles are made first, then threads take points; for as many outputs as dU has room for."""
    outputs, channels = weight.shape[:2]
    size = max(CHAIN, SHARED // (4 * kernels.points * max(outputs, channels)) // CHAIN * CHAIN)
    groups = _parts(tiles, min(size, _up(tiles, CHAIN)))
    V, D = (kernels.by_channels(groups[0][1], count) for count in (channels, outputs))
    rows = max(BLOCK, SHARED // (4 * kernels.points * channels) // BLOCK * BLOCK)
    dU = workspace.empty((1, kernels.points, min(rows, _up(outputs, BLOCK)) + 1, _up(channels, LANES)))
    largest = []

    def transform(item: tuple[Any, ...]) -> None:
        kernel, *arguments, result = item
        kernel(*arguments, grid, kernels.scratch(0), kernels.pixels(groups[0][1], grid), result)

    def work(item: tuple[Any, ...]) -> None:
        points, part, (first, last) = item
        multiply(part, (0, channels), (0, last - first), 0, CHAIN, D[points], V[points], dU[0, points], first > 0)

    for part in _parts(outputs, rows):
        for group in groups:
            items = [(kernels.transform_grads_by_channels, block, group, grad, D)
                     for block in _parts(part[1], 2 * LANES, part[0])]
            if part[0] == 0 or len(groups) > 1:
                items += [(kernels.transform_inputs_by_channels, block, group, x, near, V)
                          for block in _parts(channels, 2 * LANES)]
            in_parallel(transform, items)
            in_parallel(work, [(slice(*points), part, group) for points in _parts(kernels.points, 3)])
        largest.append(_collect(kernels, dU, part, weight))
    return np.concatenate(largest)


def _collect(kernels, dU, outputs, weight):
    """Filters from the sums of all parts; threads share the rows."""
    blocks = _parts(outputs[1], BLOCK, outputs[0])
    largest = np.zeros((len(blocks), LANES), np.float32)

    def work(b: int) -> None:
        kernels.collect_filters(blocks[b], outputs[0], dU, kernels.scratch(0), weight, largest[b])

    in_parallel(work, range(len(blocks)))
    return largest


def _block(tiles: int, filter_bytes: int) -> int:
    """Tiles for a thread to take at a time: whole panels, and enough blocks to share them evenly."""
    panel = COLUMNS * LANES
    many = 1 if filter_bytes <= CACHE else 2         # filters that leave the cache serve more tiles each time they come
    return max(1, min(many, tiles // (4 * num_threads() * panel))) * panel


def _parts(stop: int, size: int, start: int = 0) -> list[tuple[int, int]]:
    return [(k, min(k + size, stop)) for k in range(start, stop, size)]


def _up(count: int, unit: int) -> int:
    return -(-count // unit) * unit


def _finish(y: np.ndarray, bias: np.ndarray | None, relu: bool) -> np.ndarray:
    """The epilogue, in place."""
    if bias is not None:
        y += bias[:, None, None]
    return np.maximum(y, 0, out=y) if relu else y
