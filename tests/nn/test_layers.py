"""Modules hand their parameters and options to the operations of `tinyseg.functional`."""

import numpy as np
import pytest

import tinyseg.functional as F
from tinyseg import nn
from tinyseg.autograd import Tensor
from tinyseg.errors import ArgumentError, ShapeError, TinysegError

RNG = np.random.default_rng(0)
IMAGES = Tensor(RNG.standard_normal((2, 4, 7, 6)).astype(np.float32))
LABELS = RNG.integers(0, 4, (2, 7, 6))


@pytest.mark.parametrize(("module", "function"), [
    (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=2, groups=2),
     lambda m, x: F.conv2d(x, m.weight, m.bias, (2, 1), (1, 0), 2, 2)),
    (nn.Conv2d(4, 3, 4, padding="same", bias=False), lambda m, x: F.conv2d(x, m.weight, None, padding="same")),
    (nn.Conv2d(4, 3, 3, padding=((0, 1), (2, 0))),
     lambda m, x: F.conv2d(x, m.weight, m.bias, padding=((0, 1), (2, 0)))),
    (nn.Conv2d(4, 3, 3, algorithm="loops"), lambda m, x: F.conv2d(x, m.weight, m.bias, algorithm="loops")),
    (nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
     lambda m, x: F.conv_transpose2d(x, m.weight, m.bias, 2, 1, 1, 2)),
    (nn.Linear(6, 5), lambda m, x: F.linear(x, m.weight, m.bias)),
    (nn.GroupNorm(2, 4), lambda m, x: F.group_norm(x, 2, m.weight, m.bias, 1e-5)),
    (nn.ReLU(inplace=True), lambda m, x: F.relu(x)),
    (nn.ReLU6(), lambda m, x: F.relu6(x)),
    (nn.LeakyReLU(0.2), lambda m, x: F.leaky_relu(x, 0.2)),
    (nn.PReLU(4), lambda m, x: F.prelu(x, m.weight)),
    (nn.Sigmoid(), lambda m, x: F.sigmoid(x)),
    (nn.Tanh(), lambda m, x: F.tanh(x)),
    (nn.Hardswish(), lambda m, x: F.hardswish(x)),
    (nn.Hardsigmoid(), lambda m, x: F.hardsigmoid(x)),
    (nn.Softmax(), lambda m, x: F.softmax(x, 1)),
    (nn.MaxPool2d(3, 2, 1, ceil_mode=True), lambda m, x: F.max_pool2d(x, 3, 2, 1, ceil_mode=True)),
    (nn.AvgPool2d(3, 2, 1, count_include_pad=False), lambda m, x: F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)),
    (nn.AdaptiveAvgPool2d((2, 3)), lambda m, x: F.adaptive_avg_pool2d(x, (2, 3))),
    (nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True),
     lambda m, x: F.interpolate(x, None, 2, "bilinear", True)),
    (nn.Upsample((5, 9)), lambda m, x: F.interpolate(x, (5, 9))),
    (nn.Identity(), lambda m, x: x),
    (nn.Dropout(0.5).eval(), lambda m, x: x),
    (nn.Dropout2d(0.5).eval(), lambda m, x: x),
    (nn.CrossEntropyLoss(np.arange(1, 5, dtype=np.float32), ignore_index=1, label_smoothing=0.1),
     lambda m, x: F.cross_entropy(x, LABELS, np.arange(1, 5, dtype=np.float32), 1, label_smoothing=0.1)),
    (nn.FocalLoss(1.5, np.arange(1, 5, dtype=np.float32)),
     lambda m, x: F.focal_loss(x, LABELS, 1.5, np.arange(1, 5, dtype=np.float32))),
    (nn.OHEMCrossEntropyLoss(0.3, 0.5, np.arange(1, 5, dtype=np.float32), ignore_index=1),
     lambda m, x: F.ohem_cross_entropy(x, LABELS, 0.3, 0.5, np.arange(1, 5, dtype=np.float32), 1)),
    (nn.DiceLoss(classes="present", smooth=0.5), lambda m, x: F.dice_loss(x, LABELS, classes="present", smooth=0.5)),
], ids=lambda value: type(value).__name__)
def test_module_is_its_function(module, function):
    arguments = (LABELS,) if type(module).__name__.endswith("Loss") else ()
    np.testing.assert_array_equal(module(IMAGES, *arguments).detach().data, function(module, IMAGES).detach().data)
    assert type(module).__name__ in repr(module)


