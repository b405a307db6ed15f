"""Names of others, heads of another size, and the report of what fitted."""

import numpy as np
import pytest
from torchvision_keys import keys

from tinyseg import models, nn
from tinyseg.autograd import Tensor, no_grad
from tinyseg.errors import ArgumentError, CheckpointError
from tinyseg.interop import guess_architecture, load_weights, write_weights
from tinyseg.models.densenet import DenseNet
from tinyseg.models.mobilenet import MobileNetV2
from tinyseg.models.resnet import ResNet


def unet(**options):
    return models.build("unet", 3, 2, **{"base_channels": 2, **options})


def shuffled(net, seed=0):
    """The net with other weights, statistics included."""
    generator = np.random.default_rng(seed)
    state = {name: generator.uniform(0.5, 2, a.shape).astype(a.dtype) for name, a in net.state_dict().items()}
    net.load_state_dict(state)
    return net


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return all(np.array_equal(a[name], b[name]) for name in a if not name.endswith("num_batches_tracked"))


def milesial_first(name):
    return name.replace("inc.double_conv", "inc.conv.conv").replace("maxpool_conv.1.double_conv", "mpconv.1.conv") \
        .replace("conv.double_conv", "conv.conv")


def wzmiaomiao(name):
    return name.replace("inc.double_conv", "in_conv").replace("maxpool_conv.1.double_conv", "1") \
        .replace("conv.double_conv", "conv").replace("outc.conv", "out_conv.0")


def test_the_layouts_are_those_of_the_sources():
    """By names that the sources have."""
    names = list(unet().state_dict())
    assert {"inc.conv.conv.0.weight", "down1.mpconv.1.conv.1.running_mean", "up4.up.bias", "up1.conv.conv.3.weight",
            "outc.conv.bias"} <= set(map(milesial_first, names))
    names = list(unet(up="bilinear").state_dict())
    assert {"in_conv.0.weight", "down1.1.1.running_mean", "up1.conv.3.weight",
            "out_conv.0.bias"} <= set(map(wzmiaomiao, names))
    assert unet(base_channels=32, up="bilinear").num_parameters() == 4_318_434       # WZMIAOMIAO's count


@pytest.mark.parametrize("wrapper", ["", "module.", "_orig_mod.module."])
@pytest.mark.parametrize(("theirs", "layout"), [
    (str, ""), (milesial_first, "milesial's first U-Net"), (wzmiaomiao, "WZMIAOMIAO's U-Net")])
def test_names_of_unets(theirs, layout, wrapper):
    net, source = unet(), shuffled(unet())
    state = {wrapper + theirs(name): array for name, array in source.state_dict().items()}
    report = load_weights(net, state)
    assert same(net, source)
    assert report.layout == layout
    assert set(report.loaded) == set(net.state_dict())
    assert [report.missing, report.unexpected, report.other_shape, report.folded] == [[], [], {}, []]


def test_names_of_old_densenets():
    """norm.1 for norm1, and no num_batches_tracked, as in the published files."""
    options = {"growth": 4, "blocks": (2, 3), "num_classes": 5}
    net, source = DenseNet(3, **options), shuffled(DenseNet(3, **options))
    state = {name: array for name, array in source.state_dict().items() if not name.endswith("num_batches_tracked")}
    for k in "12":
        state = {name.replace(f".norm{k}.", f".norm.{k}.").replace(f".conv{k}.", f".conv.{k}.")
                 if "denselayer" in name else name: array for name, array in state.items()}
    assert "features.denseblock2.denselayer3.norm.1.weight" in state
    assert load_weights(net, state).layout == "torchvision's first DenseNet"
    assert same(net, source)


class DeepLabNames(nn.Module):
    """kazuto1011's names in small."""

    def __init__(self):
        def unit(i, o):
            return nn.Sequential({"conv": nn.Conv2d(i, o, 1, bias=False), "bn": nn.BatchNorm2d(o)})
        block = nn.Sequential({"reduce": unit(4, 2), "conv3x3": unit(2, 2), "increase": unit(2, 4),
                               "shortcut": unit(4, 4)})
        self.base = nn.Sequential({"layer1": nn.Sequential({"conv1": unit(3, 4)}),
                                   "layer2": nn.Sequential({"block1": block}),
                                   "aspp": nn.Sequential({"c0": nn.Conv2d(4, 2, 3)})})


