"""Who can do what: every kernel has an operation, the name of its algorithm, and the device whose arrays it takes.

A kernel's module is imported when the kernel is first wanted, since compilers are slow to import.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from tinyseg.arithmetic import ConvGeometry
from tinyseg.arrays import Layout, device_of, is_array, namespace
from tinyseg.errors import ArgumentError
from tinyseg.precision import permits

__all__ = ["Kernel", "algorithms", "as_it_lies", "find", "plain", "register", "run"]


@dataclass(frozen=True)
class Kernel:
    """One way to do one operation.

    refuses      maps a ConvGeometry to the reason why this kernel cannot do it, or to None when it can
    dtypes       of the arrays that it takes; empty: all
    precision    how exact it is; "auto" takes only kernels that the chosen precision permits, see `precision`
    transforms   does it multiply sums of its operands?  Its error is then relative to the largest result, not to each
    suits        is it the one to take for this geometry and these shapes of the arrays, if it can?  For "auto" alone
    epilogue     does it take `bias` and `relu`, and apply them to the result before writing it?
    definition   is it here to be read and compared with?  Never the choice of "auto" while there is another
    """

    operation: str
    algorithm: str
    device: str
    source: str | Callable[..., Any]                 # the function, or the module that has one named like the operation
    refuses: Callable[[ConvGeometry], str | None] = lambda geometry: None
    dtypes: tuple[str, ...] = ()
    precision: str = "highest"
    transforms: bool = False
    suits: Callable[..., bool] = lambda geometry, *shapes: True
    epilogue: bool = False
    definition: bool = False

    @property
    def function(self) -> Callable[..., Any]:
        return self.source if callable(self.source) else getattr(import_module(self.source), self.operation)

    def cannot(self, geometry: ConvGeometry | None, dtype: str | None = None) -> str | None:
        """Why it cannot do this geometry with arrays of this dtype, or None."""
        if dtype is not None and self.dtypes and dtype not in self.dtypes:
            return f"it takes {' and '.join(self.dtypes)}, no {dtype}"
        return self.refuses(geometry) if geometry is not None else None


# Set by `tune.autotune`: chooses among the kernels of an operation by measurement, or says None.
tuned: Callable[..., Kernel | None] | None = None
_kernels: dict[tuple[str, str], dict[str, Kernel]] = {}


def register(operation: str, algorithm: str, source: str | Callable[..., Any], *, device: str = "cpu",
             **properties: Any) -> None:
    """Add a kernel, or replace the one of the same name.  `"auto"` prefers what was registered earlier.

    properties    `refuses`, `dtypes`, `precision`, `transforms`, `suits`, `epilogue`; see `Kernel`
    """
    if algorithm == "auto":
        raise ArgumentError('register: "auto" is the choice among algorithms; give the kernel a name of its own')
    _kernels.setdefault((operation, device), {})[algorithm] = Kernel(operation, algorithm, device, source, **properties)


def algorithms(operation: str, device: str = "cpu", dtype: str | None = None) -> list[str]:
    """The names of the algorithms for `operation`, on arrays of `dtype` if given; the preferred first."""
    return [name for name, kernel in _kernels.get((operation, device), {}).items()
            if dtype is None or kernel.cannot(None, dtype) is None]


def stated_precision(algorithm: str) -> str | None:
    """How exact the kernels of that name are, or None where there is none."""
    return next((known[algorithm].precision for known in _kernels.values() if algorithm in known), None)


def find(operation: str, algorithm: str = "auto", device: str = "cpu", geometry: ConvGeometry | None = None,
         dtype: str | None = None, *shapes: tuple[int, ...], without: str | None = None) -> Kernel:
    """The kernel of that name.  For `"auto"` the first registered that can do this geometry and dtype, is as exact as
    the chosen precision asks, and suits these shapes; not the one called `without`.

    Raises ArgumentError that lists the names, or says why the named one cannot.
    """
    known = _kernels.get((operation, device))
    if not known:
        raise ArgumentError(f"{operation}: no kernel for arrays on {device!r}; move them with .to(device)")
    if algorithm == "auto":
        for kernel in sorted(known.values(), key=lambda kernel: kernel.definition):
            if (kernel.algorithm != without and permits(kernel.precision) and kernel.cannot(geometry, dtype) is None
                    and (geometry is None or not shapes or kernel.suits(geometry, *shapes))):
                return kernel
        raise ArgumentError(f"{operation}: no kernel on {device!r} can do {geometry} in {dtype or 'any dtype'}")
    if algorithm not in known:
        raise ArgumentError(f"{operation}: no algorithm {algorithm!r}; legal: auto, {', '.join(known)}")
    reason = known[algorithm].cannot(geometry, dtype)
    if reason:
        raise ArgumentError(f"{operation}: algorithm {algorithm!r} cannot do this: {reason}")
    return known[algorithm]


def run(operation: str, *arguments: Any, algorithm: str = "auto", bias: Any = None, relu: bool = False,
        without: str | None = None) -> Any:
    """Call the kernel for these arguments: the first array says where, a ConvGeometry says whether it can.

    bias, relu    then add bias[c] to channel c of the result, and cut it off below 0
    without       the name of a kernel that leaves what it does not do itself to `"auto"`, and must not be chosen again

    Kernels see C-contiguous, aligned, writable arrays and need no second version for others.  Where an array has
    another layout, a kernel for that comes first; it returns None to leave the call to the others.
    """
    layout = next((a.name for a in arguments if isinstance(a, Layout)), None)
    if layout is not None and algorithm == "auto":
        for kernel in _kernels.get((operation, layout), {}).values():
            y = kernel.function(*arguments)
            if y is not None:
                return y
    arguments = tuple(plain(a) if is_array(a) else a for a in arguments)
    arrays = [a for a in arguments if is_array(a)]
    geometry = next((a for a in arguments if isinstance(a, ConvGeometry)), None)
    call = geometry, _name(arrays[0].dtype), *(a.shape for a in arrays)
    kernel = None
    if algorithm == "auto" and tuned is not None and without is None:
        kernel = tuned(_kernels.get((operation, device_of(arrays[0])), {}), arguments, *call[:2], call[2:])
    kernel = kernel or find(operation, algorithm, device_of(arrays[0]), *call, without=without)
    if kernel.epilogue:
        return kernel.function(*arguments, bias=bias, relu=relu)
    y = kernel.function(*arguments)
    if bias is not None:
        y += namespace(y).reshape(bias, (-1, 1, 1))
    return namespace(y).maximum(y, 0) if relu else y


_name = cache(str)                                   # of a dtype: NumPy makes it anew each time


def as_it_lies(array: Any) -> Any:
    """As `plain`, but an array of another layout stays what it is."""
    return array if isinstance(array, Layout) else plain(array)


def plain(array: Any) -> Any:
    """The array itself if it is C-contiguous, aligned, writable and in the machine's byte order, else a copy.

    Of another layout the array that it stands for.
    """
    if isinstance(array, Layout):
        return array.plain()
    if device_of(array) == "cuda":
        if not array.is_c_contiguous():
            raise ArgumentError(f"array of shape {array.shape} on 'cuda': needs C-contiguous; make it so before it "
                                "goes there")
        return array
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    flags = array.flags
    if flags["C_CONTIGUOUS"] and flags["ALIGNED"] and flags["WRITEABLE"]:
        return array
    copying = _kernels.get(("copy", device_of(array)))
    return next(iter(copying.values())).function(array) if copying else array.copy(order="C")
