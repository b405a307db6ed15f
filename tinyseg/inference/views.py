"""Test-time augmentation: an image looked at from several sides, and at several sizes, and the answers averaged."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import numpy as np

from tinyseg.autograd import Tensor, no_grad
from tinyseg.data import Resize, Sample
from tinyseg.errors import ArgumentError, about
from tinyseg.functional import interpolate

__all__ = ["VIEWS", "averaged", "averaged_scales", "check_scales"]

# (quarter turns, mirrored first?) of each view.  Mirroring suits every scene; turning, those without an upright.
VIEWS = {"one": [(0, False)],
         "flip": [(0, False), (0, True)],
         "dihedral": [(turns, mirrored) for turns in range(4) for mirrored in (False, True)]}


def averaged(segment: Callable[[np.ndarray], np.ndarray], image: np.ndarray, views: str = "one") -> np.ndarray:
    """The mean of `segment`'s answers over the views, each brought back to the image's own side.

    segment   maps (C, H, W) to probabilities (classes, H, W)
    views     "one", "flip" (the image and its mirror) or "dihedral" (all eight turns and mirrors)
    """
    if views not in VIEWS:
        raise ArgumentError(f"views {views!r}: legal: {', '.join(VIEWS)}")
    total: np.ndarray | None = None
    for turns, mirrored in VIEWS[views]:
        view = np.rot90(image[..., ::-1] if mirrored else image, turns, axes=(1, 2))
        answer = np.rot90(segment(np.ascontiguousarray(view)), -turns, axes=(1, 2))
        answer = answer[..., ::-1] if mirrored else answer
        total = answer if total is None else total + answer
    return total / np.float32(len(VIEWS[views]))


def check_scales(scales: Sequence[float]) -> None:
    """Raises ArgumentError for what is no factor of a size."""
    if not scales or not all(0 < scale < math.inf for scale in scales):
        raise ArgumentError(f"scales {tuple(scales)}: needs one number or more above 0, for example 0.75,1,1.25")


def averaged_scales(segment: Callable[[np.ndarray], np.ndarray], image: np.ndarray,
                    scales: Sequence[float] = (1.0,), size: tuple[int, int] | None = None) -> np.ndarray:
    """The mean of `segment`'s answers over sizes of the image, each resized bilinearly to the image's own.

    segment   maps uint8 (h, w, C) to probabilities (classes, h, w)
    image     uint8 (H, W, C); it is resized as in training, with antialiasing
    scales    factors of `size`, by default the image's own

    Bilinear means of probabilities are probabilities.  (Chen et al., arXiv:1706.05587, section 4.1.)
    """
    check_scales(scales)
    own, total = image.shape[:2], None
    for scale in scales:
        scaled = tuple(max(round(n * scale), 1) for n in size or own)
        if scaled == own:
            answer = segment(image)
        else:
            with about(f"scale {scale:g}") if scale != 1 else nullcontext(), no_grad():
                answer = segment(Resize(scaled)(Sample(image)).image)
                answer = interpolate(Tensor(answer[None]), own, mode="bilinear").numpy()[0]
        total = answer if total is None else total + answer
    return total if len(scales) == 1 else total / np.float32(len(scales))
