"""Memory full of nan, so that a cell that nobody wrote shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["poisoned_memory"]

_HEADERS = (0, 16, 32, 48, 64, 80, 96, 128)          # bytes that an allocator may put before an array


@contextmanager
def poisoned_memory(like: np.ndarray) -> Iterator[None]:
    """Fresh arrays hold nan: those of np.empty, and those that compiled code makes of blocks of `like`'s size."""
    empty, empty_like = np.empty, np.empty_like

    def poison(array: np.ndarray) -> np.ndarray:
        if array.dtype.kind in "fc":
            array.fill(np.nan)
        elif array.dtype.kind in "iu":
            array.fill(np.iinfo(array.dtype).max)
        return array

    def poisoned(*arguments: Any, **options: Any) -> np.ndarray:
        return poison(empty(*arguments, **options))

    def poisoned_like(*arguments: Any, **options: Any) -> np.ndarray:
        return poison(empty_like(*arguments, **options))

    blocks = [np.full(max(1, (like.nbytes + extra) // 8), np.nan) for extra in _HEADERS for _ in range(2)]
    del blocks                                       # an allocator gives out first what was freed last
    np.empty, np.empty_like = poisoned, poisoned_like
    try:
        yield
    finally:
        np.empty, np.empty_like = empty, empty_like
