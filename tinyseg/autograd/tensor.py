"""`Tensor`: an array that remembers where it came from."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tinyseg.arrays import Array, Layout, device_of, namespace
from tinyseg.autograd.function import Function, Version, backward, is_grad_enabled
from tinyseg.errors import ArgumentError, DTypeError, GraphError, ShapeError

__all__ = ["Tensor", "as_tensor", "tensor"]

_DTYPES = ("float32", "float64", "int64", "int32", "uint8", "bool")
_LEGAL = frozenset(map(np.dtype, _DTYPES))           # a dtype's name is slow to spell, and every operation asks


class Tensor:
    """An array in a graph of operations.

    array            float32 or float64 to compute with; int64, int32, uint8, bool for labels, indices and masks.
                     Not copied: hand it over, or use `tensor(...)`, which copies.
    requires_grad    whether `backward` should leave a gradient in `grad`.
    """

    __slots__ = ("__weakref__", "_output_index", "_retains_grad", "_storage", "_version", "grad", "grad_fn",
                 "requires_grad")
    __array_priority__ = 1000                        # ndarray + Tensor is a Tensor
    __array_ufunc__ = None

    def __init__(self, array: Array, requires_grad: bool = False):
        if isinstance(array, np.generic) or not hasattr(array, "__array_namespace__"):
            array = np.asarray(array)                # a NumPy scalar cannot be changed in place; its array can
        if array.dtype not in _LEGAL:
            raise DTypeError(f"tensor: dtype {array.dtype} is not taken; legal: {', '.join(_DTYPES)}")
        if requires_grad and not _is_float(array):
            raise DTypeError(f"tensor: only float32 and float64 can require a gradient, not {array.dtype}")
        self._storage = array
        self._version = Version()
        self._output_index = 0
        self._retains_grad = False
        self.requires_grad = requires_grad
        self.grad: Tensor | None = None
        self.grad_fn: Function | None = None

    # -- what it is ----------------------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, ...]:
        return self._storage.shape

    @property
    def ndim(self) -> int:
        return self._storage.ndim

    @property
    def dtype(self) -> np.dtype:
        return self._storage.dtype

    @property
    def device(self) -> str:
        return device_of(self._storage)

    @property
    def is_leaf(self) -> bool:
        return self.grad_fn is None

    def size(self, axis: int | None = None) -> Any:
        return self.shape if axis is None else self.shape[axis]

    def numel(self) -> int:
        return math.prod(self.shape)

    def __len__(self) -> int:
        return self.shape[0] if self.ndim else len(self._array)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        body = np.array2string(self._array, prefix="tensor(", separator=", ")
        origin = f", grad_fn={self.grad_fn}" if self.grad_fn else ", requires_grad=True" if self.requires_grad else ""
        return f"tensor({body}, dtype={self.dtype}{origin})"

    def __bool__(self) -> bool:
        return bool(self._array)

    def __float__(self) -> float:
        return float(self._array.item())

    def __int__(self) -> int:
        return int(self._array.item())

    def item(self) -> Any:
        return self._array.item()

    def tolist(self) -> Any:
        return self._array.tolist()

    # -- the array ------------------------------------------------------------------------------------------------
    @property
    def _array(self) -> Array:
        """The array; another layout becomes one when somebody first wants it."""
        if isinstance(self._storage, Layout):
            self._storage = self._storage.plain()
        return self._storage

    @_array.setter
    def _array(self, array: Array) -> None:
        self._storage = array

    @property
    def data(self) -> Array:
        """The array, to read.  Writing goes through `writing()` or `t[...] = value`, which the graph can see."""
        view = self._array.view()
        view.flags.writeable = False
        return view

    def numpy(self) -> Array:
        """The array, to read; see `data`."""
        if self.requires_grad:
            raise GraphError("numpy: this tensor requires a gradient, which would be lost; call .detach().numpy()")
        return self.data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._array, dtype=dtype, copy=True if copy is None else copy)

    @contextmanager
    def writing(self) -> Iterator[Array]:
        """The array, to change in place: `with parameter.writing() as array: array -= step`.

        Raises GraphError where a change would make a recorded gradient wrong: on the result of an operation that
        requires a gradient, and on a leaf that requires one outside `no_grad`.
        """
        if self.requires_grad and (self.grad_fn is not None or is_grad_enabled()):
            what = f"the result of {self.grad_fn}" if self.grad_fn else "a leaf that requires a gradient"
            raise GraphError(f"in-place change of {what}: the recorded gradient would be wrong; "
                             "work on a copy, or change a leaf under no_grad()")
        self._version.count += 1
        yield self._array

    def __setitem__(self, index: Any, value: Any) -> None:
        if isinstance(value, Tensor) and value.requires_grad and is_grad_enabled():
            raise GraphError("assignment: the value requires a gradient, which assignment does not record; "
                             "use where or concatenate")
        with self.writing() as array:
            try:
                array[_raw_index(index)] = value._array if isinstance(value, Tensor) else value
            except (ValueError, IndexError) as error:
                raise ArgumentError(f"assignment: {error}") from error

    def copy_(self, value: Any) -> Tensor:
        """Overwrite with `value`, which must have this tensor's shape."""
        value = as_tensor(value, self)
        if value.shape != self.shape:
            raise ShapeError(f"copy_: the value has shape {value.shape}, the tensor {self.shape}; they must be equal")
        with self.writing() as array:
            array[...] = value._array
        return self

    def detach(self) -> Tensor:
        """The same memory outside the graph."""
        result = Tensor(self._array)
        result._version = self._version
        return result

    def clone(self) -> Tensor:
        from tinyseg.autograd.elementwise import Copy
        return Copy()(self)

    def to(self, dtype: Any) -> Tensor:
        """A tensor of another dtype; differentiable between float32 and float64."""
        from tinyseg.autograd.elementwise import Cast
        dtype = np.dtype(dtype)
        return self if dtype == self.dtype else Cast(dtype)(self)

    astype = to

    def float(self) -> Tensor:
        return self.to("float32")

    def double(self) -> Tensor:
        return self.to("float64")

    def requires_grad_(self, value: bool = True) -> Tensor:
        if self.grad_fn is not None:
            raise GraphError(f"requires_grad_: this tensor is the result of {self.grad_fn}; only leaves can be set. "
                             "Use detach()")
        if value and not _is_float(self._array):
            raise DTypeError(f"requires_grad_: only float32 and float64 can, not {self.dtype}")
        self.requires_grad = value
        return self

    # -- gradients ------------------------------------------------------------------------------------------------
    def retain_grad(self) -> None:
        """Keep `grad` also on this result of an operation."""
        self._retains_grad = True

    def backward(self, gradient: Any = None, retain_graph: bool = False) -> None:
        """Add to the `grad` of every leaf its derivative of <self, gradient>.

        gradient        the cotangent, of this tensor's shape; may be left out for a tensor of one element (then 1).
        retain_graph    keep the graph for a second pass; otherwise its arrays are freed as the pass goes.
        """
        if not self.requires_grad:
            raise GraphError("backward: this tensor does not depend on anything that requires a gradient")
        xp = namespace(self._array)
        if gradient is None:
            if self.numel() != 1:
                raise GraphError(f"backward: a tensor of shape {self.shape} is no scalar; "
                                 "give a cotangent of that shape, backward(gradient), or reduce it first")
            cotangent = xp.ones(self.shape, dtype=self.dtype)
        else:
            cotangent = xp.asarray(as_tensor(gradient, self)._array, dtype=self.dtype, copy=True)
            if cotangent.shape != self.shape:
                raise ShapeError(f"backward: the cotangent has shape {cotangent.shape}, the tensor {self.shape}; "
                                 "they must be equal")
        backward(self, cotangent, retain_graph)

    def _accumulate(self, grad: Array) -> None:
        self.grad = Tensor(grad if self.grad is None else self.grad._array + grad)

    # -- the operators --------------------------------------------------------------------------------------------
    if TYPE_CHECKING:                                # defined in operators.py, in terms of the operations there

        def __add__(self, other: Any) -> Tensor: ...
        __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __pow__ = __rpow__ = __add__
        __matmul__ = __rmatmul__ = __getitem__ = __lt__ = __le__ = __gt__ = __ge__ = __and__ = __or__ = __add__
        def __neg__(self) -> Tensor: ...
        __invert__ = abs = exp = log = sqrt = __neg__
        def sum(self, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Tensor: ...
        mean = max = min = sum
        def reshape(self, *shape: Any) -> Tensor: ...
        view = permute = reshape
        def clip(self, min: Any = None, max: Any = None) -> Tensor: ...
        clamp = clip
        def matmul(self, other: Any) -> Tensor: ...
        def transpose(self, dim0: int = -2, dim1: int = -1) -> Tensor: ...
        def flatten(self, start_dim: int = 0, end_dim: int = -1) -> Tensor: ...
        def squeeze(self, dim: int | None = None) -> Tensor: ...
        def unsqueeze(self, dim: int) -> Tensor: ...
        def argmax(self, dim: int | None = None) -> Tensor: ...
        T: Tensor
        mT: Tensor

    # -- the pickle and copy protocols --------------------------------------------------------------------------
    def __deepcopy__(self, memo: dict) -> Tensor:
        if self.grad_fn is not None:
            raise GraphError(f"deepcopy: only leaves can be copied, this is the result of {self.grad_fn}; "
                             "use detach().clone()")
        copy = object.__new__(type(self))
        Tensor.__init__(copy, self._array.copy(), self.requires_grad)
        memo[id(self)] = copy
        return copy

    __hash__ = object.__hash__


def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor with a copy of `data`.  Python floats become float32, Python integers int64, arrays keep their type."""
    array = np.array(data._array if isinstance(data, Tensor) else data, dtype=dtype)
    if dtype is None and not hasattr(data, "dtype") and array.dtype == np.float64:
        array = array.astype(np.float32)
    return Tensor(array, requires_grad)


def as_tensor(value: Any, like: Tensor | None = None) -> Tensor:
    """`value` as a tensor, without a copy where it is one already.  A Python number takes the type of `like`."""
    if isinstance(value, Tensor):
        return value
    if like is not None and isinstance(value, bool | int | float):
        if isinstance(value, float) and not _is_float(like._array):
            return Tensor(namespace(like._array).asarray(value, dtype="float32"))
        return Tensor(namespace(like._array).asarray(value, dtype=like.dtype))
    if isinstance(value, str) or value is None:
        raise ArgumentError(f"tensor: {value!r} is not a number or an array")
    return Tensor(value if hasattr(value, "__array_namespace__") else tensor(value)._array)


def _raw_index(index: Any) -> Any:
    if isinstance(index, tuple):
        return tuple(_raw_index(i) for i in index)
    return index._array if isinstance(index, Tensor) else index


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f"
