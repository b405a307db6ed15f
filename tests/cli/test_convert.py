"""`tinyseg convert` and `tinyseg inspect`, on files that are put together byte by byte."""

import json

import numpy as np
import pytest
from torch_files import dict_of, list_of, number, ordered, storage, stream_file, tensor, text, zip_file

from tinyseg.interop import read_weights


@pytest.fixture
def checkpoint(tmp_path):
    """What a training script of before 1.6 left: a DataParallel net, its optimiser, and values."""
    weight = storage("1", "float32", 6, kind="stream")
    state = ordered({"module.conv.weight": tensor(weight, (2, 3)), "module.bn.running_mean": tensor(weight, (2,))})
    momentum = dict_of({"momentum": tensor(weight, (6,))})
    value = dict_of({"state_dict": state, "optimizer": momentum, "epoch": number(90),
                     "classes": list_of(text("sky\x1b[2J"))})
    (tmp_path / "last.th").write_bytes(stream_file(value, {"1": (6, np.arange(6, dtype="<f4").tobytes())}))
    return "last.th"


def test_convert(tinyseg, checkpoint, tmp_path):
    done = tinyseg("convert", checkpoint, "--to", "model.safetensors")
    assert done.stdout == ("model.safetensors: 2 tensors, 8 numbers, from PyTorch (stream, before 1.6), "
                           "dict 'state_dict'\n")
    assert set(read_weights(tmp_path / "model.safetensors").arrays) == {"module.conv.weight", "module.bn.running_mean"}
    tinyseg("convert", "model.safetensors", "--to", "model.pth", "--rename")
    found = read_weights(tmp_path / "model.pth")
    assert set(found.arrays) == {"conv.weight", "bn.running_mean"}
    np.testing.assert_array_equal(found.arrays["conv.weight"], np.arange(6).reshape(2, 3))
    tinyseg("convert", checkpoint, "--to", "m.npz", "--key", "optimizer")
    np.testing.assert_array_equal(np.load(tmp_path / "m.npz")["momentum"], np.arange(6))


def test_inspect(tinyseg, checkpoint):
    done = tinyseg("inspect", checkpoint)
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["module.conv.weight", "2x3", "float32"]
    assert "parameters          6" in lines
    assert "running statistics  2" in lines
    assert "value epoch         90" in lines
    assert "\x1b" not in done.stdout                # what a file holds does not reach the terminal
    facts = json.loads(tinyseg("inspect", checkpoint, "--json").stdout)
    assert facts["parameters"] == 6
    assert facts["names"]["module.bn.running_mean"] == {"shape": [2], "dtype": "float32"}


def test_a_file_that_would_run_code_is_refused_in_one_line(tinyseg, tmp_path):
    (tmp_path / "evil.pth").write_bytes(zip_file(b"cos\nsystem\n" + text("touch made") + b"\x85R", {}))
    for command in (("inspect", "evil.pth"), ("convert", "evil.pth", "--to", "x.npz")):
        done = tinyseg(*command, status=2)
        assert done.stderr.startswith("tinyseg: evil.pth: the pickle names os.system, which is not built")
        assert done.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["evil.pth"]
