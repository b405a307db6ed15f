"""A classifier of torchvision's names starts an FCN: fully connected layers are kernels that cover 7 x 7 cells."""

import numpy as np
import pytest

from tinyseg import models
from tinyseg.autograd import no_grad
from tinyseg.errors import CheckpointError
from tinyseg.interop import load_weights
from tinyseg.models.fcn import FCN
from tinyseg.nn import init


@pytest.fixture
def vgg16():
    """Names and arrays, with 8 hidden channels."""
    with init.skipped():
        names = list(models.build("vgg16", 3, 10).state_dict())
        shapes = [p.shape for name, p in FCN(hidden=8).named_parameters() if name.startswith("conv")]
    shapes += [(8, 25088), (8,), (8, 8), (8,), (10, 8), (10,)]
    rng = np.random.default_rng(0)
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in zip(names, shapes, strict=True)}


def test_every_layer_but_the_last_finds_its_place(vgg16):
    net = FCN(num_classes=2, stride=32, hidden=8)
    with pytest.raises(CheckpointError, match=r"missing: score_fr\.weight"):
        load_weights(net, vgg16)
    report = load_weights(net, vgg16, strict=False)
    assert report.layout == "torchvision's VGG16, for an FCN"
    assert report.missing == ["score_fr.weight", "score_fr.bias", "upscore.weight"]
    assert report.unexpected == ["classifier.6.weight", "classifier.6.bias"]
    assert report.turned == []
    convolutions = [p.data for name, p in net.named_parameters() if name.startswith("conv")]
    for mine, theirs in zip(convolutions, list(vgg16.values())[:26], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    with no_grad():                                  # one window of 7 x 7 cells: the matrix times them in their order
        cells = np.random.default_rng(1).normal(size=(1, 512, 7, 7)).astype(np.float32)
        np.testing.assert_allclose(net.fc6(cells).numpy().ravel(),
                                   vgg16["classifier.0.weight"] @ cells.ravel() + vgg16["classifier.0.bias"], rtol=1e-3,
                                   atol=1e-3)
