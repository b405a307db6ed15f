"""Files of every kind, put together byte by byte."""

import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch_files import (
    STORAGES,
    call,
    data_of,
    dict_of,
    list_of,
    named,
    number,
    one_tensor,
    ordered,
    storage,
    stream_file,
    tar_file,
    tensor,
    text,
    tuple_of,
    zip_file,
)

from tinyseg.checkpoint import save_checkpoint
from tinyseg.errors import ArgumentError, CheckpointError
from tinyseg.interop import read_weights

KINDS = ["zip", "stream", "tar"]


@pytest.fixture
def read(tmp_path):
    def call(data, key=None):
        path = tmp_path / "file"
        path.write_bytes(data)
        return read_weights(path, key)
    return call


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", STORAGES)
def test_every_type_in_every_kind(read, kind, dtype):
    values = [[0, 1, 2], [3, 4, 127]]
    if dtype == "bfloat16":                          # the upper halves of 1, -2.5 and 3.140625
        found = read(one_tensor(kind, [0x3f80, 0xc020, 0x4049], dtype))
        values, expected = [1, -2.5, 3.140625], np.dtype("float32")
    else:
        found = read(one_tensor(kind, values, dtype))
        values, expected = np.array(values).astype(dtype), np.dtype(dtype)
    array = found.arrays["weight"]
    np.testing.assert_array_equal(array, values)
    assert array.dtype == expected
    assert array.flags.c_contiguous
    assert array.flags.writeable
    assert found.dtypes == {"weight": dtype}
    assert kind in found.kind


def test_bool_from_bytes_that_are_not_0_or_1(read):
    found = read(zip_file(dict_of({"mask": tensor(storage("0", "bool", 3), (3,))}), {"0": b"\0\1\2"}))
    np.testing.assert_array_equal(found.arrays["mask"], [False, True, True])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (2, 0, 3)])
def test_shapes_at_the_edge(read, kind, shape):
    assert read(one_tensor(kind, np.ones(shape))).arrays["weight"].shape == shape


def views(kind):
    """Three views of one storage of 0..11: all of it as 3x4, its transposed right half, a row without its ends."""
    data = data_of(np.arange(12), "float32")
    layouts = {"all": ((3, 4), (4, 1), 0), "half": ((2, 3), (1, 4), 2), "row": ((2,), (1,), 5)}
    if kind == "tar":
        keys = {name: 20 + k for k, name in enumerate(layouts)}
        return tar_file(ordered({name: text(str(key)) + b"Q" for name, key in keys.items()}),
                        {5: ("float32", 12, data)}, {keys[n]: (5, "float32", *v) for n, v in layouts.items()})
    value = ordered({name: tensor(storage("0", "float32", 12, kind=kind), *layout) for name, layout in layouts.items()})
    return zip_file(value, {"0": data}) if kind == "zip" else stream_file(value, {"0": (12, data)})


@pytest.mark.parametrize("kind", KINDS)
def test_shared_storages_with_offsets_and_strides(read, kind):
    found = read(views(kind)).arrays
    whole = np.arange(12).reshape(3, 4)
    np.testing.assert_array_equal(found["all"], whole)
    np.testing.assert_array_equal(found["half"], whole[:, 2:].T)
    np.testing.assert_array_equal(found["row"], whole[1, 1:3])
    found["all"][:] = -1                             # what shares memory in the file does not here
    np.testing.assert_array_equal(found["row"], [5, 6])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.lists(st.integers(1, 4), min_size=1, max_size=4), data=st.data())
