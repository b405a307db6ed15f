"""Memory for large arrays, kept for the next ones.

A fresh array of 67 MB costs 7 to 100 ms before its first element is written: the system hands it out page by page, each
page cleared.  A training step makes and drops the same arrays again and again, so their memory stays here.

A block is free when only the pool refers to it.  NumPy lets every array and every view of one refer to the block
itself, so Python's own count of references tells, in whatever order and on whatever thread they were dropped.
"""

import os
import sys
import threading
from bisect import bisect_left, insort
from math import prod
from typing import Any

import numpy as np

__all__ = ["ALIGNMENT", "Pool", "empty", "empty_like", "past_cache", "pool", "zeros"]

ALIGNMENT = 64                                       # bytes: a line of the cache, and the widest vector
_SMALL = 1 << 16                                     # bytes: less is quick to get, and not worth keeping
_CACHED = 1 << 22                                    # bytes: more has left the second-level cache before it is read
_LARGER = 2                                          # a block may be so many times as large as what it is lent for
_SPARE = 1.3                                         # the pool may hold so many times what was lent at once


class _Block:
    """Memory from the system, the first aligned byte in it, and when it was lent last."""

    __slots__ = ("memory", "start", "used")

    def __init__(self, size: int):
        self.memory = np.empty(size + ALIGNMENT, np.uint8)
        self.start = -self.memory.__array_interface__["data"][0] % ALIGNMENT
        self.used = 0

    @property
    def size(self) -> int:
        return self.memory.size - ALIGNMENT

    @property
    def free(self) -> bool:
        return sys.getrefcount(self.memory) == 2     # this block, and the argument

    def array(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        return np.ndarray(shape, dtype, self.memory, self.start)


class Pool:
    """Lends memory to arrays.

    It never holds more than `_SPARE` times what was lent at the same time: before it asks the system for more, free
    blocks go back, those first that have been idle longest.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._blocks: list[_Block] = []              # by size
        self._clock = 0
        self._most = 0                               # bytes lent at the same time, so far

    @property
    def held(self) -> int:
        """Bytes from the system, lent or free."""
        return sum(block.size for block in self._blocks)

    @property
    def lent(self) -> int:
        """Bytes of blocks that arrays use now."""
        return sum(block.size for block in self._blocks if not block.free)

    def empty(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """An array of whatever was in the memory before, which starts at a line of the cache."""
        size = prod(shape) * dtype.itemsize
        if size < _SMALL:
            return _Block(size).array(shape, dtype)
        with self._lock:
            self._clock += 1
            block = self._find(size) or self._add(size)
            block.used = self._clock
            return block.array(shape, dtype)

    def release(self) -> None:
        """Give all free blocks back to the system."""
        with self._lock:
            self._blocks = [block for block in self._blocks if not block.free]
            self._most = self.held

    def _find(self, size: int) -> _Block | None:
        """The smallest free block that fits, unless it would waste too much."""
        for i in range(bisect_left(self._blocks, size, key=_size), len(self._blocks)):
            if self._blocks[i].size > _LARGER * size:
                break
            if self._blocks[i].free:
                return self._blocks[i]
        return None

    def _add(self, size: int) -> _Block:
        self._most = max(self._most, self.lent + size)
        surplus = self.held + size - _SPARE * self._most
        for block in sorted((b for b in self._blocks if b.free), key=_last_use):
            if surplus <= 0:
                break
            self._blocks.remove(block)
            surplus -= block.size
        block = _Block(size)
        insort(self._blocks, block, key=_size)
        return block


def _size(block: _Block) -> int:
    return block.size


def _last_use(block: _Block) -> int:
    return block.used


pool = Pool()


def empty(shape: int | tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    """As np.empty, from the pool, and aligned to `ALIGNMENT` bytes."""
    return pool.empty(shape if isinstance(shape, tuple) else (shape,), np.dtype(dtype))


def empty_like(array: np.ndarray) -> np.ndarray:
    """C-contiguous, of this array's shape and type."""
    return pool.empty(array.shape, array.dtype)


def zeros(shape: int | tuple[int, ...], dtype: Any = np.float32) -> np.ndarray:
    array = empty(shape, dtype)
    array.fill(0)
    return array


def past_cache(array: np.ndarray) -> bool:
    """Whether to write an array's rows past the cache: it is large, and each row begins at a line."""
    row = array.itemsize * prod(array.shape[2:])
    return array.nbytes >= _CACHED and row % ALIGNMENT == 0 and array.__array_interface__["data"][0] % ALIGNMENT == 0


def _start_anew() -> None:
    """A forked process must not wait for a lock that a thread of its parent holds."""
    pool._lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
