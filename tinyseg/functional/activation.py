"""Functions of one element, softmax, and dropout."""

from __future__ import annotations

from typing import Any

from tinyseg.arrays import Array, namespace
from tinyseg.autograd import Function, Tensor
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.functional.checks import channels_first, floating, probability
from tinyseg.functional.random import generator
from tinyseg.kernels.registry import run

__all__ = ["dropout", "dropout2d", "hardsigmoid", "hardswish", "leaky_relu", "log_softmax", "logistic", "prelu",
           "relu", "relu6", "sigmoid", "softmax", "tanh"]


class _Pointwise(Function):
    """y = f(x); `slope` is f'(x), from what `forward` saved."""

    def slope(self, saved: Array) -> Array:
        raise NotImplementedError

    def backward(self, grad: Array) -> Array:
        return grad * self.slope(*self.saved)


class ReLU(_Pointwise):
    """y = max(x, 0).    dx = dy where y > 0."""

    takes_layouts = True

    def forward(self, x):
        y = run("relu", x)
        self.save(y)                                 # the next layer keeps it anyway
        return y

    def backward(self, grad):
        y, = self.saved
        return run("relu_grad", grad, y)


class ReLU6(_Pointwise):
    def forward(self, x):
        y = namespace(x).clip(x, 0, 6)
        self.save(y)
        return y

    def slope(self, y):
        return (y > 0) & (y < 6)


class LeakyReLU(_Pointwise):
    def __init__(self, negative_slope: float):
        self.negative_slope = negative_slope

    def forward(self, x):
        self.save(x)
        return x * self.slope(x)

    def slope(self, x):
        one = namespace(x).ones((), dtype=x.dtype)
        return namespace(x).where(x > 0, one, one * self.negative_slope)


class PReLU(Function):
    """y = x where x > 0, else a_c · x.    da_c = Σ dy · min(x, 0) over channel c."""

    def forward(self, x, weight):
        self.save(x, weight)
        return x * self.slope(x, weight)

    def slope(self, x, weight):
        xp = namespace(x)
        weight = xp.reshape(weight, (1, -1) + (1,) * (x.ndim - 2))
        return xp.where(x > 0, xp.ones_like(weight), weight)

    def backward(self, grad):
        x, weight = self.saved
        xp = namespace(x)
        below = grad * xp.minimum(x, xp.zeros((), dtype=x.dtype))
        other = tuple(a for a in range(x.ndim) if a != 1 or weight.shape == (1,))
        return grad * self.slope(x, weight), xp.reshape(xp.sum(below, axis=other), weight.shape)


class Sigmoid(_Pointwise):
    def forward(self, x):
        y = logistic(x)
        self.save(y)
        return y

    def slope(self, y):
        return y * (1 - y)


class Tanh(_Pointwise):
    def forward(self, x):
        y = namespace(x).tanh(x)
        self.save(y)
        return y

    def slope(self, y):
        return 1 - y * y


class HardSigmoid(_Pointwise):
    def forward(self, x):
        y = namespace(x).clip(x / 6 + 0.5, 0, 1)
        self.save(y)
        return y

    def slope(self, y):
        return namespace(y).astype((y > 0) & (y < 1), y.dtype) / 6


class HardSwish(_Pointwise):
    def forward(self, x):
        self.save(x)
        return x * namespace(x).clip(x / 6 + 0.5, 0, 1)

    def slope(self, x):
        zero, one = namespace(x).zeros((), dtype=x.dtype), namespace(x).ones((), dtype=x.dtype)
        return namespace(x).where(x < -3, zero, namespace(x).where(x > 3, one, x / 3 + 0.5))


class Softmax(Function):
    """p = exp(x) / Σ exp(x).    dx = p · (dp - Σ p · dp)."""

    def __init__(self, dim: int):
        self.dim = dim

    def forward(self, x):
        p, _ = run("softmax", _around(x, self.dim))
        p = namespace(x).reshape(p, x.shape)
        self.save(p)
        return p

    def backward(self, grad):
        p, = self.saved
        return p * (grad - namespace(p).sum(p * grad, axis=self.dim, keepdims=True))


class LogSoftmax(Function):
    """y = x - log Σ exp(x).    dx = dy - p · Σ dy."""

    def __init__(self, dim: int):
        self.dim = dim

    def forward(self, x):
        xp = namespace(x)
        p, logsumexp = run("softmax", _around(x, self.dim))
        self.save(xp.reshape(p, x.shape))
        kept = [1 if a == self.dim else n for a, n in enumerate(x.shape)]
        return x - xp.reshape(logsumexp, tuple(kept))

    def backward(self, grad):
        p, = self.saved
        return grad - p * namespace(p).sum(grad, axis=self.dim, keepdims=True)


