"""Files of torch.save put together byte by byte, the good ones and the bad ones.

Every function returns the pickle operations that leave one value on the stack.
"""

import io
import struct
import tarfile
import zipfile

import numpy as np

MAGIC, VERSION = 0x1950a86a20f9469cfc6c, 1001
STORAGES = {"float32": "FloatStorage", "float64": "DoubleStorage", "float16": "HalfStorage",
            "bfloat16": "BFloat16Storage", "int64": "LongStorage", "int32": "IntStorage", "int16": "ShortStorage",
            "int8": "CharStorage", "uint8": "ByteStorage", "bool": "BoolStorage"}


def text(value):
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value):
    if 0 <= value < 256:
        return b"K" + bytes([value])
    data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def tuple_of(*values):
    return b"(" + b"".join(values) + b"t"


def numbers(values):
    return tuple_of(*map(number, values))


def list_of(*values):
    return b"](" + b"".join(values) + b"e"


def named(module, name):
    return f"c{module}\n{name}\n".encode()


def call(function, *arguments):
    return function + tuple_of(*arguments) + b"R"


def dict_of(pairs):
    return b"}(" + b"".join(text(k) + v for k, v in dict(pairs).items()) + b"u"


def ordered(pairs=()):
    return call(named("collections", "OrderedDict")) + b"(" + b"".join(text(k) + v for k, v in dict(pairs).items()) \
        + b"u"


def pickled(value):
    return b"\x80\x02" + value + b"."


def storage(key, dtype, length, view=None, kind="zip"):
    """A mention of a storage in the pickle of a zip or stream file."""
    parts = [text("storage"), named("torch", STORAGES.get(dtype, dtype)), text(key), text("cuda:0"), number(length)]
    return tuple_of(*parts, *([] if kind == "zip" else [view or b"N"])) + b"Q"


def tensor(stored, size, stride=None, offset=0, rebuild="_rebuild_tensor_v2"):
    stride = contiguous(size) if stride is None else stride
    more = [] if rebuild == "_rebuild_tensor" else [b"\x89", ordered()]
    return call(named("torch._utils", rebuild), stored, number(offset), numbers(size), numbers(stride), *more)


def contiguous(size):
    strides, step = [], 1
    for n in reversed(size):
        strides.insert(0, step)
        step *= max(n, 1)
    return strides


def data_of(array, dtype):
    """bfloat16 comes as the upper halves of float32."""
    raw = np.dtype("uint16" if dtype == "bfloat16" else dtype).newbyteorder("<")
    return np.ascontiguousarray(array, raw).tobytes()


def zip_file(value, storages, root="archive", compression=zipfile.ZIP_STORED, **members):
    """storages: key to bytes."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr(f"{root}/data.pkl", pickled(value))
        stored = {f"data/{key}": data for key, data in storages.items()}
        for name, data in {"version": b"3\n", **members, **stored}.items():
            archive.writestr(f"{root}/{name}", data)
    return out.getvalue()


def stream_file(value, storages, magic=MAGIC, version=VERSION):
    """storages: key to (length, bytes)."""
    parts = [pickled(number(magic)), pickled(number(version)), pickled(dict_of({"little_endian": b"\x88"})),
             pickled(value), pickled(list_of(*map(text, storages)))]
    return b"".join(parts) + b"".join(struct.pack("<q", length) + data for length, data in storages.values())


def tar_file(value, storages, tensors, views=()):
    """storages: number to (dtype, length, bytes); tensors: number to (storage, dtype, size, stride, offset)."""
    stored = pickled(number(len(storages)))
    for key, (dtype, length, data) in storages.items():
        stored += pickled(tuple_of(number(key), text("cpu"), named("torch", STORAGES[dtype])))
        stored += struct.pack("<q", length) + data
    stored += pickled(list_of(*map(numbers, views)))
    described = pickled(number(len(tensors)))
    for key, (root, dtype, size, stride, offset) in tensors.items():
        type_ = named("torch", STORAGES[dtype].replace("Storage", "Tensor"))
        described += pickled(tuple_of(number(key), b"N" if root is None else number(root), type_))
        described += struct.pack(f"<ii{2 * len(size)}qq", len(size), 0, *size, *stride, offset)
    return tar_of({"sys_info": pickled(dict_of({})), "pickle": pickled(value), "tensors": described,
                   "storages": stored})


def tar_of(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def one_tensor(kind, array, dtype="float32", name="weight"):
    """A file of any kind with a single tensor, which fills its storage."""
    data, size, length = data_of(array, dtype), np.shape(array), int(np.size(array))
    if kind == "zip":
        return zip_file(ordered({name: tensor(storage("0", dtype, length), size)}), {"0": data})
    if kind == "stream":
        return stream_file(ordered({name: tensor(storage("94", dtype, length, kind="stream"), size,
                                                 rebuild="_rebuild_tensor")}), {"94": (length, data)})
    return tar_file(ordered({name: text("7") + b"Q"}), {5: (dtype, length, data)},
                    {7: (5, dtype, size, contiguous(size), 0)})
