"""What kernels make of an array that is promised not to change, such as the packed weights of a net at inference."""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["once", "promise"]

_made: dict[int, dict[Any, Any]] = {}                # by the array's identity, as long as it lives


def promise(array: np.ndarray) -> np.ndarray:
    """Say that nobody will change this array again."""
    if id(array) not in _made:
        _made[id(array)] = {}
        weakref.finalize(array, _made.pop, id(array), None)
    return array


def once(array: np.ndarray, key: Any, make: Callable[[], Any]) -> Any:
    """What `make` gives, made anew each time unless the array was promised to stay as it is."""
    kept = _made.get(id(array))
    if kept is None:
        return make()
    if key not in kept:
        kept[key] = make()
    return kept[key]