@pytest.mark.parametrize("theirs", [
    str, lambda name: name.removeprefix("base."), lambda name: "module." + name,
    lambda name: name.replace("base.", "scale.").replace("shortcut", "proj").replace("aspp", "aspp.stages")])
def test_names_of_deeplab(theirs):
    net, source = DeepLabNames(), shuffled(DeepLabNames())
    load_weights(net, {theirs(name): array for name, array in source.state_dict().items()})
    assert same(net, source)


def test_weights_of_a_part():
    """An ImageNet classifier into the backbone of a net, and a whole net into what was its backbone."""
    class Segmenter(nn.Module):
        def __init__(self):
            self.backbone = ResNet(3, None, 18)
            self.classifier = nn.Conv2d(512, 2, 1)

    net, source = Segmenter(), shuffled(ResNet(3, 10, 18))
    report = load_weights(net, source.state_dict(), strict=False)
    assert report.missing == ["classifier.weight", "classifier.bias"]
    assert report.unexpected == ["fc.weight", "fc.bias"]
    assert all(np.array_equal(array, source.state_dict()[name]) for name, array in net.backbone.state_dict().items())

    backbone = {f"backbone.{name}": array for name, array in net.backbone.state_dict().items()}
    alone = ResNet(3, None, 18)
    load_weights(alone, backbone)
    assert same(alone, net.backbone)


# -- what does not fit ---------------------------------------------------------------------------------------------
def test_a_head_for_other_classes(tmp_path):
    source, net = shuffled(unet()), models.build("unet", 3, 5, base_channels=2)
    write_weights(tmp_path / "x.pth", source.state_dict())
    before = net.state_dict()
    fact = r'x.pth: does not fit UNet; of another shape: outc.conv.weight \(2, 2, 1, 1\) for \(5, 2, 1, 1\), .*="drop'
    with pytest.raises(CheckpointError, match=fact):
        load_weights(net, tmp_path / "x.pth")
    assert all(np.array_equal(array, before[name]) for name, array in net.state_dict().items())

    report = load_weights(net, tmp_path / "x.pth", other_shapes="drop")
    assert report.other_shape == {"outc.conv.weight": ((2, 2, 1, 1), (5, 2, 1, 1)), "outc.conv.bias": ((2,), (5,))}
    assert "of another shape: outc.conv.weight (2, 2, 1, 1) for (5, 2, 1, 1)" in str(report)
    after = net.state_dict()
    for name, array in after.items():
        expected = before if name.startswith("outc") else source.state_dict()
        np.testing.assert_array_equal(array, expected[name])


def test_missing_and_unexpected():
    source, net = shuffled(unet()), unet()
    state = source.state_dict()
    del state["outc.conv.bias"]
    state["aux_classifier.weight"] = np.ones(3)
    before = net.state_dict()
    with pytest.raises(CheckpointError, match=r"load_weights: does not fit UNet; missing: outc.conv.bias; unexpected: "
                                              r"aux_classifier.weight. Nothing was loaded.*strict=False"):
        load_weights(net, state)
    assert all(np.array_equal(array, before[name]) for name, array in net.state_dict().items())
    report = load_weights(net, state, strict=False)
    assert (report.missing, report.unexpected) == (["outc.conv.bias"], ["aux_classifier.weight"])
    assert str(report) == (f"loaded {len(state) - 1} tensors\nmissing: outc.conv.bias\n"
                           "unexpected: aux_classifier.weight")


def test_weights_of_another_net_load_nowhere():
    """strict=False forgives what is left over, not that nothing fits."""
    with pytest.raises(CheckpointError, match="none of its names and shapes are those of UNet"):
        load_weights(unet(), ResNet(3, 10, 18).state_dict(), strict=False, other_shapes="drop")


