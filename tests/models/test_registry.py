"""Every name builds a net that training and prediction can use."""

import numpy as np
import pytest

from tinyseg import models, nn
from tinyseg.errors import ArgumentError
from tinyseg.inference import probabilities
from tinyseg.models.segmenter import Segmenter
from tinyseg.nn import init


@pytest.mark.parametrize("name", models.names())
def test_a_net_says_which_sizes_it_takes(name):
    with init.skipped():
        net = models.build(name, 1, 4)
    assert isinstance(net, Segmenter)
    size = net.legal_sizes[1]
    assert min(net.output_size(size)) >= 1
    assert models.describe(name)
    first = next(m for m in net.modules() if isinstance(m, nn.Conv2d))
    assert first.in_channels == 1


@pytest.mark.parametrize("name", models.names("classification"))
def test_a_classifier_has_its_number_of_classes(name):
    with init.skipped():
        net = models.build(name, 3, 7)
    assert list(net.parameters())[-1].shape == (7,)
    assert name not in models.names()


def test_an_image_is_mirrored_to_a_size_that_the_net_takes():
    net = models.build("fc_densenet56", 3, 4, blocks=(1, 1, 1), growth=2)
    image = np.random.default_rng(0).normal(size=(3, 22, 29)).astype(np.float32)
    found = probabilities(net, image)
    mirrored = np.pad(image, ((0, 0), (0, 2), (0, 3)), mode="reflect")
    assert np.array_equal(found, probabilities(net, mirrored)[:, :22, :29])


def test_frozen_norm_is_an_option_of_every_net():
    net = models.build("lraspp", 3, 2, frozen_norm=True)
    assert all(m.frozen for m in net.modules() if isinstance(m, nn.BatchNorm2d))


@pytest.mark.parametrize(("call", "text"), [
    (lambda: models.build("deeplab_v1", 3, 2, depth=3),
     "build: deeplab_v1: no option depth; legal: kernel, rate, hidden, dropout, frozen_norm"),
    (lambda: models.build("deeplab_v1", 3, 2, kernel="a"),
     "build: deeplab_v1 with kernel='a': a value of the wrong kind ('<' not supported between instances of 'str' and "
     "'int')"),
    (lambda: models.names("detection"), "names: task 'detection'; legal: segmentation, classification")])
def test_errors(call, text):
    with pytest.raises(ArgumentError) as caught:
        call()
    assert str(caught.value) == text
