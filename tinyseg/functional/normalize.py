"""Batch and group normalisation: one Function, two ways to gather channels into groups of common statistics."""

from __future__ import annotations

import math
from typing import Any

from tinyseg.arrays import Array, namespace
from tinyseg.autograd import Function, Tensor, as_tensor
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.functional.checks import channels_first, per_channel
from tinyseg.kernels.registry import run

__all__ = ["batch_norm", "group_norm"]

Sizes = tuple[int, int, int]


class Normalize(Function):
    """y = (x - m) / √(v + eps) · γ_c + β_c, with mean m and variance v of the group that the plane (n, c) belongs to.

    sizes    (A, G, B): seen as (A, G, B, S), the planes of x (N, C, ...) with one G are a group.
    relu     cut y off below 0, in the same pass over memory; the backward pass finds out where again, from x
    """

    takes_layouts = True

    def __init__(self, sizes: Sizes, eps: float, relu: bool = False):
        self.sizes, self.eps, self.relu = sizes, eps, relu

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        y, self.mean, self.variance = run("normalize", x, weight, bias, self.sizes, self.eps, self.relu)
        self.save(x, weight, bias, self.mean, self.variance)
        return y

    def backward(self, grad: Array) -> tuple[Array, Array, Array]:
        return run("normalize_grad", grad, *self.saved, self.sizes, self.eps, self.relu)


class Affine(Function):
    """y = (x - m_c) · r_c · γ_c + β_c with constant m and r: normalisation by statistics gathered earlier."""

    takes_layouts = True

    def __init__(self, mean: Array, inverse: Array, relu: bool = False):
        self.mean, self.inverse, self.relu = mean, inverse, relu         # (C,), float64

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        y = run("affine", x, self.mean, self.inverse * weight, bias, self.relu)
        self.save(x, weight, *((y,) if self.relu else ()))
        return y

    def backward(self, grad: Array) -> tuple[Array, Array | None, Array | None]:
        x, weight, *y = self.saved
        if self.relu:
            grad = run("relu_grad", grad, y[0])
        zero = namespace(self.mean).zeros_like(self.mean)
        dx = run("affine", grad, zero, self.inverse * weight, zero, False) if self.needs_grad[0] else None
        if not any(self.needs_grad[1:]):
            return dx, None, None
        total, product = run("channel_products", grad, x, self.mean)
        return dx, product * self.inverse, total


def batch_norm(x: Any, running_mean: Tensor | None, running_var: Tensor | None, weight: Any = None, bias: Any = None,
               training: bool = False, momentum: float = 0.1, eps: float = 1e-5, relu: bool = False) -> Tensor:
    """Each channel of x (N, C, ...) shifted and scaled to mean 0 and variance 1, then by `weight` and `bias` (C,).

    training    False: by the running statistics (C,).  True: by the mean and variance of this batch, towards which the
                running statistics, if given, move in place: running <- (1 - momentum) · running + momentum · batch.
    relu        cut the result off below 0, as `relu` would, but while it is being written
    The batch is divided by its biased variance (Σ/n); the running variance gathers the unbiased one (Σ/(n-1)).
    Raises ArgumentError, ShapeError; for training on one value per channel, whose variance is 0, too.
    Ioffe & Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2.
    """
    x = channels_first("batch_norm", x)
    xp = namespace(x._storage)
    weight, bias = _weight_and_bias("batch_norm", x, weight, bias)
    running = []
    for name, statistic in (("running_mean", running_mean), ("running_var", running_var)):
        if statistic is not None:
            running.append(per_channel("batch_norm", name, statistic, x))
    if len(running) == 1:
        raise ArgumentError("batch_norm: one of running_mean and running_var is None; give both or none")
    if not training:
        if not running:
            raise ArgumentError("batch_norm: training=False needs running_mean and running_var")
        mean, variance = (xp.astype(t._array, "float64") for t in running)
        return Affine(mean, 1 / xp.sqrt(variance + eps), relu)(x, weight, bias)

    count = x.numel() // x.shape[1]
    if count < 2:
        raise ShapeError(f"batch_norm: training on {count} value per channel, input {x.shape}, whose variance is 0; "
                         "needs N·H·W >= 2: a larger batch or image, eval(), or group_norm")
    function = Normalize((x.shape[0], x.shape[1], 1), eps, relu)
    y = function(x, weight, bias)
    for statistic, batch in zip(running, (function.mean, function.variance * (count / (count - 1))), strict=False):
        with statistic.writing() as array:
            array += momentum * (batch - array)
    return y


def group_norm(x: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Tensor:
    """Like `batch_norm` in training, but the statistics are of each image and of `num_groups` groups of channels.

    x (N, C, ...), weight and bias (C,); num_groups divides C (C groups: instance norm; 1: layer norm over C, H, W).
    Nothing depends on the rest of the batch, so it serves batches of one.  Wu & He 2018, arXiv:1803.08494.
    """
    x = channels_first("group_norm", x)
    if num_groups < 1 or x.shape[1] % num_groups:
        legal = ", ".join(str(g) for g in range(1, x.shape[1] + 1) if x.shape[1] % g == 0)
        raise ArgumentError(f"group_norm: num_groups {num_groups} of {x.shape[1]} channels; must divide them: {legal}")
    size = math.prod(x.shape[2:]) * (x.shape[1] // num_groups)
    if size < 2:
        raise ShapeError(f"group_norm: {size} value per group, input {x.shape} in {num_groups} groups, whose variance "
                         "is 0; needs C/groups·H·W >= 2: fewer groups or larger images")

    sizes = (1, x.shape[0] * num_groups, x.shape[1] // num_groups)
    return Normalize(sizes, eps)(x, *_weight_and_bias("group_norm", x, weight, bias))


def _weight_and_bias(operation: str, x: Tensor, weight: Any, bias: Any) -> tuple[Tensor, Tensor]:
    xp = namespace(x._storage)
    weight = as_tensor(xp.ones(x.shape[1], dtype=x.dtype)) if weight is None else weight
    bias = as_tensor(xp.zeros(x.shape[1], dtype=x.dtype)) if bias is None else bias
    return per_channel(operation, "weight", weight, x), per_channel(operation, "bias", bias, x)

