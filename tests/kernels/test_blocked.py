"""Activations and gradients that stay in lines of bf16: the same numbers, wherever somebody looks."""

import copy
import gc
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import config

import tinyseg as ts
import tinyseg.functional as F
from tinyseg import nn, precision
from tinyseg.arithmetic import ConvGeometry
from tinyseg.autograd import Function
from tinyseg.kernels import blocked
from tinyseg.kernels.cpu import amx, constants, elementwise_definition, im2col, loops, normalize_definition, pool_loops
from tinyseg.kernels.cpu.matrix_unit_blocked import convolve
from tinyseg.kernels.registry import run
from tinyseg.models.unet import UNet
from tinyseg.verify.strategies import convolutions

pytestmark = pytest.mark.skipif(not amx.available(), reason="no matrix unit here")
compiled = pytest.mark.skipif(config.DISABLE_JIT, reason="too slow")
both = pytest.mark.parametrize("split", [True, False], ids=["two words", "one word"])
sizes = st.tuples(st.sampled_from((1, 2, 5, 17, 33)), st.sampled_from((1, 3, 16, 18)))
rng = np.random.default_rng(0)


def integers(*shape):
    return rng.integers(-3, 4, shape).astype(np.float32)


def lines(x, split):
    """The same numbers, Blocked."""
    identity = np.eye(x.shape[1], dtype=np.float32)[:, :, None, None]
    y = convolve("conv2d", x, identity, ConvGeometry(x.shape[2:], (1, 1)), split=split)
    assert isinstance(y, blocked.Blocked)
    return y


@both
@given(size=sizes, channels=st.sampled_from((32, 96)), images=st.integers(1, 3))
@settings(max_examples=15)
def test_an_array_and_back(split, size, channels, images):
    x = integers(images, channels, *size)
    assert np.array_equal(lines(x, split), x)


@compiled
@both
@given(size=sizes, channels=st.sampled_from((32, 64)), outputs=st.sampled_from((8, 32, 64)),
       kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), pad=st.booleans(), images=st.integers(1, 3),
       relu=st.booleans())
