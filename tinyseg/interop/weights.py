"""Weights under names, read from the files of PyTorch, safetensors and NumPy.  Nothing in a file is executed."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from tinyseg.checkpoint import load_checkpoint
from tinyseg.errors import ArgumentError, CheckpointError, about
from tinyseg.interop.layouts import standard_names
from tinyseg.interop.tensors import ElementType, StoredTensor, decode
from tinyseg.interop.text import shown
from tinyseg.interop.torch_file import intact_archive, open_stream, open_tar, open_zip

__all__ = ["OWN", "Weights", "read_weights", "rename_weights"]

OWN = "checkpoint of tinyseg"

_SAFE = {"BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
         "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64"}
_USUAL = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
_MOST_DEPTH = 16                                     # dicts inside of dicts
_EXPANSION = 16                                      # bytes of arrays for each byte of the file: views may overlap
_DEFLATED = 100                                      # bytes for each compressed one


@dataclass(frozen=True)
class Weights:
    """What a file holds.

    arrays    names to arrays of their own, in the file's order; bfloat16 became float32
    dtypes    names to the types in the file, "bfloat16" among them
    notes     the plain values beside the tensors, say {"epoch": 90, "best_prec1": 91.8}
    kind      which sort of file it is
    key       the name of the dict that was taken, where the file has several levels
    """

    arrays: dict[str, np.ndarray]
    dtypes: dict[str, str]
    notes: dict[str, Any] = field(default_factory=dict)
    kind: str = ""
    key: str = ""

    @property
    def num_elements(self) -> int:
        """Numbers in all tensors, running statistics included."""
        return sum(array.size for array in self.arrays.values())


def read_weights(path: str | Path, key: str | None = None) -> Weights:
    """Weights from a file of torch.save (.pth, .pt, .th; any version), .safetensors, .npz or a checkpoint of tinyseg.

    The content decides, not the name.  A file of torch.save often keeps the weights in a dict of dicts,
    {"state_dict": ..., "optimizer": ...}; the usual names are known.

    key    which dict, with dots between levels, say "ema" or "models.teacher"; needed where several hold tensors

    Raises CheckpointError, whose text starts with the path, for a file that is missing, damaged or something else, or
    whose pickle names anything but tensors and plain data; ArgumentError for a key that is not in the file.
    """
    path = Path(path)
    with about(str(path)):
        try:
            with path.open("rb") as file:
                return _read(path, file, os.fstat(file.fileno()).st_size, key)
        except OSError as error:
            raise CheckpointError(f"cannot be read ({error.strerror or error}); name a file of weights") from error
        except MemoryError as error:
            raise CheckpointError("holds more than this machine's memory") from error


def rename_weights(weights: Weights) -> tuple[Weights, str]:
    """(the same numbers under the names that tinyseg's nets have for them, whose names they were or "").

    Numbers stay as they are: the first kernel of a net of Caffe still sees blue first, which `load_weights` with
    bgr=True then has to be told.
    """
    names, layout = standard_names(weights.arrays)
    if len(set(names.values())) < len(names):
        raise CheckpointError("two names would become the same; leave them as they are")
    return replace(weights, arrays={names[name]: array for name, array in weights.arrays.items()},
                   dtypes={names[name]: dtype for name, dtype in weights.dtypes.items()}), layout


def _read(path: Path, file: BinaryIO, size: int, key: str | None) -> Weights:
    head = file.read(512)
    file.seek(0)
    # the first eight bytes of .safetensors are the length of its header, which may look like the marks of the others
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size:
        return _flat(*_read_safetensors(path, file), key)
    if head[:2] == b"PK":
        with intact_archive(), zipfile.ZipFile(file) as archive:
            numpy = all(name.endswith(".npy") for name in archive.namelist())
        return _flat(_read_npz(file, size), "NumPy .npz", key) if numpy \
            else _nested(open_zip, file, size, "PyTorch (zip)", key)
    if head[:1] == b"\x80":
        return _nested(open_stream, file, size, "PyTorch (stream, before 1.6)", key)
    if head[257:262] == b"ustar":
        return _nested(open_tar, file, size, "PyTorch (tar, before 0.1.10)", key)
    if head[8:9] == b"{":
        return _flat(*_read_safetensors(path, file), key)
    raise CheckpointError("neither of torch.save, nor .safetensors, nor .npz, by its first bytes"
                          + ("; the file is empty" if not size else ""))


# -- files without levels ------------------------------------------------------------------------------------------
def _flat(tensors: dict[str, tuple[np.ndarray, str]], kind: str, key: str | None) -> Weights:
    if key:
        raise ArgumentError(f"key {key!r}, but a file of the kind {kind} has no levels; leave it out")
    return Weights({name: array for name, (array, _) in tensors.items()},
                   {name: dtype for name, (_, dtype) in tensors.items()}, kind=kind)


def _read_safetensors(path: Path, file: BinaryIO) -> tuple[dict[str, tuple[np.ndarray, str]], str]:
    from safetensors import SafetensorError, deserialize, safe_open

    try:
        with safe_open(path, framework="np") as opened:
            own = (opened.metadata() or {}).get("format") == "tinyseg"
        if own:                                      # the optimiser's numbers are beside the weights, with a slash
            return {name: (array, array.dtype.name) for name, array in load_checkpoint(path)[0].items()
                    if "/" not in name}, OWN
        parts = deserialize(file.read())
    except (SafetensorError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"not a whole .safetensors file ({shown(error)}); take another copy of it") from error
    found = {}
    for name, part in parts:
        if part["dtype"] not in _SAFE:
            raise CheckpointError(f"{shown(name)} is of type {part['dtype']}; legal: {', '.join(_SAFE)}")
        type_ = ElementType(_SAFE[part["dtype"]])
        raw = np.frombuffer(part["data"], type_.raw.newbyteorder("<")).reshape(part["shape"])
        found[name] = decode(raw, type_), type_.name
    return found, "safetensors"


def _read_npz(file: BinaryIO, size: int) -> dict[str, tuple[np.ndarray, str]]:
    found = {}
    with intact_archive(), zipfile.ZipFile(file) as archive:
        whole = sum(info.file_size for info in archive.infolist())
        if whole > _DEFLATED * size + 2 ** 20:
            raise CheckpointError(f"expands from {size} to {whole} bytes; needs at most {_DEFLATED} times as many")
        for info in archive.infolist():
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise CheckpointError(f"the member {shown(info.filename)} is compressed by method "
                                      f"{info.compress_type}; NumPy deflates or stores")
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as member:
                array = _read_npy(member, info.file_size, name)
            found[name] = array, array.dtype.name
    return found


def _read_npy(member: Any, size: int, name: str) -> np.ndarray:
    """One array; its header has to promise what is there, before room is made for it."""
    numpy = np.lib.format
    version = numpy.read_magic(member)
    header = {(1, 0): numpy.read_array_header_1_0, (2, 0): numpy.read_array_header_2_0}.get(version)
    if header is None:
        raise CheckpointError(f"{shown(name)} has version {version} of the .npy format; legal: (1, 0), (2, 0)")
    shape, fortran, dtype = header(member)
    if dtype.kind not in "fiub":
        raise CheckpointError(f"{shown(name)} is of type {dtype}; legal: floats, ints and bool")
    count = 1
    for n in shape:
        count *= n
    if min(shape, default=0) < 0 or count * dtype.itemsize != size - member.tell():
        raise CheckpointError(f"{shown(name)} has shape {shape} of {dtype}, which are not the "
                              f"{size - member.tell()} bytes that the file has for it; take another copy of it")
    raw = np.frombuffer(member.read(), dtype)
    return np.array(raw.reshape(shape[::-1]).T if fortran else raw.reshape(shape), dtype.newbyteorder("="), order="C")


# -- files with levels ---------------------------------------------------------------------------------------------
def _nested(opened: Any, file: BinaryIO, size: int, kind: str, key: str | None) -> Weights:
    with opened(file, size) as root:
        if not isinstance(root, dict):
            raise CheckpointError(f"holds a {'tensor' if isinstance(root, StoredTensor) else type(root).__name__}; "
                                  "needs a dict of tensors, such as a state_dict()")
        dicts = dict(_dicts_of_tensors(root))
        chosen = _choose(dicts, key)
        tensors = {name: value for name, value in dicts[chosen].items() if isinstance(value, StoredTensor)}
        whole = sum(tensor.nbytes for tensor in tensors.values())
        if whole > _EXPANSION * size + 2 ** 20:
            raise CheckpointError(f"its tensors overlap so that {size} bytes become {whole}; "
                                  f"needs at most {_EXPANSION} times as many")
        arrays = {name: tensor.array() for name, tensor in tensors.items()}
    notes = {name: value for level in (root, dicts[chosen]) for name, value in level.items()
             if isinstance(name, str) and _is_plain(value)}
    return Weights(arrays, {name: tensor.type.name for name, tensor in tensors.items()}, notes, kind, chosen)


def _is_plain(value: Any) -> bool:
    """A number or text, or a list of such, as the `mask_values` of a U-Net's classes."""
    return isinstance(value, str | int | float) or (isinstance(value, list)
                                                    and all(isinstance(v, str | int | float) for v in value))


def _dicts_of_tensors(root: dict) -> Iterator[tuple[str, dict]]:
    """(path, dict) of the dicts that hold tensors under text; the path of the root is ""."""
    seen: set[int] = set()                           # a dict may be in many places, even inside of itself
    levels: list[tuple[str, dict, int]] = [("", root, 0)]
    while levels:
        path, level, depth = levels.pop(0)
        if id(level) in seen or depth > _MOST_DEPTH:
            continue
        seen.add(id(level))
        if any(isinstance(value, StoredTensor) and isinstance(name, str) for name, value in level.items()):
            yield path, level
        levels += [(f"{path}.{name}" if path else str(name), value, depth + 1) for name, value in level.items()
                   if isinstance(value, dict)]


def _choose(dicts: Mapping[str, dict], key: str | None) -> str:
    shown = ", ".join(repr(path) for path in dicts) or "none"
    if key is not None:
        if key not in dicts:
            raise ArgumentError(f"key {key!r} holds no tensors; those that do: {shown}")
        return key
    if not dicts:
        raise CheckpointError("holds no tensors under names; needs a dict of tensors, such as a state_dict()")
    for usual in ("", *_USUAL):
        if usual in dicts:
            return usual
    if len(dicts) == 1:
        return next(iter(dicts))
    raise CheckpointError(f"several dicts hold tensors; choose one by key: {shown}")