def test_binary_loss():
    target = Tensor((IMAGES.data > 0).astype(np.float32))
    loss = nn.BCEWithLogitsLoss(pos_weight=np.float32(2))
    assert loss(IMAGES, target).item() == F.binary_cross_entropy_with_logits(IMAGES, target, pos_weight=2.0).item()


def test_batch_norm_counts_and_averages():
    norm = nn.BatchNorm2d(4, momentum=None)
    batches = [Tensor(RNG.standard_normal((2, 4, 5, 5)) * 3 + 1) for _ in range(3)]
    norm.to("float64")
    for batch in batches:
        norm(batch)
    assert norm.num_batches_tracked.item() == 3
    means = [b.data.mean((0, 2, 3)) for b in batches]
    variances = [b.data.var((0, 2, 3), ddof=1) for b in batches]
    np.testing.assert_allclose(norm.running_mean.data, np.mean(means, 0), rtol=1e-12)
    np.testing.assert_allclose(norm.running_var.data, np.mean(variances, 0), rtol=1e-12)
    norm.eval()(batches[0])
    assert norm.num_batches_tracked.item() == 3


def test_statistics_are_taken_anew_without_dropout():
    net = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3), nn.BatchNorm2d(3))
    net[2].freeze()
    net.train()
    batches = [Tensor(RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)) for _ in range(3)]
    net(batches[0])
    assert nn.retake_statistics(net, iter(batches)) is net
    np.testing.assert_allclose(net[1].running_mean.numpy(), np.mean([b.numpy().mean((0, 2, 3)) for b in batches], 0),
                               atol=1e-6)
    np.testing.assert_allclose(net[1].running_var.numpy(),
                               np.mean([b.numpy().var((0, 2, 3)) for b in batches], 0) * 40 / 39, rtol=1e-5)
    assert net[1].num_batches_tracked.item() == 3
    assert (net[2].running_mean.numpy() == 0).all()
    assert net.training
    assert net[0].training
    assert net[1].momentum == 0.1
    with pytest.raises(ArgumentError, match="no batches"):
        nn.retake_statistics(net, [])


def test_batch_norm_without_running_statistics():
    norm = nn.BatchNorm2d(4, affine=False, track_running_stats=False)
    assert norm.state_dict() == {}
    y = norm.eval()(IMAGES)
    np.testing.assert_allclose(y.data.mean((0, 2, 3)), 0, atol=1e-6)


def test_dropout_draws_in_training():
    drop = nn.Dropout(0.5)
    F.manual_seed(3)
    first = drop(IMAGES).data
    F.manual_seed(3)
    np.testing.assert_array_equal(first, drop(IMAGES).data)
    assert np.any(first == 0)


@pytest.mark.parametrize("build", [
    lambda: nn.Conv2d(3, 4, 3, groups=2), lambda: nn.Conv2d(0, 4, 3), lambda: nn.ConvTranspose2d(4, 3, 3, groups=2),
    lambda: nn.Linear(0, 1), lambda: nn.BatchNorm2d(0), lambda: nn.BatchNorm2d(1, momentum=2),
    lambda: nn.GroupNorm(2, 3), lambda: nn.Dropout(1.5), lambda: nn.Upsample(), lambda: nn.Upsample(2, 2)])
def test_options_that_make_no_sense(build):
    with pytest.raises(ArgumentError, match=r"needs|give one"):
        build()


@pytest.mark.parametrize("module", [nn.Conv2d(3, 1, 1), nn.BatchNorm2d(3), nn.GroupNorm(1, 3), nn.Linear(3, 1)])
def test_inputs_that_do_not_fit(module):
    with pytest.raises(ShapeError, match="needs"):
        module(IMAGES)


def test_errors_are_of_tinyseg():
    with pytest.raises(TinysegError, match="no algorithm 'fft'"):
        nn.Conv2d(4, 1, 3, algorithm="fft")(IMAGES)
