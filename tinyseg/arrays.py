"""Where an array lives, and the functions that work there.

Code above the kernels never says `numpy`.  It asks the array for its namespace, the subset of the Python array API
standard that tinyseg uses, so a second kind of array is an addition and no rewrite: whatever answers
`__array_namespace__` and `device` can flow through the graph.
"""

from typing import Any

from tinyseg.errors import ArgumentError

__all__ = ["Array", "Layout", "device_of", "is_array", "namespace"]

Array = Any          # an ndarray, or whatever else answers __array_namespace__


class Layout:
    """An array whose elements lie in an order that only some kernels read; everybody else asks for `plain()`.

    It has the shape, ndim, dtype and device of the array that it stands for.  Kernels that read it are registered
    under its `name`, in place of a device.
    """

    name: str

    def plain(self) -> Array:
        raise NotImplementedError


def namespace(*arrays: Array) -> Any:
    """The array API namespace of `arrays`, which must all live in one place."""
    spaces = {array.__array_namespace__() for array in arrays}
    if len(spaces) != 1:
        names = sorted(device_of(array) for array in arrays)
        raise ArgumentError(f"arrays live on different devices: {', '.join(names)}; move them to one with .to(device)")
    return spaces.pop()


def is_array(thing: Any) -> bool:
    """An ndarray, what else has a namespace, or an array of numba.cuda, which has none: kernels take those too."""
    return hasattr(thing, "__array_namespace__") or hasattr(thing, "__cuda_ndarray__")


def device_of(array: Array) -> str:
    """`"cpu"` for NumPy arrays, `"cuda"` for those of numba.cuda; other kinds of array name their own device."""
    return "cuda" if hasattr(array, "__cuda_ndarray__") else str(array.device)
