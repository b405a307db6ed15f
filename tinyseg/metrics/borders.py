"""Figures of merit at the borders of things, where segmentations differ."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from tinyseg.errors import ArgumentError, ShapeError

__all__ = ["near_borders"]


def near_borders(truth: ArrayLike, width: int = 4, ignore_index: int = 255) -> NDArray:
    """The labels within `width` pixels of a border, and `ignore_index` everywhere else: the trimap of a mask (H, W).

    A border lies between two pixels, side by side or one above the other, of different labels; pixels of
    `ignore_index` are no label that counts, but thin lines of it are borders, as VOC draws them.  A confusion matrix
    that is given these labels for the truth measures IoU in the trimap.  Kohli, Ladický & Torr 2009; Krähenbühl &
    Koltun 2011, arXiv:1210.5644, section 6.
    """
    truth = np.asarray(truth)
    if truth.ndim != 2:
        raise ShapeError(f"near_borders: truth {truth.shape}; needs one mask, (H, W)")
    if width < 1:
        raise ArgumentError(f"near_borders: width {width}; needs at least 1 pixel")
    edge = np.zeros(truth.shape, bool)
    across, down = truth[:, 1:] != truth[:, :-1], truth[1:] != truth[:-1]
    for side in (edge[:, 1:], edge[:, :-1]):
        side |= across
    for side in (edge[1:], edge[:-1]):
        side |= down
    for axis in (0, 1):                              # an edge pixel already lies within 1
        reach = [(width - 1, width - 1) if a == axis else (0, 0) for a in (0, 1)]
        edge = sliding_window_view(np.pad(edge, reach), 2 * width - 1, axis=axis).any(axis=-1)
    return np.where(edge, truth, truth.dtype.type(ignore_index))
