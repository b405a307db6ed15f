"""The step of an optimiser: each parameter, its gradient and its state are read once, and written once.

The rules take numbers as well as vectors: vectors for float32, numbers for float64 and for what is left at the end.
All arrays of a call have one shape and one type and are C-contiguous; they change in place.
"""

import math

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.team import share_range
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.vector import LANES, load, splat, store
from tinyseg.kernels.cpu.vector_math import divide, root, wide, wide_total, widen

__all__ = ["adam", "descend", "scale", "sgd", "square_sum"]

_BLOCK = 1 << 14                                     # elements of a turn, a multiple of LANES


def descend(p: np.ndarray, grad: np.ndarray, lr: float, decay: float) -> None:
    """p -= lr·(grad + decay·p)."""
    _run(_descend, _descend_64, p, grad, lr, decay)


def sgd(p: np.ndarray, grad: np.ndarray, momentum: np.ndarray, lr: float, decay: float, keep: float, fresh: float,
        momentum_share: float, grad_share: float) -> None:
    """d = grad + decay·p;  m = keep·m + fresh·d;  p -= lr·(momentum_share·m + grad_share·d)."""
    _run(_sgd, _sgd_64, p, grad, momentum, lr, decay, keep, fresh, momentum_share, grad_share)


def adam(p: np.ndarray, grad: np.ndarray, mean: np.ndarray, square: np.ndarray, rate: float, beta1: float,
         beta2: float, correction: float, eps: float, decay: float, shrink: float) -> None:
    """d = grad + decay·p;  m = β₁m + (1-β₁)d;  v = β₂v + (1-β₂)d²;  p = shrink·p - rate·m / (√v / correction + eps)."""
    _run(_adam, _adam_64, p, grad, mean, square, rate, beta1, beta2, 1 / correction, eps, decay, shrink)


def scale(x: np.ndarray, factor: float) -> None:
    """x *= factor."""
    _run(_scale, _scale_64, x, factor)


