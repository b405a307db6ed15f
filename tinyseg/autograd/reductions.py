"""Operations that make an axis disappear: sum, mean, max, min, and the matrix product."""

from typing import Any

from tinyseg.arrays import Array, namespace
from tinyseg.autograd.function import Function, unbroadcast
from tinyseg.autograd.shaping import axis_of
from tinyseg.autograd.tensor import Tensor, as_tensor
from tinyseg.errors import ArgumentError, ShapeError

__all__ = ["matmul", "max", "mean", "min", "sum"]

Dim = int | tuple[int, ...] | None


class _Reduction(Function):
    def __init__(self, dim: Dim, keepdim: bool):
        self.dim, self.keepdim = dim, keepdim

    def axes(self, x: Array) -> tuple[int, ...]:
        """The reduced axes as non-negative numbers."""
        name = type(self).__name__.lower()
        dims = range(x.ndim) if self.dim is None else (self.dim,) if hasattr(self.dim, "__index__") else self.dim
        axes = tuple(axis_of(name, d, x.shape) for d in dims)
        if len(set(axes)) != len(axes):
            raise ArgumentError(f"{name}: dim {self.dim} of shape {x.shape} names an axis twice; name each once")
        return axes

    def spread(self, reduced: Array, shape: tuple[int, ...]) -> Array:
        """Broadcast a reduced array back over the axes it lost: the transpose of the sum."""
        xp = namespace(reduced)
        kept = tuple(1 if i in self._axes else n for i, n in enumerate(shape))
        return xp.broadcast_to(xp.reshape(reduced, kept), shape)


class Sum(_Reduction):
    def forward(self, x):
        self._axes, self._shape = self.axes(x), x.shape
        return namespace(x).sum(x, axis=self._axes, keepdims=self.keepdim, dtype=_sum_dtype(x))

    def backward(self, grad):
        return self.spread(grad, self._shape)


class Mean(_Reduction):
    def forward(self, x):
        self._axes, self._shape = self.axes(x), x.shape
        self._count = 1
        for a in self._axes:
            self._count *= x.shape[a]
        if self._count == 0:
            raise ShapeError(f"mean: shape {x.shape} has no elements along dim {self.dim}; needs at least one")
        return namespace(x).mean(x, axis=self._axes, keepdims=self.keepdim)

    def backward(self, grad):
        return self.spread(grad / self._count, self._shape)


class Max(_Reduction):
    """The largest element; ties share the gradient evenly."""

    def forward(self, x):
        self._axes = self.axes(x)
        y = self.extreme(x)
        self.save(x, y)
        return y

    def axes(self, x):
        axes = super().axes(x)
        if any(x.shape[a] == 0 for a in axes):
            raise ShapeError(f"{type(self).__name__.lower()}: shape {x.shape} has no elements along dim {self.dim}; "
                             "needs at least one")
        return axes

    def extreme(self, x: Array) -> Array:
        return namespace(x).max(x, axis=self._axes, keepdims=self.keepdim)

    def backward(self, grad):
        x, y = self.saved
        xp = namespace(x)
        hit = xp.astype(x == self.spread(y, x.shape), x.dtype)
        return self.spread(grad, x.shape) * hit / xp.sum(hit, axis=self._axes, keepdims=True)


class Min(Max):
    """The smallest element; ties share the gradient evenly."""

    def extreme(self, x):
        return namespace(x).min(x, axis=self._axes, keepdims=self.keepdim)


class MatMul(Function):
    """(..., n, k) · (..., k, m) -> (..., n, m).    dA = dY · Bᵀ,    dB = Aᵀ · dY."""

    def forward(self, a, b):
        if a.shape[-1] != b.shape[-2]:
            raise ShapeError(f"matmul: {a.shape} · {b.shape}: the inner sizes {a.shape[-1]} and {b.shape[-2]} "
                             "must be equal")
        if any(m != n and 1 not in (m, n) for m, n in zip(a.shape[-3::-1], b.shape[-3::-1], strict=False)):
            raise ShapeError(f"matmul: {a.shape} · {b.shape}: the leading axes do not broadcast; "
                             "counted from the right they must be equal, or one of them 1")
        self.save(a, b)
        return namespace(a, b).matmul(a, b)

    def backward(self, grad):
        a, b = self.saved
        xp = namespace(grad)
        return (unbroadcast(xp.matmul(grad, b.mT), a.shape) if self.needs_grad[0] else None,
                unbroadcast(xp.matmul(a.mT, grad), b.shape) if self.needs_grad[1] else None)


def sum(x: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The sum over `dim`, by default over everything."""
    return Sum(dim, keepdim)(x)


def mean(x: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The mean over `dim`, by default over everything."""
    return Mean(dim, keepdim)(x)


def max(x: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The largest value over `dim`; ties share the gradient evenly."""
    return Max(dim, keepdim)(x)


def min(x: Any, dim: Dim = None, keepdim: bool = False) -> Tensor:
    """The smallest value over `dim`; ties share the gradient evenly."""
    return Min(dim, keepdim)(x)


def matmul(a: Any, b: Any) -> Tensor:
    """The matrix product; leading axes broadcast, a vector counts as a row on the left and a column on the right."""
    a, b = as_tensor(a), as_tensor(b)
    if a.ndim == 0 or b.ndim == 0:
        raise ShapeError(f"matmul: shapes {a.shape} and {b.shape}; a scalar has no matrix product, use *")
    left = a.reshape(1, -1) if a.ndim == 1 else a
    right = b.reshape(-1, 1) if b.ndim == 1 else b
    y = MatMul()(left, right)
    if a.ndim == 1:
        y = y.squeeze(-2)
    return y.squeeze(-1) if b.ndim == 1 else y


def _sum_dtype(x: Array) -> Any:
    """Floats keep their type; booleans and small integers are counted in int64."""
    return x.dtype if namespace(x).isdtype(x.dtype, "real floating") else "int64"
