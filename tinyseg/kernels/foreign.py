"""A kernel written elsewhere: a function in somebody's file, which takes plain arrays, numbers and pairs of ints.

`SIGNATURES` is what it may look like: NCHW arrays, then options.  Which of them a function takes, and how, its
parameters tell:

    def conv(x, weight, padding, stride)     by their names, in any order; those it lacks keep their plain values
    def conv(x, w, s, p, d)                  by other names: in the order of the signature, the last may be missing
    def conv(x, weight, geometry)            all of them in one `ConvGeometry`
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import sysconfig
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from signal import Signals
from typing import Any, NamedTuple

from tinyseg.arithmetic import ConvGeometry, PoolGeometry
from tinyseg.errors import ArgumentError, DataError, KernelError

__all__ = ["SIGNATURES", "ForeignKernel", "Signature", "ended", "find_function", "guess", "load", "option_values",
           "own_line", "reason", "signature"]


class Signature(NamedTuple):
    """The names of the arrays, and of the options that follow."""

    arrays: tuple[str, ...]
    options: tuple[str, ...] = ()


_CONV = ("stride", "padding", "dilation", "groups")
_MEAN = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad")
SIGNATURES = {
    "conv2d": Signature(("x", "weight"), _CONV),
    "conv_transpose2d": Signature(("x", "weight"), ("stride", "padding", "output_padding", "dilation", "groups")),
    "conv2d_input_grad": Signature(("grad", "weight"), ("input_shape", *_CONV)),
    "conv2d_weight_grad": Signature(("grad", "x"), ("weight_shape", *_CONV)),
    "conv2d_bias_grad": Signature(("grad",)),
    "max_pool2d": Signature(("x",), ("kernel_size", "stride", "padding", "dilation", "ceil_mode")),
    "max_pool2d_grad": Signature(("grad", "indices"), ("input_shape",)),
    "avg_pool2d": Signature(("x",), _MEAN),
    "avg_pool2d_grad": Signature(("grad",), ("input_shape", *_MEAN)),
}
_NEEDED = ("kernel_size", "input_shape", "weight_shape")       # no function can do without: they have no plain value
_PLAIN = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "output_padding": (0, 0), "groups": 1,
          "ceil_mode": False, "count_include_pad": True}
# Places whose lines tell the writer of a kernel nothing: the callers of kernels, Python, installed packages.
_ROOM = Path(__file__).parent
_ELSEWHERE = ("<", *(str(_ROOM.parent / room) for room in ("verify", "bench")), str(_ROOM / "registry.py"), __file__,
              *{sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


@dataclass(frozen=True)
class ForeignKernel:
    """A function, the operation it computes, and how it takes the options.

    options    the names of those it takes, in its own order
    style      how: by "names", in "order", or all of them in one "geometry"
    """

    function: Callable[..., Any]
    operation: str
    name: str
    options: tuple[str, ...]
    style: str = "names"

    @classmethod
    def of(cls, function: Callable[..., Any], operation: str | None = None, name: str | None = None) -> ForeignKernel:
        """A function of `operation`, by default of the one that its names tell.  Raises KernelError, ArgumentError."""
        name = name or getattr(function, "__name__", "kernel")
        parameters = _parameters(function)
        operation = operation or guess(name, [p.name for p in parameters or ()])
        return cls(function, operation, name, *_taken(name, operation, parameters))

    def __call__(self, *arguments: Any) -> Any:
        """Arrays and a geometry, whatever the style."""
        return self.bound(arguments[:-1], arguments[-1])()

    def bound(self, arrays: Sequence[Any], geometry: ConvGeometry) -> Callable[[], Any]:
        """The call with all that it takes: what is timed holds no bookkeeping."""
        if self.style == "geometry":
            return partial(self.function, *arrays, geometry)
        values = option_values(self.operation, arrays, geometry)
        if self.style == "order":
            return partial(self.function, *arrays, *(values[name] for name in self.options))
        return partial(self.function, *arrays, **{name: values[name] for name in self.options})

    def refuses(self, geometry: ConvGeometry) -> str | None:
        """The option that this geometry needs and the function lacks, or None."""
        plain = {**_PLAIN, "stride": geometry.kernel_size} if isinstance(geometry, PoolGeometry) else _PLAIN
        values = _values(geometry)
        lacking = (name for name in signature(self.operation).options if name not in self.options)
        return next((f"it takes no {name}" for name in lacking if values[name] != plain[name]), None)


def signature(operation: str) -> Signature:
    if operation not in SIGNATURES:
        raise ArgumentError(f"operation {operation!r}; legal: {', '.join(SIGNATURES)}")
    return SIGNATURES[operation]


def guess(function: str, parameters: Sequence[str] = ()) -> str:
    """The operation of a function: what its name says, and where that leaves a choice the names of its parameters."""
    name = function.lower()
    if name in SIGNATURES:
        return name
    back = "grad" in name or "back" in name or parameters[:1] == ["grad"]
    if "pool" in name or "kernel_size" in parameters or "indices" in parameters:
        mean = any(word in name for word in ("avg", "average", "mean")) or "count_include_pad" in parameters
        return f"{'avg' if mean else 'max'}_pool2d{'_grad' if back else ''}"
    if "weight" in name or list(parameters[:2]) == ["grad", "x"]:
        return "conv2d_weight_grad"
    if "bias" in name or list(parameters) == ["grad"]:
        return "conv2d_bias_grad"
    if "trans" in name or "deconv" in name or "output_padding" in parameters:
        return "conv_transpose2d"
    return "conv2d_input_grad" if back else "conv2d"


def option_values(operation: str, arrays: Sequence[Any], geometry: ConvGeometry) -> dict[str, Any]:
    """Every option of an operation, by name: numbers and pairs of ints."""
    named = _values(geometry)
    names = signature(operation).options
    if "input_shape" in names:
        channels = arrays[1].shape[1] * geometry.groups if operation == "conv2d_input_grad" else arrays[0].shape[1]
        named["input_shape"] = (len(arrays[0]), channels, *geometry.input_size)
    if "weight_shape" in names:
        grad, x = arrays
        named["weight_shape"] = (grad.shape[1], x.shape[1] // geometry.groups, *geometry.kernel_size)
    return {name: named[name] for name in names}


def _values(geometry: ConvGeometry) -> dict[str, Any]:
    pool = isinstance(geometry, PoolGeometry)
    padding = geometry.asked_padding if pool else geometry.padding
    return {"stride": geometry.stride, "dilation": geometry.dilation, "groups": geometry.groups,
            "padding": geometry.near_padding if all(near == far for near, far in padding) else padding,
            "output_padding": geometry.output_padding, "kernel_size": geometry.kernel_size,
            "ceil_mode": pool and geometry.ceil_mode, "count_include_pad": not pool or geometry.count_include_pad}


def _parameters(function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """None where they cannot be known."""
    for candidate in (function, getattr(function, "py_func", None)):
        try:
            return list(inspect.signature(candidate).parameters.values())
        except (TypeError, ValueError):
            continue
    return None


def _taken(name: str, operation: str, parameters: list[inspect.Parameter] | None) -> tuple[tuple[str, ...], str]:
    """(options, style).  Raises KernelError for a signature that is none of this operation."""
    arrays, options = signature(operation)
    if parameters is None or any(p.kind is p.VAR_KEYWORD for p in parameters):
        return options, "names"
    if any(p.name == "geometry" for p in parameters):
        return options, "geometry"
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return options, "order"

    def other(fact: str) -> KernelError:
        return KernelError(f"{name}({', '.join(p.name for p in parameters)}): another signature: it {fact}",
                           f"Needs {operation}({', '.join((*arrays, *options))}), where the last may be missing; --op "
                           "names another operation.")
    first = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][:len(arrays)]
    if len(first) < len(arrays):
        raise other(f"takes {len(first)} of the arrays {' and '.join(arrays)}")
    after = [p for p in parameters if p not in first]
    named = tuple(p.name for p in after if p.name in options)
    unknown = [p.name for p in after if p.name not in options and p.default is p.empty]
    if unknown and (named or len(unknown) > len(options)):
        raise other(f"wants {', '.join(unknown[0 if named else len(options):])}, which {operation} has not")
    by_order = unknown or any(p.kind is p.POSITIONAL_ONLY and p.name in options for p in after)
    taken = options[:len(unknown)] if unknown else named
    missing = [option for option in _NEEDED if option in options and option not in taken]
    if missing:
        raise other(f"takes no {missing[0]}")
    return taken, "order" if by_order else "names"


# -- finding it ---------------------------------------------------------------------------------------------------
def load(target: str, operation: str | None = None) -> ForeignKernel:
    """The kernel `file.py:function` or `package.module:function`.

    Raises ArgumentError or DataError for a name that leads nowhere, KernelError when what it leads to cannot be called.
    """
    if operation is not None:
        signature(operation)
    return ForeignKernel.of(find_function(target), operation, target.rpartition(":")[2])


def find_function(target: str) -> Callable[..., Any]:
    place, _, name = target.rpartition(":")
    if not place or not name:
        raise ArgumentError(f"{target}: a kernel needs its function too: {target.strip(':')}:conv2d")
    module = _import(place)
    function = module
    for part in name.split("."):
        function = getattr(function, part, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        own = [key for key in known if getattr(vars(module)[key], "__module__", None) == module.__name__]
        raise ArgumentError(f"{place}: no function {name!r}; it has {', '.join((own or known)[:8]) or 'none'}")
    return function


def _import(place: str) -> Any:
    """A file whose name ends in .py, else a module; either finds what lies beside it."""
    path = Path(place)
    is_file = path.suffix == ".py"
    if is_file and not path.is_file():
        raise DataError(f"{place}: no such file; name a Python file and a function in it, like my_kernel.py:conv")
    folder = str(path.resolve().parent if is_file else Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        if not is_file:
            return importlib.import_module(place)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules.setdefault(path.stem, module)    # where pickle and Numba's cache look a function's module up
        spec.loader.exec_module(module)
        return module
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and not is_file and f"{place}.".startswith(f"{error.name}."):
            raise DataError(f"{place}: no such module; name one that Python can import, or a file like "
                            "my_kernel.py:conv") from None
        raise KernelError(f"{place}: does not import: {reason(error)}",
                          "Run it with python to see the whole error; what it needs must be installed beside tinyseg."
                          ) from error


# -- what it does in place of an answer ---------------------------------------------------------------------------
def reason(error: BaseException) -> str:
    """An exception on one line, with the place in the user's own file where there is one."""
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text[:300]}{own_line(error)}"


def own_line(error: BaseException) -> str:
    """The last line of the first file on the way to an exception that is neither ours nor installed; or nothing."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith(_ELSEWHERE)]
    own = [f for f in frames if f.filename == frames[0].filename][-1:]
    return "".join(f" ({Path(f.filename).name}, line {f.lineno}: {f.line})" for f in own)


def ended(status: int | None, limit: float) -> str:
    """What became of a process that a kernel ran in, after "it".  status as of subprocess, None: it was stopped."""
    if status is None:
        return f"did not return within {limit:g} s"
    try:
        return f"killed its process ({Signals(-status).name})"
    except ValueError:
        return f"killed its process ({f'signal {-status}' if status < 0 else f'exit status {status}'})"
