"""Every net against PyTorch's operations on the same weights: logits and the gradient of every parameter.

Weights and running statistics are drawn, so that a layer that is left out, exchanged or normalised by something else
shows.  Batch normalisations use running statistics and dropout is off: what is drawn in a step is compared elsewhere.

A ReLU whose input is within rounding of 0 may be open here and closed there, which moves gradients by percents: an
image for which that happens says nothing, and another is drawn, up to twice.  (In float64 all agree to 1e-14.)
"""

import math

import numpy as np
import pytest

import tinyseg as ts
from tinyseg import models, nn
from tinyseg.autograd import Tensor
from tinyseg.nn import init

torch = pytest.importorskip("torch")
import torch_nets  # noqa: E402

pytestmark = pytest.mark.oracle
SIZES = [(33, 45), (46, 31)]
VGG = {"hidden": 64}
BLOCKS = (2, 3, 1)

NETS = {
    "fcn_resnet50": ("fcn_resnet50", {}, torch_nets.fcn_resnet50, SIZES),
    "deeplabv3_resnet50": ("deeplabv3_resnet50", {}, torch_nets.deeplabv3_resnet50, SIZES),
    "deeplabv3_mobilenet": ("deeplabv3_mobilenet_v3_large", {}, torch_nets.deeplabv3_mobilenet, SIZES),
    "lraspp": ("lraspp", {}, torch_nets.lraspp, SIZES),
    "deeplab_v3, 16": ("deeplab_v3", {}, torch_nets.deeplab_v3(torch_nets.PAPER16, (6, 12, 18)), SIZES),
    "deeplab_v3, 8": ("deeplab_v3", {"output_stride": 8}, torch_nets.deeplab_v3(torch_nets.PAPER8, (12, 24, 36)),
                      SIZES[:1]),
    "deeplab_v3, cascade": ("deeplab_v3", {"cascade": 3}, torch_nets.deeplab_v3_cascade, SIZES[1:]),
    "deeplab_v3plus": ("deeplab_v3plus", {}, torch_nets.deeplab_v3plus, SIZES),
    "deeplab_v3plus, mobilenet": ("deeplab_v3plus", {"backbone": "mobilenet_v2", "output_stride": 8},
                                  torch_nets.deeplab_v3plus_mobilenet(False), SIZES),
    "deeplab_v3plus, separable": (
        "deeplab_v3plus", {"backbone": "mobilenet_v2", "output_stride": 8, "separable": True},
        torch_nets.deeplab_v3plus_mobilenet(True), SIZES),
    "deeplab_v3plus, xception": ("deeplab_v3plus", {"backbone": "xception65", "separable": True},
                                 torch_nets.deeplab_v3plus_xception, SIZES),
    "deeplab_v1": ("deeplab_v1", VGG, torch_nets.deeplab_v1(12, 12), SIZES),
    "deeplab_v1, 7x7": ("deeplab_v1", {**VGG, "kernel": 7, "rate": 4}, torch_nets.deeplab_v1(12, 4), SIZES[:1]),
    "deeplab_v1, 4x4": ("deeplab_v1", {**VGG, "kernel": 4, "rate": 4}, torch_nets.deeplab_v1(6, 4), SIZES[1:]),
    "deeplab_v1, 4x4, wide": ("deeplab_v1", {**VGG, "kernel": 4, "rate": 8}, torch_nets.deeplab_v1(12, 8), [(65, 71)]),
    "deeplab_v2, vgg16": ("deeplab_v2", {**VGG, "backbone": "vgg16", "rates": (2, 4, 8, 12)},
                          torch_nets.deeplab_v2_vgg, SIZES),
    "deeplab_v2": ("deeplab_v2", {}, torch_nets.deeplab_v2_resnet101, SIZES),
    "fcn32s": ("fcn32s", VGG, torch_nets.fcn(32), SIZES),
    "fcn16s": ("fcn16s", VGG, torch_nets.fcn(16), SIZES),
    "fcn8s": ("fcn8s", VGG, torch_nets.fcn(8), SIZES),
    "fc_densenet": ("fc_densenet56", {"blocks": BLOCKS, "growth": 4},
                    lambda w, x: torch_nets.fc_densenet(w, x, BLOCKS), [(36, 44), (20, 28)]),
    "fc_densenet56": ("fc_densenet56", {}, lambda w, x: torch_nets.fc_densenet(w, x, (4,) * 6), [(32, 96), (64, 32)]),
    "fc_densenet103": ("fc_densenet103", {}, lambda w, x: torch_nets.fc_densenet(w, x, (4, 5, 7, 10, 12, 15)),
                       [(32, 96), (64, 32)]),
    "vgg16": ("vgg16", {}, torch_nets.vgg16, [(65, 97), (71, 33)]),
    "vgg16_bn": ("vgg16_bn", {}, torch_nets.vgg16_bn, [(65, 97), (71, 33)]),
    "resnet18": ("resnet18", {}, torch_nets.resnet18, SIZES),
    "resnet34": ("resnet34", {}, torch_nets.resnet34, SIZES),
    "densenet121": ("densenet121", {}, torch_nets.densenet121, SIZES),
    "mobilenet_v2": ("mobilenet_v2", {}, torch_nets.mobilenet_v2_classifier, SIZES),
}


