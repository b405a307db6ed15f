"""Softmax over the middle axis, and the cross-entropy that follows it.

A batch of images is (A, C, B): A images, C classes, B pixels.  Threads share blocks of neighbouring pixels, and the
innermost loops run along them, the direction in which memory lies.
"""

import numpy as np

from tinyseg.jit import jit, prange

_BLOCK = 512


def softmax(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """exp(x) / Σ exp(x) over C, and log Σ exp(x).  x (A, C, B) -> (A, C, B), (A, B)."""
    y = np.empty_like(x)
    logsumexp = np.empty((x.shape[0], x.shape[2]), x.dtype)
    _softmax(x, y, logsumexp)
    return y, logsumexp


def cross_entropy(x: np.ndarray, logsumexp: np.ndarray, target: np.ndarray, class_weight: np.ndarray,
                  pixel_weight: np.ndarray, smoothing: float, ignore: int) -> tuple[np.ndarray, np.ndarray, int | None]:
    """The weighted loss of every pixel, its weight, and a label that is no class (None when all are).

    x (A, C, B) with its logsumexp (A, B), target (A, B) int64, class_weight (C,), pixel_weight (A, B) -> (A, B) twice.
    At label t a pixel of weight u loses  u · Σ q_c w_c (logsumexp - x_c),  q_c = (1-ε)·[c = t] + ε/C,  and weighs
    u · w_t; where the label is `ignore` both are 0, whatever the logits.
    """
    loss, weight = np.zeros_like(logsumexp), np.zeros_like(logsumexp)
    strays = np.full(x.shape[0] * -(-x.shape[2] // _BLOCK), ignore)
    _cross_entropy(x, logsumexp, target, class_weight, pixel_weight, smoothing, ignore, loss, weight, strays)
    found = strays[strays != ignore]
    return loss, weight, int(found[0]) if len(found) else None


def cross_entropy_grad(probability: np.ndarray, target: np.ndarray, class_weight: np.ndarray, scale: np.ndarray,
                       smoothing: float, ignore: int) -> np.ndarray:
    """scale · ((Σ_k q_k w_k) p_c - q_c w_c).  probability (A, C, B), target and scale (A, B) -> (A, C, B)."""
    dx = np.empty_like(probability)
    _cross_entropy_grad(probability, target, class_weight, scale, smoothing, ignore, dx)
    return dx


@jit(parallel=True)
def _softmax(x, y, logsumexp):
    images, classes, pixels = x.shape
    blocks = (pixels + _BLOCK - 1) // _BLOCK
    for t in prange(images * blocks):
        a, start = t // blocks, t % blocks * _BLOCK
        stop = min(start + _BLOCK, pixels)
        largest = x[a, 0, start:stop].copy()
        for c in range(1, classes):
            for j in range(stop - start):
                largest[j] = max(largest[j], x[a, c, start + j])
        total = np.zeros_like(largest)
        for c in range(classes):
            for j in range(stop - start):
                power = np.exp(x[a, c, start + j] - largest[j])
                y[a, c, start + j] = power
                total[j] += power
        for c in range(classes):
            for j in range(stop - start):
                y[a, c, start + j] /= total[j]
        for j in range(stop - start):
            logsumexp[a, start + j] = largest[j] + np.log(total[j])


@jit(parallel=True)
def _cross_entropy(x, logsumexp, target, class_weight, pixel_weight, smoothing, ignore, loss, weight, strays):
    images, classes, pixels = x.shape
    blocks = (pixels + _BLOCK - 1) // _BLOCK
    for t in prange(images * blocks):
        a, start = t // blocks, t % blocks * _BLOCK
        for j in range(start, min(start + _BLOCK, pixels)):
            label = target[a, j]
            if label == ignore:
                continue
            if label < 0 or label >= classes:
                strays[t] = label
                continue
            weight[a, j] = pixel_weight[a, j] * class_weight[label]
            surprise = (1 - smoothing) * class_weight[label] * (logsumexp[a, j] - x[a, label, j])
            if smoothing > 0:
                for c in range(classes):
                    surprise += smoothing / classes * class_weight[c] * (logsumexp[a, j] - x[a, c, j])
            loss[a, j] = pixel_weight[a, j] * surprise


@jit(parallel=True)
def _cross_entropy_grad(probability, target, class_weight, scale, smoothing, ignore, dx):
    images, classes, pixels = probability.shape
    blocks = (pixels + _BLOCK - 1) // _BLOCK
    spread = smoothing / classes
    everywhere = spread * class_weight.sum()
    for t in prange(images * blocks):
        a, start = t // blocks, t % blocks * _BLOCK
        count = min(_BLOCK, pixels - start)
        mass = np.zeros(count, dx.dtype)             # scale · Σ q w of each pixel
        for j in range(count):
            label = target[a, start + j]
            if label != ignore:
                mass[j] = scale[a, start + j] * ((1 - smoothing) * class_weight[label] + everywhere)
        for c in range(classes):
            share = dx.dtype.type(spread * class_weight[c])
            for j in range(count):
                value = mass[j] * probability[a, c, start + j] - share * scale[a, start + j]
                dx[a, c, start + j] = value if target[a, start + j] != ignore else 0
        for j in range(count):
            label = target[a, start + j]
            if label != ignore:
                dx[a, label, start + j] -= scale[a, start + j] * (1 - smoothing) * class_weight[label]
