"""`Subject`: the kernel under test, called alike whoever wrote it and however it takes its options."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.errors import ArgumentError
from tinyseg.kernels import foreign, registry
from tinyseg.kernels.foreign import ForeignKernel, own_line, reason
from tinyseg.precision import ERRORS, LEVELS, float32_matmul_precision
from tinyseg.verify.operations import OPERATIONS, Operation, operation
from tinyseg.verify.violation import Violation

__all__ = ["Refused", "Request", "Subject", "load"]

ASYMMETRIC = "asymmetric padding"
ADAPTERS = ("torch",)
DTYPES = ("float64", "float32")


@dataclass(frozen=True)
class Request:
    """What to verify, in words: it can be sent to another process, which imports it there.

    target     file.py:function, package.module:function, or the name of a registered algorithm
    op         the operation; None: what the function's name says
    backward   gradients, name and target; the name may be left out where the function's name says it
    supports   the options it takes; None: what its signature says
    tolerance  None: exact on whole numbers.  Else the largest error, relative to the largest result that such operands
               could give, max |x| · max over o of Σ |w[o]|; an error relative to max |y| is never smaller
    dtypes     of the arrays that it takes
    kernel     sizes of a kernel's sides, where not all will do
    """

    target: str
    op: str | None = None
    backward: tuple[tuple[str, str], ...] = ()
    supports: tuple[str, ...] | None = None
    adapter: str | None = None
    tolerance: float | None = None
    dtypes: tuple[str, ...] = DTYPES
    kernel: tuple[int, ...] | None = None


class Refused(Exception):
    """A geometry that the kernel does not do: no reason to blame it, and nothing to learn."""


@dataclass
class Subject:
    """A kernel of one operation.  `subject(*arrays, geometry)` is its result, or a Violation that says what it did.

    function     takes arrays and a geometry, however the kernel itself takes its options
    supports     names of the options that vary; the others keep their plain values
    options      names of those that the kernel takes, in its order
    style        how: by "names", in "order", or as one "geometry"
    refuses      the reason why it does not do a geometry, or None
    possible     values of kernel, stride, dilation and groups that it does not always refuse
    gradients    other subjects: name of the gradient -> who computes it
    reach        work in the largest case that it is fast enough for, as far as is known
    watch        told when a call begins and ends, in case that it never does
    """

    operation: Operation
    function: Callable[..., Any]
    name: str
    supports: frozenset[str]
    options: tuple[str, ...] = ()
    style: str = "geometry"
    refuses: Callable[[ConvGeometry], str | None] = lambda geometry: None
    possible: dict[str, list[int]] = field(init=False)
    gradients: dict[str, Subject] = field(default_factory=dict)
    adapter: str | None = None
    tolerance: float | None = None
    dtypes: Sequence[str] = DTYPES
    reach: float = 10_000.0
    watch: Callable[[bool], None] = lambda running: None

    @classmethod
    def of(cls, function: Callable[..., Any], op: str | None = None, supports: Collection[str] | None = None,
           name: str | None = None, kernel: Collection[int] | None = None, **options: Any) -> Subject:
        """A function: plain, or with a parameter `geometry`.  Raises KernelError for another signature."""
        if kernel is not None:
            options["refuses"] = lambda geometry: (None if {*geometry.kernel_size} <= {*kernel} else
                                                   f"kernel {geometry.kernel_size}; needs sides of {kernel}")
        foreign = ForeignKernel.of(function, op, name)
        op = operation(foreign.operation)
        found = {*foreign.options, *([ASYMMETRIC] if foreign.style == "geometry" else [])}
        if supports is not None:
            unknown = sorted({*supports} - {*op.options, ASYMMETRIC})
            if unknown:
                raise ArgumentError(f"--supports {', '.join(unknown)}: {op.name} has {', '.join(op.options)}")
            found = found & {*supports, ASYMMETRIC} | {*supports} & {ASYMMETRIC}
        return cls(op, foreign, foreign.name, frozenset(found), foreign.options, foreign.style, **options)

    def __post_init__(self):
        self.possible = _possible(self.refuses)
        self.supports -= {name for name in ("stride", "dilation", "groups") if self.possible[name] == [1]}

    @property
    def plain(self) -> bool:
        """It takes numbers and pairs, no geometry."""
        return self.style != "geometry"

    def __call__(self, *arguments: Any) -> np.ndarray:
        *arrays, geometry = arguments
        if why := self.refuses(geometry):
            raise Refused(why)
        self.watch(True)
        try:
            with np.errstate(all="ignore"):
                result = self.function(*self._given(arrays), geometry)
        except (Violation, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise Violation(reason(error), direct=True, advice=_advice(error),
                            cause=type(error).__name__ + own_line(error)) from None
        finally:
            self.watch(False)
        return self._array(result)

    def _given(self, arrays: Sequence[np.ndarray]) -> Sequence[Any]:
        if self.adapter != "torch":
            return arrays
        import torch
        return [torch.from_numpy(np.array(a)) for a in arrays]

    def _array(self, result: Any) -> np.ndarray:
        if self.operation.name == "max_pool2d" and isinstance(result, tuple) and len(result) == 2:
            result = result[0]                       # and where the maxima were
        if self.adapter == "torch" and hasattr(result, "detach"):
            result = result.detach().numpy()
        if not isinstance(result, np.ndarray):
            advice = ("The function ends without `return`." if result is None else
                      "Return a NumPy array; for tensors of PyTorch say --adapter torch.")
            raise Violation(f"the result is {_article(type(result).__name__)}, no array", advice=advice, direct=True,
                            cause="no array")
        axes = 1 if self.operation.result == "bias" else 4
        if result.ndim != axes:
            raise Violation(f"the result has shape {result.shape}; needs {axes} {'axis' if axes == 1 else 'axes'}",
                            direct=True, cause="other axes")
        return result


def load(request: Request) -> Subject:
    """Import what a request names.  Raises KernelError, ArgumentError or DataError when that cannot be done."""
    if request.adapter is not None and request.adapter not in ADAPTERS:
        raise ArgumentError(f"--adapter {request.adapter}; legal: {', '.join(ADAPTERS)}")
    if not request.dtypes or not set(request.dtypes) <= set(DTYPES):
        raise ArgumentError(f"--dtypes {', '.join(request.dtypes)}; legal: {', '.join(DTYPES)}")
    if request.kernel is not None and min(request.kernel, default=0) < 1:
        raise ArgumentError(f"--kernel {', '.join(map(str, request.kernel))}: needs sizes >= 1, like 3 or 1,3")
    options = {"adapter": request.adapter, "tolerance": request.tolerance, "dtypes": request.dtypes}
    subject = _subject(request.target, request.op, request.supports, request.kernel, options)
    legal = subject.operation.gradients
    for name, target in request.backward:
        function = target.rpartition(":")[2]
        name = name or next((n for n in legal if n.split("_")[0] in function.lower()), "input_grad")
        if name not in legal:
            raise ArgumentError(f"--backward {name}: {subject.operation.name} has {', '.join(legal) or 'none'}")
        subject.gradients[name] = _subject(target, legal[name], None, request.kernel, options)
    if subject.operation.name == "conv_transpose2d" and "weight_grad" in subject.gradients:
        subject.gradients["weight_grad"].supports -= {"output_padding"}
    return subject


def _subject(target: str, op: str | None, supports: Sequence[str] | None, kernel: Sequence[int] | None,
             options: dict[str, Any]) -> Subject:
    first, _, last = target.rpartition(":")
    if first in OPERATIONS or not (first or last.endswith(".py")):
        return _registered(target, operation(op or first or "conv2d"), last, supports, options)
    found = foreign.load(target, op)
    return Subject.of(found.function, found.operation, supports, found.name, kernel, **options)


def _registered(target: str, op: Operation, algorithm: str, supports: Sequence[str] | None,
                options: dict[str, Any]) -> Subject:
    known = registry.algorithms(op.registered)
    if algorithm not in known:
        raise ArgumentError(f"{target!r}: name a function as file.py:function or package.module:function, or an "
                            f"algorithm for {op.name}: {', '.join(known) or 'there is none'}")

    def run(*arguments: Any) -> Any:
        with float32_matmul_precision(kernel.precision):     # so exact is also what it hands on to others
            return registry.run(op.registered, *arguments, algorithm=algorithm)
    kernel = registry.find(op.registered, algorithm)
    supported = frozenset({*(op.options if supports is None else supports), ASYMMETRIC})
    if options["tolerance"] is None and (kernel.transforms or kernel.precision != LEVELS[0]):
        options = {**options, "tolerance": ERRORS[kernel.precision]}
    if kernel.dtypes:
        options = {**options, "dtypes": [d for d in options["dtypes"] if d in kernel.dtypes] or kernel.dtypes}
    return Subject(op, run, f"algorithm {algorithm}", supported, op.options, refuses=kernel.refuses, **options)


_SIDES = {"kernel": range(1, 12), "stride": range(1, 9), "dilation": range(1, 9), "groups": (1, 2, 3, 8, 17)}
_FEW = {"kernel": (1, 2, 3, 4, 5, 7), "stride": (1, 2), "dilation": (1, 2), "groups": (1, 2)}


@lru_cache(64)
def _possible(refuses: Callable[[ConvGeometry], str | None]) -> dict[str, list[int]]:
    """The values of each option with which there is a square geometry that is not refused: else none might be drawn."""
    def does(kernel: int, stride: int, dilation: int, groups: int) -> bool:
        side = dilation * (kernel - 1) + 1 + 3 * stride
        return refuses(ConvGeometry((side, side), (kernel, kernel), (stride, stride), dilation=(dilation, dilation),
                                    groups=groups)) is None
    return {name: [value for value in values
                   if any(does(**dict(zip(_FEW, others, strict=True)))
                          for others in product(*({**_FEW, name: (value,)}.values())))]
            for name, values in _SIDES.items()}


def _advice(error: BaseException) -> str:
    if isinstance(error, IndexError):
        return "An index leaves its array: compare the loops' ends with the sizes above."
    if isinstance(error, MemoryError):
        return "It asked for more memory than this machine has: is a size computed from the wrong numbers?"
    if isinstance(error, SystemExit):
        return "The kernel calls exit; raise an exception in its place."
    if isinstance(error, TypeError) and "argument" in str(error):
        return "Called with the options its signature names; say --supports to leave some out."
    return "The kernel raised this itself on legal operands."


def _article(noun: str) -> str:
    return "None" if noun == "NoneType" else f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
