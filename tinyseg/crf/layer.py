"""Mean field as a layer: a CRF that is trained together with the net before it.

Zheng et al. 2015, "Conditional Random Fields as Recurrent Neural Networks", arXiv:1502.03240.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tinyseg.autograd import Function, Tensor, stack
from tinyseg.crf.dense import check_grey_levels, with_channels
from tinyseg.crf.normalized import METHODS, NormalizedFilter
from tinyseg.crf.potentials import Appearance, Potential, Smoothness
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.functional import softmax
from tinyseg.functional.checks import images as checked_scores
from tinyseg.nn import Module, Parameter

__all__ = ["MeanField"]


class FilterRows(Function):
    """y = K x.    dx = Kᵀ dy: the lattice blurs along its axes in the other order."""

    def __init__(self, kernel: NormalizedFilter):
        self.kernel = kernel

    def forward(self, x):
        return self.kernel(x)

    def backward(self, grad):
        return self.kernel.transposed(grad)


class MeanField(Module):
    """Turns of mean field, each differentiable.

    With scores S and Q = softmax(S) at first, every turn is  Q = softmax(S - (Σ_m K_m Q · w_m) μ).

    num_classes      C
    potentials       the Gaussians K_m; their compatibilities, numbers, are what w_m starts from
    iterations       turns; the paper trains with 5, and takes 10 afterwards
    method           see `DenseCRF`

    weight           (potentials, C): w, one for each kernel and class
    compatibility    (C, C): μ, at first minus the identity, which is Potts.  Row l' is what hearing l' costs
    """

    def __init__(self, num_classes: int, potentials: Sequence[Potential] = (Appearance(), Smoothness()),
                 iterations: int = 5, method: str = "lattice"):
        if iterations < 1 or num_classes < 1:
            raise ArgumentError(f"MeanField: iterations {iterations}, num_classes {num_classes}; needs at least 1")
        if method not in METHODS:
            raise ArgumentError(f"MeanField: method {method!r}; legal: {', '.join(METHODS)}")
        weights = [np.asarray(p.compatibility, np.float32) for p in potentials]
        if not weights or any(w.ndim for w in weights):
            raise ArgumentError("MeanField: needs potentials, each with a number for its compatibility: the matrix is "
                                "a parameter of the layer")
        self.potentials, self.iterations, self.method = tuple(potentials), iterations, method
        self.weight = Parameter(np.repeat(np.stack(weights)[:, None], num_classes, axis=1))
        self.compatibility = Parameter(-np.eye(num_classes, dtype=np.float32))

    def forward(self, scores: Tensor, images: Sequence[np.ndarray]) -> Tensor:
        """Scores (N, C, H, W) to scores (N, C, H, W), before the softmax of the last turn.

        images    one for each of the N, as `DenseCRF` takes them: grey levels, not normalised.  No gradient goes to
                  them.
        """
        scores = checked_scores("MeanField", scores)
        if scores.shape[1] != len(self.compatibility) or len(images) != len(scores):
            raise ShapeError(f"MeanField: scores {scores.shape} with {len(images)} images; needs (N, "
                             f"{len(self.compatibility)}, H, W) and N images")
        return stack([self._refine(s, with_channels(image)) for s, image in zip(scores, images, strict=True)])

    def _refine(self, scores: Tensor, image: np.ndarray) -> Tensor:
        classes, height, width = scores.shape
        if image.shape[:2] != (height, width):
            raise ShapeError(f"MeanField: an image of {image.shape[:2]} pixels for scores of {(height, width)}; needs "
                             "one size (H, W)")
        check_grey_levels(image)
        kernels = [NormalizedFilter(p.features(image), p.normalization, self.method) for p in self.potentials]
        unary = scores.reshape(classes, height * width).T                        # (H·W, C), minus the energy
        refined = unary
        for _ in range(self.iterations):
            q = softmax(refined, dim=1)
            heard = sum(FilterRows(kernel)(q) * weight for kernel, weight in zip(kernels, self.weight, strict=True))
            refined = unary - heard @ self.compatibility
        return refined.T.reshape(classes, height, width)

    def extra_repr(self) -> str:
        return f"{len(self.compatibility)}, iterations={self.iterations}, potentials={len(self.potentials)}"
