"""Weights that came out of Caffe: its layers' names, its blobs' shapes, and images that are blue, green, red."""

import re

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import models, nn
from tinyseg.autograd import Tensor
from tinyseg.errors import CheckpointError
from tinyseg.interop import guess_architecture, load_weights
from tinyseg.interop.layouts import standard_names
from tinyseg.models.deeplab import SMALL
from tinyseg.models.fcn import FCN
from tinyseg.nn import init

CONVOLUTIONS = ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3", "conv4_1", "conv4_2",
                "conv4_3", "conv5_1", "conv5_2", "conv5_3"]
HIDDEN = {"hidden": 8}
# the layers with weights, in the order of the net here; upscore... have no bias
VGG_NETS = {
    "fcn32s": ("fcn32s", HIDDEN, [*CONVOLUTIONS, "fc6", "fc7", "score_fr", "upscore"], "Caffe's FCN",
               "FCN-32s on VGG16, 3 channels, 2 classes"),
    "fcn16s": ("fcn16s", HIDDEN, [*CONVOLUTIONS, "fc6", "fc7", "score_fr", "score_pool4", "upscore2", "upscore16"],
               "Caffe's FCN", "FCN-16s on VGG16, 3 channels, 2 classes"),
    "fcn8s": ("fcn8s", HIDDEN, [*CONVOLUTIONS, "fc6", "fc7", "score_fr", "score_pool4", "upscore2", "score_pool3",
                                "upscore_pool4", "upscore8"], "Caffe's FCN",
              "FCN-8s on VGG16, 3 channels, 2 classes"),
    "v1": ("deeplab_v1", HIDDEN, [*CONVOLUTIONS, "fc6", "fc7", "fc8_voc12"], "Caffe's DeepLab on VGG16",
           "DeepLab v1 on VGG16, 3 channels, 2 classes"),
    "v2": ("deeplab_v2", {**HIDDEN, "backbone": "vgg16", "rates": SMALL},
           [*CONVOLUTIONS, *(f"{layer}_{k}" for k in "1234" for layer in ("fc6", "fc7", "fc8_voc12"))],
           "Caffe's DeepLab on VGG16", "DeepLab v2 on VGG16, 3 channels, 2 classes")}


def in_caffe(net, layers, weight=".weight", bias=".bias"):
    """The net's state under Caffe's names: the layers' weights and biases, in order."""
    named = [f"{layer}{part}" for layer in layers
             for part in ((weight,) if layer.startswith("upscore") else (weight, bias))]
    return dict(zip(named, net.state_dict().values(), strict=True))


def small(name, **options):
    return models.build(name, 3, 2, **options)


@pytest.mark.parametrize("parts", [(".weight", ".bias"), ("/0", "/1"), ("_0", "_1"), (".0", ".1")])
@pytest.mark.parametrize("flavour", VGG_NETS)
def test_nets_on_vgg16(flavour, parts):
    name, options, layers, layout, guess = VGG_NETS[flavour]
    with init.skipped():
        net, source = small(name, **options), small(name, **options)
    rng = np.random.default_rng(0)
    source.load_state_dict({key: rng.normal(size=a.shape).astype(np.float32) for key, a in source.state_dict().items()})
    report = load_weights(net, in_caffe(source, layers, *parts))
    assert (report.layout, report.missing, report.unexpected) == (layout, [], [])
    assert guess_architecture({key: a.shape for key, a in in_caffe(source, layers, *parts).items()}) == guess
    first, *others = source.state_dict()
    assert report.turned == [first]
    found, expected = net.state_dict(), source.state_dict()
    np.testing.assert_array_equal(found[first], expected[first][:, ::-1])
    for key in others:
        np.testing.assert_array_equal(found[key], expected[key])


def test_a_turned_net_sees_the_same_in_an_image_of_the_other_order():
    net, source = (FCN(num_classes=2, stride=32, hidden=8).eval() for _ in range(2))
    with ts.no_grad():
        source.score_fr.weight[...] = np.random.default_rng(1).normal(size=source.score_fr.weight.shape)
    load_weights(net, in_caffe(source, VGG_NETS["fcn32s"][2]))
    rgb = np.random.default_rng(0).normal(size=(1, 3, 9, 11)).astype(np.float32)
    with ts.no_grad():
        expected = source(Tensor(np.ascontiguousarray(rgb[:, ::-1]))).data
        np.testing.assert_allclose(net(Tensor(rgb)).data, expected, rtol=1e-4, atol=1e-5)


def test_whether_to_turn_may_be_said():
    net, source = (small("unet", base_channels=2, depth=1) for _ in range(2))
    first = "inc.double_conv.0.weight"
    report = load_weights(net, source.state_dict(), bgr=True)
    assert "turned from blue, green, red to red, green, blue: inc.double_conv.0.weight" in str(report)
    np.testing.assert_array_equal(net.state_dict()[first], source.state_dict()[first][:, ::-1])
    fcn = small("fcn32s", hidden=8)
    report = load_weights(fcn, in_caffe(fcn, VGG_NETS["fcn32s"][2]), bgr=False)
    assert report.turned == []


