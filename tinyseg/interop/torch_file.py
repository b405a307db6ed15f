"""The files of torch.save, of three generations, read without PyTorch.

    zip       since 1.6: data.pkl, and the bytes of each storage in a member data/KEY, not compressed
    stream    0.1.10 to 1.5: pickles of a magic number, a version, facts about the machine, the object, the storages'
              keys; then each storage as its length (8 bytes) and its elements
    tar       before: members storages, tensors and pickle, where each tensor has an entry of its own

In each, tensors are calls of `torch._utils._rebuild_tensor...` on storages, which are named by persistent ids.
"""

from __future__ import annotations

import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO

from tinyseg.errors import CheckpointError, TinysegError
from tinyseg.interop.tensors import ElementType, Storage, StoredTensor
from tinyseg.interop.text import shown
from tinyseg.interop.unpickle import Constructor, unpickle

__all__ = ["DTYPES", "STORAGES", "intact_archive", "open_stream", "open_tar", "open_zip"]

_MAGIC = 0x1950a86a20f9469cfc6c
_VERSION = 1001
_WHOLE = "take another copy of the file"

# what PyTorch calls a storage: its elements
STORAGES = {"FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16",
            "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16",
            "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool"}
DTYPES = (*STORAGES.values(), "uint16", "uint32", "uint64")


@contextmanager
def intact_archive() -> Iterator[None]:
    """What the readers of archives say of a damaged one, in our words."""
    try:
        yield
    except TinysegError:
        raise
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, struct.error, NotImplementedError, RuntimeError,
            ValueError, KeyError, OverflowError, EOFError) as error:
        raise CheckpointError(f"the archive is damaged ({shown(error)}); {_WHOLE}") from error


# -- what a pickle may build ---------------------------------------------------------------------------------------
def _ordered_dict(pairs: Any = ()) -> dict:
    if type(pairs) not in (tuple, list) or any(type(p) not in (tuple, list) or len(p) != 2 or type(p[0]) is not str
                                               for p in pairs):
        raise CheckpointError(f"the pickle builds an OrderedDict from something else than pairs; {_WHOLE}")
    return dict(pairs)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any = False, hooks: Any = None,
            metadata: Any = None) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise CheckpointError(f"a tensor is rebuilt from a {type(storage).__name__}; needs a storage")
    if metadata:
        raise CheckpointError("a tensor is a lazy conjugate or negation; needs one of plain numbers")
    return StoredTensor(storage, offset, size, stride, storage.type)


def _tensor_v3(storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, dtype: Any,
               metadata: Any = None) -> StoredTensor:
    """Of types younger than the typed storages: the storage is of bytes, the type comes apart."""
    found = _tensor(storage, 0, (0,), (1,), metadata=metadata)
    if not isinstance(dtype, ElementType):
        raise CheckpointError(f"a tensor has a {type(dtype).__name__} as dtype; needs a torch.dtype")
    return StoredTensor(found.storage, offset, size, stride, dtype)


def _parameter(data: Any, requires_grad: Any = True, hooks: Any = None) -> StoredTensor:
    if not isinstance(data, StoredTensor):
        raise CheckpointError(f"a parameter is rebuilt from a {type(data).__name__}; needs a tensor")
    return data


def _size(values: Any = ()) -> tuple:
    if type(values) not in (tuple, list):
        raise CheckpointError(f"a torch.Size is built from a {type(values).__name__}; needs a tuple")
    return tuple(values)


_TYPES = {name: ElementType(dtype) for name, dtype in STORAGES.items()}
_NAMES: dict[str, Any] = {
    "collections OrderedDict": Constructor(_ordered_dict),
    "torch._utils _rebuild_tensor": Constructor(_tensor),
    "torch._utils _rebuild_tensor_v2": Constructor(_tensor),
    "torch._utils _rebuild_tensor_v3": Constructor(_tensor_v3),
    "torch._utils _rebuild_parameter": Constructor(_parameter),
    "torch Size": Constructor(_size),
    "torch device": Constructor(lambda *parts: ":".join(str(p)[:40] for p in parts)),
    "torch.storage UntypedStorage": ElementType("uint8"),
    **{f"{module} {name}": type_ for name, type_ in _TYPES.items() for module in ("torch", "torch.cuda")},
    **{f"{module} {name.replace('Storage', 'Tensor')}": type_ for name, type_ in _TYPES.items()
       for module in ("torch", "torch.cuda")},
    **{f"torch {dtype}": ElementType(dtype) for dtype in DTYPES},
}


class _Storages(dict):
    """Storages by key: each is made once, and every mention has to agree."""

    def add(self, key: Any, type_: Any, length: Any, read: Callable[[Storage], Any],
            big_endian: bool = False) -> Storage:
        if type(key) not in (str, int) or not isinstance(type_, ElementType):
            raise CheckpointError(f"a storage is described by a {type(key).__name__} and a {type(type_).__name__}; "
                                  "needs its key and its type")
        storage = Storage(key, type_, length, read, big_endian)
        known = self.setdefault(key, storage)
        if known.nbytes != storage.nbytes:
            raise CheckpointError(f"storage {shown(key)} has {known.nbytes} bytes and then {storage.nbytes}; {_WHOLE}")
        return known if known.type == type_ else storage


