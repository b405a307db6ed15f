"""Files that are broken, or made to harm who reads them: each is refused in one line, and nothing is executed."""

import io
import os
import pickle
import struct
import tarfile
import time
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_files import (
    call,
    data_of,
    dict_of,
    list_of,
    named,
    number,
    one_tensor,
    ordered,
    pickled,
    storage,
    stream_file,
    tar_file,
    tar_of,
    tensor,
    text,
    tuple_of,
    zip_file,
)

from tinyseg.errors import CheckpointError
from tinyseg.interop import read_weights

ONE = storage("0", "float32", 4)
DATA = {"0": data_of([1, 2, 3, 4], "float32")}
KINDS = ["zip", "stream", "tar"]


@pytest.fixture
def refused(tmp_path):
    """Write the bytes, and return the one line with which reading them is refused."""
    def call(data):
        path = tmp_path / "file.pth"
        path.write_bytes(data)
        with pytest.raises(CheckpointError) as caught:
            read_weights(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
        return message.removeprefix(f"{path}: ")
    return call


def in_every_kind(value):
    """The operations as the object of a zip, stream and tar file."""
    return [zip_file(value, DATA), stream_file(value, {}), tar_file(value, {}, {})]


# -- programs ------------------------------------------------------------------------------------------------------
class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_is_executed(tmp_path, refused, protocol):
    made = tmp_path / "made"
    program = pickle.dumps({"weight": Evil(made)}, protocol)
    for data in in_every_kind(program[2:-1]):        # without its PROTO and STOP, which the files bring
        assert "mkdir, which is not built" in refused(data)
    assert not made.exists()
    pickle.loads(program)                            # and yet it would have done it
    assert made.exists()


@pytest.mark.parametrize(("module", "name"), [
    ("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "Popen"), ("builtins", "eval"),
    ("__builtin__", "eval"), ("builtins", "getattr"), ("torch", "load"), ("torch.hub", "load"), ("torch._utils", "os"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__"), ("torch", "_utils._rebuild_tensor_v2"),
    ("torch.nn.modules.conv", "Conv2d"), ("numpy.core.multiarray", "scalar"), ("collections", "Counter"),
    ("collections", "OrderedDict "), ("", ""), ("torch", "QInt8Storage")])
def test_names_that_are_not_built(refused, module, name):
    value = named(module, name)
    stacked = text(module) + text(name) + b"\x93"
    for data in [*in_every_kind(value), *in_every_kind(stacked), zip_file(call(value, text("true")), {})]:
        assert f"{module}.{name}, which is not built" in refused(data)


def test_a_name_cannot_write_a_second_line(refused):
    assert "os\\nOK\\x1b[2J.system" in refused(zip_file(text("os\nOK\x1b[2J") + text("system") + b"\x93", {}))


@pytest.mark.parametrize("value", [
    call(ordered(), number(1)), call(call(named("collections", "OrderedDict"))), call(number(1)),
    call(named("torch", "FloatStorage"), number(4)), call(tensor(ONE, (4,))), call(text("os.system"), text("true"))])
def test_only_what_rebuilds_tensors_is_called(refused, value):
    assert "the pickle calls a value of type" in refused(zip_file(value, DATA))


def test_arguments_are_a_tuple(refused):
    assert "with a value of type list" in refused(zip_file(named("collections", "OrderedDict") + b"]R", {}))


@pytest.mark.parametrize(("operations", "name"), [
    (b"(ios\nsystem\n", "INST"), (b"(" + number(1) + b"o", "OBJ"), (number(1) + b")\x81", "NEWOBJ"),
    (b"\x82\x01", "EXT1"), (b"I1\n", "INT"), (b"cos\nsystem\n", "os"), (b"\x8f", "EMPTY_SET"), (b"2", "DUP"),
    (b"P1\n", "PERSID"), (b"\x97", "NEXT_BUFFER")])
def test_operations_that_weights_do_not_need(refused, operations, name):
    assert name in refused(zip_file(operations, {}))


@pytest.mark.parametrize("value", [
    named("collections", "OrderedDict") + dict_of({"build": number(1)}) + b"b",        # attributes of our function
    tensor(ONE, (4,)) + dict_of({"offset": number(9)}) + b"b",                          # of a checked tensor
    named("torch", "FloatStorage") + dict_of({"name": text("int8")}) + b"b"])
def test_attributes_are_set_on_nothing_of_ours(refused, value):
    assert "BUILD" in refused(zip_file(value, DATA))


@pytest.mark.parametrize("value", [
    tensor(number(1), (4,)), tensor(ordered(), (4,)), tensor(ONE, (4,)) + b"Q", number(3) + b"Q",
    tuple_of(text("module"), text("x")) + b"Q", tuple_of(text("storage"), text("FloatStorage"), text("0"), text("cpu"),
                                                         number(4)) + b"Q",
    call(named("torch._utils", "_rebuild_parameter"), ordered()), call(named("torch", "Size"), number(1)),
    call(named("collections", "OrderedDict"), list_of(list_of(text("x")))),
    call(named("torch._utils", "_rebuild_tensor_v2"), ONE)])
def test_arguments_of_another_kind(refused, value):
    assert refused(zip_file(dict_of({"x": value}), DATA))


def test_a_tensor_that_is_not_what_it_stores(refused):
    """PyTorch notes a lazy conjugate or negation beside the numbers."""
    negated = call(named("torch._utils", "_rebuild_tensor_v2"), ONE, number(0), tuple_of(number(4)),
                   tuple_of(number(1)), b"\x89", ordered(), dict_of({"neg": b"\x88"}))
    assert "a lazy conjugate or negation" in refused(zip_file(dict_of({"x": negated}), DATA))


# -- sizes ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("size", "stride", "offset"), [
    ((5,), (1,), 0), ((4,), (1,), 1), ((2,), (4,), 0), ((2, 2), (3, 2), 0), ((), (), 4), ((1,), (1,), 4),
    ((2,), (2 ** 62,), 0), ((2 ** 62, 2 ** 62), (0, 0), 0), ((2 ** 62, 0), (1, 1), 0),
    ((2 ** 200,), (1,), 0), ((4,), (-1,), 3), ((-4,), (1,), 0), ((4,), (1,), -1), ((4,), (1, 1), 0),
    ((1,) * 65, (1,) * 65, 0), ((4,), (1,), 2 ** 70), ((2,), (2 ** 70,), 0), ((1,), (2 ** 70,), 4)])
def test_tensors_that_are_not_inside_of_their_storage(refused, size, stride, offset):
    for kind in ("zip", "stream"):
        value = dict_of({"x": tensor(storage("0", "float32", 4, kind=kind), size, stride, offset)})
        data = zip_file(value, DATA) if kind == "zip" else stream_file(value, {"0": (4, DATA["0"])})
        assert "needs" in refused(data)


@pytest.mark.parametrize(("size", "stride", "offset"), [
    ((5,), (1,), 0), ((4,), (1,), 1), ((2,), (2 ** 62,), 0), ((4,), (-1,), 3), ((-4,), (1,), 0), ((4,), (1,), -1)])
def test_the_same_in_a_tar_file(refused, size, stride, offset):
    data = tar_file(dict_of({"x": text("7") + b"Q"}), {5: ("float32", 4, DATA["0"])},
                    {7: (5, "float32", size, stride, offset)})
    assert "needs" in refused(data)


def test_a_type_wider_than_the_storage(refused):
    value = call(named("torch._utils", "_rebuild_tensor_v3"), storage("0", "float32", 4), number(0),
                 tuple_of(number(4)), tuple_of(number(1)), b"\x89", ordered(), named("torch", "float64"))
    assert "which has 2" in refused(zip_file(dict_of({"x": value}), DATA))


@pytest.mark.parametrize("length", [-1, 3, 5, 2 ** 40, 2 ** 70])
def test_storages_of_another_length(refused, length):
    def tensor_of(kind):
        return dict_of({"x": tensor(storage("0", "float32", length, kind=kind), (1,))})

    fact = "needs 0 to 2^63" if length in (-1, 2 ** 70) else "storage 0"
    assert fact in refused(zip_file(tensor_of("zip"), DATA))
    assert fact in refused(stream_file(tensor_of("stream"), {"0": (4, DATA["0"])}))
    if abs(length) < 2 ** 60:
        assert refused(stream_file(tensor_of("stream"), {"0": (length, DATA["0"][:8])}))
        assert refused(tar_file(dict_of({}), {5: ("float32", length, DATA["0"][:8])}, {}))


def test_one_storage_of_two_lengths(refused):
    value = dict_of({"x": tensor(ONE, (1,)), "y": tensor(storage("0", "float64", 4), (1,))})
    assert "16 bytes and then 32" in refused(zip_file(value, DATA))


def test_storages_that_are_not_there(refused):
    value = dict_of({"x": tensor(storage("../0", "float32", 4), (1,))})
    assert "its member has none" in refused(zip_file(value, DATA))
    assert "is not in the file" in refused(stream_file(dict_of({"x": tensor(storage("0", "float32", 4, kind="s"),
                                                                            (1,))}), {}))
    assert "neither tensor nor storage" in refused(tar_file(dict_of({"x": text("7") + b"Q"}), {}, {}))


@pytest.mark.parametrize("view", [(5, 2), (6, 1), (0, 7), (-1, 2), (2, -1)])
def test_views_beyond_their_storage(refused, view):
    stored = storage("0", "float32", 6, tuple_of(text("1"), *map(number, view)), "stream")
    assert "a view of storage 0" in refused(stream_file(dict_of({"x": tensor(stored, (1,))}), {"0": (6, bytes(24))}))
    assert "a view of storage 5" in refused(tar_file(dict_of({}), {5: ("float32", 6, bytes(24))}, {},
                                                     views=[(6, 5, *view)]))


@pytest.mark.parametrize("value", [
    text("1\n2\x1b[2J"), b")" + b"\x85" * 100_000, b"]" * 10_000 + b"a" * 9_999, number(2 ** 2000), dict_of({})])
def test_messages_are_one_line_whatever_the_file_says(refused, value):
    for place in range(4):
        parts = [number(0), tuple_of(number(4)), tuple_of(number(1))]
        stored = tuple_of(text("storage"), named("torch", "FloatStorage"), text("0"), text("cpu"),
                          value if place == 3 else number(4)) + b"Q"
        parts[place:place + 1] = [value]
        rebuilt = call(named("torch._utils", "_rebuild_tensor"), stored, *parts[:3])
        message = refused(zip_file(dict_of({"x": rebuilt}), DATA))
        assert message.isprintable()
        assert len(message) < 500


# -- bombs ---------------------------------------------------------------------------------------------------------
def test_small_files_stay_small(refused):
    """Each would fill the memory, or take hours, of who follows it."""
    begun = time.monotonic()
    expanded = tensor(storage("0", "float32", 4), (2 ** 40,), (0,))
    assert "overlap so that" in refused(zip_file(dict_of({"x": expanded}), DATA))
    whole = {f"x{k}": tensor(storage("0", "float32", 2 ** 18), (2 ** 18,)) for k in range(99)}
    assert "overlap so that" in refused(zip_file(dict_of(whole), {"0": bytes(2 ** 20)}))
    assert "no tensors" in refused(zip_file(b"}r\xff\xff\xff\xff", {}))     # the memo's last place
    # dicts of the same dicts, nine times in each of 40 levels: 9^40 ways lead to the innermost
    manifold = b"}" + b"".join(b"q\x00" + dict_of(dict.fromkeys("abcdefghi", b"h\0")) for _ in range(40))
    assert "no tensors" in refused(zip_file(manifold, {}))
    itself = b"}q\0" + text("a") + b"h\0s"
    assert "no tensors" in refused(zip_file(itself, {}))
    deep = b"]" * 100_000 + b"a" * 99_999
    assert "holds a list" in refused(zip_file(deep, {}))
    key = b"})" + b"\x85" * 100_000 + b"Ns"
    assert "a value of type tuple as a key" in refused(zip_file(key, {}))
    assert time.monotonic() - begun < 60             # generous: what follows the bombs never ends


def test_the_pickle_is_limited(refused, monkeypatch):
    monkeypatch.setattr("tinyseg.interop.unpickle._MOST_OPERATIONS", 1000)
    assert "more than 1,000 operations" in refused(zip_file(b"]" * 2000, {}))


def test_compressed_members(refused):
    data = zip_file(dict_of({"x": tensor(storage("0", "uint8", 10 ** 6), (10 ** 6,))}), {"0": bytes(10 ** 6)},
                    compression=zipfile.ZIP_DEFLATED)
    assert len(data) < 5000
    assert "is compressed" in refused(data)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(refused):
    """Of which one would be checked and the other read."""
    out = io.BytesIO(zip_file(dict_of({"x": tensor(ONE, (4,))}), DATA))
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("archive/data/0", DATA["0"])
    assert "two members of one name" in refused(out.getvalue())


def test_overlapping_members(refused):
    """Every entry of the directory points at the first storage."""
    value = dict_of({str(k): tensor(storage(str(k), "uint8", 10 ** 4), (10 ** 4,)) for k in range(9)})
    out = io.BytesIO(zip_file(value, {"0": bytes(10 ** 4)}))
    with zipfile.ZipFile(out, "a") as archive:
        for k in range(1, 9):
            twin = zipfile.ZipInfo(f"archive/data/{k}")
            first = archive.getinfo("archive/data/0")
            for name in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(twin, name, getattr(first, name))
            archive.filelist.append(twin)
            archive.NameToInfo[twin.filename] = twin
        archive._didModify = True
    assert "overlap" in refused(out.getvalue())


def test_a_sparse_tar_member(refused):
    """A gigabyte of holes."""
    out = io.BytesIO(tar_file(dict_of({}), {}, {}))
    data = bytearray(out.getvalue())
    start = data.index(b"storages\0")
    header = tarfile.TarInfo.frombuf(bytes(data[start:start + 512]), "utf-8", "strict")
    header.type = tarfile.GNUTYPE_SPARSE
    block = bytearray(header.tobuf(tarfile.GNU_FORMAT))
    block[386:410] = b"%011o\0" % 0 + b"%011o\0" % header.size
    block[483:495] = b"%011o\0" % 2 ** 30
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 8 * 32 + sum(block[156:]))
    data[start:start + 512] = block
    assert "storages" in refused(bytes(data))


