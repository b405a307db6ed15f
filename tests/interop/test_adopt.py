"""Weights from elsewhere as checkpoints."""

import numpy as np
import pytest
from torchvision_keys import keys

from tinyseg import models
from tinyseg.data import VOC_CLASSES
from tinyseg.errors import ArgumentError, CheckpointError
from tinyseg.inference import Predictor
from tinyseg.interop import INPUTS, adopt_weights, write_weights
from tinyseg.nn import init

SMALL = {"base_channels": 2, "depth": 2}


@pytest.fixture
def file(tmp_path):
    """A U-Net of two channels and five classes, as torch.save would leave it."""
    net = models.build("unet", 1, 5, **SMALL)
    write_weights(tmp_path / "net.pth", {f"module.{name}": array for name, array in net.state_dict().items()})
    return tmp_path / "net.pth"


def test_the_checkpoint_opens(file, tmp_path):
    done = adopt_weights(file, tmp_path / "net.safetensors", "unet", SMALL)
    assert (done.classes, done.input) == (("0", "1", "2", "3", "4"), "unit")
    predictor = Predictor.load(tmp_path / "net.safetensors")
    assert (predictor.channels, predictor.classes, predictor.normalize) == (1, done.classes, INPUTS["unit"].normalize)
    image = np.random.default_rng(0).integers(0, 256, (8, 12, 1), np.uint8)
    assert predictor(image).probabilities.shape == (5, 8, 12)


def test_every_number_of_torchvision_arrives(tmp_path):
    """By its own keys, channels, classes, and their names."""
    rng = np.random.default_rng(0)
    state = {name: rng.uniform(0.5, 1, shape).astype(np.float32) for name, shape in keys("lraspp_mnv3").items()}
    write_weights(tmp_path / "a.pth", state)
    done = adopt_weights(tmp_path / "a.pth", tmp_path / "a.safetensors", "lraspp")
    assert (done.classes, done.input, len(done.report.loaded)) == (VOC_CLASSES, "imagenet", len(state))
    found = Predictor.load(tmp_path / "a.safetensors").model.state_dict()
    assert all(np.array_equal(found[name], array) for name, array in state.items() if array.ndim)


def test_caffes_weights_see_red_first(tmp_path):
    """kazuto1011's names do not tell, the net does; to the net, the mean colour is 0 and a grey level 1."""
    with init.skipped():
        state = models.build("deeplab_v2", 3, 2).state_dict()
    first = "base.layer1.conv1.conv.weight"
    state = {name: np.zeros(array.shape, np.float16) for name, array in state.items()}
    state[first][...] = np.arange(3).reshape(1, 3, 1, 1)
    write_weights(tmp_path / "a.npz", state)
    done = adopt_weights(tmp_path / "a.npz", tmp_path / "a.safetensors", "deeplab_v2", {"multi_scale": False})
    assert (done.input, done.report.turned) == ("caffe", [first])
    predictor = Predictor.load(tmp_path / "a.safetensors")
    assert predictor.model.state_dict()[first][0, :, 0, 0].tolist() == [2, 1, 0]
    seen = predictor.normalize(np.array([[[123, 117, 104]]], np.uint8))
    np.testing.assert_allclose(seen.ravel(), [123 - 122.67892, 117 - 116.66877, 104 - 104.00699], atol=1e-4)
    done = adopt_weights(tmp_path / "a.npz", tmp_path / "a.safetensors", "deeplab_v2", {"multi_scale": False},
                         input="imagenet")
    assert done.report.turned == []


def test_a_head_for_other_classes(file, tmp_path):
    to = tmp_path / "net.safetensors"
    with pytest.raises(CheckpointError) as caught:
        adopt_weights(file, to, "unet", SMALL, classes=3)
    assert str(caught.value) == (f"{file}: is for 5 classes, not 3; ask for 5, or with partial for all but "
                                 "outc.conv.weight, outc.conv.bias, which then have to be trained")
    assert not to.exists()
    done = adopt_weights(file, to, "unet", SMALL, classes=("a", "b", "c"), partial=True)
    assert list(done.report.other_shape) == ["outc.conv.weight", "outc.conv.bias"]
    state = Predictor.load(to).model.state_dict()
    assert state["outc.conv.weight"].shape == (3, 2, 1, 1)
    assert all(np.isfinite(array).all() for array in state.values())


def test_a_checkpoint_of_tinyseg_says_itself_what_it_sees(file, tmp_path):
    first, second = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    adopt_weights(file, first, "unet", SMALL, input="centred")
    done = adopt_weights(first, second, "unet", SMALL, classes=2, partial=True)
    assert (done.input, done.text) == ("own", "what its run saw")
    assert Predictor.load(second).normalize == INPUTS["centred"].normalize


def test_weights_of_torchvision_start_a_net_of_caffes_time(tmp_path):
    """The names decide, not the net."""
    rng = np.random.default_rng(0)
    features = {name: rng.normal(size=shape).astype(np.float32) for name, shape in keys("vgg16").items()
                if name.startswith("features")}
    write_weights(tmp_path / "vgg16.npz", features)
    done = adopt_weights(tmp_path / "vgg16.npz", tmp_path / "a.safetensors", "deeplab_v1", {"hidden": 8}, 3,
                         partial=True)
    assert (done.input, done.report.turned, len(done.report.loaded)) == ("imagenet", [], 26)


@pytest.mark.parametrize(("model", "options", "more", "error", "text"), [
    ("unet", {**SMALL, "depth": 3}, {}, CheckpointError,
     "does not fit unet: 42 of its 66 tensors do; missing 22, as down3.maxpool_conv.1.double_conv.0.weight; of another "
     "shape 24, as up1.up.weight. It looks like U-Net: build('unet', 1, 5, base_channels=2, up='transposed', depth=2). "
     "Name the net that was saved, with its options, or ask with partial for what fits"),
    ("lraspp", {}, {}, CheckpointError, "load_weights: none of its names and shapes are those of LRASPP; "
                                        "tinyseg inspect shows what it holds"),
    ("unet", SMALL, {"input": "imagenet"}, ArgumentError,
     "input 'imagenet' is of 3 channels, the net sees 1; legal: unit, centred"),
    ("unet", SMALL, {"classes": 256}, ArgumentError, "256 classes; a mask's bytes hold 1 to 255"),
    ("resnet50", {}, {}, ArgumentError, None), ("unet", {}, {"input": "rgb"}, ArgumentError, None)])
def test_errors(file, tmp_path, model, options, more, error, text):
    with pytest.raises(error) as caught:
        adopt_weights(file, tmp_path / "x.safetensors", model, options, **more)
    if text is not None:
        assert str(caught.value) == f"{file}: {text}"
    assert not (tmp_path / "x.safetensors").exists()


def test_a_checkpoint_has_its_suffix(file, tmp_path):
    with pytest.raises(ArgumentError, match=r"x.npz: a checkpoint is a .safetensors file; name one, say .*x.saf"):
        adopt_weights(file, tmp_path / "x.npz", "unet")
