"""FCN's sizes, alignment and stages of training."""

import math
from functools import cache

import numpy as np
import pytest

import tinyseg as ts
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.models.fcn import FCN
from tinyseg.models.vgg import VGG16
from tinyseg.nn import init


@cache
def net(stride):
    return FCN(stride=stride, hidden=32).eval()


@pytest.mark.parametrize(("stride", "offsets"), [
    (32, {"image": 19}), (16, {"pool4": 5, "image": 27}), (8, {"pool4": 5, "pool3": 9, "image": 31})])
def test_the_papers_crops(stride, offsets):
    assert net(stride)._offsets == offsets


def test_trained_parameters():
    with init.skipped():
        fcn = FCN()
    trained = {name: math.prod(p.shape) for name, p in fcn.named_parameters() if p.requires_grad}
    assert sum(trained.values()) == 134_362_751
    assert sum(n for name, n in trained.items() if "pool3" not in name) == 134_357_354       # 16s
    assert sum(n for name, n in trained.items() if "pool" not in name) == 134_346_581        # 32s


@pytest.mark.parametrize("size", [(1, 1), (33, 18)])
def test_logits_have_the_size_of_the_image(size):
    with ts.no_grad():
        assert net(8)(np.zeros((1, 3, *size), np.float32)).shape == (1, 21, *size)


def test_sizes_on_the_way():
    """For 224 pixels: pools 211, 106, 53, 27, 14; fully connected 8."""
    seen = []
    fcn = net(32)
    for module in (fcn.pool, fcn.fc6, fcn.upscore):
        module.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[2]))
    try:
        with ts.no_grad():
            fcn(np.zeros((1, 3, 224, 224), np.float32))
    finally:
        for module in (fcn.pool, fcn.fc6, fcn.upscore):
            module._forward_hooks = ()
    assert seen == [211, 106, 53, 27, 14, 8, 288]


def test_stages_of_training_hand_their_weights_on():
    classifier = VGG16(num_classes=5)
    coarse = FCN(num_classes=3, stride=32)
    coarse.load_classifier(classifier)
    assert np.array_equal(coarse.fc6.weight.data, classifier.classifier[0].weight.data.reshape(4096, 512, 7, 7))
    assert np.array_equal(coarse.conv5[4].bias.data, classifier.features[28].bias.data)
    with ts.no_grad():
        coarse.score_fr.weight[...] = 0.25
    middle = FCN(num_classes=3, stride=16)
    middle.load_coarser(coarse)
    assert np.array_equal(middle.conv1[0].weight.data, coarse.conv1[0].weight.data)
    assert (middle.score_fr.weight.data == 0.25).all()
    assert not middle.score_pool4.weight.data.any()
    assert middle.upscore.weight.shape == (3, 3, 32, 32)


def test_up_sampling_is_fixed_unless_it_is_to_be_learned():
    assert not net(8).upscore.weight.requires_grad
    assert FCN(num_classes=2, stride=32, learn_up=True, hidden=8).upscore.weight.requires_grad


@pytest.mark.parametrize(("make", "error", "text"), [
    (lambda: FCN(stride=4), ArgumentError, "FCN: stride 4; legal: 8, 16, 32"),
    (lambda: FCN(stride=16, at_once=True), ArgumentError, "FCN: at_once with stride 16; it is a way to train stride 8"),
    (lambda: net(32)(np.zeros((1, 1, 8, 8), np.float32)), ShapeError,
     "FCN: input of shape (1, 1, 8, 8); needs (N, 3, H, W)"),
    (lambda: net(8).load_coarser(net(32)), ArgumentError, "FCN: stride 8 from stride 32; needs 16")])
def test_errors(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == text