def npy(shape, dtype="<f4", data=b""):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"shape": shape, "fortran_order": False, "descr": dtype})
    return out.getvalue() + data


def npz(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return out.getvalue()


@pytest.mark.parametrize(("data", "fact"), [
    (npz(x=npy((10 ** 12,))), "has shape (1000000000000,)"), (npz(x=npy((-1, -4), data=bytes(16))), "has shape"),
    (npz(x=npy((3,), data=bytes(8))), "8 bytes"), (npz(x=npy((1,), "|O", bytes(8))), "of type object"),
    (npz(x=npy((1,), "<c8", bytes(8))), "of type complex64"), (npz(x=b"text"), "the archive is damaged"),
    (npz(x=npy((10 ** 8,), "<u1", bytes(10 ** 8))), "expands from")])
def test_npz(refused, data, fact):
    assert fact in refused(data)


def test_pickled_arrays_in_npz(tmp_path, refused):
    made = tmp_path / "made"
    np.savez(tmp_path / "x.npz", x=np.array([Evil(made)], dtype=object))
    assert "of type object" in refused((tmp_path / "x.npz").read_bytes())
    assert not made.exists()


# -- damage --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("data", "fact"), [
    (b"", "the file is empty"), (b"\x89PNG\r\n\x1a\n", "neither of torch.save"), (b"PK\x03\x04" + bytes(99), "damaged"),
    (zip_file(dict_of({}), {}, **{"constants.pkl": b""}), "a TorchScript program"),
    (pickle.dumps({"x": 1}, 4), "not one of torch.save"), (pickle.dumps([1], 2), "not one of torch.save"),
    (stream_file(dict_of({}), {}, magic=1), "not one of torch.save"), (stream_file(dict_of({}), {}, version=1), "1001"),
    (tar_of({"pickle": pickled(dict_of({}))}), "without one plain member storages"),
    (struct.pack("<Q", 2 ** 60) + b"{}", "not a whole .safetensors file"),
    (b"\x02\0\0\0\0\0\0\0{}" + b"more", "not a whole .safetensors file")])