def test_a_vgg16_for_images_starts_an_fcn():
    """Its blobs: fully connected layers are matrices, biases of the oldest files have four axes."""
    rng = np.random.default_rng(0)
    net = FCN(num_classes=2, stride=32, hidden=8)
    kernels = [rng.normal(size=p.shape).astype(np.float32) for name, p in net.named_parameters()
               if name.startswith("conv")]
    full = [rng.normal(size=shape).astype(np.float32) for shape in ((8, 25088), (8,), (8, 8), (8,), (3, 8), (3,))]
    blobs = dict(zip((f"{layer}/{k}" for layer in (*CONVOLUTIONS, "fc6", "fc7", "fc8") for k in (0, 1)),
                     [*kernels, *full], strict=True))
    blobs = {name: blob.reshape(1, 1, 1, -1) if blob.ndim == 1 else blob for name, blob in blobs.items()}
    with pytest.raises(CheckpointError, match=r"missing: score_fr.weight.*unexpected: fc8/0, fc8/1"):
        load_weights(net, blobs)
    report = load_weights(net, blobs, strict=False)
    assert report.unexpected == ["fc8/0", "fc8/1"]
    np.testing.assert_array_equal(net.fc6.weight.data, full[0].reshape(8, 512, 7, 7))
    np.testing.assert_array_equal(net.conv5[4].bias.data, kernels[-1])


def test_names_of_vgg16():
    with init.skipped():
        own = list(models.build("vgg16", 3, 10).state_dict())
    theirs = [f"{layer}.{part}" for layer in (*CONVOLUTIONS, "fc6", "fc7", "fc8") for part in ("weight", "bias")]
    names, layout = standard_names(theirs)
    assert (list(names.values()), layout) == (own, "Caffe's VGG16")


def blocks():
    """DeepLab v2's stages in Caffe: stage, block, whether it has a short cut with weights."""
    for stage, letters in ((2, "abc"), (3, ["a", "b1", "b2", "b3"]), (4, ["a", *(f"b{k}" for k in range(1, 23))]),
                           (5, "abc")):
        for letter in letters:
            yield f"{stage}{letter}", letter == "a"


def test_names_of_deeplab_on_resnet101():
    convolutions = [f"{name}_branch{part}" for name, first in blocks()
                    for part in (("1",) if first else ()) + ("2a", "2b", "2c")]
    theirs = ["conv1.0", *(f"bn_conv1.{k}" for k in range(3)), "scale_conv1.0", "scale_conv1.1"]
    for name in convolutions:
        theirs += [f"res{name}.0", *(f"bn{name}.{k}" for k in range(3)), f"scale{name}.0", f"scale{name}.1"]
    theirs += [f"fc1_voc12_c{k}.{part}" for k in range(4) for part in (0, 1)]
    names, layout = standard_names(theirs)
    assert layout == "Caffe's DeepLab on ResNet-101"
    with init.skipped():
        own = {re.sub("num_batches_tracked", "factor", name) for name in models.build("deeplab_v2", 3, 21).state_dict()}
    assert set(names.values()) == own
    assert names["res4b22_branch2b.0"] == "base.layer4.block23.conv3x3.conv.weight"
    assert names["bn2a_branch1.1"] == "base.layer2.block1.shortcut.bn.running_var"


def test_statistics_are_divided_by_what_they_are_the_sum_of():
    net = nn.Sequential({"base": nn.Sequential({"layer1": nn.Sequential({"conv1": nn.Sequential(
        {"conv": nn.Conv2d(3, 2, 1, bias=False), "bn": nn.BatchNorm2d(2)})})})})
    kernel = np.ones((2, 3, 1, 1), np.float32)
    ones = np.ones(2, np.float32)
    report = load_weights(net, {"conv1.0": kernel, "bn_conv1.0": 6 * ones, "bn_conv1.1": 9 * ones,
                                "bn_conv1.2": 3 * ones[:1], "scale_conv1.0": 5 * ones, "scale_conv1.1": 7 * ones})
    assert (report.missing, report.unexpected) == ([], [])
    norm = net.base.layer1.conv1.bn
    assert [norm.running_mean[0], norm.running_var[0], norm.weight.data[0], norm.bias.data[0]] == [2, 3, 5, 7]


def test_names_of_kazuto1011_are_the_nets_own():
    unit = r"(conv\.weight|bn\.(weight|bias|running_mean|running_var|num_batches_tracked))"
    pattern = re.compile(rf"base\.(layer1\.conv1\.{unit}|layer[2-5]\.block\d+\.(reduce|conv3x3|increase|shortcut)\."
                         rf"{unit}|aspp\.c[0-3]\.(weight|bias))")
    with init.skipped():
        names = list(models.build("deeplab_v2", 3, 21).state_dict())
    assert [name for name in names if not pattern.fullmatch(name)] == []
    assert len(names) == 104 * 6 + 8                 # 1 + 3·33 convolutions on the way, 4 short cuts; 4 of ASPP
    assert standard_names(names) == ({name: name for name in names}, "")
