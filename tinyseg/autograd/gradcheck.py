"""Is the gradient right?  Central differences against the backward pass, in float64.

`gradcheck` compares every element of every gradient; `gradcheck_directional` compares <g, u> along random directions u,
two evaluations a direction, for functions too large to sweep.  Both weigh the output with a random cotangent: a plain
sum would let errors cancel, and would never see a gradient that ignores its cotangent.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinyseg.autograd.tensor import Tensor, as_tensor
from tinyseg.errors import ArgumentError, DTypeError, TinysegError

__all__ = ["GradientError", "gradcheck", "gradcheck_directional"]


class GradientError(TinysegError, AssertionError):
    """A gradient that differs from the difference quotient; the text shows the worst element."""


def gradcheck(function: Callable[..., Any], inputs: Sequence[Any], *, eps: float = 1e-6, rtol: float = 1e-5,
              atol: float = 1e-7, seed: int = 0) -> bool:
    """Compare the gradient of <function(*inputs), c> with (f(x+eps) - f(x-eps)) / 2 eps, element by element.

    function    maps tensors to a tensor, or a tuple of them, and must be deterministic
    inputs      float64 arrays or tensors; those that require a gradient are checked (all, if none does)
    rtol, atol  an element passes when |analytic - numeric| <= atol + rtol · max|numeric|
    Returns True.  Raises GradientError with the worst element otherwise.
    """
    tensors, checked = _prepare(inputs)
    weigh, gradients = _analytic(function, tensors, checked, seed)
    for k, analytic in zip(checked, gradients, strict=True):
        array = tensors[k]._array
        numeric = np.empty_like(array)
        for index in np.ndindex(array.shape):
            kept = array[index]
            values = []
            for step in (eps, -eps):
                array[index] = kept + step
                values.append(weigh(function(*_fresh(tensors))))
            array[index] = kept
            numeric[index] = (values[0] - values[1]) / (2 * eps)
        error = np.abs(analytic - numeric)
        bound = atol + rtol * np.max(np.abs(numeric), where=np.isfinite(numeric), initial=0)
        if not np.all(error <= bound):               # written so that nan fails; the bound is finite, so inf does
            worst = np.unravel_index(np.argmax(np.where(np.isnan(error), np.inf, error)), error.shape)
            worst = tuple(int(i) for i in worst)
            raise GradientError(f"gradcheck: input {k} of shape {array.shape}, element {worst}: "
                                f"backward gives {analytic[worst]:.9g}, differences {numeric[worst]:.9g}; "
                                f"allowed |difference| <= {bound:.3g}; {int(np.sum(~(error <= bound)))} "
                                f"of {error.size} elements are off")
    return True


def gradcheck_directional(function: Callable[..., Any], inputs: Sequence[Any], *, directions: int = 4,
                          eps: float = 1e-6, rtol: float = 1e-5, atol: float = 1e-7, seed: int = 0) -> bool:
    """Compare <gradient, u> with the difference quotient along random directions u, drawn anew for each input.

    One wrong element among n shifts <g, u> by its own error: u has entries of order 1, not 1/sqrt(n).
    Arguments and errors as in `gradcheck`.
    """
    tensors, checked = _prepare(inputs)
    rng = np.random.default_rng([seed, 1])
    for trial in range(directions):
        weigh, gradients = _analytic(function, tensors, checked, seed + trial)
        for k, analytic in zip(checked, gradients, strict=True):
            array = tensors[k]._array
            kept = array.copy()
            u = rng.uniform(0.5, 1.5, array.shape) * rng.choice([-1.0, 1.0], array.shape)
            values = []
            for step in (eps, -eps):
                array[...] = kept + step * u
                values.append(weigh(function(*_fresh(tensors))))
            array[...] = kept
            numeric = (values[0] - values[1]) / (2 * eps)
            exact = float(np.sum(analytic * u))
            bound = atol + rtol * max(abs(numeric), float(np.sqrt(np.sum((analytic * u) ** 2))))
            if not (np.isfinite(bound) and abs(exact - numeric) <= bound):       # nan and inf fail
                raise GradientError(f"gradcheck: input {k} of shape {array.shape}, direction {trial}: "
                                    f"backward gives {exact:.9g}, differences {numeric:.9g}; "
                                    f"allowed |difference| <= {bound:.3g}")
    return True


def _prepare(inputs: Sequence[Any]) -> tuple[list[Tensor], list[int]]:
    given = [as_tensor(i) for i in inputs]
    floats = [k for k, t in enumerate(given) if t.dtype.kind == "f"]
    checked = [k for k in floats if given[k].requires_grad] or floats
    if not checked:
        raise ArgumentError("gradcheck: no input is a float; needs at least one float64 input")
    for k in checked:
        if given[k].dtype != np.float64:
            raise DTypeError(f"gradcheck: input {k} is {given[k].dtype}; differences need float64")
    return [Tensor(t._array.copy(), requires_grad=k in checked) for k, t in enumerate(given)], checked


def _fresh(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [Tensor(t._array) for t in tensors]


def _outputs(result: Any) -> list[Tensor]:
    results = result if isinstance(result, tuple | list) else (result,)
    return [r for r in results if isinstance(r, Tensor) and r.dtype.kind == "f"]


def _analytic(function: Callable[..., Any], tensors: list[Tensor], checked: list[int],
              seed: int) -> tuple[Callable[[Any], float], list[np.ndarray]]:
    """A function that weighs outputs with fixed random cotangents, and the gradients of that weighed sum."""
    rng = np.random.default_rng([seed, 0])
    outputs = _outputs(function(*tensors))
    cotangents = [rng.uniform(0.5, 1.5, o.shape) * rng.choice([-1.0, 1.0], o.shape) for o in outputs]
    for t in tensors:
        t.grad = None
    live = [(o, c) for o, c in zip(outputs, cotangents, strict=True) if o.requires_grad]
    if not live:
        raise ArgumentError("gradcheck: the output does not depend on any checked input through the graph")
    total = live[0][0] * live[0][1]
    total = total.sum()
    for o, c in live[1:]:
        total = total + (o * c).sum()
    total.backward()

    def weigh(result: Any) -> float:
        return sum(float(np.sum(o._array * c)) for o, c in zip(_outputs(result), cotangents, strict=True))

    gradients = [np.zeros(t.shape) if t.grad is None else np.array(t.grad._array)
                 for t in (tensors[k] for k in checked)]
    return weigh, gradients
