"""`Subject`: the kernel under test, called alike whoever wrote it and however it takes its options."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tinyseg.arithmetic import ConvGeometry
from tinyseg.errors import ArgumentError
from tinyseg.kernels import registry
from tinyseg.verify.operations import Operation, guess, operation
from tinyseg.verify.violation import Violation

__all__ = ["Request", "Subject", "Unusable", "import_target"]

ASYMMETRIC = "asymmetric padding"
ADAPTERS = ("torch",)


class Unusable(Exception):
    """A kernel that cannot be called at all: it does not import, or takes other arguments.  A finding, not an error."""

    def __init__(self, fact: str, advice: str):
        super().__init__(fact)
        self.fact, self.advice = fact, advice

    def __reduce__(self) -> tuple:
        return Unusable, (self.fact, self.advice)


@dataclass(frozen=True)
class Request:
    """What to verify, in words: it can be sent to another process, which imports it there.

    target     file.py:function, package.module:function, or the name of a registered algorithm
    op         the operation; None: what the function's name says
    backward   gradients, name and target; the name may be left out where the function's name says it
    supports   the options it takes; None: what its signature says
    tolerance  None: exact on whole numbers.  Else so many units of rounding are allowed for each product
    """

    target: str
    op: str | None = None
    backward: tuple[tuple[str, str], ...] = ()
    supports: tuple[str, ...] | None = None
    adapter: str | None = None
    tolerance: float | None = None


@dataclass
class Subject:
    """A kernel of one operation.  `subject(*arrays, geometry)` is its result, or a Violation that says what it did.

    plain        takes the options as arguments; else a ConvGeometry
    supports     names of the options that vary; the others keep their plain values
    parameters   names of the options it has parameters for
    gradients    other subjects: name of the gradient -> who computes it
    reach        work in the largest case that it is fast enough for, as far as is known
    watch        told when a call begins and ends, in case that it never does
    """

    operation: Operation
    function: Callable[..., Any]
    name: str
    supports: frozenset[str]
    parameters: frozenset[str] = frozenset()
    plain: bool = True
    by_name: bool = True
    refuses: Callable[[ConvGeometry], str | None] = lambda geometry: None
    gradients: dict[str, Subject] = field(default_factory=dict)
    adapter: str | None = None
    tolerance: float | None = None
    reach: float = 10_000.0
    watch: Callable[[bool], None] = lambda running: None

    @classmethod
    def of(cls, function: Callable[..., Any], op: str | None = None, supports: Collection[str] | None = None,
           name: str | None = None, **options: Any) -> Subject:
        """A function: plain, or with a parameter `geometry`.  Raises Unusable for another signature."""
        name = name or getattr(function, "__name__", "kernel")
        op = operation(op or guess(name))
        plain, by_name, found = _signature(function, op)
        parameters = frozenset(found)
        allowed = set(op.options) | {ASYMMETRIC} | ({"groups"} if "groups" in op.options else set())
        if supports is not None:
            unknown = sorted(set(supports) - allowed)
            if unknown:
                raise ArgumentError(f"--supports {', '.join(unknown)}: {op.name} has {', '.join(op.options)}")
            found &= set(supports) | {ASYMMETRIC, "kernel_size", "input_shape", "weight_shape"}
        return cls(op, function, name, frozenset(found), parameters, plain, by_name, **options)

    def __call__(self, *arguments: Any) -> np.ndarray:
        *arrays, geometry = arguments
        self.watch(True)
        try:
            with np.errstate(all="ignore"):
                result = self._call(tuple(arrays), geometry)
        except (Violation, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise Violation(f"{type(error).__name__}: {_short(error)}{_line(error, self.function)}", direct=True,
                            advice=_advice(error)) from None
        finally:
            self.watch(False)
        return self._array(result)

    def _call(self, arrays: tuple[np.ndarray, ...], geometry: ConvGeometry) -> Any:
        if not self.plain:
            return self.function(*arrays, geometry)
        options = {name: value for name, value in self.operation.arguments(arrays, geometry).items()
                   if name in self.parameters}
        if self.adapter == "torch":
            import torch
            arrays = tuple(torch.from_numpy(np.array(a)) for a in arrays)
        return self.function(*arrays, **options) if self.by_name else self.function(*arrays, *options.values())

    def _array(self, result: Any) -> np.ndarray:
        if self.operation.name == "max_pool2d" and isinstance(result, tuple) and len(result) == 2:
            result = result[0]                       # and where the maxima were
        if self.adapter == "torch" and hasattr(result, "detach"):
            result = result.detach().numpy()
        if not isinstance(result, np.ndarray):
            advice = ("The function ends without `return`." if result is None else
                      "Return a NumPy array; for tensors of PyTorch say --adapter torch.")
            raise Violation(f"the result is {_article(type(result).__name__)}, no array", advice=advice, direct=True)
        return result


def _signature(function: Callable[..., Any], op: Operation) -> tuple[bool, bool, set[str]]:
    """(plain?, options by name?, the options it takes)."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return True, True, set(op.options)
    if any(p.name == "geometry" for p in parameters):
        return False, False, {*op.options, ASYMMETRIC}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return True, True, set(op.options)
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return True, False, set(op.options)
    wanted = f"{op.name}({', '.join([*op.words, *op.options])}); the last may be missing"
    if len(positional) < len(op.words):
        raise Unusable(f"the function takes {len(positional)} positional arguments", f"Needs {wanted}.")
    after = [p for p in parameters if p not in positional[:len(op.words)]]
    named = [p for p in after if p.name in op.options]
    foreign = [p.name for p in after if p.name not in op.options and p.default is p.empty]
    if foreign and named:
        raise Unusable(f"the function wants {', '.join(foreign)}, which {op.name} has not", f"Needs {wanted}; or give "
                       f"{foreign[0]} a default.")
    if foreign:                                      # other words for the options: their order says which is which
        if len(foreign) > len(op.options):
            raise Unusable(f"the function wants {len(foreign)} arguments after its arrays, {op.name} has "
                           f"{len(op.options)}", f"Needs {wanted}.")
        return True, False, set(op.options[:len(foreign)])
    missing = [o for o in ("kernel_size", "input_shape", "weight_shape") if o in op.options and o not in
               [p.name for p in named]]
    if missing:
        raise Unusable(f"the function has no parameter {missing[0]}", f"Needs {wanted}.")
    positional_only = any(p.kind is p.POSITIONAL_ONLY for p in named)
    return True, not positional_only, {p.name for p in named}


