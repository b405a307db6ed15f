"""DeepLab v3 and v3+, FCN-ResNet and LR-ASPP: keys, sizes, rates, and what they give in training."""

import numpy as np
import pytest
from torchvision_keys import keys, shapes

import tinyseg as ts
from tinyseg import models, nn
from tinyseg.errors import ArgumentError, CheckpointError, ShapeError
from tinyseg.models.backbones import backbone
from tinyseg.models.deeplab_v3 import DeepLabV3, DeepLabV3Plus, TorchvisionDeepLabV3
from tinyseg.models.fcn_resnet import FCNResNet
from tinyseg.models.lraspp import LRASPP
from tinyseg.nn import init


def images(n, *size, seed=0):
    return np.random.default_rng(seed).standard_normal((n, 3, *size), dtype=np.float32)


@pytest.mark.parametrize(("name", "make", "parameters"), [
    ("fcn_resnet50_aux", FCNResNet, 35_322_218), ("fcn_resnet101_aux", lambda: FCNResNet(depth=101), 54_314_346),
    ("deeplabv3_resnet50_aux", TorchvisionDeepLabV3, 42_004_074),
    ("deeplabv3_resnet101_aux", lambda: TorchvisionDeepLabV3(backbone="resnet101"), 60_996_202),
    ("deeplabv3_mnv3_aux", lambda: TorchvisionDeepLabV3(backbone="mobilenet_v3_large"), 11_029_328),
    ("lraspp_mnv3", LRASPP, 3_221_538)])
def test_keys_and_shapes_are_torchvisions(name, make, parameters):
    with init.skipped():
        net = make()
    assert net.num_parameters() == parameters
    assert list(shapes(net).items()) == list(keys(name).items())


def rates(module):
    return [m.dilation[0] for m in module.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]


@pytest.mark.parametrize(("options", "third", "fourth", "aspp"), [
    ({}, [1] * 6, [2, 4, 8], [6, 12, 18]), ({"output_stride": 8}, [2] * 6, [4, 8, 16], [12, 24, 36]),
    ({"multi_grid": (1, 1, 1)}, [1] * 6, [2] * 3, [6, 12, 18])])
@pytest.mark.parametrize("make", [DeepLabV3, DeepLabV3Plus])
def test_rates_of_the_paper(make, options, third, fourth, aspp):
    net = make(**options)
    head = net.classifier.aspp if make is DeepLabV3Plus else net.classifier[0]
    assert rates(net.backbone.layer3) == third
    assert rates(net.backbone.layer4) == fourth
    assert rates(head) == aspp


def test_a_separable_decoder_saves_what_the_products_say():
    """O·C·9 weights become 9·C and O·C, with two numbers more for each of the C channels in between."""
    with init.skipped():
        plain, separable = (DeepLabV3Plus(separable=s) for s in (False, True))
    saved = sum(256 * c * 9 - (9 * c + 256 * c + 2 * c) for c in (2048, 2048, 2048, 256 + 48, 256))
    assert plain.num_parameters() - separable.num_parameters() == saved
    assert rates(separable.classifier.aspp) == rates(plain.classifier.aspp)


@pytest.mark.parametrize(("stride", "cells", "rate"), [(8, 9, [1, 1, 2, 2, 4]), (16, 5, [1, 1, 1, 1, 2]),
                                                       (32, 3, [1] * 5)])
def test_xception_dilates_behind_the_strides_that_it_leaves_out(stride, cells, rate):
    net = backbone("xception65", 3, stride, ("low", "middle", "out"))
    stages = [next(m.dilation[0] for m in getattr(net, name).modules() if isinstance(m, nn.Conv2d) and m.groups > 1)
              for name in ("entry2", "entry3", "middle1", "exit1", "exit2")]
    assert stages == rate
    with ts.no_grad():
        found = net.eval()(images(1, 65, 65))
    assert [found[part].shape[1:] for part in ("low", "middle", "out")] == [(128, 17, 17), (256, 9, 9),
                                                                           (2048, cells, cells)]


