"""`tinyseg convert` and `tinyseg inspect`, on files that are put together byte by byte."""

import json

import numpy as np
import pytest
from torch_files import dict_of, list_of, number, ordered, storage, stream_file, tensor, text, zip_file

from tinyseg import models
from tinyseg.interop import read_weights, write_weights


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


def test_names_of_caffe_are_turned_and_the_order_of_colours_is_not(tinyseg, tmp_path):
    kernel = np.random.default_rng(0).normal(size=(64, 3, 3, 3))
    np.savez(tmp_path / "vgg16.npz", **{"conv1_1/0": kernel, "conv1_1/1": np.zeros(64)})
    done = tinyseg("convert", "vgg16.npz", "--to", "new.npz", "--rename")
    assert done.stdout.splitlines()[:2] == [
        "names of Caffe's VGG16 turned into tinyseg's",
        "the numbers are as they were: the first kernel still sees blue first (--model turns it)"]
    np.testing.assert_array_equal(np.load(tmp_path / "new.npz")["features.0.weight"], kernel)


def test_weights_of_a_net_become_what_predict_and_evaluate_open(tinyseg, street, tmp_path):
    net = models.build("unet", 3, 8, base_channels=2, depth=2)
    write_weights(tmp_path / "net.pth", net.state_dict())
    options = ("-o", "base_channels=2", "-o", "depth=2")
    done = tinyseg("convert", "net.pth", "--model", "unet", *options, "--classes", street / "classes.txt", "--to",
                   "net.safetensors")
    assert done.stdout.splitlines()[:2] == [
        "loaded 66 tensors", "sees images as unit: levels in 0..1 (--input names another)"]
    assert done.stdout.splitlines()[2].startswith("net.safetensors: unet for 8 classes: sky, building")
    tinyseg("predict", "net.safetensors", street / "images", "--out", "found")
    assert len(list((tmp_path / "found").glob("*_mask.png"))) == 8
    data = ("--images", street / "images", "--masks", street / "masks")
    assert json.loads(tinyseg("evaluate", "net.safetensors", *data, "--json").stdout)["mean_iou"] >= 0
    assert "say what to compare with: --images and --masks" in tinyseg("evaluate", "net.safetensors", status=2).stderr
    tinyseg("train", "unet", *options, *data, "--classes", street / "classes.txt", "--init", "net.safetensors",
            "--steps", 1, "--batch-size", 2, "--out", "run")

    refused = tinyseg("convert", "net.pth", "--model", "unet", *options, "--num-classes", 3, "--to", "x.safetensors",
                      status=2)
    assert refused.stderr.startswith("tinyseg: net.pth: is for 8 classes, not 3; ask for 8, or with partial for all ")
    assert refused.stderr.count("\n") == 1
    for wrong in (("--classes", "a"), ("--partial",), ("--input", "unit")):
        assert f"{wrong[0]} without --model" in tinyseg("convert", "net.pth", "--to", "x.npz", *wrong, status=2).stderr


def test_a_file_that_would_run_code_is_refused_in_one_line(tinyseg, tmp_path):
    (tmp_path / "evil.pth").write_bytes(zip_file(b"cos\nsystem\n" + text("touch made") + b"\x85R", {}))
    for command in (("inspect", "evil.pth"), ("convert", "evil.pth", "--to", "x.npz")):
        done = tinyseg(*command, status=2)
        assert done.stderr.startswith("tinyseg: evil.pth: the pickle names os.system, which is not built")
        assert done.stderr.count("\n") == 1
    assert [p.name for p in tmp_path.iterdir()] == ["evil.pth"]