@pytest.fixture(autouse=True)
def exact():
    kept = ts.get_float32_matmul_precision()
    ts.set_float32_matmul_precision("highest")
    yield
    ts.set_float32_matmul_precision(kept)


def draw(net, rng):
    """Weights that keep the size of what goes through, and constants that are no 0 and no 1."""
    state = {}
    for name, array in net.state_dict().items():
        if name.endswith("running_var") or (name.endswith("weight") and array.ndim == 1):
            value = rng.uniform(0.6, 1.4, array.shape)
        elif array.ndim < 2:
            value = rng.normal(0, 0.1, array.shape)
        else:
            value = rng.standard_normal(array.shape, dtype=np.float32)
            value *= math.sqrt(2 / math.prod(array.shape[1:]))
        state[name] = value.astype(array.dtype)
    net.load_state_dict(state)
    return net.state_dict()


def as_terms(output):
    return {"out": output} if isinstance(output, Tensor) else {term.name: term.scores for term in output}


@pytest.mark.parametrize("flavour", NETS)
def test_logits_and_gradients(flavour):
    name, options, theirs, sizes = NETS[flavour]
    rng = np.random.default_rng(0)
    with init.skipped():
        net = models.build(name, 3, 5, **options)
    state = draw(net, rng)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.frozen = True
        elif isinstance(module, nn.Dropout):
            module.p = 0.0
    trained = [key for key, p in net.named_parameters() if p.requires_grad]
    for size in sizes:
        for attempt in range(3):
            x = rng.standard_normal((1, 3, *size), dtype=np.float32)
            weights = torch_nets.Weights(state, trained)
            expected = theirs(weights, torch.tensor(x))
            assert not set(state) - weights.used     # no weight without work
            with ts.no_grad():
                assert error(net.eval()(x), list(expected.values())[-1]) <= 1e-4
            found = as_terms(net.train()(x))
            assert set(found) == set(expected) - {"logits"}
            assert max(error(scores, expected[term]) for term, scores in found.items()) <= 1e-4
            cotangents = {term: rng.standard_normal(scores.shape, dtype=np.float32) for term, scores in found.items()}
            net.zero_grad()
            sum((scores * cotangents[term]).sum() for term, scores in found.items()).backward()
            sum((expected[term] * torch.tensor(c)).sum() for term, c in cotangents.items()).backward()
            wrong = {key: e for key, p in net.named_parameters()
                     if p.requires_grad and not (e := error(p.grad, weights.tensors[key].grad)) <= 1e-3}
            if not wrong:
                break
            assert attempt < 2, wrong


def error(ours, theirs):
    """The largest difference over the largest value."""
    ours, theirs = ours.detach().data, theirs.detach().numpy()
    assert ours.shape == theirs.shape
    assert np.any(theirs)
    return np.abs(ours - theirs).max() / np.abs(theirs).max()
