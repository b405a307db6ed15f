import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg.functional as F
from tinyseg.autograd import Tensor, gradcheck, gradcheck_directional, no_grad, tensor
from tinyseg.errors import ArgumentError, DTypeError, ShapeError

SHAPES = st.one_of(st.tuples(st.integers(2, 5), st.integers(1, 6)),
                   st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(2, 5), st.integers(1, 5)))


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(3, 2, shape)


def per_channel(x):
    """(C, N·H·W)"""
    return np.moveaxis(x, 1, 0).reshape(x.shape[1], -1)


@given(shape=SHAPES)
def test_a_batch_comes_out_with_mean_0_and_variance_1(shape):
    x = normal(shape)
    y = per_channel(F.batch_norm(x, None, None, training=True, eps=0).numpy())
    np.testing.assert_allclose(y.mean(axis=1), 0, atol=1e-13)
    np.testing.assert_allclose(y.var(axis=1), 1, rtol=1e-12)


def test_weight_and_bias_are_the_new_deviation_and_mean():
    weight, bias = np.array([2.0, -3, 0.5]), np.array([1.0, 0, -1])
    y = per_channel(F.batch_norm(normal((2, 3, 4, 5)), None, None, weight, bias, training=True, eps=0).numpy())
    np.testing.assert_allclose(y.mean(axis=1), bias, atol=1e-13)
    np.testing.assert_allclose(y.std(axis=1), np.abs(weight), rtol=1e-12)


def test_running_statistics_by_hand():
    x = np.array([[1.0], [2.0], [6.0]])              # mean 3, biased variance 14/3, unbiased 7
    mean, variance = tensor(np.array([10.0])), tensor(np.array([1.0]))
    y = F.batch_norm(x, mean, variance, training=True, momentum=0.1)
    np.testing.assert_allclose(mean.item(), 0.9 * 10 + 0.1 * 3)
    np.testing.assert_allclose(variance.item(), 0.9 * 1 + 0.1 * 7)
    np.testing.assert_allclose(y.numpy()[:, 0], (x[:, 0] - 3) / np.sqrt(14 / 3 + 1e-5), rtol=1e-12)

    y = F.batch_norm(x, mean, variance)
    np.testing.assert_allclose(y.numpy()[:, 0], (x[:, 0] - mean.item()) / np.sqrt(variance.item() + 1e-5), rtol=1e-12)
    assert mean.item() == 9.3                        # evaluation leaves them alone


def test_a_later_update_does_not_reach_an_earlier_gradient():
    mean, variance = tensor(np.zeros(2)), tensor(np.ones(2))
    x = tensor(normal((3, 2)), requires_grad=True)
    y = F.batch_norm(x, mean, variance)
    with no_grad():
        F.batch_norm(normal((4, 2)), mean, variance, training=True)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 1 / np.sqrt(1 + 1e-5), rtol=1e-12)


@pytest.mark.parametrize("offset", [0, 1000])
def test_a_million_float32(offset):
    x = (normal((4, 1, 512, 512)) + offset).astype(np.float32)
    mean, variance = tensor(np.zeros(1)), tensor(np.zeros(1))
    y = F.batch_norm(x, mean, variance, training=True, momentum=1.0, eps=0).numpy()
    exact = x.astype(np.float64)
    np.testing.assert_allclose(mean.item(), exact.mean(), rtol=1e-12)
    np.testing.assert_allclose(variance.item(), exact.var(ddof=1), rtol=1e-10)
    np.testing.assert_allclose(y, (exact - exact.mean()) / exact.std(), atol=5e-7)


@pytest.mark.parametrize("shape", [(5, 3), (2, 3, 4), (2, 3, 3, 2)])
def test_batch_norm_gradients(shape):
    weight, bias = np.array([1.5, -0.5, 2.0]), np.array([0.1, 0.2, 0.3])
    gradcheck(lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [normal(shape), weight, bias])
    gradcheck(lambda x, w, b: F.batch_norm(x, np.ones(3), np.full(3, 4.0), w, b), [normal(shape), weight, bias])


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_relu_in_the_same_pass(training, dtype):
    rng = np.random.default_rng(0)
    values = [normal((3, 4, 5, 7)), rng.uniform(-2, 2, 4), rng.uniform(-1, 1, 4)]
    results = []
    for together in (True, False):
        leaves = [tensor(v.astype(dtype), requires_grad=True) for v in values]
        running = tensor(np.full(4, 2.5, dtype)), tensor(np.full(4, 3.0, dtype))
        y = F.batch_norm(leaves[0], *running, *leaves[1:], training=training, relu=together)
        y = y if together else F.relu(y)
        y.backward(np.random.default_rng(1).standard_normal(y.shape).astype(dtype))
        results.append([t.numpy() for t in (y.detach(), *(leaf.grad for leaf in leaves), *running)])
    for a, b in zip(*results, strict=True):
        assert a.dtype == b.dtype == dtype
        np.testing.assert_allclose(a, b, rtol=1e-5 if dtype == "float32" else 1e-12, atol=1e-6)


