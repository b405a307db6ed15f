"""What happens between layers, each in one pass over memory: ReLU, sums over channels, copies."""

import math

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.team import share_range
from tinyseg.kernels.cpu.threads import in_parallel, team
from tinyseg.kernels.cpu.vector import LANES, load, load_part, maximum, splat, store_part
from tinyseg.kernels.cpu.vector_math import put, where_positive, wide, wide_total, widen
from tinyseg.kernels.cpu.workspace import empty, empty_like, past_cache

_BLOCK = 4096                                        # elements of a turn, a multiple of LANES
_COPIED = 1 << 18                                    # bytes: less is copied before another thread begins


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0), of any shape; NaN stays."""
    y = empty_like(x)
    _relu(team(), x.reshape(-1), y.reshape(-1), past_cache(y.reshape(-1)))
    return y


def relu_grad(grad: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The gradient where the result y is above 0, else 0."""
    dx = empty_like(y)
    _relu_grad(team(), grad.reshape(-1), y.reshape(-1), dx.reshape(-1), past_cache(dx.reshape(-1)))
    return dx


def channel_sums(x: np.ndarray) -> np.ndarray:
    """Σ x over all axes but the second.  x (N, C, ...) -> (C,), summed in float64."""
    totals = np.empty(x.shape[:2])
    _sums(team(), x.reshape(totals.size, math.prod(x.shape[2:])), totals.reshape(-1))
    return totals.sum(0)


def channel_products(grad: np.ndarray, x: np.ndarray, centre: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ grad and Σ grad·(x - centre_c) over all axes but the second.  (N, C, ...) twice, (C,) -> (C,) twice."""
    totals, products = np.empty((2, *x.shape[:2]))
    planes = totals.size, math.prod(x.shape[2:])
    _products(team(), grad.reshape(planes), x.reshape(planes), centre.astype(np.float64), totals.reshape(-1),
              products.reshape(-1))
    return totals.sum(0), products.sum(0)


def concatenate(axis: int, *arrays: np.ndarray) -> np.ndarray:
    """Arrays joined along an existing axis."""
    shape = list(arrays[0].shape)
    shape[axis] = sum(a.shape[axis] for a in arrays)
    joined = empty(tuple(shape), np.result_type(*arrays))
    parts, start = [], 0
    for a in arrays:
        parts.append((joined[(slice(None),) * axis + (slice(start, start + a.shape[axis]),)], a))
        start += a.shape[axis]
    _copy(parts)
    return joined


def copy(array: np.ndarray) -> np.ndarray:
    """A C-contiguous copy."""
    result = empty_like(array)
    _copy([(result, array)])
    return result


def _copy(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """target[...] = source for every pair, in pieces that threads share."""
    pieces = []
    while pairs:
        target, source = pairs.pop()
        if target.nbytes > _COPIED and len(target) > 1:
            half = len(target) // 2
            pairs += [(target[:half], source[:half]), (target[half:], source[half:])]
        elif target.nbytes > _COPIED and target.ndim > 1:
            pairs.append((target[0], source[0]))
        else:
            pieces.append((target, source))
    in_parallel(lambda pair: np.copyto(*pair), pieces)


@jit
def _relu(team, x, y, past):
    share_range(team, _blocks(x), x.size, _relu_blocks, (x, y, past))


@jit
def _relu_blocks(first, last, x, y, past):
    zero, size = splat(0.0), x.size
    for t in range(first, last):
        start, end = t * _BLOCK, min((t + 1) * _BLOCK, size)
        whole = end - (end - start) % LANES
        for j in range(start, whole, LANES):
            put(y, j, maximum(zero, load(x, j)), past)
        if whole < end:
            store_part(y, whole, maximum(zero, load_part(x, whole, end - whole)), end - whole)


@jit
def _relu_grad(team, grad, y, dx, past):
    share_range(team, _blocks(y), y.size, _relu_grad_blocks, (grad, y, dx, past))


@jit
def _relu_grad_blocks(first, last, grad, y, dx, past):
    size = y.size
    for t in range(first, last):
        start, end = t * _BLOCK, min((t + 1) * _BLOCK, size)
        whole = end - (end - start) % LANES
        for j in range(start, whole, LANES):
            put(dx, j, where_positive(load(y, j), load(grad, j)), past)
        if whole < end:
            count = end - whole
            store_part(dx, whole, where_positive(load_part(y, whole, count), load_part(grad, whole, count)), count)


@jit
def _blocks(x):
    return (x.size + _BLOCK - 1) // _BLOCK


@jit
def _sums(team, x, totals):
    share_range(team, len(x), x.size, _sums_of_planes, (x, totals))


@jit
def _sums_of_planes(first, last, x, totals):
    size = x.shape[1]
    for p in range(first, last):
        sums = wide(0.0)
        for j in range(0, size - size % LANES, LANES):
            sums = sums + widen(load(x, (p, j)))
        total = wide_total(sums)
        for j in range(size - size % LANES, size):
            total += x[p, j]
        totals[p] = total


@jit
def _products(team, grad, x, centre, totals, products):
    share_range(team, len(x), x.size, _products_of_planes, (grad, x, centre, totals, products))


@jit
def _products_of_planes(first, last, grad, x, centre, totals, products):
    size = x.shape[1]
    for p in range(first, last):
        near = centre[p % len(centre)]
        sums, with_x, centres = wide(0.0), wide(0.0), wide(near)
        for j in range(0, size - size % LANES, LANES):
            g = widen(load(grad, (p, j)))
            sums, with_x = sums + g, with_x + g * (widen(load(x, (p, j))) - centres)
        total, product = wide_total(sums), wide_total(with_x)
        for j in range(size - size % LANES, size):
            total += grad[p, j]
            product += grad[p, j] * (x[p, j] - near)
        totals[p], products[p] = total, product