# -- zip -----------------------------------------------------------------------------------------------------------
@contextmanager
def open_zip(file: BinaryIO, size: int) -> Iterator[Any]:
    """The object in a zip file; its tensors can be read as long as the context lasts."""
    with intact_archive(), zipfile.ZipFile(file) as archive:
        members = _members(archive, size)
        roots = [name.removesuffix("data.pkl") for name in members if name.split("/")[1:] == ["data.pkl"]]
        if len(roots) != 1:
            raise CheckpointError(f"a zip file with {len(roots)} members */data.pkl; torch.save writes one")
        root = roots[0]
        order = archive.read(members[root + "byteorder"]) if root + "byteorder" in members else b"little"
        storages = _Storages()

        def read(storage: Storage) -> bytes:
            return archive.read(members[f"{root}data/{storage.key}"])

        def persistent_load(saved: Any) -> Storage:
            key, type_, length, _ = _storage_id(saved)
            storage = storages.add(key, type_, length, read, order.strip() == b"big")
            member = members.get(f"{root}data/{key}")
            if member is None or member.file_size != storage.nbytes:
                raise CheckpointError(f"storage {shown(key)} needs {storage.nbytes} bytes and its member has "
                                      f"{'none' if member is None else member.file_size}; {_WHOLE}")
            return storage

        yield unpickle(BytesIO(archive.read(members[root + "data.pkl"])), _NAMES, persistent_load)


