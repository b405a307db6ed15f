import json
import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tinyseg import models, optim
from tinyseg.autograd import Tensor
from tinyseg.checkpoint import load_checkpoint, save_checkpoint, split_prefix
from tinyseg.errors import ArgumentError, CheckpointError, DataError, DTypeError

STATE = {"conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "count": np.array(7),
         "optimizer/0/momentum": np.ones(3)}
METADATA = {"model": {"name": "unet", "options": {"norm": None}}, "classes": ["Straße", "空"], "step": 3, "lr": 0.1}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "run" / "last.safetensors"
    save_checkpoint(path, STATE, METADATA)
    return path


def test_comes_back_as_it_was(file):
    state, metadata = load_checkpoint(file)
    assert metadata == METADATA
    assert set(state) == set(STATE)
    for name, array in STATE.items():
        assert state[name].dtype == array.dtype
        assert state[name].shape == array.shape
        np.testing.assert_array_equal(state[name], array)
        assert state[name].flags.writeable
        assert state[name].flags.aligned
        assert state[name].flags.owndata


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(array=st.sampled_from(["bool", "float16", "float32", "float64", "int32", "int64", "uint8", ">f4"]).flatmap(
    lambda dtype: arrays(dtype, array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))),
       transpose=st.booleans(), step=st.sampled_from([1, -1, 2]))
def test_any_array(tmp_path, array, transpose, step):
    """Whatever lies how in memory: its elements are kept."""
    array = array.T if transpose else array
    array = array[::step] if array.ndim else array
    path = tmp_path / "x.safetensors"
    save_checkpoint(path, {"x": array}, {})
    back = load_checkpoint(path)[0]["x"]
    assert back.shape == array.shape
    assert back.dtype == array.dtype.newbyteorder("=")
    np.testing.assert_array_equal(back, array)


def test_a_net_and_its_optimiser(tmp_path):
    spec = {"name": "unet", "in_channels": 1, "num_classes": 2, "base_channels": 2}
    net = models.build(**spec)
    optimizer = optim.AdamW(net.parameters())
    for p in net.parameters():
        p.grad = Tensor(np.ones_like(p.detach().data))
    optimizer.step()
    arrays_, values = optimizer.state_dict()
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, {**net.state_dict(), **{f"optimizer/{k}": v for k, v in arrays_.items()}},
                    {"model": spec, "optimizer": values})

    state, metadata = load_checkpoint(path)
    inside, weights = split_prefix(state, "optimizer")
    other = models.build(**metadata["model"])
    other.load_state_dict(weights)
    resumed = optim.AdamW(other.parameters())
    resumed.load_state_dict(inside, metadata["optimizer"])
    for a, b in ((net.state_dict(), other.state_dict()), (arrays_, resumed.state_dict()[0])):
        assert list(a) == list(b)
        assert all(np.array_equal(a[k], b[k]) for k in a)


def test_other_tools_can_read_it(file):
    from safetensors.numpy import load_file
    np.testing.assert_array_equal(load_file(file)["conv.weight"], STATE["conv.weight"])


def broken(what, data):
    header = int.from_bytes(data[:8], "little")
    return {"empty": b"", "a stub": data[:20], "half": data[:len(data) // 2], "one byte short": data[:-1],
            "text": b"PK\x03\x04 this is a zip file, they say" * 9, "a longer file": data + b"\0" * 8,
            "a header of petabytes": b"\xff" * 8 + data[8:],
            "a flipped bit": data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
            "damaged metadata": data.replace(b'\\"step\\": 3', b'\\"step\\": 4'),
            "no JSON": data[:8] + b"x" * header + data[8 + header:]}[what]


@pytest.mark.parametrize("what", ["empty", "a stub", "half", "one byte short", "text", "a longer file",
                                  "a header of petabytes", "a flipped bit", "damaged metadata", "no JSON"])
def test_what_is_not_whole_is_refused(file, what):
    good = file.read_bytes()
    bad = broken(what, good)
    assert bad != good
    file.write_bytes(bad)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(file)
    text = str(caught.value)
    assert text.startswith(f"{file}: ")
    assert "\n" not in text
    assert "; " in text                              # and what to do


def test_a_foreign_file_is_named_as_such(tmp_path):
    from safetensors.numpy import save_file
    path = tmp_path / "foreign.safetensors"
    save_file({"x": np.zeros(2)}, path)
    with pytest.raises(CheckpointError, match=r"no checkpoint of tinyseg; .*read_weights"):
        load_checkpoint(path)


def test_a_newer_version_is_named_as_such(file):
    data = file.read_bytes()
    file.write_bytes(data.replace(b'"version":"1"', b'"version":"9"'))
    with pytest.raises(CheckpointError, match=r"version 9.*update tinyseg"):
        load_checkpoint(file)


@pytest.mark.parametrize("name", ["nothing.safetensors", "."])
def test_no_file_there(tmp_path, name):
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path / name)


@pytest.mark.parametrize(("state", "metadata", "error"), [
    ({"x": np.zeros(2, complex)}, {}, DTypeError), ({"x": np.array(["text"])}, {}, DTypeError),
    ({}, {"when": object()}, ArgumentError)])
def test_what_cannot_be_stored_leaves_the_old_file(file, state, metadata, error):
    good = file.read_bytes()
    with pytest.raises(error, match="save_checkpoint"):
        save_checkpoint(file, state, metadata)
    assert file.read_bytes() == good
    assert os.listdir(file.parent) == [file.name]


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "x.safetensors", STATE, METADATA)


def test_nothing_of_the_file_is_executed(file):
    header = json.loads(file.read_bytes()[8:8 + int.from_bytes(file.read_bytes()[:8], "little")])
    assert set(header) == {"__metadata__", *STATE}
    assert set(header["__metadata__"]) == {"format", "version", "metadata", "crc32"}
