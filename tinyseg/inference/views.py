"""Test-time augmentation: an image looked at from several sides, and the answers averaged."""

from collections.abc import Callable

import numpy as np

from tinyseg.errors import ArgumentError

__all__ = ["VIEWS", "averaged"]

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
