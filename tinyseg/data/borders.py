"""The weight map of U-Net, which makes a net learn the thin borders between touching cells."""

import numpy as np

from tinyseg.data.sample import IGNORE
from tinyseg.errors import ArgumentError, ShapeError

__all__ = ["border_weight_map"]

LARGEST_BALANCE = 10.0


def border_weight_map(mask: np.ndarray, w0: float = 10.0, sigma: float = 5.0, balance: bool = True,
                      background: int = 0, ignore_index: int = IGNORE) -> np.ndarray:
    """w(x) = w_c(x) + w0 · exp(-(d1(x) + d2(x))² / (2 sigma²)), float32 (H, W).

    mask    whole numbers (H, W): classes, or instance ids; pixels of `ignore_index` get weight 0
    d1, d2  distances in pixels, centre to centre, from a background pixel to the nearest and the second nearest
            cell.  A cell is a 4-connected region of equal label, so a diagonal line one pixel thin parts two.
    w0      the weight added where two cells touch; sigma, in pixels, how fast it falls
    w_c     balances background and cells when `balance` is true: half the labelled pixels over those of the
            side that x is on, at most 10 so that one stray pixel does not rule the loss; otherwise 1

    The second term is 0 on cells and where d1 + d2 > 6 sigma, where it is below 2e-8 · w0.  Where there
    are fewer than two cells it is 0 everywhere.  Ronneberger et al. 2015, "U-Net", equation 2.
    """
    if mask.ndim != 2 or mask.dtype.kind not in "iub":
        raise ShapeError(f"border_weight_map: mask is {mask.dtype} {mask.shape}; needs whole numbers (H, W)")
    if not sigma > 0 or not w0 >= 0:
        raise ArgumentError(f"border_weight_map: w0={w0}, sigma={sigma}; needs w0 >= 0 and sigma > 0")
    from tinyseg.data import kernels
    mask = np.ascontiguousarray(mask, np.int32)
    labelled = mask != ignore_index

    weight = labelled.astype(np.float32)
    sides = [(mask == background) & labelled, (mask != background) & labelled]
    if balance and all(side.any() for side in sides):
        for side in sides:
            weight[side] = min(labelled.sum() / (2 * side.sum()), LARGEST_BALANCE)
    cells, count = kernels.label_cells(mask, background, ignore_index)
    if count >= 2 and w0 > 0:
        squares, owners = np.empty((*mask.shape, 2), np.int64), np.empty((*mask.shape, 2), np.int32)
        nearest = np.empty((*mask.shape, 2), np.int64)
        kernels.vertical_distances(cells, squares, owners)
        kernels.two_nearest(cells, int(6 * sigma), squares, owners, nearest)
        distance = np.sqrt(nearest).sum(axis=2)
        between = sides[0] & (distance <= 6 * sigma)
        weight[between] += (w0 * np.exp(-distance[between] ** 2 / (2 * sigma**2))).astype(np.float32)
    return weight
