"""Operations that move elements without changing them; each derivative moves them back."""

import copy
import math
from collections.abc import Sequence
from typing import Any

from tinyseg.arrays import Array, namespace
from tinyseg.autograd.function import Function
from tinyseg.autograd.tensor import Tensor, as_tensor
from tinyseg.errors import ArgumentError, ShapeError

__all__ = ["cat", "concatenate", "flatten", "permute", "reshape", "squeeze", "stack", "transpose", "unsqueeze"]


class Reshape(Function):
    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape

    def forward(self, x):
        self._shape = x.shape
        try:
            return namespace(x).reshape(x, self.shape)
        except ValueError as error:
            raise ShapeError(f"reshape: {x.size} elements of shape {x.shape} do not fill {self.shape}; "
                             "the products of the sizes must be equal (one size may be -1)") from error

    def backward(self, grad):
        return namespace(grad).reshape(grad, self._shape)


class Permute(Function):
    def __init__(self, dims: tuple[int, ...]):
        self.dims = dims

    def forward(self, x):
        if sorted(axis_of("permute", d, x.shape) for d in self.dims) != list(range(x.ndim)):
            raise ArgumentError(f"permute: {self.dims} for shape {x.shape}; needs each of 0 .. {x.ndim - 1} once")
        return namespace(x).permute_dims(x, self.dims)

    def backward(self, grad):
        inverse = [0] * len(self.dims)
        for k, d in enumerate(self.dims):
            inverse[d] = k
        return namespace(grad).permute_dims(grad, tuple(inverse))


class Index(Function):
    """x[index].  The derivative adds each element back to where it was taken from."""

    def __init__(self, index: Any):
        self.index = index if _is_plain(index) else copy.deepcopy(index)     # the caller may change an array later

    def forward(self, x):
        self._shape = x.shape
        try:
            return x[self.index]
        except IndexError as error:
            raise ArgumentError(f"index: {self.index} does not fit shape {x.shape} ({error})") from error

    def backward(self, grad):
        xp = namespace(grad)
        out = xp.zeros(self._shape, dtype=grad.dtype)
        if _takes_once(self.index):
            out[self.index] = grad
        else:
            xp.add.at(out, self.index, grad)         # an integer array may name an element twice
        return out


class Concatenate(Function):
    def __init__(self, dim: int):
        self.dim = dim

    def forward(self, *xs):
        first = xs[0]
        axis = axis_of("concatenate", self.dim, first.shape)
        for x in xs:
            if x.ndim != first.ndim or any(a != b for i, (a, b) in enumerate(zip(x.shape, first.shape, strict=True))
                                           if i != axis):
                raise ShapeError(f"concatenate: shapes {', '.join(str(x.shape) for x in xs)} along dim {self.dim}; "
                                 "all other sizes must be equal")
        self._ends = []
        end = 0
        for x in xs:
            end += x.shape[axis]
            self._ends.append(end)
        return self.join(axis, *xs)

    def join(self, axis: int, *xs: Array) -> Array:
        return namespace(*xs).concat(xs, axis=axis)

    def backward(self, grad):
        before = (slice(None),) * (self.dim % grad.ndim)
        starts = [0, *self._ends[:-1]]
        return tuple(grad[(*before, slice(a, b))] for a, b in zip(starts, self._ends, strict=True))


def reshape(x: Any, *shape: Any) -> Tensor:
    """The same elements in another shape; one size may be -1."""
    return Reshape(_sizes(shape))(x)


def permute(x: Any, *dims: Any) -> Tensor:
    """The axes in another order."""
    return Permute(_sizes(dims))(x)


def transpose(x: Any, dim0: int = -2, dim1: int = -1) -> Tensor:
    """Two axes exchanged."""
    x = as_tensor(x)
    dims = list(range(x.ndim))
    a, b = axis_of("transpose", dim0, x.shape), axis_of("transpose", dim1, x.shape)
    dims[a], dims[b] = b, a
    return Permute(tuple(dims))(x)


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes start_dim .. end_dim merged into one."""
    x = as_tensor(x)
    if x.ndim == 0:
        return reshape(x, 1)
    start, end = axis_of("flatten", start_dim, x.shape), axis_of("flatten", end_dim, x.shape)
    if start > end:
        raise ArgumentError(f"flatten: start_dim {start_dim} comes after end_dim {end_dim} in shape {x.shape}")
    return reshape(x, *x.shape[:start], math.prod(x.shape[start:end + 1]), *x.shape[end + 1:])


def squeeze(x: Any, dim: int | None = None) -> Tensor:
    """Without axes of size 1: all of them, or axis `dim` if its size is 1."""
    x = as_tensor(x)
    dims = range(x.ndim) if dim is None else (axis_of("squeeze", dim, x.shape),)
    return reshape(x, *(n for i, n in enumerate(x.shape) if not (i in dims and n == 1)))


def unsqueeze(x: Any, dim: int) -> Tensor:
    """With a new axis of size 1 at `dim`."""
    x = as_tensor(x)
    at = axis_of("unsqueeze", dim, (*x.shape, 1))
    return reshape(x, *x.shape[:at], 1, *x.shape[at:])


def concatenate(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors joined along an existing axis."""
    if len(tensors) == 0:
        raise ArgumentError("concatenate: no tensors; needs at least one")
    return Concatenate(dim)(*tensors)


cat = concatenate


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Tensors of one shape joined along a new axis."""
    shapes = {as_tensor(t).shape for t in tensors}
    if len(shapes) != 1:
        raise ShapeError(f"stack: shapes {sorted(shapes)}; needs at least one tensor, all of one shape")
    return concatenate([unsqueeze(t, dim) for t in tensors], dim)


def axis_of(operation: str, dim: int, shape: tuple[int, ...]) -> int:
    """`dim`, which may count from the end, as the number of an axis of `shape`."""
    n = len(shape)
    if not -n <= dim < n:
        raise ArgumentError(f"{operation}: dim {dim} of shape {shape}; "
                            + (f"legal: {-n} .. {n - 1}" if n else "it has no axes"))
    return dim % n


def _sizes(sizes: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(sizes[0]) if len(sizes) == 1 and not hasattr(sizes[0], "__index__") else tuple(int(n) for n in sizes)


def _takes_once(index: Any) -> bool:
    """Whether no element can be taken twice: slices, numbers and boolean masks."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(_is_plain(p) or (_is_array(p) and p.dtype == bool) for p in parts)


def _is_plain(index: Any) -> bool:
    """Whether it is made of numbers, slices, None and ... alone."""
    parts = index if isinstance(index, tuple) else (index,)
    return all(p is None or p is Ellipsis or isinstance(p, int | slice) for p in parts)


def _is_array(value: Array) -> bool:
    return hasattr(value, "__array_namespace__")
