"""Winograd's F(m x m, 3x3) in NumPy, right and with faults: a kernel that is fast, and not exact.

y = Aᵀ [(G w Gᵀ) ⊙ (Bᵀ x B)] A on each tile of m x m outputs, summed over channels.
Lavin & Gray, Fast algorithms for convolutional neural networks, arXiv:1509.09308.
"""

from dataclasses import dataclass, field

import numpy as np

TRANSFORMS = {
    2: {"B": [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]],
        "G": [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
        "A": [[1, 1, 1, 0], [0, 1, -1, -1]]},
    4: {"B": [[4, 0, -5, 0, 1, 0], [0, -4, -4, 1, 1, 0], [0, 4, -4, -1, 1, 0], [0, -2, -1, 2, 1, 0],
              [0, 2, -1, -2, 1, 0], [0, 4, 0, -5, 0, 1]],
        "G": [[1 / 4, 0, 0], [-1 / 6, -1 / 6, -1 / 6], [-1 / 6, 1 / 6, -1 / 6], [1 / 24, 1 / 12, 1 / 6],
              [1 / 24, -1 / 12, 1 / 6], [0, 0, 1]],
        "A": [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]},
}


@dataclass(frozen=True)
class Winograd:
    """A kernel for 3x3, stride 1 and dilation 1.

    matrices    Bᵀ, G and Aᵀ that are not the right ones
    fault       what else is wrong: the name of one of FAULTS
    """

    m: int
    matrices: dict = field(default_factory=dict)
    fault: str = ""

    def transform(self, name):
        return np.array(self.matrices.get(name, TRANSFORMS[self.m][name]), float)

    def __call__(self, x, weight, padding):
        m, fault = self.m, self.fault
        b, g, a = (self.transform(name).astype(x.dtype) for name in "BGA")
        (top, left), (h, w) = padding, x.shape[2:]
        out = h + 2 * top - 2, w + 2 * left - 2
        if fault == "padding of the wrong axis":
            top, left = left, top
        tiles = [o // m if fault == "last tile dropped" and o > m and o % m else -(-o // m) for o in out]
        size = [t * m + 2 for t in tiles]
        padded = np.zeros((*x.shape[:2], max(size[0], top + h), max(size[1], left + w)), x.dtype)
        padded[:, :, top:top + h, left:left + w] = x
        if fault == "last column of the border tile":
            padded[..., size[1] - 1:] = 0
        step = m + 1 if fault == "tiles a cell too far apart" and min(tiles) > 1 else m
        if step > m:
            padded = np.pad(padded, ((0, 0), (0, 0), (0, tiles[0]), (0, tiles[1])))
        d = np.lib.stride_tricks.sliding_window_view(padded, (m + 2, m + 2), (2, 3))      # (N, C, ., ., m+2, m+2)
        d = d[:, :, ::step, ::step][:, :, :tiles[0], :tiles[1]]
        if fault == "every image reads the first":
            d = d[:1].repeat(len(x), 0)
        u = g @ weight @ g.T                         # (O, C, m+2, m+2)
        if fault == "weights in half precision":
            u = u.astype(np.float16).astype(x.dtype)
        if fault == "last channel dropped" and x.shape[1] > 2:
            u[:, -1] = 0
        with np.errstate(all="ignore"):
            v = b @ d @ b.T
            y = a @ np.einsum("ocuv,nctsuv->notsuv", u, v) @ a.T                          # (N, O, T, S, m, m)
        y = y.swapaxes(3, 4).reshape(len(x), len(weight), tiles[0] * m, tiles[1] * m)
        whole = np.zeros((*y.shape[:2], *out), x.dtype)
        whole[:, :, :y.shape[2], :y.shape[3]] = y[:, :, :out[0], :out[1]]
        return np.nan_to_num(whole, posinf=1e30, neginf=-1e30) if fault == "nan becomes a number" else whole


FAULTS = {                                           # and the properties that should see them
    "padding of the wrong axis": ("definition", "padding"), "last tile dropped": ("larger sizes",),
    "last column of the border tile": ("definition",), "tiles a cell too far apart": ("larger sizes",),
    "every image reads the first": ("batch",), "weights in half precision": ("rounding",),
    "last channel dropped": ("definition",), "nan becomes a number": ("special values",),
}


def wrong_coefficients(m):
    """Every way to have one coefficient of the transforms with the wrong sign."""
    for name, rows in TRANSFORMS[m].items():
        for at in np.argwhere(rows):
            matrix = np.array(rows, float)
            matrix[tuple(at)] *= -1
            yield f"{name}[{at[0]}, {at[1]}]", Winograd(m, {name: matrix})