def test_what_is_no_file_of_weights(refused, data, fact):
    assert fact in refused(data)


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "nothing.pth", tmp_path):
        with pytest.raises(CheckpointError, match=r"cannot be read \(.*\); name a file of weights"):
            read_weights(path)


@pytest.mark.parametrize("kind", KINDS)
def test_files_that_are_cut_short(tmp_path, refused, kind):
    whole = one_tensor(kind, np.arange(6.0).reshape(2, 3))
    (tmp_path / "whole.pth").write_bytes(whole)
    assert read_weights(tmp_path / "whole.pth").arrays["weight"].shape == (2, 3)
    end = len(whole.rstrip(b"\0")) if kind == "tar" else len(whole)     # a tar file ends with padding
    for length in range(0, end, 7 if kind == "tar" else 1):
        refused(whole[:length])


@pytest.mark.parametrize("kind", [*KINDS, "safetensors", "npz"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(data=st.data())
def test_any_damage_is_told_or_harmless(tmp_path, kind, data):
    """Whatever bytes change: the file is read, or refused in one line; there is no third way."""
    if kind == "safetensors":
        from safetensors.numpy import save
        whole = bytearray(save({"weight": np.arange(6.0)}))
    elif kind == "npz":
        whole = bytearray(npz(weight=npy((6,), "<f8", bytes(48))))
    else:
        whole = bytearray(one_tensor(kind, np.arange(6.0).reshape(2, 3)))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.pth"
    path.write_bytes(whole)
    found, message = outcome(path)
    if found is None:
        assert message.startswith(f"{path}: ")
        assert "\n" not in message
    else:
        assert sum(a.nbytes for a in found.arrays.values()) < 2 ** 21


def outcome(path):
    try:
        return read_weights(path), ""
    except CheckpointError as error:
        return None, str(error)
