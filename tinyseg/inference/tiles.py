"""One image through a net: whole, or in tiles that overlap and whose outer part is mirrored.

The overlap-tile strategy of U-Net (Ronneberger et al. 2015, figure 2): every output tile is computed from an input tile
that is larger by a margin on all sides, and beyond the image's border the image is mirrored.  A net of valid
convolutions needs its margin; a padded net has margin 0 for the whole image, and any overlap in tiles.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from tinyseg.arithmetic import pair
from tinyseg.autograd import Tensor, no_grad
from tinyseg.errors import ArgumentError
from tinyseg.functional import softmax
from tinyseg.nn import Module

__all__ = ["Tiling", "centre", "probabilities"]


@dataclass(frozen=True)
class Tiling:
    """Tiles of `output` pixels, each computed from `output` + 2·`margin`."""

    output: tuple[int, int]
    margin: tuple[int, int]

    @classmethod
    def plan(cls, model: Module, size: tuple[int, int], tile: int | tuple[int, int] | None = None,
             overlap: int = 32) -> Tiling:
        """For an image of `size`.

        tile      size of the input tiles; by default the legal size that covers the image: itself for most nets, for a
                  valid net at most 572
        overlap   pixels that a padded net's tiles share with what lies around them on each side
        """
        shrinks = getattr(model, "padding", "same") == "valid"
        if tile is None and not shrinks:
            legal = getattr(model, "legal_sizes", range(1, sys.maxsize))
            return cls(tuple(_above(legal, n) for n in size), (0, 0))
        inputs = pair(tile, "tile") if tile is not None else tuple(_covering(model, n) for n in size)
        if shrinks:
            output = model.output_size(inputs)
        else:
            output = tuple(n - 2 * overlap for n in inputs)
            if min(output) < 1:
                raise ArgumentError(f"tile {inputs} with overlap {overlap}: needs tile > 2·overlap = {2 * overlap}")
        return cls(output, tuple((i - o) // 2 for i, o in zip(inputs, output, strict=True)))


def probabilities(model: Module, image: np.ndarray, tile: int | tuple[int, int] | None = None,
                  overlap: int = 32) -> np.ndarray:
    """The class probabilities of one image.

    image   float32 (C, H, W), normalised as the net was trained
    tile, overlap   see `Tiling.plan`
    Returns float32 (classes, H, W).  The model is left in the mode, train or eval, it was found in.
    """
    size = image.shape[1:]
    tiling = Tiling.plan(model, size, tile, overlap)
    (t_h, t_w), (m_h, m_w) = tiling.output, tiling.margin
    rows, columns = range(0, size[0], t_h), range(0, size[1], t_w)
    mirrored = np.pad(image, ((0, 0), (m_h, m_h + len(rows) * t_h - size[0]),
                              (m_w, m_w + len(columns) * t_w - size[1])), mode="reflect")
    result: Any = None
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            for y in rows:
                for x in columns:
                    part = mirrored[None, :, y:y + t_h + 2 * m_h, x:x + t_w + 2 * m_w]
                    scores = softmax(model(Tensor(np.ascontiguousarray(part))), dim=1)._array[0]
                    inner = centre(scores, tiling.output)[:, :size[0] - y, :size[1] - x]
                    if result is None:
                        result = np.empty((len(inner), *size), np.float32)
                    result[:, y:y + t_h, x:x + t_w] = inner
    finally:
        model.train(was_training)
    return result


def centre(array: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The middle `size` (H, W) of the last two axes, as a view: what a smaller output belongs to."""
    top, left = ((n - want) // 2 for n, want in zip(array.shape[-2:], size, strict=True))
    return array[..., top:top + size[0], left:left + size[1]]


def _above(legal: range, n: int) -> int:
    """The smallest legal size that is no less than n; n itself where it is too small, for the net to refuse."""
    return n if n < legal.start else n + (legal.start - n) % legal.step


def _covering(model: Module, length: int, limit: int = 572) -> int:
    """The smallest input length, up to `limit`, whose output covers `length`; else the largest up to `limit`."""
    limit = max(limit, model.legal_sizes[0])
    legal = list(takewhile(lambda n: n <= limit, model.legal_sizes))
    return next((n for n in legal if model.output_size(n)[0] >= length), legal[-1])
