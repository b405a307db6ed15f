"""Checkpoints: arrays under names, and what they mean, in one safetensors file.

The file holds numbers and text and is never executed.  A net's weights have their plain names; whatever else a run
keeps goes under a prefix, `optimizer/0/momentum`.  The metadata travel as JSON beside them.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tinyseg.errors import ArgumentError, CheckpointError, DTypeError
from tinyseg.files import replacing

__all__ = ["load_checkpoint", "save_checkpoint", "split_prefix"]

_FORMAT = "tinyseg"
_VERSION = 1
_DTYPES = ("bool", "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32",
           "uint64")


def save_checkpoint(path: str | Path, state: Mapping[str, np.ndarray], metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint; whoever reads `path` sees the old one or this one, never a part.

    state       names to arrays; keep names of other things than weights under a prefix with "/"
    metadata    anything that JSON can hold, say {"model": {"name": "unet", "in_channels": 3, "num_classes": 2}}

    Raises DataError when the file cannot be written, ArgumentError or DTypeError for what cannot be stored.
    """
    from safetensors.numpy import save

    arrays = {}
    for name, value in state.items():
        # A NumPy array in C order, so that its bytes are what its shape says; ascontiguousarray would lose a shape ().
        array = np.asarray(value, order="C")
        if array.dtype.name not in _DTYPES:
            raise DTypeError(f"save_checkpoint: {name} is {array.dtype}; legal: {', '.join(_DTYPES)}")
        arrays[name] = array.astype(array.dtype.newbyteorder("<"), copy=False)
    try:
        text = json.dumps(dict(metadata), ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"save_checkpoint: the metadata do not fit JSON ({error}); "
                            "needs dicts with text keys, lists, text, numbers, True, False, None") from error
    header = {"format": _FORMAT, "version": str(_VERSION), "metadata": text, "crc32": str(_checksum(arrays, text))}
    data = save(arrays, header)
    with replacing(path) as file:
        file.write(data)


def load_checkpoint(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """(state, metadata) as they were given to `save_checkpoint`; the arrays are writable copies.

    Raises CheckpointError, whose text starts with the path, for a file that is missing, broken or something else.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    try:
        with safe_open(path, framework="np") as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT or "metadata" not in header:
                raise CheckpointError(f"{path}: a safetensors file, but no checkpoint of tinyseg; "
                                      "tinyseg.interop.read_weights reads foreign weights")
            if int(header["version"]) > _VERSION:
                raise CheckpointError(f"{path}: checkpoint version {header['version']}, this tinyseg reads up to "
                                      f"{_VERSION}; update tinyseg")
            state = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  it is no dict
        metadata = json.loads(header["metadata"])
        if str(_checksum(state, header["metadata"])) != header["crc32"]:
            raise CheckpointError(f"{path}: the checksum differs: the file was damaged after it was written; "
                                  "take another checkpoint of the run")
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}); "
                              "take another checkpoint of the run") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error}); name a checkpoint file") from error
    return state, metadata


def split_prefix(state: Mapping[str, np.ndarray], prefix: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(what is under `prefix/`, without it; the rest)."""
    start = prefix + "/"
    inside = {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
    return inside, {name: value for name, value in state.items() if not name.startswith(start)}


def _checksum(arrays: Mapping[str, np.ndarray], text: str) -> int:
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        crc = zlib.crc32(f"{name} {array.dtype.name} {array.shape}".encode(), crc)
        crc = zlib.crc32(memoryview(array.reshape(-1)).cast("B") if array.size else b"", crc)
    return crc
