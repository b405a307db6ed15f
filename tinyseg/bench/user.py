"""Somebody's own kernel: a function in a file, called with plain arrays and numbers.

    conv2d(x, weight, stride, padding, dilation, groups)
    conv_transpose2d(x, weight, stride, padding, output_padding, dilation, groups)
    conv2d_input_grad(grad, weight, input_shape, stride, padding, dilation, groups)
    conv2d_weight_grad(grad, x, weight_shape, stride, padding, dilation, groups)
    max_pool2d(x, kernel_size, stride, padding, dilation, ceil_mode)

Arrays are NCHW, float32; sizes are pairs of ints.  The last arguments may be missing: the kernel is then measured on
the layers that do not need them.
"""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinyseg.bench.layers import Layer
from tinyseg.errors import ArgumentError, DataError

__all__ = ["SIGNATURES", "UserKernel", "load"]

SIGNATURES = {
    "conv2d": ("x", "weight", "stride", "padding", "dilation", "groups"),
    "conv_transpose2d": ("x", "weight", "stride", "padding", "output_padding", "dilation", "groups"),
    "conv2d_input_grad": ("grad", "weight", "input_shape", "stride", "padding", "dilation", "groups"),
    "conv2d_weight_grad": ("grad", "x", "weight_shape", "stride", "padding", "dilation", "groups"),
    "max_pool2d": ("x", "kernel_size", "stride", "padding", "dilation", "ceil_mode"),
}
# What a signature measures: the layer's operation and the direction.
_MEASURES = {"conv2d": ("conv2d", "forward"), "conv_transpose2d": ("conv_transpose2d", "forward"),
             "conv2d_input_grad": ("conv2d", "input_grad"), "conv2d_weight_grad": ("conv2d", "weight_grad"),
             "max_pool2d": ("max_pool2d", "forward")}
_NEUTRAL = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "output_padding": (0, 0), "groups": 1,
            "ceil_mode": False}


@dataclass(frozen=True)
class UserKernel:
    """A loaded function, the signature it answers to, and how many of that signature's arguments it takes."""

    name: str
    function: Callable[..., Any]
    signature: str
    takes: int

    @property
    def operation(self) -> str:
        return _MEASURES[self.signature][0]

    @property
    def direction(self) -> str:
        return _MEASURES[self.signature][1]

    def refuses(self, layer: Layer, direction: str) -> str | None:
        """Why the kernel is not for this layer and direction, or None."""
        if (layer.operation, direction) != (self.operation, self.direction):
            return f"it is a {self.signature}"
        for name in SIGNATURES[self.signature][self.takes:]:
            if getattr(layer, name) != _NEUTRAL[name]:
                return f"it takes no {name}"
        return None

    def arguments(self, layer: Layer, arrays: tuple) -> tuple:
        """`arrays` followed by the numbers of the layer, as many as the kernel takes."""
        sizes = {"input_shape": layer.input_shape, "weight_shape": layer.weight_shape}
        names = SIGNATURES[self.signature][len(arrays):self.takes]
        return (*arrays, *(sizes[name] if name in sizes else getattr(layer, name) for name in names))


def load(target: str, signature: str | None = None) -> UserKernel:
    """The function `FILE.py:NAME`.  Its signature is told by its own name, else by the names of its parameters.

    Raises DataError when the file cannot be imported, ArgumentError when there is no such function or it has another
    signature; the text starts with the target.
    """
    file, _, name = target.rpartition(":")
    if not file or not name:
        raise ArgumentError(f"kernel {target!r}: needs FILE.py:FUNCTION")
    module = _import(file)
    function = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise ArgumentError(f"{file}: no function {name!r}; it has {', '.join(known) or 'none'}")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        parameters = inspect.signature(getattr(function, "py_func", lambda *arguments: None)).parameters.values()
    if signature is None:
        signature = _recognize(target, name, [p.name for p in parameters])
    elif signature not in SIGNATURES:
        raise ArgumentError(f"--op {signature!r}; legal: {', '.join(SIGNATURES)}")
    return UserKernel(f"{Path(file).name}:{name}", function, signature, _arguments(target, signature, list(parameters)))


def _import(file: str) -> Any:
    path = Path(file)
    if not path.is_file():
        raise DataError(f"{file}: no such file; name a Python file and a function in it, like my_kernel.py:conv")
    spec = importlib.util.spec_from_file_location(f"_benched_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise DataError(f"{file}: not a Python file; needs one whose name ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module                  # Numba's cache and pickle look a function's module up
    sys.path.insert(0, str(path.parent))             # it may import its neighbours
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise DataError(f"{file}: does not import: {reason(error)}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _recognize(target: str, name: str, parameters: list[str]) -> str:
    if name in SIGNATURES:
        return name
    if parameters[:2] == ["grad", "x"]:
        return "conv2d_weight_grad"
    if parameters[:1] == ["grad"]:
        return "conv2d_input_grad"
    if "kernel_size" in parameters:
        return "max_pool2d"
    if "output_padding" in parameters:
        return "conv_transpose2d"
    if len(parameters) >= 2:
        return "conv2d"
    raise ArgumentError(f"{target}({', '.join(parameters)}): no known signature; needs {_legal('conv2d')}, "
                        f"or another operation's: name it with --op {'|'.join(SIGNATURES)}")


def _arguments(target: str, signature: str, parameters: list[inspect.Parameter]) -> int:
    """How many arguments to give, in order."""
    full = SIGNATURES[signature]
    if any(p.kind is p.VAR_POSITIONAL for p in parameters):
        return len(full)
    named = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p.name for p in named if p.default is p.empty]
    takes = min(len(named), len(full))
    arrays = 1 if signature == "max_pool2d" else 2
    tail = [p.name for p in named[arrays:takes]]
    if takes < arrays or len(needed) > len(full) or tail != list(full[arrays:takes]):
        raise ArgumentError(f"{target}({', '.join(p.name for p in parameters)}): another signature; needs "
                            f"{_legal(signature)}, where the last arguments may be missing")
    return takes


def _legal(signature: str) -> str:
    return f"{signature}({', '.join(SIGNATURES[signature])})"


def reason(error: BaseException) -> str:
    """An exception on one line, with the place in the user's file when there is one."""
    text = " ".join(str(error).split()) or "no message"
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    own = frame is not None and "tinyseg" not in Path(frame.tb_frame.f_code.co_filename).parts
    place = f" (line {frame.tb_lineno} of {Path(frame.tb_frame.f_code.co_filename).name})" if own else ""
    return f"{type(error).__name__}: {text[:300]}{place}"