def test_convolution(split, size, channels, outputs, kernel, pad, images, relu):
    padding = tuple((k // 2, k // 2) if pad or k > n else (0, 0) for k, n in zip(kernel, size, strict=True))
    if any(n + sum(p) < k for n, p, k in zip(size, padding, kernel, strict=True)):
        return
    geometry = ConvGeometry(size, kernel, padding=padding)
    x, weight, bias = integers(images, channels, *size), integers(outputs, channels, *kernel), integers(outputs)
    expected = loops.conv2d(x, weight, geometry) + bias[:, None, None]
    check(convolve("conv2d", lines(x, split), weight, geometry, bias, relu, split), expected, relu, split)
    check(convolve("conv2d", x, weight, geometry, bias, relu, split), expected, relu, split)


@compiled
@both
@given(operands=convolutions(channels=(32, 64), padding=range(4), stride=(1, 2, 3), dilation=(1, 2, 5),
                             outputs=(1, 3, 20)))
def test_taps_that_reach_far(split, operands):
    x, _, _, geometry = operands
    geometry = replace(geometry, groups=1)
    x = x[:, :x.shape[1] // 32 * 32].astype(np.float32)
    for outputs in (5, 32):
        weight = integers(outputs, x.shape[1], *geometry.kernel_size)
        check(convolve("conv2d", lines(x, split), weight, geometry, split=split), loops.conv2d(x, weight, geometry),
              False, split)


@compiled
@both
@given(operands=convolutions(channels=(32, 64), padding=(0, 1), stride=(1, 2, 3, 4), outputs=(2, 15, 16, 31),
                             groups=(1,)))
def test_strides(split, operands):
    """Rows that fill tiles are read where they lie."""
    x, _, _, geometry = operands
    x = x.astype(np.float32)
    for outputs in (5, 32):
        weight = integers(outputs, x.shape[1], *geometry.kernel_size)
        check(convolve("conv2d", lines(x, split), weight, geometry, split=split), im2col.conv2d(x, weight, geometry),
              False, split)


@compiled
@both
@given(size=sizes, outputs=st.sampled_from((3, 32)), kernel=st.integers(1, 5), stride=st.integers(1, 3),
       images=st.integers(1, 2))
def test_transposed_convolution(split, size, outputs, kernel, stride, images):
    geometry = ConvGeometry.transposed(size, kernel, stride)
    x, weight = integers(images, 32, *size), integers(32, outputs, kernel, kernel)
    expected = loops.conv2d_input_grad(x, weight, geometry)
    y = convolve("conv2d_input_grad", lines(x, split), weight, geometry, split=split)
    check(y, expected, False, split)
    check(convolve("conv2d_input_grad", x, weight, geometry, split=split), expected, False, split)


def check(y, expected, relu, split):
    """Sums are exact; lines of one word keep 8 bits of them, of two 16."""
    exact = not isinstance(y, blocked.Blocked) or split
    expected = np.maximum(expected, 0) if relu else expected
    np.testing.assert_allclose(np.asarray(y), expected, rtol=0 if exact else 2**-8, atol=0)


def weight_grad(grad, x, geometry, split):
    with precision.float32_matmul_precision("high" if split else "medium"):
        return run("conv2d_weight_grad", grad, x, geometry)


@compiled
@both
@given(operands=convolutions(channels=(32, 64), padding=range(3), stride=(1, 2, 3), dilation=(1, 2, 5),
                             kernel=range(1, 5), outputs=(32, 64), batch=(1, 3)), which=st.integers(1, 3))
def test_weight_gradient(split, operands, which):
    """Of lines and arrays: x, the gradient, or both are lines."""
    x, _, y, geometry = operands
    geometry = replace(geometry, groups=1)
    x, y = x[:, :len(x[0]) // 32 * 32].astype(np.float32), y[:, :len(y[0]) // 32 * 32].astype(np.float32)
    got = weight_grad(lines(y, split) if which & 1 else y, lines(x, split) if which & 2 else x, geometry, split)
    np.testing.assert_array_equal(got, im2col.conv2d_weight_grad(y, x, geometry))        # exact for integers, and fast


@compiled
@both
def test_weight_gradient_of_concatenated_and_of_sliced_activations(split):
    parts = [integers(2, c, 6, 5) for c in (32, 64)]
    y, geometry = integers(2, 96, 6, 5), ConvGeometry((6, 5), (3, 3), padding=((1, 1), (1, 1)))
    x, slice_ = run("concatenate", 1, *(lines(p, split) for p in parts)), lines(y, split)[:, 32:96]
    assert isinstance(x, blocked.Blocked)
    assert isinstance(slice_, blocked.Blocked)
    expected = loops.conv2d_weight_grad(y[:, 32:96], np.concatenate(parts, 1), geometry)
    np.testing.assert_array_equal(weight_grad(slice_, x, geometry, split), expected)
    np.testing.assert_array_equal(weight_grad(x, slice_, geometry, split),
                                  loops.conv2d_weight_grad(np.concatenate(parts, 1), y[:, 32:96], geometry))


@both
@given(size=sizes, kernel=st.integers(1, 3), stride=st.integers(1, 3), padding=st.integers(0, 1),
       dilation=st.integers(1, 2), ceil=st.booleans())
@settings(max_examples=15)
def test_pooling(split, size, kernel, stride, padding, dilation, ceil):
    if min(size) < kernel * dilation or 2 * padding > kernel:
        return
    geometry = ConvGeometry.pooling(size, kernel, stride, padding, dilation, ceil)
    x = integers(2, 64, *size)
    y, indices = pool_loops.max_pool2d(x, geometry)
    grad, saved = integers(*y.shape), run("max_pool2d", lines(x, split), geometry)
    assert np.array_equal(saved[0], y)
    for given_ in (lines(grad, split), grad):
        assert np.array_equal(run("max_pool2d_grad", given_, saved[1], geometry),
                              pool_loops.max_pool2d_grad(grad, indices, geometry))


@compiled
@both
@pytest.mark.parametrize("channels", [(64, 32), (32, 64, 32), (32, 32, 32, 32)], ids=str)
def test_a_sum_over_concatenated_parts(channels, split):
    parts = [integers(2, c, 21, 18) for c in channels]
    weight, geometry = integers(64, sum(channels), 3, 3), ConvGeometry((21, 18), (3, 3), padding=((1, 1), (1, 1)))
    together = run("concatenate", 1, *(lines(p, split) for p in parts))
    assert np.array_equal(together, np.concatenate(parts, 1))
    check(convolve("conv2d", together, weight, geometry, split=split),
          loops.conv2d(np.concatenate(parts, 1), weight, geometry), False, split)


@both
def test_sums_and_relu(split):
    a, b = integers(2, 64, 5, 7), integers(2, 64, 5, 7)
    y = lines(a, split) + lines(b, split)
    assert isinstance(y, blocked.Blocked)
    assert np.array_equal(y, a + b)
    assert np.array_equal(run("relu", y), np.maximum(a + b, 0))
    assert np.array_equal(run("relu_grad", lines(a, split), y), np.where(a + b > 0, a, 0))
    assert np.array_equal(run("relu_grad", a, y), np.where(a + b > 0, a, 0))
    assert np.array_equal(run("channel_sums", y), (a + b).sum((0, 2, 3)))
    assert np.array_equal(lines(a, split) + b, a + b)
    assert np.array_equal(b + lines(a, split), a + b)
    assert np.array_equal(lines(a, split) + b[:1, :1, :1, :1], a + b[:1, :1, :1, :1])


@both
def test_slices(split):
    a = integers(2, 96, 5, 7)
    y, whole = lines(a, split), slice(None)
    half = y[:, 32:96]
    assert isinstance(half, blocked.Blocked)
    assert np.array_equal(half, a[:, 32:96])
    assert np.array_equal(half + y[:, 0:64], a[:, 32:96] + a[:, :64])
    for index in ((whole, slice(1, 33)), (whole, slice(0, 64, 2)), (0,), (whole, 3), (whole, whole, slice(0, 2)), ...):
        assert np.array_equal(y[index], a[index])


@both
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("size", [(5, 7), (1, 300), (3, 1)], ids=str)
def test_normalisation(split, relu, size):
    """Sums of hundreds of numbers, some far from 0, whose deviations count."""
    x, grad = rng.standard_normal((2, 2, 96, *size)).astype(np.float32)
    x[:, 5:60] += 20
    weight, bias = rng.standard_normal((2, 96)).astype(np.float32)
    x, grad = lines(x, split), lines(grad, split)
    x, grad = (run("concatenate", 1, a[:, 0:32], a[:, 32:96]) for a in (x, grad))        # of two parts
    arguments = weight, bias, (2, 96, 1), 1e-3, relu
    y, mean, variance = run("normalize", x, *arguments)
    expected = normalize_definition.normalize(x.plain(), *arguments)
    error = 2**-8 if not split else 2**-16
    assert isinstance(y, blocked.Blocked)
    np.testing.assert_allclose(y, expected[0], rtol=error, atol=error)
    np.testing.assert_allclose(mean, expected[1], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(variance, expected[2], rtol=1e-5)

    arguments = weight, bias, *expected[1:], (2, 96, 1), 1e-3, relu
    dx, *rest = run("normalize_grad", grad, x, *arguments)
    expected_dx, *expected_rest = normalize_definition.normalize_grad(grad.plain(), x.plain(), *arguments)
    assert isinstance(dx, blocked.Blocked)
    np.testing.assert_allclose(dx, expected_dx, rtol=error, atol=error * np.abs(expected_dx).max())
    np.testing.assert_allclose(rest, expected_rest, rtol=1e-4, atol=1e-3)

    centre, scale = x.plain().mean((0, 2, 3)).astype(np.float64), weight.astype(np.float64)
    expected = normalize_definition.affine(x.plain(), centre, scale, bias, relu)
    np.testing.assert_allclose(run("affine", x, centre, scale, bias, relu), expected, rtol=error, atol=error)
    np.testing.assert_allclose(run("channel_products", grad, x, centre),
                               elementwise_definition.channel_products(grad.plain(), x.plain(), centre), atol=1e-3)


def test_what_lines_do_not_do_is_done_on_arrays():
    x = lines(integers(2, 64, 5, 7), True)
    one, groups = ConvGeometry((5, 7), (1, 1)), ConvGeometry((5, 7), (1, 1), groups=64)
    assert np.array_equal(weight_grad(x, x, groups, True), loops.conv2d_weight_grad(x.plain(), x.plain(), groups))
    for level in ("highest", "medium"):              # another than when the lines were made
        with precision.float32_matmul_precision(level):
            np.testing.assert_allclose(run("conv2d_weight_grad", x, x.plain(), one),
                                       loops.conv2d_weight_grad(x.plain(), x.plain(), one), rtol=1e-6)
    ones = np.ones(64, np.float32)
    y, *_ = run("normalize", x, ones, ones, (1, 8, 16), 1e-3, False)      # groups
    assert isinstance(y, np.ndarray)
    dx, *_ = run("normalize_grad", np.ones(x.shape, np.float32), x, ones, ones, 0 * ones, ones, (2, 64, 1), 1e-3, False)
    assert isinstance(dx, np.ndarray)
    assert isinstance(run("concatenate", 1, x, x.plain()), np.ndarray)
    assert isinstance(run("concatenate", 0, x, x), np.ndarray)


def test_without_the_compiler():
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", __file__, "-k",
               "back or pooling or sums or slices or normalisation"]
    finished = subprocess.run(command, env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, text=True, capture_output=True,
                              timeout=300)
    assert finished.returncode == 0, finished.stdout


# ---- in a net ------------------------------------------------------------------------------------------------------

@compiled
@pytest.mark.parametrize("level", ["high", "medium"])
@pytest.mark.parametrize("size", [(48, 32), (37, 45)])
def test_a_net_computes_the_same_without_gradients(level, size):
    net = UNet(3, 5, base_channels=32).eval()
    x = ts.tensor(rng.standard_normal((2, 3, *size)).astype(np.float32))
    with precision.float32_matmul_precision("highest"):
        expected = net(x).detach().numpy()
    with precision.float32_matmul_precision(level), ts.no_grad():
        y = net(x).numpy()
    assert np.abs(y - expected).max() <= 3 * precision.ERRORS[level] * np.abs(expected).max()


class Smooth(nn.Module):
    """Down, up, skip connections; nothing in it chooses, so that a small error stays one."""

    def __init__(self):
        self.first, self.norm = nn.Conv2d(3, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32)
        self.down, self.middle = nn.Conv2d(32, 64, 2, stride=2), nn.BatchNorm2d(64)
        self.up, self.join = nn.ConvTranspose2d(64, 32, 2, stride=2), nn.Conv2d(64, 32, 3, padding=1)
        self.wide, self.last = nn.Conv2d(32, 32, 3, padding=2, dilation=2), nn.Conv2d(32, 5, 1)

    def forward(self, x):
        x = self.norm(self.first(x))
        y = self.join(F.concatenate([x, self.up(self.middle(self.down(x)))], 1))
        return self.last(y + self.wide(y) + x)


@compiled
@pytest.mark.parametrize("level", ["high", "medium"])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_net_has_the_same_gradients(level, frozen):
    net = Smooth().train()
    if frozen:
        nn.freeze_norm(net)
    x = ts.tensor(rng.standard_normal((2, 3, 36, 18)).astype(np.float32))
    target = rng.integers(0, 5, (2, 36, 18))
    found = {}
    for precision_ in ("highest", level):
        net.zero_grad()
        with precision.float32_matmul_precision(precision_):
            F.cross_entropy(net(x), target).backward()
        found[precision_] = {name: p.grad.numpy() for name, p in net.named_parameters() if p.grad is not None}
    for name, expected in found["highest"].items():
        if name not in ("down.bias", "up.bias") or frozen:               # a normalisation makes those superfluous
            error = np.abs(found[level][name] - expected).max() / np.abs(expected).max()
            assert error <= (3e-4 if level == "high" else 0.05), name


def convolved(x=None, channels=32):
    weight = ts.tensor(rng.standard_normal((channels, 3, 3, 3)).astype(np.float32))
    x = rng.standard_normal((1, 3, 9, 8)).astype(np.float32) if x is None else x
    return x, weight, F.conv2d(x, weight, padding=1)


@compiled
@pytest.mark.parametrize("uses", list(product("lp", repeat=3)), ids="".join)
def test_gradients_of_both_kinds_meet(uses):
    """Of one activation, from convolutions, as lines, and from others, as plain arrays."""
    x, weight = rng.standard_normal((1, 3, 9, 8)).astype(np.float32), integers(32, 32, 1, 1)
    found = []
    for level in ("highest", "high"):
        with precision.float32_matmul_precision(level):
            first = ts.tensor(np.ones((32, 3, 1, 1), np.float32), requires_grad=True)
            y = F.conv2d(ts.tensor(x), first)
            total = sum((F.conv2d(y, ts.tensor(weight)) if use == "l" else y[:, :, ::-1]).mean() for use in uses)
            total.backward()
            found.append(first.grad.numpy())
    np.testing.assert_allclose(found[1], found[0], atol=1e-4 * np.abs(found[0]).max())


def test_it_is_blocked_only_where_digits_may_be_lost():
    for level, is_blocked in {"highest": False, "high": True, "medium": True}.items():
        with precision.float32_matmul_precision(level), ts.no_grad():
            assert isinstance(convolved()[2]._storage, blocked.Blocked) == is_blocked


def test_a_gradient_lies_as_its_activation_does():
    class Spy(Function):
        takes_layouts = True

        def forward(self, x):
            return x

        def backward(self, grad):
            seen.append(type(grad))
            return grad

    seen, (x, weight, _) = [], convolved()
    weight.requires_grad_()
    y = Spy()(F.conv2d(x, weight))
    second = ts.tensor(rng.standard_normal((32, 32, 3, 3)).astype(np.float32), requires_grad=True)
    F.conv2d(y, second, padding=1).sum().backward()
    assert seen == [blocked.Blocked]
    assert all(type(t.grad._storage) is np.ndarray for t in (weight, second))


def test_a_tensor_of_lines_is_a_tensor():
    with ts.no_grad():
        y = convolved()[2]
        assert (y.shape, y.ndim, y.dtype, y.numel(), len(y), y.device) == ((1, 32, 9, 8), 4, np.float32, 2304, 1, "cpu")
        assert isinstance(y._storage, blocked.Blocked)
        copies = copy.deepcopy(y._storage), pickle.loads(pickle.dumps(y._storage))
        numbers = y.numpy().copy()
        assert all(type(c) is np.ndarray and np.array_equal(c, numbers) for c in copies)
        assert np.array_equal((y + 1).numpy(), numbers + 1)
        y[0, 0] = 7
        assert (y.numpy()[0, 0] == 7).all()
        assert np.array_equal(y.numpy()[0, 1:], numbers[0, 1:])


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38, 1e-42])
@pytest.mark.parametrize("level", ["high", "medium"])
def test_numbers_that_bf16_cannot_hold_go_another_way(value, level):
    x = rng.standard_normal((2, 3, 9, 8)).astype(np.float32)
    if value == 1e-42:
        x *= np.float32(value)
    else:
        x[1, 1, 4, 4] = value
    _, first, y = convolved(x)
    second = rng.standard_normal((32, 32, 1, 1)).astype(np.float32)
    expected = F.conv2d(y, second).numpy()
    with precision.float32_matmul_precision(level), ts.no_grad():
        got = F.conv2d(F.conv2d(x, first, padding=1), second).numpy()
    finite = np.isfinite(expected)
    assert np.array_equal(np.isfinite(got), finite)
    scale = np.abs(expected[finite]).max() + 1e-38
    assert np.abs(got[finite] - expected[finite]).max() <= 3 * precision.ERRORS[level] * scale


# ---- weights that are packed once ----------------------------------------------------------------------------------

def test_what_is_made_of_a_constant_is_made_once_and_dies_with_it():
    made = []
    array, other = np.zeros(3), np.zeros(3)
    constants.promise(array)
    for _ in range(2):
        constants.once(array, "key", lambda: made.append(1))
        constants.once(other, "key", lambda: made.append(2))
    assert made == [1, 2, 2]
    constants.forget(array)
    for _ in range(2):
        constants.once(array, "key", lambda: made.append(3))
    assert made == [1, 2, 2, 3, 3]
    number = id(array)
    del array
    gc.collect()
    assert number not in constants._kept


def test_a_promise_ends_with_a_change():
    convolution = nn.Conv2d(32, 32, 3)
    x = rng.standard_normal((1, 32, 8, 8)).astype(np.float32)

    def kept():
        return constants._kept[id(convolution.weight._array)].made
    with ts.no_grad():
        before = convolution(x).numpy()
        packed = [*kept().values()]
        assert len(packed) == 1
        assert np.array_equal(convolution(x).numpy(), before)
        assert next(iter(kept().values())) is packed[0]
        convolution.weight[...] = -convolution.weight.detach().numpy()
        bias = convolution.bias.detach().numpy()[:, None, None]
        np.testing.assert_allclose(convolution(x).numpy() - bias, bias - before, atol=1e-4)
    convolution(x)                                   # with gradients: it is going to change
    assert not kept()


def test_a_folded_norm_follows_what_changes():
    net = nn.Sequential(nn.Conv2d(3, 32, 3, bias=False), nn.BatchNorm2d(32)).eval()
    x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)

    def agrees():
        expected = net(x).detach().numpy()           # recorded, and so not folded
        with ts.no_grad():
            return np.abs(net(x).numpy() - expected).max() <= 3e-5 * np.abs(expected).max()
    assert agrees()
    for tensor in (net[1].running_var, net[1].running_mean, net[1].weight, net[1].bias, net[0].weight):
        with ts.no_grad():
            tensor[...] = tensor.numpy() * 2 + 1 if not tensor.requires_grad else tensor.detach().numpy() * 2 + 1
        assert agrees()
    kept = net[1].folded(net[0].weight, None)
    assert net[1].folded(net[0].weight, None) is kept
    net.train()(x)
    assert net[1]._folded is None