def test_two_names_for_one_tensor():
    state = shuffled(unet()).state_dict()
    state = {milesial_first(name): array for name, array in state.items()}
    state["inc.double_conv.0.weight"] = state["inc.conv.conv.0.weight"]
    with pytest.raises(CheckpointError, match="two of its names mean the same tensor"):
        load_weights(unet(), state)


def test_bad_choices():
    with pytest.raises(ArgumentError, match="other_shapes 'ignore'; legal: 'refuse', 'drop'"):
        load_weights(unet(), {}, other_shapes="ignore")


# -- biases before a normalisation ---------------------------------------------------------------------------------
def test_biases_go_into_the_running_mean():
    """A U-Net of before its convolutions lost their biases answers alike without them."""
    generator = np.random.default_rng(3)
    source = shuffled(unet(depth=2))
    state = source.state_dict()
    for name, module in source.named_modules():
        if isinstance(module, nn.Conv2d) and module.bias is None:
            bias = generator.normal(size=module.out_channels).astype(np.float32)
            state[f"{name}.bias"] = bias
            module.bias = nn.Parameter(bias)
    net = unet(depth=2)
    report = load_weights(net, state)
    assert len(report.folded) == 10
    assert "biases taken off running means: inc.double_conv.0.bias" in str(report)
    x = Tensor(generator.normal(size=(1, 3, 8, 8)).astype(np.float32))
    with no_grad():
        expected, found = source.eval()(x).data, net.eval()(x).data
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


# -- guesses -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("net", "words"), [
    (lambda: unet(), "U-Net: build('unet', 3, 2, base_channels=2, up='transposed')"),
    (lambda: unet(up="bilinear", norm=None, depth=3),
     "U-Net: build('unet', 3, 2, base_channels=2, up='bilinear', norm=None, depth=3)"),
    (lambda: ResNet(3, 10, 18), "ResNet-18, 3 channels, 10 classes"),
    (lambda: ResNet(1, None, 50), "ResNet-50, 1 channel"),
    (lambda: ResNet(3, 7, 34), "ResNet-34, 3 channels, 7 classes"),
    (lambda: DenseNet(3, 10, growth=4), "DenseNet-121, 3 channels, 10 classes"),
    (lambda: MobileNetV2(3, 6), "MobileNetV2, 3 channels, 6 classes"),
    (DeepLabNames, "DeepLab v2 on ResNet-(1,), 3 channels, 2 classes"), (lambda: nn.Linear(2, 3), "")])
def test_guesses(net, words):
    shapes = {name: array.shape for name, array in net().state_dict().items()}
    assert guess_architecture({f"module.{name}": shape for name, shape in shapes.items()}) == words


def test_a_guess_can_be_built():
    net = unet(up="bilinear", depth=3)
    words = guess_architecture({name: a.shape for name, a in net.state_dict().items()})
    twin = eval(words.removeprefix("U-Net: "), {"build": models.build})
    assert {n: a.shape for n, a in twin.state_dict().items()} == {n: a.shape for n, a in net.state_dict().items()}


@pytest.mark.parametrize(("name", "words"), [
    ("fcn_resnet50_aux", "FCN on ResNet-50, 3 channels, 21 classes, with auxiliary head"),
    ("deeplabv3_resnet101_aux", "DeepLab v3 on ResNet-101, 3 channels, 21 classes, with auxiliary head"),
    ("deeplabv3_mnv3_aux", "DeepLab v3 on MobileNetV3, 3 channels, 21 classes, with auxiliary head"),
    ("lraspp_mnv3", "LR-ASPP on MobileNetV3, 3 channels, 21 classes"),
    ("vgg16", "VGG16, 3 channels, 1000 classes"),
    ("vgg16_bn", "VGG16, 3 channels, 1000 classes, batch normalisation"),
    ("densenet121", "DenseNet-121, 3 channels, 1000 classes"),
    ("maskrcnn_r50_fpn", "Mask R-CNN on ResNet-50, 3 channels, 91 classes")])
def test_guesses_of_torchvision(name, words):
    assert guess_architecture({key: tuple(shape) for key, shape in keys(name).items()}) == words