def test_the_cascade_goes_on_at_twice_the_rate():
    net = DeepLabV3(cascade=3)
    assert [rates(getattr(net.backbone, f"layer{k}")) for k in (4, 5, 6, 7)] == [
        [2, 4, 8], [4, 8, 16], [8, 16, 32], [16, 32, 64]]
    with ts.no_grad():
        features = net.eval().backbone(images(1, 33, 49))["out"]
    assert features.shape == (1, 2048, 3, 4)         # none of the copies strides


@pytest.mark.parametrize("make", [lambda: LRASPP(num_classes=5), lambda: DeepLabV3(3, 5, "mobilenet_v3_large"),
                                  lambda: DeepLabV3Plus(3, 5, "mobilenet_v2", output_stride=8)])
@pytest.mark.parametrize("size", [(1, 1), (33, 46)])
def test_logits_have_the_size_of_the_image(make, size):
    net = make().eval()
    with ts.no_grad():
        assert net(images(1, *size)).shape == (1, 5, *size)
    assert net.output_size(size) == size


def test_an_auxiliary_head_speaks_in_training_only():
    net = DeepLabV3(3, 4, "mobilenet_v2", aux=True)
    x = images(2, 33, 40)
    terms = net(x)
    assert [(t.name, t.scores.shape, t.weight) for t in terms] == [("out", (2, 4, 33, 40), 1.0),
                                                                  ("aux", (2, 4, 33, 40), 0.5)]
    assert net.eval()(x).shape == (2, 4, 33, 40)
    assert DeepLabV3(3, 4, "mobilenet_v2")(x).shape == (2, 4, 33, 40)


@pytest.mark.parametrize("name", ["mobilenet_v2", "mobilenet_v3_large"])
def test_a_classifier_gives_its_features(name):
    classifier, net = models.build(name, 3, 7).eval(), DeepLabV3(3, 4, name).eval()
    net.load_classifier(classifier)
    x = images(1, 32, 32)
    with ts.no_grad():
        first = classifier.features[0](x).data
        assert np.array_equal(net.backbone[0](x).data, first)
    with pytest.raises(CheckpointError, match="missing: "):
        net.load_classifier(models.build("resnet18", 3, 7))


def test_image_pooling_refuses_a_batch_of_one_unless_its_statistics_are_frozen():
    net = DeepLabV3(3, 4, "mobilenet_v2")
    x = images(1, 64, 64)
    with pytest.raises(ShapeError, match=r"ASPP's image pooling: .* batches of 2 or more, or .*frozen_norm"):
        net(x)
    nn.freeze_norm(net)
    before = net.state_dict()
    (net(x) ** 2).sum().backward()
    after = net.state_dict()
    assert all(np.array_equal(before[key], after[key]) for key in before)
    assert not any(p.requires_grad for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    assert net.classifier[0].convs[4][1].weight.grad is not None


@pytest.mark.parametrize(("make", "error", "text"), [
    (lambda: DeepLabV3(backbone="vgg19"), ArgumentError,
     "backbone 'vgg19': legal: resnet50, resnet101, mobilenet_v2, mobilenet_v3_large, xception65"),
    (lambda: DeepLabV3(backbone="mobilenet_v2", cascade=3), ArgumentError,
     "DeepLabV3: cascade 3 with backbone 'mobilenet_v2'; needs a ResNet"),
    (lambda: DeepLabV3(backbone="mobilenet_v3_large", output_stride=8), ArgumentError,
     "MobileNetV3: output_stride 8; legal: 16, 32"),
    (lambda: DeepLabV3(backbone="xception65", output_stride=4), ArgumentError,
     "Xception: output_stride 4; legal: 8, 16, 32"),
    (lambda: LRASPP()(np.zeros((1, 1, 8, 8), np.float32)), ShapeError,
     "LRASPP: input of shape (1, 1, 8, 8); needs (N, 3, H, W)"),
    (lambda: LRASPP().output_size((0, 5)), ShapeError, "LRASPP: input size 0 in H: needs at least 1")])
def test_errors(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == text