class Dropout(Function):
    """y = x · mask / (1 - p), with a mask of zeros and ones that broadcasts."""

    def __init__(self, p: float, mask_axes: int):
        self.p, self.mask_axes = p, mask_axes

    def forward(self, x):
        shape = x.shape[:self.mask_axes] + (1,) * (x.ndim - self.mask_axes)
        xp = namespace(x)
        kept = xp.asarray(generator.random(shape, dtype="float32") >= self.p)
        scale = 1 / (1 - self.p) if self.p < 1 else 0
        mask = xp.astype(kept, x.dtype) * scale
        self.save(mask)
        return x * mask

    def backward(self, grad):
        mask, = self.saved
        return grad * mask


def relu(x: Any) -> Tensor:
    """max(x, 0), of any shape; the derivative at 0 is 0."""
    return ReLU()(floating("relu", x))


def relu6(x: Any) -> Tensor:
    """min(max(x, 0), 6); the derivative at 0 and 6 is 0."""
    return ReLU6()(floating("relu6", x))


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Tensor:
    """x where x > 0, else negative_slope · x."""
    return LeakyReLU(negative_slope)(floating("leaky_relu", x))


def prelu(x: Any, weight: Any) -> Tensor:
    """x where x > 0, else weight · x, with the slope learned.

    x (N, C, ...); weight (C,), or (1,) for one slope of all channels.  He et al. 2015, arXiv:1502.01852, eq. 1.
    """
    x, weight = channels_first("prelu", x), floating("prelu", weight)
    if weight.shape not in ((1,), (x.shape[1],)):
        raise ShapeError(f"prelu: weight of shape {weight.shape} for input {x.shape}; needs (1,) or ({x.shape[1]},)")
    return PReLU()(x, weight)


def sigmoid(x: Any) -> Tensor:
    """1 / (1 + exp(-x)), without overflow for any x."""
    return Sigmoid()(floating("sigmoid", x))


def tanh(x: Any) -> Tensor:
    """The hyperbolic tangent."""
    return Tanh()(floating("tanh", x))


def hardsigmoid(x: Any) -> Tensor:
    """x/6 + 1/2 limited to [0, 1]."""
    return HardSigmoid()(floating("hardsigmoid", x))


def hardswish(x: Any) -> Tensor:
    """x · hardsigmoid(x).  Howard et al. 2019, arXiv:1905.02244, section 5.2."""
    return HardSwish()(floating("hardswish", x))


def softmax(x: Any, dim: int = 1) -> Tensor:
    """exp(x) / Σ exp(x) along `dim`, by default the classes of (N, C, ...).  Raises ArgumentError for a wrong dim."""
    x = floating("softmax", x)
    return Softmax(_axis("softmax", x, dim))(x)


def log_softmax(x: Any, dim: int = 1) -> Tensor:
    """x - log Σ exp(x) along `dim`: the logarithm of `softmax`, exact where that underflows."""
    x = floating("log_softmax", x)
    return LogSoftmax(_axis("log_softmax", x, dim))(x)


def dropout(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """Each element set to 0 with probability p, the others divided by 1 - p; `x` itself when not training.

    The random numbers come from `tinyseg.functional.random`, see `manual_seed`.
    """
    x = floating("dropout", x)
    return Dropout(probability("dropout", p), x.ndim)(x) if training and p else x


def dropout2d(x: Any, p: float = 0.5, training: bool = True) -> Tensor:
    """`dropout` of whole channels of x (N, C, ...): neighbouring pixels are too alike to be dropped one by one."""
    x = channels_first("dropout2d", x)
    return Dropout(probability("dropout2d", p), 2)(x) if training and p else x


def logistic(x: Array) -> Array:
    """1 / (1 + exp(-x)) with only exponentials of negative numbers."""
    xp = namespace(x)
    e = xp.exp(-xp.abs(x))
    return xp.where(x >= 0, xp.ones((), dtype=x.dtype), e) / (1 + e)


def _axis(operation: str, x: Tensor, dim: int) -> int:
    if not -x.ndim <= dim < x.ndim or 0 in x.shape:
        raise ArgumentError(f"{operation}: dim {dim} of shape {x.shape}; legal: {-x.ndim} .. {x.ndim - 1}, no size 0")
    return dim % x.ndim


def _around(x: Array, dim: int) -> Array:
    """(A, C, B): the axes before, at and after `dim`."""
    before, after = 1, 1
    for n in x.shape[:dim]:
        before *= n
    for n in x.shape[dim + 1:]:
        after *= n
    return namespace(x).reshape(x, (before, x.shape[dim], after))