def _members(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """By name.  Stored as they are, one behind the other: then no small file can swell to a large one."""
    members = {info.filename: info for info in archive.infolist()}
    if any(name.split("/")[1:] == ["constants.pkl"] for name in members):
        raise CheckpointError("a TorchScript program, not weights; save its state_dict() with torch.save")
    if len(members) != len(archive.infolist()):
        raise CheckpointError(f"a zip file with two members of one name; {_WHOLE}")
    for info in members.values():
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise CheckpointError(f"the member {shown(info.filename)} is compressed; "
                                  "torch.save stores members as they are")
    if sum(info.file_size for info in members.values()) > size:
        raise CheckpointError("a zip file whose members overlap; torch.save writes one behind the other")
    return members


def _storage_id(saved: Any) -> tuple[Any, Any, Any, Any]:
    """(key, type, length, view) of the persistent id ("storage", type, key, location, length[, view])."""
    if type(saved) is not tuple or len(saved) not in (5, 6) or saved[0] != "storage":
        raise CheckpointError("the pickle refers to something that is no storage; "
                              "save net.state_dict(), not the net itself")
    return saved[2], saved[1], saved[4], saved[5] if len(saved) == 6 else None


# -- stream --------------------------------------------------------------------------------------------------------
@contextmanager
def open_stream(file: BinaryIO, size: int) -> Iterator[Any]:
    """The object in a file of pickles and storages, one behind the other."""
    if unpickle(file, {}) != _MAGIC:
        raise CheckpointError("a pickle, but not one of torch.save; legal: files of torch.save, .safetensors, .npz")
    if (version := unpickle(file, {})) != _VERSION:
        raise CheckpointError(f"torch.save format {shown(version)}; {_VERSION} is the one that exists")
    unpickle(file, {})                               # sizes of C types; numbers are little-endian in every file
    storages = _Storages()
    data: dict[Any, bytes] = {}

    def read(storage: Storage) -> Any:
        if storage.key not in data:
            raise CheckpointError(f"storage {shown(storage.key)} is not in the file; {_WHOLE}")
        return data[storage.key]

    def persistent_load(saved: Any) -> Storage:
        key, type_, length, view = _storage_id(saved)
        storage = storages.add(key, type_, length, read)
        return storage if view is None else _view(storage, view)

    found = unpickle(file, _NAMES, persistent_load)
    keys = unpickle(file, {})
    if type(keys) is not list or any(type(key) is not str or key not in storages for key in keys):
        raise CheckpointError(f"the list of storages names others than the tensors do; {_WHOLE}")
    for key in keys:
        data[key] = _storage_bytes(file, size, storages[key])
    yield found


def _view(root: Storage, view: Any) -> Storage:
    """A storage that is a part of another: (key, offset, length), as in files before 0.4."""
    if type(view) is not tuple or len(view) != 3 or any(type(v) is not int or v < 0 for v in view[1:]):
        raise CheckpointError(f"a view of storage {shown(root.key)} is not (key, offset, length); {_WHOLE}")
    key, offset, length = view
    if offset + length > root.length:
        raise CheckpointError(f"a view of storage {shown(root.key)} ends at element {shown(offset + length)} "
                              f"of {root.length}")
    start = offset * root.type.size
    return Storage(key, root.type, length, lambda part: memoryview(root.bytes)[start:start + part.nbytes])


def _storage_bytes(file: BinaryIO, size: int, storage: Storage) -> bytes:
    """The bytes of a storage that starts here: its length, its elements."""
    (length,) = _unpack(file, "<q")
    if length != storage.length:
        raise CheckpointError(f"storage {shown(storage.key)} has {storage.length} elements and its data say {length}; "
                              f"{_WHOLE}")
    if storage.nbytes > size - file.tell():
        raise CheckpointError(f"storage {shown(storage.key)} needs {storage.nbytes} bytes and the file has "
                              f"{size - file.tell()} left: it is cut short; {_WHOLE}")
    return file.read(storage.nbytes)


def _unpack(file: BinaryIO, form: str) -> tuple[int, ...]:
    data = file.read(struct.calcsize(form))
    if len(data) < struct.calcsize(form):
        raise CheckpointError(f"the file is cut short; {_WHOLE}")
    return struct.unpack(form, data)


# -- tar -----------------------------------------------------------------------------------------------------------
@contextmanager
def open_tar(file: BinaryIO, size: int) -> Iterator[Any]:
    """The object in a tar file.  Nothing is unpacked onto the disk."""
    with intact_archive(), tarfile.open(fileobj=file, mode="r:") as archive:
        storages = _tar_storages(_member(archive, "storages", size))
        objects = {**storages, **_tar_tensors(_member(archive, "tensors", size), storages)}

        def persistent_load(saved: Any) -> Any:
            if type(saved) is not str or not saved.isdecimal() or len(saved) > 20 or int(saved) not in objects:
                raise CheckpointError("the pickle refers to something that is neither tensor nor storage; "
                                      "save net.state_dict(), not the net itself")
            return objects[int(saved)]

        yield unpickle(_member(archive, "pickle", size), _NAMES, persistent_load)


def _the_bytes(data: bytes, storage: Storage) -> bytes:
    return data


def _no_bytes(storage: Storage) -> bytes:
    return b""


def _member(archive: tarfile.TarFile, name: str, size: int) -> BytesIO:
    found = [info for info in archive if info.name == name]
    if len(found) != 1 or not found[0].isreg() or found[0].issparse() or found[0].size > size:
        raise CheckpointError(f"a tar file without one plain member {name}; torch.save writes storages, tensors and "
                              "pickle")
    data = archive.extractfile(found[0])
    assert data is not None                          # plain members have data
    return BytesIO(data.read())


def _tar_storages(file: BytesIO) -> dict[int, Storage]:
    size = len(file.getbuffer())
    found: dict[int, Storage] = {}
    for _ in range(_count(file)):
        key, _, type_ = _entry(file)
        if not isinstance(type_, ElementType):
            raise CheckpointError(f"storage {key} has no type; {_WHOLE}")
        (length,) = _unpack(file, "<q")
        file.seek(-8, 1)
        data = _storage_bytes(file, size, Storage(key, type_, length, _no_bytes))
        found[key] = Storage(key, type_, length, partial(_the_bytes, data))
    views = unpickle(file, {})
    if type(views) is not list or any(type(v) is not tuple or len(v) != 4 or type(v[1]) is not int
                                      or v[1] not in found for v in views):
        raise CheckpointError(f"the views of storages are not (key, root, offset, length); {_WHOLE}")
    for key, root, offset, length in views:
        found[key] = _view(found[root], (key, offset, length))
    return found


def _tar_tensors(file: BinaryIO, storages: Mapping[int, Storage]) -> dict[int, StoredTensor]:
    found = {}
    for _ in range(_count(file)):
        key, storage, type_ = _entry(file)
        axes, _ = _unpack(file, "<ii")
        if not 0 <= axes <= 64:
            raise CheckpointError(f"tensor {key} has {axes} axes; needs 0 to 64")
        size, stride = _unpack(file, f"<{axes}q"), _unpack(file, f"<{axes}q")
        (offset,) = _unpack(file, "<q")
        if storage is None and isinstance(type_, ElementType):       # a tensor without elements
            base = Storage("none", type_, 0, _no_bytes)
        elif type(storage) is int and storage in storages:
            base = storages[storage]
        else:
            raise CheckpointError(f"tensor {key} has a storage that is not in the file; {_WHOLE}")
        found[key] = StoredTensor(base, offset, size, stride, base.type)
    return found


def _count(file: BinaryIO) -> int:
    if type(count := unpickle(file, {})) is not int:
        raise CheckpointError(f"a tar file without a number of entries; {_WHOLE}")
    return count


def _entry(file: BinaryIO) -> tuple[int, Any, Any]:
    entry = unpickle(file, _NAMES)
    if type(entry) is not tuple or len(entry) != 3 or type(entry[0]) is not int:
        raise CheckpointError(f"a tar file with an entry that is not (key, where, type); {_WHOLE}")
    return entry
