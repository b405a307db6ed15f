"""Mean-field inference in a fully connected CRF.

The energy of labels l is  Σ_i U_i(l_i) + Σ_{i<j} Σ_m μ_m(l_i, l_j) K_m(i, j).  Mean field looks for the product of
independent Q_i that is nearest to exp(-energy), by turns:

    message      Q̃_m = K_m Q                 what every pixel hears from all others: a Gaussian filter
    compatible   Q̂ = Σ_m Q̃_m μ_m            what the labels it hears cost its own
    update       Q = softmax(-U - Q̂)

All pixels at once; as in the reference implementation, what a pixel says to itself stays in the sum.

Krähenbühl & Koltun 2011, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", arXiv:1210.5644,
algorithm 1.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from tinyseg.crf.rows import add_product, softmax_of_minus
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.kernels.cpu.threads import in_parallel

__all__ = ["Pairwise", "compatibility_matrix", "free_energy", "mean_field"]

# A filter of (N, C), and the compatibility of labels: a number w for Potts, or a matrix (C, C).
Pairwise = tuple[Callable[[np.ndarray], np.ndarray], ArrayLike]

_CACHED = 1 << 16                                    # elements


def mean_field(unary: np.ndarray, pairwise: Sequence[Pairwise], iterations: int = 10) -> np.ndarray:
    """The marginals Q, (N, C), of N pixels with C labels, after so many turns.

    unary       float (N, C), the energy of each label: -log of its probability
    pairwise    filters, as `NormalizedFilter`, each with what `compatibility_matrix` takes
    """
    terms = [(filter_, _compatibility(compatibility, unary.shape[1])) for filter_, compatibility in pairwise]
    q = np.empty_like(unary)
    _softmax_of_minus(unary, [], q)
    for _ in range(iterations):
        _softmax_of_minus(unary, [(filter_(q), mu) for filter_, mu in terms], q)
    return q


def free_energy(unary: np.ndarray, pairwise: Sequence[Pairwise], q: np.ndarray) -> float:
    """Σ Q log Q + Σ U Q + Σ_m <Q, (K_m Q) μ_m>: the divergence of Q from exp(-energy), but for a constant.

    As the reference implementation has it: pairs count twice, and every pixel meets itself.
    """
    q = q.astype(np.float64)
    total = np.sum(q * np.log(np.maximum(q, 1e-300))) + np.sum(unary * q)
    for filter_, compatibility in pairwise:
        total += np.sum(q * (filter_(q) @ compatibility_matrix(compatibility, q.shape[1])))
    return float(total)


def compatibility_matrix(compatibility: ArrayLike, classes: int) -> np.ndarray:
    """μ as a matrix float64 (C, C): the cost of one label beside another.

    a number w       Potts: -w for equal labels, 0 for others.  (+w for others is the same after softmax, and what the
                     formulas say.)
    a vector (C,)    its diagonal.  Costs, as in a matrix: rewards for agreement are negative
    a matrix (C, C)  its symmetric part, since a pair of pixels has no order
    """
    mu = np.asarray(compatibility, np.float64)
    if mu.shape not in ((), (classes,), (classes, classes)):
        raise ShapeError(f"crf: compatibility of shape {mu.shape}; needs a number, ({classes},) or "
                         f"({classes}, {classes}) for {classes} classes")
    if not np.isfinite(mu).all():
        raise ArgumentError("crf: compatibility holds nan or inf; needs finite costs")
    if mu.ndim == 0:
        return -mu * np.eye(classes)
    return np.diag(mu) if mu.ndim == 1 else (mu + mu.T) / 2


def _compatibility(compatibility: ArrayLike, classes: int) -> np.ndarray:
    """The diagonal (C,), where there is nothing beside it, else the matrix (C, C)."""
    mu = compatibility_matrix(compatibility, classes)
    diagonal = np.diag(mu)
    return diagonal if np.array_equal(mu, np.diag(diagonal)) else mu


def _softmax_of_minus(unary: np.ndarray, costs: Sequence[tuple[np.ndarray, np.ndarray]], q: np.ndarray) -> None:
    """q = softmax(-U - Σ_m Q̃_m μ_m), a block of pixels at a time that stays in the cache."""
    costs = [(heard, mu.astype(unary.dtype)) for heard, mu in costs]
    rows = max(1, _CACHED // unary.shape[1])

    def work(first: int) -> None:
        block = slice(first, first + rows)
        energy = unary[block].copy()
        for heard, mu in costs:
            if mu.ndim == 1:
                add_product(heard[block], mu, energy)
            else:
                energy += heard[block] @ mu
        softmax_of_minus(energy, q[block])

    in_parallel(work, range(0, len(unary), rows), blas=any(mu.ndim == 2 for _, mu in costs))
