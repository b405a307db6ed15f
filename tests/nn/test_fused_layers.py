"""A layer that does the next one's work: the same result, and nobody who looks on is fooled."""

import numpy as np
import pytest

from tinyseg import nn
from tinyseg.autograd import no_grad, tensor, watching

LAYERS = {"norm": lambda: nn.BatchNorm2d(3), "conv": lambda: nn.Conv2d(3, 3, 3, padding=1),
          "transposed": lambda: nn.ConvTranspose2d(3, 3, 2, stride=2, bias=False)}


def operations(net, x):
    seen = []
    with watching(lambda function, *_: seen.append(type(function).__name__)):
        y = net(x)
    return y, seen


def image(requires_grad=False):
    return tensor(np.random.default_rng(0).standard_normal((2, 3, 5, 6)), requires_grad=requires_grad)


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_result_and_gradients_stay(layer, training):
    net = nn.Sequential(LAYERS[layer](), nn.ReLU()).to("float64").train(training)
    results = []
    for forward in (net, lambda x: net[1](net[0](x))):
        net.zero_grad()
        x = image(requires_grad=True)
        y = forward(x)
        y.backward(np.random.default_rng(1).standard_normal(y.shape))
        results.append([y.detach().numpy(), x.grad.numpy(), *(p.grad.numpy() for p in net.parameters())])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)
    assert "ReLU" not in operations(net, image())[1]


def test_hooks_see_both_layers():
    net = nn.Sequential(nn.BatchNorm2d(3), nn.ReLU()).to("float64")
    for k in (0, 1):
        outputs = []
        with net[k].register_forward_hook(lambda module, inputs, output, outputs=outputs: outputs.append(output)):
            y, seen = operations(net, image())
        assert "ReLU" in seen
        assert (outputs[0].data.min() < 0) == (k == 0)
        assert y.data.min() == 0


def test_a_subclass_with_a_forward_of_its_own_is_left_alone():
    class Doubled(nn.Conv2d):
        def forward(self, x):
            return super().forward(x) * 2

    net = nn.Sequential(Doubled(3, 3, 1), nn.ReLU(), nn.Identity(), nn.ReLU()).to("float64")
    assert operations(net, image())[1].count("ReLU") == 2


def trained(**options):
    """A convolution and a normalisation that has seen something."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, groups=1, **options), nn.BatchNorm2d(4), nn.ReLU()).to("float64")
    for _ in range(3):
        net(image())
    return net.eval()


@pytest.mark.parametrize("bias", [True, False])
def test_a_constant_normalisation_is_folded_into_the_convolution(bias):
    net = trained(bias=bias)
    expected, seen = operations(net, image())
    assert seen == ["Conv2d", "Affine"]
    with no_grad():
        found, seen = operations(net, image())
    assert seen == ["Conv2d"]
    np.testing.assert_allclose(found.numpy(), expected.data, rtol=1e-12, atol=1e-13)
    assert found.numpy().min() == 0


def test_it_is_not_folded_where_it_is_no_constant_or_somebody_looks_on():
    net = trained()
    with no_grad():
        assert operations(net.train(), image())[1] == ["Conv2d", "Normalize"]
        net.eval()
        with net[1].register_forward_hook(lambda *_: None):
            assert operations(net, image())[1] == ["Conv2d", "Affine", "ReLU"]
        assert operations(net, image())[1] == ["Conv2d"]
