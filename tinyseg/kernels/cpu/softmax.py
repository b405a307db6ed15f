"""Softmax over the middle axis.  A batch of images is (A, C, B): A images, C classes, B pixels."""

from collections.abc import Iterator

import numpy as np

from tinyseg.kernels.cpu.threads import in_parallel
from tinyseg.kernels.cpu.workspace import empty_like

_CACHED = 1 << 17                                    # elements


def softmax(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """exp(x) / Σ exp(x) over C, and log Σ exp(x).  x (A, C, B) -> (A, C, B), (A, B).

    NumPy has vector instructions for exp, which Numba has not; a block of pixels stays in the cache between its steps.
    """
    y = empty_like(x)
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


def _cached_blocks(x: np.ndarray) -> Iterator[tuple[slice, slice]]:
    """Images and pixels that together cover x, about _CACHED elements at a time."""
    pixels = max(1, min(x.shape[2], _CACHED // x.shape[1]))
    images = max(1, _CACHED // (x.shape[1] * pixels))
    for a in range(0, x.shape[0], images):
        for b in range(0, x.shape[2], pixels):
            yield slice(a, a + images), slice(b, b + pixels)