def test_any_view_is_what_numpy_makes_of_it(read, shape, data):
    base = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    view = base.transpose(data.draw(st.permutations(range(base.ndim))))
    view = view[tuple(slice(data.draw(st.integers(0, n - 1)), None, data.draw(st.integers(1, 2))) for n in view.shape)]
    offset = (view.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // 4
    stored = tensor(storage("0", "float32", base.size), view.shape, [s // 4 for s in view.strides], offset)
    found = read(zip_file(dict_of({"x": stored}), {"0": base.tobytes()}))
    np.testing.assert_array_equal(found.arrays["x"], view)


def test_an_expanded_tensor(read):
    found = read(zip_file(dict_of({"x": tensor(storage("0", "float32", 1), (2, 3), (0, 0))}),
                          {"0": data_of([7], "float32")}))
    np.testing.assert_array_equal(found.arrays["x"], np.full((2, 3), 7))


def test_views_of_storages_in_old_streams(read):
    view = tuple_of(text("95"), number(2), number(3))
    stored = storage("94", "float32", 6, view, "stream")
    data = (6, data_of(range(6), "float32"))
    found = read(stream_file(dict_of({"x": tensor(stored, (2,), offset=1)}), {"94": data}))
    np.testing.assert_array_equal(found.arrays["x"], [3, 4])


def test_views_of_storages_in_tar_files(read):
    found = read(tar_file(dict_of({"x": text("7") + b"Q"}), {5: ("float32", 6, data_of(range(6), "float32"))},
                          {7: (6, "float32", (2,), (1,), 1)}, views=[(6, 5, 2, 3)]))
    np.testing.assert_array_equal(found.arrays["x"], [3, 4])


def test_a_tar_tensor_without_storage(read):
    found = read(tar_file(dict_of({"x": text("7") + b"Q"}), {}, {7: (None, "float32", (0,), (1,), 0)}))
    assert found.arrays["x"].shape == (0,)


def test_big_endian(read):
    value = dict_of({"x": tensor(storage("0", "int32", 2), (2,))})
    found = read(zip_file(value, {"0": struct.pack(">2i", 1, -2)}, byteorder=b"big"))
    np.testing.assert_array_equal(found.arrays["x"], [1, -2])


def test_parameters_and_untyped_storages(read):
    plain = tensor(storage("0", "float32", 2), (2,))
    parameter = call(named("torch._utils", "_rebuild_parameter"), plain, b"\x88", ordered())
    untyped = tuple_of(text("storage"), named("torch.storage", "UntypedStorage"), text("1"), text("cpu"),
                       number(4)) + b"Q"
    short = call(named("torch._utils", "_rebuild_tensor_v3"), untyped, number(0), tuple_of(number(2)),
                 tuple_of(number(1)), b"\x89", ordered(), named("torch", "uint16"))
    found = read(zip_file(dict_of({"p": parameter, "u": short}),
                          {"0": data_of([1, 2], "float32"), "1": data_of([3, 40000], "uint16")}))
    np.testing.assert_array_equal(found.arrays["p"], [1, 2])
    np.testing.assert_array_equal(found.arrays["u"], [3, 40000])
    assert found.arrays["u"].dtype == np.uint16


@pytest.mark.parametrize("kind", ["zip", "stream"])
def test_one_storage_under_two_types(read, kind):
    value = dict_of({name: tensor(storage("0", dtype, 2, kind=kind), (2,)) for name, dtype in
                     (("f", "float32"), ("i", "int32"))})
    data = struct.pack("<2f", 1, -2)
    found = read(zip_file(value, {"0": data}) if kind == "zip" else stream_file(value, {"0": (2, data)})).arrays
    np.testing.assert_array_equal(found["f"], [1, -2])
    np.testing.assert_array_equal(found["i"], struct.unpack("<2i", data))


def test_attributes_of_a_state_dict_are_left_aside(read):
    """PyTorch keeps the versions of modules in `_metadata`, an attribute of the OrderedDict."""
    value = ordered({"x": tensor(storage("0", "float32", 1), (1,))}) + dict_of({"_metadata": ordered()}) + b"b"
    assert list(read(zip_file(value, {"0": bytes(4)})).arrays) == ["x"]


def test_an_ordered_dict_of_pairs(read):
    """As Python 2 wrote it."""
    pair = list_of(text("x"), tensor(storage("0", "float32", 1, kind="stream"), (1,)))
    value = call(named("collections", "OrderedDict"), list_of(pair))
    assert list(read(stream_file(value, {"0": (1, bytes(4))})).arrays) == ["x"]


# -- levels --------------------------------------------------------------------------------------------------------
def levels(*names):
    one = dict_of({"w": tensor(storage("0", "float32", 1), (1,))})
    value = {"epoch": number(3), "mask_values": list_of(number(0), number(255)), "tensors": list_of(b"N")}
    for name in names:
        outer, _, inner = name.partition(".")
        value[outer] = dict_of({inner: one}) if inner else one
    return zip_file(dict_of(value), {"0": data_of([9], "float32")})


@pytest.mark.parametrize(("names", "key", "chosen"), [
    (["state_dict"], None, "state_dict"), (["anything"], None, "anything"), (["ema", "state_dict"], None, "state_dict"),
    (["ema", "state_dict"], "ema", "ema"), (["a.b", "c"], "a.b", "a.b"), (["optimizer.state", "model"], None, "model")])
def test_which_dict(read, names, key, chosen):
    found = read(levels(*names), key)
    assert found.key == chosen
    assert found.arrays["w"] == [9]
    assert found.notes == {"epoch": 3, "mask_values": [0, 255]}


def test_which_dict_is_for_the_caller_to_say(read):
    with pytest.raises(CheckpointError, match=r"several dicts hold tensors; choose one by key: 'a', 'b'"):
        read(levels("a", "b"))
    with pytest.raises(ArgumentError, match=r"key 'c' holds no tensors; those that do: 'a', 'b'"):
        read(levels("a", "b"), "c")


@pytest.mark.parametrize(("value", "fact"), [
    (number(1), "holds a int"), (tensor(storage("0", "float32", 1), (1,)), "holds a tensor"),
    (dict_of({"epoch": number(1)}), "no tensors under names")])
def test_no_dict_of_tensors(read, value, fact):
    with pytest.raises(CheckpointError, match=fact):
        read(zip_file(value, {"0": bytes(4)}))


# -- files of others -----------------------------------------------------------------------------------------------
ARRAYS = {"file": np.arange(6, dtype=np.float32).reshape(2, 3), "a/b.c": np.array(7), "x": np.array([True, False]),
          "f": np.asfortranarray(np.arange(6.0).reshape(3, 2)), "h": np.ones(3, np.float16), "e": np.ones((0, 2))}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    named_file = {name: a for name, a in ARRAYS.items() if name != "file"}      # savez takes no array of that name
    save(tmp_path / "x.npz", **named_file)
    found = read_weights(tmp_path / "x.npz").arrays
    assert list(found) == list(named_file)
    for name, array in named_file.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_safetensors(tmp_path):
    from safetensors.numpy import save_file
    save_file({k: np.ascontiguousarray(v).reshape(v.shape) for k, v in ARRAYS.items()}, tmp_path / "x.safetensors")
    found = read_weights(tmp_path / "x.safetensors").arrays
    assert set(found) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype
        assert found[name].shape == array.shape


def test_bfloat16_in_safetensors(read):
    header = b'{"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    found = read(struct.pack("<Q", len(header)) + header + struct.pack("<2H", 0x3f80, 0xc020))
    np.testing.assert_array_equal(found.arrays["x"], [1, -2.5])
    assert found.dtypes == {"x": "bfloat16"}


@pytest.mark.parametrize("length", [0x0180, int.from_bytes(b"PK", "little")])
def test_a_header_whose_length_looks_like_the_mark_of_another_kind(read, length):
    header = b'{"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'.ljust(length)
    assert read(struct.pack("<Q", length) + header + b"\7").arrays["x"] == [7]


def test_a_checkpoint_of_our_own_without_its_optimiser(tmp_path):
    save_checkpoint(tmp_path / "last.safetensors", {"conv.weight": np.ones(2), "optimizer/0/m": np.ones(2)}, {})
    assert list(read_weights(tmp_path / "last.safetensors").arrays) == ["conv.weight"]


def test_a_key_where_there_are_no_levels(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.ones(2))
    with pytest.raises(ArgumentError, match="key 'ema', but a file of the kind NumPy"):
        read_weights(tmp_path / "x.npz", "ema")
