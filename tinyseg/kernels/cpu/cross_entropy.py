"""Cross-entropy after a softmax and its gradient, for float32; the fast form of `cross_entropy_definition`.

No probability is kept: the gradient finds them again from the logits and two numbers for each pixel, which is quicker
than to fetch them from memory.  Threads share blocks of neighbouring pixels, whose logits of all classes stay in the
cache; the innermost loops run along pixels, the direction in which memory lies.
"""

import math

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.team import share, share_range
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.vector import LANES, load, load_part, maximum, splat, store_part
from tinyseg.kernels.cpu.vector_math import exp, put, ramp, where_equal, where_positive
from tinyseg.kernels.cpu.workspace import empty_like, past_cache, zeros

_BLOCK = 512                                         # pixels, a multiple of LANES


def cross_entropy(x: np.ndarray, target: np.ndarray, class_weight: np.ndarray, pixel_weight: np.ndarray,
                  smoothing: float, ignore: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int | None]:
    """As `cross_entropy_definition.cross_entropy`."""
    largest, total, loss, weight = (np.empty(target.shape, x.dtype) for _ in range(4))
    stray = np.zeros(1, bool)
    _cross_entropy(team(), x, target, class_weight, pixel_weight, smoothing, ignore, largest, total, loss, weight,
                   stray)
    if not stray[0]:
        return loss, weight, largest, total, None
    wrong = (target != ignore) & ((target < 0) | (target >= x.shape[1]))
    return loss, weight, largest, total, int(target[wrong][0])


def cross_entropy_grad(x: np.ndarray, largest: np.ndarray, total: np.ndarray, target: np.ndarray,
                       class_weight: np.ndarray, scale: np.ndarray, smoothing: float, ignore: int) -> np.ndarray:
    """As `cross_entropy_definition.cross_entropy_grad`."""
    dx, threads = empty_like(x), team()
    found = zeros((threads.size, 5, _BLOCK))         # aligned: no two threads write to one line of the cache
    _cross_entropy_grad(threads, x, largest, total, target, class_weight, scale, smoothing, ignore, found, dx,
                        past_cache(dx))
    return dx


@jit
def _blocks(x):
    return x.shape[0] * ((x.shape[2] + _BLOCK - 1) // _BLOCK)


@jit
def _place(t, pixels):
    """The image of block t, its first pixel and its last plus one."""
    blocks = (pixels + _BLOCK - 1) // _BLOCK
    start = t % blocks * _BLOCK
    return t // blocks, start, min(start + _BLOCK, pixels)


@jit
def _cross_entropy(team, x, target, class_weight, pixel_weight, smoothing, ignore, largest, total, loss, weight, stray):
    share_range(team, _blocks(x), x.size, _cross_entropy_blocks,
                (x, target, class_weight, pixel_weight, smoothing, ignore, largest, total, loss, weight, stray))


@jit
def _cross_entropy_blocks(first, last, x, target, class_weight, pixel_weight, smoothing, ignore, largest, total, loss,
                          weight, stray):
    _, classes, pixels = x.shape
    for t in range(first, last):
        a, start, end = _place(t, pixels)
        _normalizers(x, a, start, end, largest, total)
        for j in range(start, end):
            label = target[a, j]
            loss[a, j], weight[a, j] = 0, 0
            if label == ignore:
                continue
            if label < 0 or label >= classes:
                stray[0] = True
                continue
            log_total, top = math.log(total[a, j]), largest[a, j]
            surprise = (1 - smoothing) * class_weight[label] * (log_total - (x[a, label, j] - top))
            if smoothing > 0:
                for c in range(classes):
                    surprise += smoothing / classes * class_weight[c] * (log_total - (x[a, c, j] - top))
            loss[a, j], weight[a, j] = pixel_weight[a, j] * surprise, pixel_weight[a, j] * class_weight[label]


@jit
def _normalizers(x, a, start, end, largest, total):
    """max x and Σ exp(x - max x) over the classes of each pixel."""
    for c in range(x.shape[1]):
        for j in range(start, end, LANES):
            n = end - j
            value = load_part(x, (a, c, j), n)
            if c > 0:
                value = maximum(value, load_part(largest, (a, j), n))
            store_part(largest, (a, j), value, n)
    for c in range(x.shape[1]):
        for j in range(start, end, LANES):
            n = end - j
            power = exp(load_part(x, (a, c, j), n) - load_part(largest, (a, j), n))
            if c > 0:
                power = power + load_part(total, (a, j), n)
            store_part(total, (a, j), power, n)


@jit
def _cross_entropy_grad(team, x, largest, total, target, class_weight, scale, smoothing, ignore, found, dx, past):
    everywhere = smoothing / x.shape[1] * class_weight.sum()
    share(team, _blocks(x), _cross_entropy_grad_block,
          (x, largest, total, target, class_weight, scale, smoothing, everywhere, ignore, found, dx, past))


@jit
def _cross_entropy_grad_block(t, member, x, largest, total, target, class_weight, scale, smoothing, everywhere, ignore,
                              found, dx, past):
    _, classes, pixels = x.shape
    a, start, end = _place(t, pixels)
    # Of each pixel: what multiplies exp(x - max x); what its class loses; its scale; whether it counts; its class.
    factor, hit, scales, counts = found[member, 0], found[member, 1], found[member, 2], found[member, 3]
    labels = found[member, 4].view(np.int32)
    for j in range(start, end):
        label, i = target[a, j], j - start
        counts[i] = label != ignore
        if label != ignore:
            hit[i] = scale[a, j] * (1 - smoothing) * class_weight[label]
            factor[i] = (hit[i] + scale[a, j] * everywhere) / total[a, j]
            scales[i] = scale[a, j]
            labels[i] = label
    for c in range(classes):
        this, spread = ramp(c, 0), splat(smoothing / classes * class_weight[c])
        for j in range(start, end, LANES):
            i, n = j - start, end - j
            power = exp(load_part(x, (a, c, j), n) - load_part(largest, (a, j), n))
            value = (load(factor, i) * power - spread * load(scales, i)
                     - where_equal(load(found, (member, 4, i)), this, load(hit, i)))
            value = where_positive(load(counts, i), value)
            if n >= LANES:
                put(dx, (a, c, j), value, past)
            else:
                store_part(dx, (a, c, j), value, n)