def test_gradients_with_a_relu():
    x, weight, bias = normal((3, 2, 4, 5)), np.array([1.5, -0.5]), np.array([0.3, 0.2])
    gradcheck_directional(lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True, relu=True),
                          [x, weight, bias])
    gradcheck_directional(lambda x, w, b: F.batch_norm(x, np.full(2, 3.0), np.full(2, 4.0), w, b, relu=True),
                          [x, weight, bias])


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_group_norm_gradients(groups):
    weight, bias = np.array([1.5, -0.5, 2.0, 1.0]), np.array([0.1, 0.2, 0.3, 0])
    gradcheck(lambda x, w, b: F.group_norm(x, groups, w, b), [normal((2, 4, 3, 2)), weight, bias])


def test_larger_gradients():
    x, weight, bias = normal((4, 6, 20, 21)), normal(6, 1), normal(6, 2)
    gradcheck_directional(lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [x, weight, bias])
    gradcheck_directional(lambda x, w, b: F.group_norm(x, 3, w, b), [x, weight, bias])


def test_frozen_parameters_get_no_gradient():
    x, weight = tensor(normal((2, 3, 4, 4)), requires_grad=True), tensor(np.ones(3))
    F.batch_norm(x, np.zeros(3), np.ones(3), weight).sum().backward()
    assert weight.grad is None
    assert x.grad is not None


@given(groups=st.sampled_from([1, 2, 3, 6]))
def test_a_group_is_a_channel_of_a_reshaped_image(groups):
    x = normal((3, 6, 4, 5))
    y = F.group_norm(x, groups).numpy()
    for n in range(3):
        one = F.batch_norm(x[n].reshape(1, groups, -1), None, None, training=True).numpy()
        np.testing.assert_allclose(y[n], one.reshape(x.shape[1:]), rtol=1e-11, atol=1e-12)


def test_group_norm_does_not_see_the_rest_of_the_batch():
    x = normal((3, 4, 5, 5))
    np.testing.assert_array_equal(F.group_norm(x, 2).numpy()[1:2], F.group_norm(x[1:2], 2).numpy())


@given(seed=st.integers(0, 99))
def test_the_order_of_pixels_does_not_matter(seed):
    x = normal((2, 3, 4, 4), seed).reshape(2, 3, 16)
    order = np.random.default_rng(seed).permutation(16)
    y = F.batch_norm(x, None, None, training=True).numpy()
    np.testing.assert_allclose(F.batch_norm(x[..., order], None, None, training=True).numpy(), y[..., order],
                               rtol=1e-11, atol=1e-12)


def test_types_are_kept():
    mean = tensor(np.zeros(3, np.float32))
    x = tensor(normal((2, 3, 4, 4)).astype(np.float32), requires_grad=True)
    y = F.batch_norm(x, mean, tensor(np.ones(3, np.float32)), training=True)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == mean.dtype == "float32"


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: F.batch_norm(np.zeros((1, 3, 1, 1)), None, None, training=True), ShapeError,
     r"batch_norm: training on 1 value per channel, input \(1, 3, 1, 1\).* larger batch or image, eval\(\), or group"),
    (lambda: F.batch_norm(np.zeros((2, 3)), None, None), ArgumentError, "training=False needs running_mean"),
    (lambda: F.batch_norm(np.zeros((2, 3)), Tensor(np.zeros(3)), None), ArgumentError, "give both or none"),
    (lambda: F.batch_norm(np.zeros((2, 3)), np.zeros(2), np.zeros(2)), ShapeError,
     r"batch_norm: running_mean of shape \(2,\) .* needs \(3,\)"),
    (lambda: F.batch_norm(np.zeros((2, 3)), None, None, np.ones(4), training=True), ShapeError, "weight of shape"),
    (lambda: F.batch_norm(np.zeros((2, 3)), None, None, None, np.ones((3, 1)), training=True), ShapeError, "bias of"),
    (lambda: F.batch_norm(np.zeros((2, 3), int), None, None, training=True), DTypeError, "batch_norm: input is int64"),
    (lambda: F.batch_norm(np.zeros(3), None, None, training=True), ShapeError, r"needs \(N, C, ...\)"),
    (lambda: F.group_norm(np.zeros((2, 6, 2, 2)), 4), ArgumentError, "num_groups 4 of 6 channels; .* 1, 2, 3, 6"),
    (lambda: F.group_norm(np.zeros((2, 6, 2, 2)), 0), ArgumentError, "num_groups 0"),
    (lambda: F.group_norm(np.zeros((2, 6, 1, 1)), 6), ShapeError, "1 value per group"),
])
def test_what_does_not_fit_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()
