"""Finding the parameters of a CRF on images whose truth is known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from tinyseg.crf.dense import DenseCRF
from tinyseg.crf.potentials import Appearance, Smoothness
from tinyseg.metrics import ConfusionMatrix, near_borders

__all__ = ["Score", "grid", "search"]


@dataclass(frozen=True, eq=False)
class Score:
    """What a CRF (None: no CRF) makes of the images: over all pixels, and over those near a border."""

    crf: DenseCRF | None
    confusion: ConfusionMatrix
    borders: ConfusionMatrix


def grid(weights: Sequence[float] = (3, 6, 10), sigmas_xy: Sequence[float] = (10, 30, 80),
         sigmas_color: Sequence[float] = (3, 6, 13), smooth_weights: Sequence[float] = (3,),
         smooth_sigmas_xy: Sequence[float] = (1, 3), iterations: int = 10) -> list[DenseCRF]:
    """A CRF for each combination of the parameters of `Appearance` and of `Smoothness`.

    Chen et al. (arXiv:1412.7062, section 5.1) search the same three of the appearance kernel, on 100 images, coarsely
    at first and then more finely around the best.
    """
    return [DenseCRF((Appearance(compatibility=w, sigma_xy=xy, sigma_color=color),
                      Smoothness(compatibility=smooth, sigma_xy=near)), iterations)
            for w, xy, color, smooth, near in product(weights, sigmas_xy, sigmas_color, smooth_weights,
                                                      smooth_sigmas_xy)]


def search(samples: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]], crfs: Sequence[DenseCRF],
           classes: Sequence[str], border: int = 4, tried: Callable[[], None] = lambda: None) -> list[Score]:
    """Measure every CRF on the same images; the first score is that of no CRF, the others follow the order of `crfs`.

    samples    (image, probabilities (C, H, W), truth (H, W) with 255 where it is not known), each looked at once
    border     pixels within which a border is near, see `near_borders`
    tried      called after each CRF on each image
    """
    scores = [Score(crf, *(ConfusionMatrix(len(classes), classes=classes) for _ in range(2)))
              for crf in (None, *crfs)]
    for image, probabilities, truth in samples:
        trimap = near_borders(truth, border)
        for score in scores:
            refined = probabilities if score.crf is None else score.crf(image, probabilities)
            labels = refined.argmax(axis=0)
            score.confusion.update(truth, labels)
            score.borders.update(trimap, labels)
            if score.crf is not None:
                tried()
    return scores
