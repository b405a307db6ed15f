"""Batch and group normalisation: one Function, two ways to gather channels into groups of common statistics."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tinyseg.arrays import Array, namespace
from tinyseg.autograd import Function, Tensor, as_tensor
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.functional.checks import channels_first, per_channel
from tinyseg.kernels.registry import run

__all__ = ["batch_norm", "group_norm"]

Average = Callable[[Array], Array]


class Normalize(Function):
    """y = (x - m) / √(v + eps) · γ_c + β_c, with mean m and variance v of the group that the plane (n, c) belongs to.

    `average` takes a table (N, C) to the mean of each entry's group, in the same shape.  All planes have the same
    size, so with the mean and variance of each, m = E[m_p] and v = E[v_p + (m_p - m)²].  With x̂ = (x - m) / √(v + eps)
    and E the mean over the group's elements,
        dx = (γ dy - E[γ dy] - x̂ E[γ dy x̂]) / √(v + eps),    dγ = Σ dy x̂,    dβ = Σ dy.
    """

    def __init__(self, average: Average, eps: float):
        self.average, self.eps = average, eps

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        xp, table = namespace(x), x.shape[:2]
        planes = _planes(x)
        means, variances = (xp.reshape(a, table) for a in run("plane_moments", planes))
        self.mean = self.average(means)
        self.variance = self.average(variances + (means - self.mean) ** 2)
        inverse = 1 / xp.sqrt(self.variance + self.eps)
        self.save(x, weight, self.mean, inverse)
        scale = inverse * weight                     # (N, C), float64
        return _scaled(planes, scale, bias - self.mean * scale, x.shape)

    def backward(self, grad: Array) -> tuple[Array, Array, Array]:
        x, weight, mean, inverse = self.saved
        xp, table = namespace(x), x.shape[:2]
        planes, grads = _planes(x), _planes(grad)
        total, product = (xp.reshape(a, table) for a in run("plane_products", grads, planes, xp.reshape(mean, (-1,))))
        product = product * inverse                  # Σ dy x̂
        size = planes.shape[1]
        drift = self.average(total * weight) / size              # E[γ dy]
        stretch = self.average(product * weight) / size          # E[γ dy x̂]
        slope = -stretch * inverse ** 2
        coefficients = (weight * inverse, slope, -drift * inverse - slope * mean)
        dx = run("plane_combination", grads, planes, *(xp.reshape(c, (-1,)) for c in coefficients))
        return xp.reshape(dx, x.shape), xp.sum(product, axis=0), xp.sum(total, axis=0)


class Affine(Function):
    """y = (x - m_c) · r_c · γ_c + β_c with constant m and r: normalisation by statistics gathered earlier."""

    def __init__(self, mean: Array, inverse: Array):
        self.mean, self.inverse = mean, inverse      # (C,), float64

    def forward(self, x: Array, weight: Array, bias: Array) -> Array:
        self.save(x, weight)
        scale = self._table(x, self.inverse * weight)
        return _scaled(_planes(x), scale, self._table(x, bias - self.mean * self.inverse * weight), x.shape)

    def backward(self, grad: Array) -> tuple[Array, Array | None, Array | None]:
        x, weight = self.saved
        xp, table = namespace(x), x.shape[:2]
        scale = self._table(x, self.inverse * weight)
        dx = _scaled(_planes(grad), scale, xp.zeros_like(scale), x.shape)
        if not any(self.needs_grad[1:]):
            return dx, None, None
        mean = xp.reshape(self._table(x, self.mean), (-1,))
        total, product = (xp.reshape(a, table) for a in run("plane_products", _planes(grad), _planes(x), mean))
        return dx, xp.sum(product, axis=0) * self.inverse, xp.sum(total, axis=0)

    def _table(self, x: Array, values: Array) -> Array:
        """(C,) repeated for every image: (N, C)."""
        return namespace(x).broadcast_to(values, x.shape[:2])


def batch_norm(x: Any, running_mean: Tensor | None, running_var: Tensor | None, weight: Any = None, bias: Any = None,
               training: bool = False, momentum: float = 0.1, eps: float = 1e-5) -> Tensor:
    """Each channel of x (N, C, ...) shifted and scaled to mean 0 and variance 1, then by `weight` and `bias` (C,).

    training    False: by the running statistics (C,).  True: by the mean and variance of this batch, towards which the
                running statistics, if given, move in place: running <- (1 - momentum) · running + momentum · batch.
    The batch is divided by its biased variance (Σ/n); the running variance gathers the unbiased one (Σ/(n-1)).
    Raises ArgumentError, ShapeError; for training on one value per channel, whose variance is 0, too.
    Ioffe & Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2.
    """
    x = channels_first("batch_norm", x)
    xp = namespace(x._array)
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
        return Affine(mean, 1 / xp.sqrt(variance + eps))(x, weight, bias)

    count = x.numel() // x.shape[1]
    if count < 2:
        raise ShapeError(f"batch_norm: training on {count} value per channel, input {x.shape}, whose variance is 0; "
                         "needs N·H·W >= 2: a larger batch or image, eval(), or group_norm")
    function = Normalize(_over_batch, eps)
    y = function(x, weight, bias)
    for statistic, batch in zip(running, (function.mean, function.variance * (count / (count - 1))), strict=False):
        with statistic.writing() as array:
            array += momentum * (batch[0] - array)
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

    def average(table: Array) -> Array:
        xp = namespace(table)
        groups = xp.reshape(table, (table.shape[0], num_groups, -1))
        means = xp.mean(groups, axis=2, keepdims=True)
        return xp.reshape(xp.broadcast_to(means, groups.shape), table.shape)
    return Normalize(average, eps)(x, *_weight_and_bias("group_norm", x, weight, bias))


def _over_batch(table: Array) -> Array:
    xp = namespace(table)
    return xp.broadcast_to(xp.mean(table, axis=0, keepdims=True), table.shape)


def _weight_and_bias(operation: str, x: Tensor, weight: Any, bias: Any) -> tuple[Tensor, Tensor]:
    xp = namespace(x._array)
    weight = as_tensor(xp.ones(x.shape[1], dtype=x.dtype)) if weight is None else weight
    bias = as_tensor(xp.zeros(x.shape[1], dtype=x.dtype)) if bias is None else bias
    return per_channel(operation, "weight", weight, x), per_channel(operation, "bias", bias, x)


def _planes(x: Array) -> Array:
    """(N·C, H·W): one row for each image and channel."""
    return namespace(x).reshape(x, (x.shape[0] * x.shape[1], math.prod(x.shape[2:])))


def _scaled(planes: Array, scale: Array, shift: Array, shape: tuple[int, ...]) -> Array:
    xp = namespace(planes)
    y = run("plane_affine", planes, xp.reshape(scale, (-1,)), xp.reshape(shift, (-1,)))
    return xp.reshape(y, shape)
