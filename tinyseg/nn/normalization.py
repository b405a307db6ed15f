"""Modules that normalise: `BatchNorm2d`, `GroupNorm`."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np

import tinyseg.functional as F
from tinyseg.arrays import namespace
from tinyseg.autograd import Tensor, no_grad
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.kernels.cpu.constants import promise
from tinyseg.nn.module import Module, Parameter

__all__ = ["BatchNorm2d", "GroupNorm", "freeze_norm", "retake_statistics"]


class BatchNorm2d(Module):
    """Normalise each channel by its mean and variance over the batch (Ioffe & Szegedy, arXiv:1502.03167).

    num_features           C
    eps                    added to the variance, under the square root
    momentum               weight of a new batch in the running mean and variance; None averages all batches equally
    affine                 whether a learned weight and bias (C,) follow
    track_running_stats    False: batch statistics also in `eval()`

    In training the batch is normalised by its biased variance, while `running_var` takes the unbiased one; in
    `eval()` the running values are used.  A batch with one value for each channel cannot be trained on.  `freeze()`
    keeps a layer as in `eval()` also while the rest of the net trains.
    """

    frozen: bool = False
    takes_relu = True                                # forward(x, relu=True) also does what nn.ReLU would do next
    _folded: tuple[list[Any], tuple[Tensor, Tensor]] | None = None

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
                 track_running_stats: bool = True):
        if num_features < 1 or eps < 0 or (momentum is not None and not 0 <= momentum <= 1):
            raise ArgumentError(f"BatchNorm2d: num_features {num_features}, eps {eps}, momentum {momentum}; "
                                "needs num_features >= 1, eps >= 0, momentum in [0, 1] or None")
        self.num_features, self.eps, self.momentum, self.affine = num_features, eps, momentum, affine
        self.track_running_stats = track_running_stats
        self.weight = Parameter(np.ones(num_features, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(num_features, np.float32)) if affine else None
        keeps = track_running_stats
        self.register_buffer("running_mean", np.zeros(num_features, np.float32) if keeps else None)
        self.register_buffer("running_var", np.ones(num_features, np.float32) if keeps else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if keeps else None)

    def forward(self, x: Tensor, relu: bool = False) -> Tensor:
        self._folded = None                          # its memory, if it goes on to train
        if x.ndim != 4 or x.shape[1] != self.num_features:
            raise ShapeError(f"BatchNorm2d: input of shape {x.shape}; needs (N, {self.num_features}, H, W)")
        momentum = self.momentum
        if self.learns_statistics:
            with no_grad(), self.num_batches_tracked.writing() as count:
                count += 1
            if momentum is None:
                momentum = 1 / self.num_batches_tracked.item()
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias,
                            self.learns_statistics or not self.track_running_stats, momentum or 0.0, self.eps, relu)

    @property
    def learns_statistics(self) -> bool:
        """Whether the running statistics move towards those of each batch, which are used meanwhile."""
        return self.training and self.track_running_stats and not self.frozen

    def freeze(self) -> None:
        """Train neither statistics nor weight and bias any more: a constant scale and shift, whatever the batch."""
        if not self.track_running_stats:
            raise ArgumentError("BatchNorm2d: freeze without running statistics; needs track_running_stats=True")
        self.frozen = True
        self.requires_grad_(False)

    def folded(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """The weight (C, ...) and bias (C,) of a convolution whose result is its own normalised as in `eval()`.

        Kept until one of the numbers that they follow from changes.
        """
        sources = self.running_mean, self.running_var, self.weight, self.bias, bias, weight
        state = [None if t is None else (t._array, t._version.count) for t in sources]
        if self._folded is None or not _same(self._folded[0], state):
            self._folded = state, self._fold(weight, bias)
            for tensor in self._folded[1]:
                promise(tensor._array)
        return self._folded[1]

    def _fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        xp, dtype = namespace(weight._array), weight.dtype
        values = [None if t is None else xp.astype(t._array, "float64")
                  for t in (self.running_mean, self.running_var, self.weight, self.bias, bias)]
        mean, variance, scale, shift, start = values
        scale = (1 if scale is None else scale) / xp.sqrt(variance + self.eps)
        shift = ((0 if start is None else start) - mean) * scale + (0 if shift is None else shift)
        column = xp.reshape(xp.astype(scale, dtype), (-1, *[1] * (weight.ndim - 1)))
        return Tensor(weight._array * column), Tensor(xp.astype(shift, dtype))

    def extra_repr(self) -> str:
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}"
                + ("" if self.affine else ", affine=False"))


def freeze_norm(module: Module) -> Module:
    """Freeze every batch normalisation in a net, for small batches on trained weights.  Returns the net.

    From scratch it means no normalisation at all: the statistics start as mean 0 and variance 1.
    """
    for part in module.modules():
        if isinstance(part, BatchNorm2d):
            part.freeze()
    return module


def retake_statistics(module: Module, batches: Iterable[Tensor]) -> Module:
    """Take running means and variances of a net anew: their averages over these batches, as in training but without
    dropout.  Returns the net.

    Those of training lag behind its weights, and are of activations under dropout, whose variance is larger than what
    `eval()` will see (Li et al., arXiv:1801.05134).  Layers that are frozen, or keep no statistics, stay as they are.
    Raises ArgumentError where there is no batch.
    """
    batches = iter(batches)
    first = next(batches, None)
    if first is None:
        raise ArgumentError("retake_statistics: no batches; needs one at least")
    modes = [(part, part.training) for part in module.modules()]
    layers = [part for part, _ in modes
              if isinstance(part, BatchNorm2d) and part.track_running_stats and not part.frozen]
    momenta = [layer.momentum for layer in layers]
    try:
        module.eval()
        for layer in layers:
            layer.training, layer.momentum = True, None
            with no_grad(), layer.num_batches_tracked.writing() as count:
                count[...] = 0
        with no_grad():
            for batch in chain([first], batches):
                module(batch)
    finally:
        for part, training in modes:
            part.training = training
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
    return module


def _same(kept: list[Any], state: list[Any]) -> bool:
    """The same arrays, not changed in between?"""
    return all(a is b or (a is not None and b is not None and a[0] is b[0] and a[1] == b[1])
               for a, b in zip(kept, state, strict=True))


class GroupNorm(Module):
    """Normalise each sample over groups of channels (Wu & He, arXiv:1803.08494): no batch statistics.

    num_groups      how many groups; must divide num_channels (1 is layer normalisation over C, H, W)
    num_channels    C
    eps             added to the variance
    affine          whether a learned weight and bias (C,) follow
    """

    def __init__(self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True):
        if num_groups < 1 or num_channels < 1 or num_channels % num_groups:
            raise ArgumentError(f"GroupNorm: {num_channels} channels in {num_groups} groups; needs num_groups >= 1 "
                                "that divides num_channels")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self.weight = Parameter(np.ones(num_channels, np.float32)) if affine else None
        self.bias = Parameter(np.zeros(num_channels, np.float32)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}" + ("" if self.affine else ", affine=False")
