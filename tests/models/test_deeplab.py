"""DeepLab v1 and v2: parameters, sizes, and the scores that they are trained on."""

import numpy as np
import pytest

import tinyseg as ts
import tinyseg.functional as F
from tinyseg import nn
from tinyseg.data import Batch
from tinyseg.errors import ArgumentError, ShapeError
from tinyseg.models.deeplab import SMALL, DeepLabV1, DeepLabV2
from tinyseg.nn import init
from tinyseg.training.loss import build_loss


def build(make, *arguments, **options):
    """A net whose weights do not matter."""
    with init.skipped():
        return make(*arguments, **options)


def images(n, *size):
    return np.random.default_rng(0).standard_normal((n, 3, *size), dtype=np.float32)


@pytest.mark.parametrize(("make", "options", "parameters"), [
    (DeepLabV1, {}, 20_505_429), (DeepLabV1, {"kernel": 7, "rate": 4}, 134_346_581),
    (DeepLabV1, {"kernel": 4, "rate": 4}, 65_140_565), (DeepLabV1, {"kernel": 4, "rate": 8}, 65_140_565),
    (DeepLabV2, {"backbone": "vgg16"}, 37_877_652), (DeepLabV2, {}, 44_048_532)])
def test_parameters(make, options, parameters):
    assert build(make, **options).num_parameters() == parameters


@pytest.mark.parametrize(("options", "field"), [
    ({"kernel": 3, "rate": 12}, 224), ({"kernel": 7, "rate": 4}, 224), ({"kernel": 4, "rate": 4}, 128),
    ({"kernel": 4, "rate": 8}, 224)])
def test_fields_of_view_are_those_of_the_papers_table(options, field):
    """The paper counts what fc6 adds, rate·(kernel - 1) cells of 8 pixels, to 32 pixels for one cell of pool5."""
    net = DeepLabV1(hidden=8, **options)
    rows = {row["name"]: row for row in nn.layer_table(net, (3, 33, 41))}
    added = rows["base.fov.fc6"]["receptive_field"][0] - rows["base.pool5a"]["receptive_field"][0]
    assert added + 32 == field
    assert rows["base.fov.fc6"]["output"][1:] == rows["base.pool5a"]["output"][1:]


def test_sizes_on_the_way():
    """321 -> 161, 81, 41, and no smaller."""
    net = DeepLabV1(hidden=4)
    rows = nn.layer_table(net, (3, 321, 65))
    sizes = [row["output"][1:] for row in rows if row["type"] == "MaxPool2d"]
    assert sizes == [(161, 33), (81, 17), (41, 9), (41, 9), (41, 9)]
    convolutions = [m for m in net.base.features if isinstance(m, nn.Conv2d)]
    assert [m.dilation[0] for m in convolutions] == [1] * 10 + [2] * 3


def test_scores_lie_on_every_eighth_pixel():
    """So a coarse score is the logit of that pixel."""
    net = DeepLabV1(num_classes=3, hidden=4).eval()
    x = images(1, 33, 41)
    with ts.no_grad():
        assert np.allclose(net(x).data[:, :, ::8, ::8], net.base(x).data, rtol=1e-5, atol=1e-6)
    assert net(x).shape == (1, 3, 33, 41)


def test_training_on_coarse_scores():
    net = DeepLabV1(num_classes=3, hidden=4, dropout=0)
    masks = np.random.default_rng(1).integers(0, 3, (1, 33, 41))
    batch = Batch(images(1, 33, 41), masks, None, ("a",), ((33, 41),))
    loss = build_loss("ce")(net(batch.images), batch)
    assert loss.item() == pytest.approx(F.cross_entropy(net.base(batch.images), masks[:, ::8, ::8]).item(), rel=1e-5)
    loss.backward()
    assert all(np.isfinite(p.grad.data).all() for p in net.parameters())


def test_several_scales_and_their_maximum():
    net = DeepLabV2(num_classes=3, backbone="vgg16", rates=SMALL, hidden=4, dropout=0)
    terms = net(images(1, 65, 49))
    assert [(t.name, t.scores.shape[2:], t.weight) for t in terms] == [
        ("1x", (9, 7), 1), ("0.5x", (4, 3), 1), ("0.75x", (6, 5), 1), ("max", (9, 7), 1)]
    resized = [F.interpolate(t.scores, (9, 7), mode="bilinear").detach().data for t in terms[:3]]
    assert np.array_equal(terms[3].scores.detach().data, np.maximum.reduce(resized))
    batch = Batch(images(1, 65, 49), np.random.default_rng(1).integers(0, 3, (1, 65, 49)), None, ("a",), ((65, 49),))
    loss = build_loss("ce")
    assert loss(terms, batch).item() == pytest.approx(sum(loss((t,), batch).item() for t in terms), rel=1e-6)


def test_aspp_sums_its_branches():
    net = DeepLabV2(num_classes=3, backbone="vgg16", hidden=4, multi_scale=False).eval()
    assert [layer.fc6.dilation[0] for layer in net.base.aspp.children()] == [6, 12, 18, 24]
    x = images(1, 33, 33)
    with ts.no_grad():
        features = net.base.features(x)
        branches = sum(branch(features).data for branch in net.base.aspp.children())
        assert np.allclose(net.base(x).data, branches, atol=1e-6)


def test_the_caffe_resnet():
    """Strides on the first 1x1, all blocks of a stage dilated alike, keys of the port."""
    net = build(DeepLabV2, multi_scale=False)
    state = net.state_dict()
    assert len(state) == 632
    assert state["base.layer1.conv1.conv.weight"].shape == (64, 3, 7, 7)
    assert state["base.layer2.block1.shortcut.bn.running_var"].shape == (256,)
    assert state["base.layer4.block23.conv3x3.conv.weight"].shape == (256, 256, 3, 3)
    assert state["base.aspp.c3.bias"].shape == (21,)
    assert net.base.layer3.block1.reduce.conv.stride == (2, 2)
    for stage, rate in (("layer3", 1), ("layer4", 2), ("layer5", 4)):
        found = {m.dilation for m in getattr(net.base, stage).modules()
                 if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)}
        assert found == {(rate, rate)}


@pytest.mark.parametrize(("make", "error", "text"), [
    (lambda: DeepLabV1(kernel=4, rate=3), ArgumentError,
     "DeepLabV1: kernel 4, rate 3; needs rate·(kernel - 1) even, to keep the size: rate 12 with kernel 3, 4 with 7, 4 "
     "or 8 with 4"),
    (lambda: DeepLabV2(backbone="resnet50"), ArgumentError,
     "DeepLabV2: backbone 'resnet50'; legal: resnet101, vgg16"),
    (lambda: build(DeepLabV2).output_size(1), ShapeError, "DeepLabV2: input size 1 in H: needs at least 2")])
def test_errors(make, error, text):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == text
