"""Tensors as files describe them: a view with offset, size and strides into a storage, which is a row of bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tinyseg.errors import CheckpointError
from tinyseg.interop.text import shown

__all__ = ["ElementType", "Storage", "StoredTensor", "decode"]

_MOST_AXES = 64                                      # of a NumPy array
_MOST = 2 ** 63                                      # of bytes, of which addresses have no more


@dataclass(frozen=True)
class ElementType:
    """What one number is: a NumPy name, or "bfloat16", the upper half of a float32, which NumPy lacks."""

    name: str

    @property
    def raw(self) -> np.dtype:
        """The type under which the bytes are read."""
        return np.dtype({"bfloat16": "uint16", "bool": "uint8"}.get(self.name, self.name))

    @property
    def size(self) -> int:
        """Bytes."""
        return self.raw.itemsize


def decode(raw: np.ndarray, type_: ElementType) -> np.ndarray:
    """A C-ordered array of its own, in this machine's byte order, from `raw` of type `type_.raw`."""
    if type_.name == "bfloat16":
        return np.left_shift(raw, 16, dtype=np.uint32, order="C").view(np.float32)
    if type_.name == "bool":
        return np.not_equal(raw, 0, order="C")
    return np.array(raw, dtype=type_.name, order="C")


class Storage:
    """`length` elements, whose bytes `read` fetches when they are needed.

    read          returns exactly `nbytes` bytes
    big_endian    the order of bytes within an element
    """

    def __init__(self, key: Any, type_: ElementType, length: Any, read: Callable[[Storage], Any],
                 big_endian: bool = False):
        if type(length) is not int or not 0 <= length < _MOST:
            raise CheckpointError(f"storage {shown(key)} has length {shown(length)}; needs 0 to 2^63 - 1")
        self.key, self.type, self.length = key, type_, length
        self._read, self.big_endian = read, big_endian

    @property
    def nbytes(self) -> int:
        return self.length * self.type.size

    @cached_property
    def bytes(self) -> Any:
        return self._read(self)


@dataclass(frozen=True)
class StoredTensor:
    """Element (i, j, ...) is number offset + i·stride[0] + j·stride[1] + ... of the storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]
    type: ElementType

    def __post_init__(self) -> None:
        """Every element has to lie inside of the storage; anything else would read memory that is not the file's."""
        for what, values in (("offset", (self.offset,)), ("size", self.size), ("stride", self.stride)):
            if type(values) is not tuple or any(type(v) is not int or v < 0 for v in values):
                raise CheckpointError(f"a tensor has {what} {shown(values)}; needs whole numbers from 0")
        if len(self.size) != len(self.stride) or len(self.size) > _MOST_AXES:
            raise CheckpointError(f"a tensor has {len(self.size)} sizes and {len(self.stride)} strides; "
                                  f"needs as many of both, at most {_MOST_AXES}")
        if math.prod(max(n, 1) for n in self.size) >= _MOST // self.type.size:
            raise CheckpointError(f"a tensor has size {shown(self.size)}; needs fewer than 2^63 bytes")
        last = self.offset + sum((n - 1) * s for n, s in zip(self.size, self.stride, strict=True))
        length = self.storage.nbytes // self.type.size
        if 0 not in self.size and last >= length:    # one without elements may lie anywhere
            raise CheckpointError(f"a tensor of size {shown(self.size)} with strides {shown(self.stride)} ends at "
                                  f"element {shown(last)} of storage {shown(self.storage.key)}, which has {length}; "
                                  "needs offset + Σ (size-1)·stride < length")

    @property
    def nbytes(self) -> int:
        """Bytes of the array that `array` returns."""
        return math.prod(self.size) * (4 if self.type.name == "bfloat16" else self.type.size)

    def array(self) -> np.ndarray:
        """The elements, in an array of their own; bfloat16 as float32."""
        order = self.type.raw.newbyteorder(">" if self.storage.big_endian else "<")
        whole = self.storage.nbytes // self.type.size
        if 0 in self.size:
            return decode(np.empty(self.size, order), self.type)
        elements = np.frombuffer(self.storage.bytes, order, whole)
        strides = [s * self.type.size if n > 1 else 0 for n, s in zip(self.size, self.stride, strict=True)]
        return decode(np.lib.stride_tricks.as_strided(elements[self.offset:], self.size, strides), self.type)