def load(request: Request) -> Subject:
    """Import what a request names.  Raises Unusable when that cannot be done."""
    if request.adapter is not None and request.adapter not in ADAPTERS:
        raise ArgumentError(f"--adapter {request.adapter}; legal: {', '.join(ADAPTERS)}")
    options = {"adapter": request.adapter, "tolerance": request.tolerance}
    subject = _subject(request.target, request.op, request.supports, options)
    legal = subject.operation.gradients
    for name, target in request.backward:
        function = target.rpartition(":")[2]
        name = name or next((n for n in legal if n.split("_")[0] in function.lower()), "input_grad")
        if name not in legal:
            raise ArgumentError(f"--backward {name}: {subject.operation.name} has {', '.join(legal) or 'none'}")
        subject.gradients[name] = _subject(target, legal[name], None, options)
    if subject.operation.name == "conv_transpose2d" and "weight_grad" in subject.gradients:
        subject.gradients["weight_grad"].supports -= {"output_padding"}
    return subject


def _subject(target: str, op: str | None, supports: Sequence[str] | None, options: dict[str, Any]) -> Subject:
    if ".py:" not in target and not target.endswith(".py"):
        first, _, last = target.rpartition(":")
        known = operation(op or first or "conv2d") if not first or ("." not in first and first in _names()) else None
        if known is not None and last in registry.algorithms(known.registered):
            kernel = registry.find(known.registered, last)
            def run(*arguments: Any) -> Any:
                return registry.run(known.registered, *arguments, algorithm=last)

            subject = Subject.of(run, known.name, supports, f"algorithm {last}", **options)
            subject.plain, subject.supports = False, frozenset({*known.options, ASYMMETRIC} if supports is None
                                                               else {*supports, ASYMMETRIC})
            subject.refuses = kernel.refuses
            return subject
        if not first:
            names = registry.algorithms((known or operation("conv2d")).registered)
            raise ArgumentError(f"{target!r}: name a function as file.py:function or package.module:function, or an "
                                f"algorithm: {', '.join(names)}")
    return Subject.of(import_target(target), op, supports, target.rpartition(":")[2], **options)


def _names() -> Collection[str]:
    from tinyseg.verify.operations import OPERATIONS
    return OPERATIONS


def import_target(target: str) -> Callable[..., Any]:
    """The function that file.py:function or package.module:function names.  Raises Unusable."""
    place, colon, name = target.rpartition(":")
    if not colon or not name:
        raise ArgumentError(f"{target!r}: name the function too, like {target}:conv")
    try:
        module = _import_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
    except (KeyboardInterrupt, ArgumentError):
        raise
    except BaseException as error:                   # also SystemExit: the file is a script
        raise Unusable(f"{place} does not import: {type(error).__name__}: {_short(error)}{_line(error, None, place)}",
                       "Run it with python to see the whole error; what it needs must be installed beside tinyseg."
                       ) from None
    function = module
    for part in name.split("."):
        if not hasattr(function, part):
            names = sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))[:8]
            raise Unusable(f"{place} has no {name!r}", f"It has {', '.join(names) or 'no functions'}.")
        function = getattr(function, part)
    if not callable(function):
        raise Unusable(f"{target} is {_article(type(function).__name__)}, no function", "Name a function.")
    return function


def _import_file(path: Path) -> Any:
    if not path.is_file():
        raise ArgumentError(f"{path}: no such file")
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)                   # what it imports from beside it
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    spec.loader.exec_module(module)
    return module


def _short(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300]


def _line(error: BaseException, function: Any, place: str | None = None) -> str:
    """Where in the user's own file an error arose."""
    own = place or getattr(getattr(function, "__code__", None), "co_filename", None)
    frames = [f for f in traceback.extract_tb(error.__traceback__) if own and Path(f.filename).name == Path(own).name]
    return f"  ({Path(frames[-1].filename).name}, line {frames[-1].lineno}: {frames[-1].line})" if frames else ""


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
