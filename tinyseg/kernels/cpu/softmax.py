"""Softmax over the middle axis, and the cross-entropy that follows it.

A batch of images is (A, C, B): A images, C classes, B pixels.  Threads share blocks of neighbouring pixels, and the
innermost loops run along them, the direction in which memory lies.
"""

from collections.abc import Iterator

import numpy as np

from tinyseg.jit import jit
from tinyseg.kernels.cpu.share import share
from tinyseg.kernels.cpu.threads import in_parallel

_CACHED = 1 << 17                                    # elements
_BLOCK = 512                                         # pixels


def softmax(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """exp(x) / Σ exp(x) over C, and log Σ exp(x).  x (A, C, B) -> (A, C, B), (A, B).

    NumPy has vector instructions for exp, which Numba has not; a block of pixels stays in the cache between its steps.
    """
    y = np.empty_like(x)
    logsumexp = np.empty((x.shape[0], x.shape[2]), x.dtype)

    def work(block: tuple[slice, slice]) -> None:
        images, pixels = block
        logits, powers = x[images, :, pixels], y[images, :, pixels]
        largest = logits.max(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):          # an infinite logit gives nan, which the loss shows
            np.subtract(logits, largest, out=powers)
        np.exp(powers, out=powers)
        total = powers.sum(axis=1, keepdims=True)
        powers /= total
        logsumexp[images, pixels] = (largest + np.log(total))[:, 0]

    in_parallel(work, _cached_blocks(x))
    return y, logsumexp


def cross_entropy(x: np.ndarray, logsumexp: np.ndarray, target: np.ndarray, class_weight: np.ndarray,
                  pixel_weight: np.ndarray, smoothing: float, ignore: int) -> tuple[np.ndarray, np.ndarray, int | None]:
    """The weighted loss of every pixel, its weight, and a label that is no class (None when all are).

    x (A, C, B) with its logsumexp (A, B), target (A, B) int64, class_weight (C,), pixel_weight (A, B) -> (A, B) twice.
    At label t a pixel of weight u loses  u · Σ q_c w_c (logsumexp - x_c),  q_c = (1-ε)·[c = t] + ε/C,  and weighs
    u · w_t; where the label is `ignore` both are 0, whatever the logits.
    """
    loss, weight, stray = np.zeros_like(logsumexp), np.zeros_like(logsumexp), np.zeros(1, bool)
    share(_cross_entropy, target.size, x.size, x, logsumexp, target, class_weight, pixel_weight, smoothing, ignore,
          loss, weight, stray)
    if not stray[0]:
        return loss, weight, None
    return loss, weight, int(target[(target != ignore) & ((target < 0) | (target >= x.shape[1]))][0])


def cross_entropy_grad(probability: np.ndarray, target: np.ndarray, class_weight: np.ndarray, scale: np.ndarray,
                       smoothing: float, ignore: int) -> np.ndarray:
    """scale · ((Σ_k q_k w_k) p_c - q_c w_c).  probability (A, C, B), target and scale (A, B) -> (A, C, B)."""
    dx = np.empty_like(probability)
    blocks = dx.shape[0] * -(-dx.shape[2] // _BLOCK)
    share(_cross_entropy_grad, blocks, dx.size, probability, target, class_weight, scale, smoothing, ignore, dx)
    return dx


def _cached_blocks(x: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Images and pixels that together cover x, about _CACHED elements at a time."""
    pixels = max(1, min(x.shape[2], _CACHED // x.shape[1]))
    images = max(1, _CACHED // (x.shape[1] * pixels))
    for a in range(0, x.shape[0], images):
        for b in range(0, x.shape[2], pixels):
            yield slice(a, a + images), slice(b, b + pixels)


@jit
def _cross_entropy(first, last, x, logsumexp, target, class_weight, pixel_weight, smoothing, ignore, loss, weight,
                   stray):
    _, classes, pixels = x.shape
    for t in range(first, last):
        a, j = t // pixels, t % pixels
        label = target[a, j]
        if label == ignore:
            continue
        if label < 0 or label >= classes:
            stray[0] = True
            continue
        weight[a, j] = pixel_weight[a, j] * class_weight[label]
        surprise = (1 - smoothing) * class_weight[label] * (logsumexp[a, j] - x[a, label, j])
        if smoothing > 0:
            for c in range(classes):
                surprise += smoothing / classes * class_weight[c] * (logsumexp[a, j] - x[a, c, j])
        loss[a, j] = pixel_weight[a, j] * surprise


@jit
def _cross_entropy_grad(first, last, probability, target, class_weight, scale, smoothing, ignore, dx):
    _, classes, pixels = probability.shape
    blocks = (pixels + _BLOCK - 1) // _BLOCK
    everywhere = smoothing / classes * class_weight.sum()
    for t in range(first, last):
        a, start = t // blocks, t % blocks * _BLOCK
        count = min(_BLOCK, pixels - start)
        mass = np.zeros(count, dx.dtype)             # scale · Σ q w of each pixel
        for j in range(count):
            label = target[a, start + j]
            if label != ignore:
                mass[j] = scale[a, start + j] * ((1 - smoothing) * class_weight[label] + everywhere)
        for c in range(classes):
            spread = dx.dtype.type(smoothing / classes * class_weight[c])
            for j in range(count):
                value = mass[j] * probability[a, c, start + j] - spread * scale[a, start + j]
                dx[a, c, start + j] = value if target[a, start + j] != ignore else 0
        for j in range(count):
            label = target[a, start + j]
            if label != ignore:
                dx[a, label, start + j] -= scale[a, start + j] * (1 - smoothing) * class_weight[label]
