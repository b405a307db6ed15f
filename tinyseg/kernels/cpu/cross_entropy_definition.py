"""Cross-entropy by its definition, in NumPy: what the fast form is checked against, and what float64 takes.

x is (A, C, B): A images, C classes, B pixels.
"""

import numpy as np


def cross_entropy(x: np.ndarray, target: np.ndarray, class_weight: np.ndarray, pixel_weight: np.ndarray,
                  smoothing: float, ignore: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, int | None]:
    """The weighted loss of every pixel, its weight, max x and Σ exp(x - max x); and a label that is no class, if any.

    x (A, C, B), target (A, B) int64, class_weight (C,), pixel_weight (A, B) -> (A, B) four times.
    At label t a pixel of weight u loses  u · Σ q_c w_c (log Σ exp x - x_c),  q_c = (1-ε)·[c = t] + ε/C,  and weighs
    u · w_t; where the label is `ignore` both are 0, whatever the logits.
    """
    counted = target != ignore
    strays = target[counted & ((target < 0) | (target >= x.shape[1]))]
    largest = x.max(1)
    with np.errstate(invalid="ignore"):              # an infinite logit gives nan, which the loss shows
        distance = x - largest[:, None]
        total = np.exp(distance).sum(1)
        hot = _hot(target, x.shape[1])
        log_total = np.log(total)
        surprise = (1 - smoothing) * (hot * class_weight[:, None]).sum(1) * (
            log_total - np.where(hot, distance, 0).sum(1))
        if smoothing > 0:
            surprise += (smoothing / x.shape[1] * class_weight[:, None] * (log_total[:, None] - distance)).sum(1)
    loss = np.where(counted, pixel_weight * surprise, 0).astype(x.dtype)
    weight = np.where(counted, pixel_weight * (hot * class_weight[:, None]).sum(1), 0).astype(x.dtype)
    return loss, weight, largest, total, int(strays[0]) if strays.size else None


def cross_entropy_grad(x: np.ndarray, largest: np.ndarray, total: np.ndarray, target: np.ndarray,
                       class_weight: np.ndarray, scale: np.ndarray, smoothing: float, ignore: int) -> np.ndarray:
    """scale · ((Σ_k q_k w_k) p_c - q_c w_c), p = exp(x - max x) / Σ exp(x - max x); 0 where the label is `ignore`."""
    with np.errstate(invalid="ignore"):
        p = np.exp(x - largest[:, None]) / total[:, None]
    pull = ((1 - smoothing) * _hot(target, x.shape[1]) + smoothing / x.shape[1]) * class_weight[:, None]     # q_c w_c
    dx = scale[:, None] * (pull.sum(1, keepdims=True) * p - pull)
    return np.where((target != ignore)[:, None], dx, 0).astype(x.dtype)


def _hot(target: np.ndarray, classes: int) -> np.ndarray:
    """(A, C, B): whether c is the label of the pixel."""
    return target[:, None] == np.arange(classes)[:, None]
