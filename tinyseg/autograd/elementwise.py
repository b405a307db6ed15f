"""Operations that act on each element, with broadcasting: one line for each derivative."""

from typing import Any

from tinyseg.arrays import Array, namespace
from tinyseg.autograd.function import Function, unbroadcast
from tinyseg.autograd.tensor import Tensor, as_tensor
from tinyseg.errors import ArgumentError, ShapeError

__all__ = ["abs", "clip", "exp", "log", "maximum", "minimum", "sqrt", "where"]


class _Broadcasting(Function):
    """An operation of two operands whose shapes broadcast; `partials` gives the derivative before un-broadcasting."""

    def forward(self, a: Array, b: Array) -> Array:
        try:
            return self.value(a, b)
        except ValueError as error:
            name = type(self).__name__.lower()
            if all(m == n or 1 in (m, n) for m, n in zip(a.shape[::-1], b.shape[::-1], strict=False)):
                raise ArgumentError(f"{name}: {error}") from error
            raise ShapeError(f"{name}: shapes {a.shape} and {b.shape} do not broadcast; "
                             "axes counted from the right must be equal, or one of them 1") from error

    def backward(self, grad: Array) -> tuple[Array | None, Array | None]:
        shapes = [t.shape for t in self.inputs]
        return tuple(unbroadcast(self.partial(k, grad), shapes[k]) if self.needs_grad[k] else None for k in (0, 1))

    def value(self, a: Array, b: Array) -> Array:
        raise NotImplementedError

    def partial(self, k: int, grad: Array) -> Array:
        """The gradient for operand k, in the broadcast shape."""
        raise NotImplementedError


class Add(_Broadcasting):
    takes_layouts = True

    def value(self, a, b):
        return a + b

    def partial(self, k, grad):
        return grad


class Subtract(_Broadcasting):
    def value(self, a, b):
        return a - b

    def partial(self, k, grad):
        return -grad if k else grad


class Multiply(_Broadcasting):
    def value(self, a, b):
        self.save(a, b)
        return a * b

    def partial(self, k, grad):
        return grad * self.saved[1 - k]


class Divide(_Broadcasting):
    def value(self, a, b):
        self.save(a, b)
        return a / b

    def partial(self, k, grad):
        a, b = self.saved
        return -grad * a / (b * b) if k else grad / b


class Power(_Broadcasting):
    """a**b.

    By the exponent the derivative is 0 where the base is 0 (the limit for b > 0), and nan where it is negative: a**b
    is a real number there for whole b only.
    """

    def value(self, a, b):
        self.save(a, b)
        return a ** b

    def partial(self, k, grad):
        a, b = self.saved
        xp = namespace(a, b)
        if k == 0:
            return grad * b * a ** (xp.where(b == 0, xp.ones_like(b), b) - 1)        # a**0 is flat, also at a = 0
        log = xp.log(xp.where(a > 0, a, xp.ones_like(a)))
        return grad * a ** b * xp.where(a < 0, xp.full_like(a, float("nan")), log)


class Maximum(_Broadcasting):
    """The larger of two; a tie shares its gradient."""

    def value(self, a, b):
        self.save(a, b)
        return namespace(a, b).maximum(a, b)

    def partial(self, k, grad):
        mine, other = self.saved[k], self.saved[1 - k]
        return grad * _share(mine > other, mine == other, grad.dtype)


class Minimum(Maximum):
    """The smaller of two; a tie shares its gradient."""

    def value(self, a, b):
        self.save(a, b)
        return namespace(a, b).minimum(a, b)

    def partial(self, k, grad):
        mine, other = self.saved[k], self.saved[1 - k]
        return grad * _share(mine < other, mine == other, grad.dtype)


def _share(wins: Array, ties: Array, dtype: Any) -> Array:
    xp = namespace(wins)
    return xp.astype(wins, dtype) + xp.astype(ties, dtype) / 2


class Negative(Function):
    def forward(self, x):
        return -x

    def backward(self, grad):
        return -grad


class Abs(Function):
    def forward(self, x):
        self.save(x)
        return namespace(x).abs(x)

    def backward(self, grad):
        x, = self.saved
        return grad * namespace(x).sign(x)


class Exp(Function):
    def forward(self, x):
        y = namespace(x).exp(x)
        self.save(y)
        return y

    def backward(self, grad):
        y, = self.saved
        return grad * y


class Log(Function):
    def forward(self, x):
        self.save(x)
        return namespace(x).log(x)

    def backward(self, grad):
        x, = self.saved
        return grad / x


class Sqrt(Function):
    def forward(self, x):
        y = namespace(x).sqrt(x)
        self.save(y)
        return y

    def backward(self, grad):
        y, = self.saved
        return grad / (2 * y)


class Clip(Function):
    """Values outside [low, high] are set to the nearer end, and pass no gradient."""

    def __init__(self, low: float | None, high: float | None):
        if low is None and high is None:
            raise ArgumentError("clip: give low, high or both")
        if low is not None and high is not None and low > high:
            raise ArgumentError(f"clip: low {low} > high {high}; needs low <= high")
        self.low, self.high = low, high

    def forward(self, x):
        self.save(x)
        return namespace(x).clip(x, self.low, self.high)

    def backward(self, grad):
        x, = self.saved
        inside = namespace(x).ones_like(x, dtype=bool)
        if self.low is not None:
            inside &= x >= self.low
        if self.high is not None:
            inside &= x <= self.high
        return grad * inside


class Where(Function):
    def __init__(self, condition: Array):
        self.condition = condition

    def forward(self, a, b):
        try:
            return namespace(a, b).where(self.condition, a, b)
        except ValueError as error:
            raise ShapeError(f"where: shapes {self.condition.shape}, {a.shape} and {b.shape} do not broadcast; "
                             "axes counted from the right must be equal, or 1") from error

    def backward(self, grad):
        zero = namespace(grad).zeros_like(grad)
        a, b = self.inputs
        xp = namespace(grad)
        return (unbroadcast(xp.where(self.condition, grad, zero), a.shape),
                unbroadcast(xp.where(self.condition, zero, grad), b.shape))


class Copy(Function):
    def forward(self, x):
        return namespace(x).asarray(x, copy=True)

    def backward(self, grad):
        return grad


class Cast(Function):
    def __init__(self, dtype: Any):
        self.dtype = dtype

    def forward(self, x):
        return namespace(x).astype(x, self.dtype)

    def backward(self, grad):
        return grad                                  # brought back to the input's dtype by the pass


def abs(x: Any) -> Tensor:
    """|x|; the derivative at 0 is 0."""
    return Abs()(x)


def exp(x: Any) -> Tensor:
    return Exp()(x)


def log(x: Any) -> Tensor:
    """The natural logarithm."""
    return Log()(x)


def sqrt(x: Any) -> Tensor:
    return Sqrt()(x)


def clip(x: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """x limited to [min, max]; the gradient is 0 outside."""
    return Clip(min, max)(x)


def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, element by element; a tie shares its gradient."""
    return Maximum()(a, b)


def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b, element by element; a tie shares its gradient."""
    return Minimum()(a, b)


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """a where `condition` holds, else b; all three broadcast."""
    condition = as_tensor(condition)
    like = next((v for v in (a, b) if isinstance(v, Tensor)), None)
    return Where(namespace(condition._array).astype(condition._array, bool))(as_tensor(a, like), as_tensor(b, like))
