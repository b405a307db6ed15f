"""What kernels make of an array that is not about to change, such as the packed weights of a net at inference."""

import weakref
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

__all__ = ["forget", "once", "promise"]


class _Version(Protocol):
    count: int                                       # of changes so far


class _Kept:
    def __init__(self, version: _Version | None):
        self._version, self._count = version, version and version.count
        self._ended = False
        self.made: dict[Any, Any] = {}

    @property
    def stands(self) -> bool:
        return not self._ended and (self._version is None or self._version.count == self._count)

    def end(self) -> None:
        self._ended = True
        self.made.clear()


_kept: dict[int, _Kept] = {}                         # by the array's identity, as long as it lives


def promise(array: np.ndarray, version: _Version | None = None) -> None:
    """Say that nobody will change this array, or only together with the count of its version."""
    if id(array) not in _kept:
        weakref.finalize(array, _kept.pop, id(array), None)
    elif _kept[id(array)].stands:
        return
    _kept[id(array)] = _Kept(version)


def forget(array: np.ndarray) -> None:
    """End a promise, and let go of what was made of the array."""
    if id(array) in _kept:
        _kept[id(array)].end()


def once(array: np.ndarray, key: Any, make: Callable[[], Any]) -> Any:
    """What `make` gives, made anew each time unless the array was promised to stay as it is."""
    kept = _kept.get(id(array))
    if kept is None or not kept.stands:
        return make()
    if key not in kept.made:
        kept.made[key] = make()
    return kept.made[key]
