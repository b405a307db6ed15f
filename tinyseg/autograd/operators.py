"""Python's operators and the usual methods on `Tensor`, in terms of the operations of this room."""

from typing import Any

from tinyseg.arrays import namespace
from tinyseg.autograd import elementwise as e
from tinyseg.autograd import reductions as r
from tinyseg.autograd import shaping as s
from tinyseg.autograd.function import Function
from tinyseg.autograd.tensor import Tensor, _raw_index, as_tensor


def _binary(operation: type[Function]):
    def method(self: Tensor, other: Any) -> Tensor:
        return operation()(self, other)

    def reflected(self: Tensor, other: Any) -> Tensor:
        return operation()(as_tensor(other, self), self)
    return method, reflected


def _comparison(symbol: str):
    def method(self: Tensor, other: Any) -> Tensor:
        return Tensor(getattr(self._array, symbol)(as_tensor(other, self)._array))
    return method


for name, operation in (("add", e.Add), ("sub", e.Subtract), ("mul", e.Multiply), ("truediv", e.Divide),
                        ("pow", e.Power)):
    method, reflected = _binary(operation)
    setattr(Tensor, f"__{name}__", method)
    setattr(Tensor, f"__r{name}__", reflected)

for symbol in ("__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__ne__", "__and__", "__or__", "__xor__"):
    setattr(Tensor, symbol, _comparison(symbol))

Tensor.__hash__ = object.__hash__                    # assigning __eq__ is no reason to lose it
Tensor.__neg__ = lambda self: e.Negative()(self)
Tensor.__invert__ = lambda self: Tensor(~self._array)
Tensor.__matmul__ = r.matmul
Tensor.__rmatmul__ = lambda self, other: r.matmul(other, self)
Tensor.__getitem__ = lambda self, index: s.Index(_raw_index(index))(self)

for function in (e.abs, e.exp, e.log, e.sqrt, e.clip, r.sum, r.mean, r.max, r.min, r.matmul,
                 s.reshape, s.permute, s.transpose, s.flatten, s.squeeze, s.unsqueeze):
    setattr(Tensor, function.__name__, function)

Tensor.view = s.reshape
Tensor.clamp = e.clip
Tensor.T = property(lambda self: s.permute(self, tuple(reversed(range(self.ndim)))))
Tensor.mT = property(lambda self: s.transpose(self, -2, -1))


def _argmax(self: Tensor, dim: int | None = None) -> Tensor:
    """The index of the largest element (the first, in a tie); no gradient."""
    return Tensor(namespace(self._array).argmax(self._array, axis=dim))


Tensor.argmax = _argmax