def square_sum(x: np.ndarray) -> float:
    """Σ x², in float64 and in an order that does not depend on the threads."""
    parts = np.empty(-(-x.size // _BLOCK))
    _run(_square_sum, _square_sum_64, x, parts)
    return math.fsum(parts)


def _run(kernel, kernel_64, p, *arguments):
    flat = [a.reshape(-1) if isinstance(a, np.ndarray) else float(a) for a in arguments]
    (kernel if p.dtype == np.float32 else kernel_64)(team(), p.reshape(-1), *flat)


@jit
def _blocks(p):
    return (p.size + _BLOCK - 1) // _BLOCK


@jit
def _bounds(first, last, size):
    """Of turns first .. last-1: the first element, the last that vectors take plus one, and the last plus one."""
    start, end = first * _BLOCK, min(last * _BLOCK, size)
    return start, end - (end - start) % LANES, end


@jit
def _descend(team, p, *others):
    share_range(team, _blocks(p), p.size, _descend_vectors, (p, *others))


@jit
def _descend_64(team, p, *others):
    share_range(team, _blocks(p), p.size, _descend_numbers, (p, *others))


@jit
def _descend_rule(p, g, lr, decay):
    return p - lr * (g + decay * p)


@jit
def _descend_vectors(first, last, p, grad, lr, decay):
    start, whole, end = _bounds(first, last, p.size)
    for i in range(start, whole, LANES):
        store(p, i, _descend_rule(load(p, i), load(grad, i), lr, decay))
    for i in range(whole, end):
        p[i] = _descend_rule(p[i], grad[i], lr, decay)


@jit
def _descend_numbers(first, last, p, grad, lr, decay):
    start, _, end = _bounds(first, last, p.size)
    for i in range(start, end):
        p[i] = _descend_rule(p[i], grad[i], lr, decay)


@jit
def _sgd(team, p, *others):
    share_range(team, _blocks(p), p.size, _sgd_vectors, (p, *others))


@jit
def _sgd_64(team, p, *others):
    share_range(team, _blocks(p), p.size, _sgd_numbers, (p, *others))


@jit
def _sgd_rule(p, g, m, lr, decay, keep, fresh, momentum_share, grad_share):
    d = g + decay * p
    m = keep * m + fresh * d
    return p - lr * (momentum_share * m + grad_share * d), m


@jit
def _sgd_vectors(first, last, p, grad, m, lr, decay, keep, fresh, momentum_share, grad_share):
    start, whole, end = _bounds(first, last, p.size)
    for i in range(start, whole, LANES):
        new_p, new_m = _sgd_rule(load(p, i), load(grad, i), load(m, i), lr, decay, keep, fresh, momentum_share,
                                 grad_share)
        store(p, i, new_p)
        store(m, i, new_m)
    for i in range(whole, end):
        p[i], m[i] = _sgd_rule(p[i], grad[i], m[i], lr, decay, keep, fresh, momentum_share, grad_share)


@jit
def _sgd_numbers(first, last, p, grad, m, lr, decay, keep, fresh, momentum_share, grad_share):
    start, _, end = _bounds(first, last, p.size)
    for i in range(start, end):
        p[i], m[i] = _sgd_rule(p[i], grad[i], m[i], lr, decay, keep, fresh, momentum_share, grad_share)


@jit
def _adam(team, p, *others):
    share_range(team, _blocks(p), p.size, _adam_vectors, (p, *others))


@jit
def _adam_64(team, p, *others):
    share_range(team, _blocks(p), p.size, _adam_numbers, (p, *others))


@jit
def _adam_rule(p, g, m, v, eps, rate, beta1, beta2, inverse_correction, decay, shrink):
    d = g + decay * p
    m = beta1 * m + (1 - beta1) * d
    v = beta2 * v + (1 - beta2) * (d * d)
    return shrink * p - rate * divide(m, inverse_correction * root(v) + eps), m, v


@jit
def _adam_vectors(first, last, p, grad, m, v, rate, beta1, beta2, inverse_correction, eps, decay, shrink):
    start, whole, end = _bounds(first, last, p.size)
    small = splat(eps)
    for i in range(start, whole, LANES):
        new_p, new_m, new_v = _adam_rule(load(p, i), load(grad, i), load(m, i), load(v, i), small, rate, beta1, beta2,
                                         inverse_correction, decay, shrink)
        store(p, i, new_p)
        store(m, i, new_m)
        store(v, i, new_v)
    for i in range(whole, end):
        p[i], m[i], v[i] = _adam_rule(p[i], grad[i], m[i], v[i], eps, rate, beta1, beta2, inverse_correction, decay,
                                      shrink)


@jit
def _adam_numbers(first, last, p, grad, m, v, rate, beta1, beta2, inverse_correction, eps, decay, shrink):
    start, _, end = _bounds(first, last, p.size)
    for i in range(start, end):
        p[i], m[i], v[i] = _adam_rule(p[i], grad[i], m[i], v[i], eps, rate, beta1, beta2, inverse_correction, decay,
                                      shrink)


@jit
def _scale(team, x, *others):
    share_range(team, _blocks(x), x.size, _scale_vectors, (x, *others))


@jit
def _scale_64(team, x, *others):
    share_range(team, _blocks(x), x.size, _scale_numbers, (x, *others))


@jit
def _scale_vectors(first, last, x, factor):
    start, whole, end = _bounds(first, last, x.size)
    for i in range(start, whole, LANES):
        store(x, i, factor * load(x, i))
    for i in range(whole, end):
        x[i] *= factor


@jit
def _scale_numbers(first, last, x, factor):
    start, _, end = _bounds(first, last, x.size)
    for i in range(start, end):
        x[i] *= factor


@jit
def _square_sum(team, x, *others):
    share_range(team, _blocks(x), x.size, _square_sum_vectors, (x, *others))


@jit
def _square_sum_64(team, x, *others):
    share_range(team, _blocks(x), x.size, _square_sum_numbers, (x, *others))


@jit
def _square_sum_vectors(first, last, x, parts):
    for t in range(first, last):
        start, whole, end = _bounds(t, t + 1, x.size)
        sums, more = wide(0.0), wide(0.0)
        for i in range(start, whole - LANES, 2 * LANES):
            a, b = widen(load(x, i)), widen(load(x, i + LANES))
            sums, more = sums + a * a, more + b * b
        total = wide_total(sums + more)
        for i in range(whole - (whole - start) % (2 * LANES), end):
            total += np.float64(x[i]) * np.float64(x[i])
        parts[t] = total


@jit
def _square_sum_numbers(first, last, x, parts):
    for t in range(first, last):
        start, _, end = _bounds(t, t + 1, x.size)
        total = 0.0
        for i in range(start, end):
            total += x[i] * x[i]
        parts[t] = total
