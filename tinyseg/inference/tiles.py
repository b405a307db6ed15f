"""One image through a net: whole, or in windows that overlap, each of which answers for its inner part.

A net of valid convolutions answers for less than it sees.  Its windows reach over the image's border, beyond which the
image is mirrored (the overlap-tile strategy of U-Net, Ronneberger et al. 2015, figure 2).  A padded net pads at the
border of what it is given, so its windows slide inside the image: at the image's own border an answer is that of the
whole image, and where windows overlap one gives way to the next, far from the edges of both.  The weights of all
windows sum to 1 at every pixel.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from itertools import product, takewhile
from typing import Any, NamedTuple

import numpy as np

from tinyseg.arithmetic import pair
from tinyseg.autograd import Tensor, no_grad
from tinyseg.errors import ArgumentError
from tinyseg.functional import softmax
from tinyseg.models.segmenter import Segmenter
from tinyseg.nn import Module

__all__ = ["Tiling", "centre", "probabilities"]


class Span(NamedTuple):
    """Along one axis: what a window that begins at `start` answers is for the pixels from `first` on, and counts with
    these weights.
    """

    start: int
    first: int
    weights: np.ndarray

    @property
    def pixels(self) -> slice:
        return slice(self.first, self.first + len(self.weights))


@dataclass(frozen=True)
class Tiling:
    """Windows that advance by `output` pixels and see `output` + 2·`margin`.

    mirrored    they reach over the image's border by the margin; else they stay inside an image that is larger
    """

    output: tuple[int, int]
    margin: tuple[int, int]
    mirrored: bool = True

    @classmethod
    def plan(cls, model: Module, size: tuple[int, int], tile: int | tuple[int, int] | None = None,
             overlap: int = 32) -> Tiling:
        """For an image of `size`.

        tile      size of the windows; by default the legal size that covers the image: itself for most nets, for a
                  valid net at most 572
        overlap   half of what neighbouring windows of a padded net share; nothing of the outer half of it is used

        Raises ArgumentError or ShapeError for a tile that leaves nothing, or that the net does not take.
        """
        if getattr(model, "padding", "same") == "valid":
            inputs = pair(tile, "tile") if tile is not None else tuple(_covering(model, n) for n in size)
            output = model.output_size(inputs)
            return cls(output, tuple((i - o) // 2 for i, o in zip(inputs, output, strict=True)))
        legal = getattr(model, "legal_sizes", range(1, sys.maxsize))
        inputs = size if tile is None else pair(tile, "tile")
        if tile is not None and min(inputs) <= 2 * overlap:
            raise ArgumentError(f"tile {inputs} with overlap {overlap}: needs tile > 2·overlap = {2 * overlap}")
        whole = [n <= window for n, window in zip(size, inputs, strict=True)]
        windows = tuple(_above(legal, n) if fits else window
                        for n, window, fits in zip(size, inputs, whole, strict=True))
        if isinstance(model, Segmenter):
            model.output_size(windows)
        margin = tuple(0 if fits else overlap for fits in whole)
        return cls(tuple(w - 2 * m for w, m in zip(windows, margin, strict=True)), margin, mirrored=False)

    def spans(self, size: tuple[int, int]) -> tuple[list[Span], list[Span]]:
        """Of the rows, and of the columns, of an image of `size`; at every pixel the weights sum to 1."""
        rows, columns = (_mirrored(n, o, m) if self.mirrored or n <= o + 2 * m else _inside(n, o, m)
                         for n, o, m in zip(size, self.output, self.margin, strict=True))
        return rows, columns


def _mirrored(n: int, output: int, margin: int) -> list[Span]:
    return [Span(first - margin, first, np.ones(min(output, n - first), np.float32)) for first in range(0, n, output)]


def _inside(n: int, output: int, margin: int) -> list[Span]:
    """Weights rise from 0 to 1 over `margin` pixels, from half the margin away from a window's edge on; where that is
    the image's edge too they are 1 to the end.
    """
    window = output + 2 * margin
    starts = [*range(0, n - window, output), n - window]
    place = np.arange(window) + 0.5
    rises, total = [], np.zeros(n)
    for start in starts:
        depth = np.minimum(place if start > 0 else np.inf, window - place if start < n - window else np.inf)
        rises.append(np.clip((depth - margin / 2) / margin, 0, 1) if margin else np.ones(window))
        total[start:start + window] += rises[-1]
    return [Span(start, start, (rise / total[start:start + window]).astype(np.float32))
            for start, rise in zip(starts, rises, strict=True)]


def probabilities(model: Module, image: np.ndarray, tile: int | tuple[int, int] | None = None,
                  overlap: int = 32) -> np.ndarray:
    """The class probabilities of one image.

    image   float32 (C, H, W), normalised as the net was trained
    tile, overlap   see `Tiling.plan`
    Returns float32 (classes, H, W).  The model is left in the mode, train or eval, it was found in.
    """
    size = image.shape[1:]
    tiling = Tiling.plan(model, size, tile, overlap)
    window = [o + 2 * m for o, m in zip(tiling.output, tiling.margin, strict=True)]
    axes = tiling.spans(size)
    pads = [(max(0, -spans[0].start), max(0, spans[-1].start + w - n))
            for spans, w, n in zip(axes, window, size, strict=True)]
    mirrored = np.pad(image, ((0, 0), *pads), mode="reflect")
    result: Any = None
    was_training = model.training
    model.eval()
    try:
        with no_grad():
            for rows, columns in product(*axes):
                part = (slice(span.start + pad[0], span.start + pad[0] + w)
                        for span, pad, w in zip((rows, columns), pads, window, strict=True))
                scores = model(Tensor(np.ascontiguousarray(mirrored[(None, slice(None), *part)])))
                answer = softmax(scores, dim=1)._array[0, :, :len(rows.weights), :len(columns.weights)]
                if result is None:
                    result = np.zeros((len(answer), *size), np.float32)
                result[:, rows.pixels, columns.pixels] += answer * rows.weights[:, None] * columns.weights
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
