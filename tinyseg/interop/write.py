"""Writes weights for others: files that torch.load(weights_only=True), safetensors and numpy.load open."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinyseg.errors import ArgumentError, DTypeError, about
from tinyseg.files import replacing
from tinyseg.interop.text import shown
from tinyseg.interop.torch_file import DTYPES, STORAGES

__all__ = ["SUFFIXES", "write_weights"]


def write_weights(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays or tensors under their names, say a net's `state_dict()`; the suffix decides in which format.

    .pth, .pt, .th     for torch.load, also with weights_only=True, in PyTorch 1.6 and later
    .safetensors       for safetensors, with the metadata {"format": "pt"} that other libraries look for
    .npz               for numpy.load

    Whoever reads `path` sees the old file or the new one, never a part.  Raises ArgumentError for another suffix or
    name, DTypeError for what the formats do not hold, DataError where the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ArgumentError(f"{path}: suffix {path.suffix!r}; legal: {', '.join(SUFFIXES)}")
    with about(str(path)):
        prepared = {name: _prepared(name, value) for name, value in arrays.items()}
        with replacing(path) as file:
            SUFFIXES[path.suffix.lower()](file, prepared)


def _prepared(name: Any, value: Any) -> np.ndarray:
    """C-ordered and little-endian, so that its bytes are what its shape says."""
    if not isinstance(name, str):
        raise ArgumentError(f"a name is {name!r}; needs text")
    array = np.asarray(value.detach().data if hasattr(value, "detach") else value, order="C")
    if array.dtype.name not in DTYPES:
        raise DTypeError(f"{name} is {array.dtype}; legal: {', '.join(d for d in DTYPES if d != 'bfloat16')}")
    return array.astype(array.dtype.newbyteorder("<"), copy=False)


# -- torch.save ----------------------------------------------------------------------------------------------------
_STORAGE_OF = {dtype: storage for storage, dtype in STORAGES.items()}


def _write_torch(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """A zip file: the pickle of an OrderedDict of tensors, and the bytes of each."""
    items = b"".join(_value(name) + _tensor(str(k), array) for k, (name, array) in enumerate(arrays.items()))
    state = _ORDERED_DICT + pickle.MARK + items + pickle.SETITEMS
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", pickle.PROTO + b"\2" + state + pickle.STOP)
        archive.writestr("archive/byteorder", "little")
        for k, array in enumerate(arrays.values()):
            archive.writestr(f"archive/data/{k}", array.tobytes())
        archive.writestr("archive/version", "3\n")


def _tensor(key: str, array: np.ndarray) -> bytes:
    """A call that rebuilds a tensor as a view of storage `key`.

    Types younger than the typed storages lie in one of bytes, and are named apart.
    """
    strides = tuple(s // array.itemsize for s in array.strides)
    view = (_value(0), _value(array.shape), _value(strides), _value(False), _ORDERED_DICT)
    if storage := _STORAGE_OF.get(array.dtype.name):
        return _call("torch._utils", "_rebuild_tensor_v2", _storage("torch", storage, key, array.size), *view)
    return _call("torch._utils", "_rebuild_tensor_v3", _storage("torch.storage", "UntypedStorage", key, array.nbytes),
                 *view, _name("torch", array.dtype.name))


def _storage(module: str, name: str, key: str, length: int) -> bytes:
    return _tuple(_value("storage"), _name(module, name), _value(key), _value("cpu"), _value(length)) + pickle.BINPERSID


def _value(value: Any) -> bytes:
    """The operations that push a plain value: its own pickle without PROTO and STOP."""
    return pickle.dumps(value, 2)[2:-1]


def _name(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _tuple(*items: bytes) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def _call(module: str, name: str, *arguments: bytes) -> bytes:
    return _name(module, name) + _tuple(*arguments) + pickle.REDUCE


_ORDERED_DICT = _call("collections", "OrderedDict")


# -- others --------------------------------------------------------------------------------------------------------
def _write_safetensors(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save

    try:
        file.write(save(dict(arrays), {"format": "pt"}))
    except SafetensorError as error:
        raise ArgumentError(f"safetensors does not take these names ({shown(error)})") from error


def _write_npz(file: BinaryIO, arrays: Mapping[str, np.ndarray]) -> None:
    """As numpy.savez, which takes no array named "file"."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


SUFFIXES: dict[str, Callable[[BinaryIO, Mapping[str, np.ndarray]], None]] = {
    ".pth": _write_torch, ".pt": _write_torch, ".th": _write_torch,
    ".safetensors": _write_safetensors, ".npz": _write_npz}
