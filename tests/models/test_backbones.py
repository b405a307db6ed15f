"""Backbones have the sizes and keys that the world's weights have."""

import math

import numpy as np
import pytest
from torchvision_keys import keys, shapes

import tinyseg as ts
from tinyseg import nn
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.models.densenet import DenseNet, FCDenseNet
from tinyseg.models.mobilenet import MobileNetV2, MobileNetV3
from tinyseg.models.resnet import ResNet
from tinyseg.models.vgg import VGG16
from tinyseg.nn import init


def count(module):
    return sum(math.prod(p.shape) for p in module.parameters())


def rates(stage):
    """Stride and dilation of every 3x3 convolution."""
    return [(m.stride[0], m.dilation[0]) for m in stage.modules()
            if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]


@pytest.mark.parametrize(("make", "parameters"), [
    (VGG16, 138_357_544), (lambda: VGG16(norm="batch"), 138_365_992), (lambda: ResNet(depth=18), 11_689_512),
    (lambda: ResNet(depth=34), 21_797_672), (ResNet, 25_557_032), (lambda: ResNet(depth=101), 44_549_160),
    (MobileNetV2, 3_504_872), (MobileNetV3, 5_483_032), (DenseNet, 7_978_856), (FCDenseNet, 9_322_348),
    (lambda: FCDenseNet(blocks=(4,) * 6, growth=12), 1_376_988)])
def test_parameters(make, parameters):
    with init.skipped():
        assert count(make()) == parameters


@pytest.mark.parametrize(("name", "make"), [
    ("vgg16", VGG16), ("vgg16_bn", lambda: VGG16(norm="batch")), ("resnet18", lambda: ResNet(depth=18)),
    ("resnet50", ResNet), ("densenet121", DenseNet)])
def test_keys_and_shapes_are_torchvisions(name, make):
    with init.skipped():
        assert shapes(make()) == keys(name)


def test_keys_of_mobilenet_v3_are_torchvisions():
    ours = {f"backbone.{key.removeprefix('features.')}": shape
            for key, shape in shapes(MobileNetV3(num_classes=None, dilated=True)).items()}
    assert ours == {key: shape for key, shape in keys("deeplabv3_mnv3_aux").items() if key.startswith("backbone.")}


def test_a_few_keys_of_each():
    assert set(VGG16(num_classes=None).state_dict()) == {
        f"features.{k}.{kind}" for k in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28) for kind in ("weight", "bias")}
    state = ResNet().state_dict()
    assert {"conv1.weight", "bn1.running_var", "layer1.0.downsample.1.bias", "layer3.5.conv3.weight",
            "fc.bias"} <= set(state)
    assert state["layer4.0.downsample.0.weight"].shape == (2048, 1024, 1, 1)
    assert {"features.denseblock4.denselayer16.norm2.weight", "features.transition3.conv.weight",
            "classifier.weight"} <= set(DenseNet().state_dict())


@pytest.mark.parametrize(("options", "third", "fourth"), [
    ({}, [(2, 1), *[(1, 1)] * 5], [(2, 1), (1, 1), (1, 1)]),
    ({"output_stride": 16}, [(2, 1), *[(1, 1)] * 5], [(1, 1), (1, 2), (1, 2)]),
    ({"output_stride": 8}, [(1, 1), *[(1, 2)] * 5], [(1, 2), (1, 4), (1, 4)]),
    ({"output_stride": 8, "dilation_rule": "paper"}, [(1, 2)] * 6, [(1, 4)] * 3),
    ({"output_stride": 16, "dilation_rule": "paper", "multi_grid": (1, 2, 4)}, [(2, 1), *[(1, 1)] * 5],
     [(1, 2), (1, 4), (1, 8)])])
def test_dilation_takes_over_from_stride(options, third, fourth):
    net = ResNet(num_classes=None, **options)
    assert rates(net.layer3) == third
    assert rates(net.layer4) == fourth


@pytest.mark.parametrize("stride", [8, 16, 32])
def test_output_stride(stride):
    net = ResNet(num_classes=None, output_stride=stride).eval()
    with ts.no_grad():
        assert net(np.zeros((1, 3, 65, 33), np.float32)).shape == (1, 2048, 64 // stride + 1, 32 // stride + 1)


@pytest.mark.parametrize(("net", "size", "shape"), [
    (lambda: VGG16(num_classes=5), 64, (2, 5)), (lambda: VGG16(num_classes=None), 64, (2, 512, 2, 2)),
    (lambda: ResNet(num_classes=5, depth=18), 33, (2, 5)), (lambda: DenseNet(num_classes=5), 40, (2, 5)),
    (lambda: MobileNetV2(num_classes=5), 40, (2, 5)), (lambda: MobileNetV3(num_classes=5), 40, (2, 5)),
    (lambda: MobileNetV2(num_classes=None, output_stride=8), 32, (2, 1280, 4, 4)),
    (lambda: MobileNetV3(num_classes=None, dilated=True), 32, (2, 960, 2, 2)),
    (lambda: FCDenseNet(3, 4, blocks=(2, 2, 2), growth=4), 12, (2, 4, 12, 12))])
def test_forward_and_backward(net, size, shape):
    net = net()
    x = np.random.default_rng(0).standard_normal((2, 3, size, size), dtype=np.float32)
    y = net(x)
    assert y.shape == shape
    (y * y).sum().backward()
    assert all(p.grad is not None and np.isfinite(p.grad.data).all() for p in net.parameters())


@pytest.mark.parametrize(("make", "error", "text"), [
    (lambda: ResNet(depth=19), ArgumentError, "ResNet: depth 19; legal: 18, 34, 50, 101"),
    (lambda: ResNet(output_stride=4), ArgumentError, "ResNet: output_stride 4; legal: 8, 16, 32"),
    (lambda: ResNet(depth=18, output_stride=8), ArgumentError,
     "ResNet: dilation 2 in a block of two 3x3 convolutions; needs the bottlenecks of depth 50 or 101"),
    (lambda: ResNet(multi_grid=(1, 2)), ArgumentError,
     "ResNet: multi_grid (1, 2); needs a factor for each of the last stage's 3 blocks"),
    (lambda: VGG16(norm="group"), ArgumentError, "VGG16: norm 'group'; legal: 'batch', None"),
    (lambda: FCDenseNet(blocks=(4,)), ArgumentError, "FCDenseNet: blocks (4,); needs two or more numbers of layers"),
    (lambda: FCDenseNet()(np.zeros((1, 3, 48, 64), np.float32)), ShapeError,
     "FCDenseNet: input size 48 in H: needs a multiple of 32; the nearest legal sizes are 32 and 64")])
def test_errors(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == text
