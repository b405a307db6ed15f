import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg.functional as F
from tinyseg.autograd import gradcheck, gradcheck_directional, tensor
from tinyseg.errors import ArgumentError, DTypeError, ShapeError

POINTWISE = [F.relu, F.relu6, F.leaky_relu, F.sigmoid, F.tanh, F.hardsigmoid, F.hardswish]
KINKS = (-3, 0, 3, 6)


def away_from_kinks(shape, seed=0):
    """Values in -8 .. 8, none within 0.1 of a kink."""
    x = np.random.default_rng(seed).uniform(-8, 8, shape)
    for kink in KINKS:
        x[np.abs(x - kink) < 0.1] += 0.2
    return x


@pytest.mark.parametrize("function", POINTWISE, ids=lambda f: f.__name__)
def test_pointwise_gradients(function):
    gradcheck(function, [away_from_kinks((3, 4, 5))])
    gradcheck_directional(function, [away_from_kinks((2, 3, 40, 40))])


@pytest.mark.parametrize(("function", "pairs"), [
    (F.relu, {-2: 0, 0: 0, 3: 3}),
    (F.relu6, {-2: 0, 3: 3, 7: 6}),
    (F.leaky_relu, {-2: -0.02, 3: 3}),
    (F.sigmoid, {0: 0.5, np.log(3): 0.75}),
    (F.tanh, {0: 0, 1: np.tanh(1)}),
    (F.hardsigmoid, {-4: 0, -3: 0, 0: 0.5, 1.5: 0.75, 3: 1, 5: 1}),
    (F.hardswish, {-4: 0, -1: -1 / 3, 0: 0, 1.5: 1.125, 3: 3, 5: 5}),
], ids=lambda v: getattr(v, "__name__", ""))
def test_pointwise_values(function, pairs):
    x = np.array(list(pairs), dtype=np.float64)
    np.testing.assert_allclose(function(x).numpy(), list(pairs.values()), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(("function", "kinks"), [(F.relu, [0.0]), (F.relu6, [0.0, 6.0]), (F.hardsigmoid, [-3.0, 3.0])],
                         ids=["relu", "relu6", "hardsigmoid"])
def test_the_derivative_at_a_kink_is_zero(function, kinks):
    x = tensor(np.array(kinks), requires_grad=True)
    function(x).sum().backward()
    assert (x.grad.numpy() == 0).all()


@pytest.mark.parametrize("function", [*POINTWISE, F.softmax, F.log_softmax], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_types_are_kept(function, dtype):
    x = tensor(np.ones((2, 3), dtype), requires_grad=True)
    y = function(x)
    y.sum().backward()
    assert y.dtype == x.grad.dtype == dtype


def test_nan_passes_relu():
    assert np.isnan(F.relu(np.array([np.nan])).numpy()).all()


def test_sigmoid_of_large_numbers():
    with np.errstate(over="raise", invalid="raise"):
        y = F.sigmoid(np.array([-1000, -50, 50, 1000], np.float32)).numpy()
    np.testing.assert_allclose(y, [0, np.exp(-50), 1, 1], rtol=1e-6)


def test_leaky_relu_takes_its_slope():
    assert F.leaky_relu(np.array([-2.0, 2.0]), 0.5).tolist() == [-1, 2]


@pytest.mark.parametrize("shape", [(3,), (1,)])
def test_prelu(shape):
    weight = np.array([0.1, 0.2, 0.3])[:shape[0]]
    x = away_from_kinks((2, 3, 2, 3))
    gradcheck(F.prelu, [x, weight])
    y = F.prelu(x, weight).numpy()
    np.testing.assert_array_equal(y, np.where(x > 0, x, x * weight.reshape(1, -1, 1, 1)))


@given(shape=st.lists(st.integers(1, 5), min_size=1, max_size=4), data=st.data())
def test_softmax_is_a_distribution(shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    x = np.random.default_rng(data.draw(st.integers(0, 999))).normal(0, 10, shape)
    p = F.softmax(x, dim).numpy()
    assert (p > 0).all()
    np.testing.assert_allclose(p.sum(axis=dim), 1, rtol=1e-14)
    np.testing.assert_allclose(F.softmax(x + 100, dim).numpy(), p, rtol=1e-12)          # a shift changes nothing
    np.testing.assert_allclose(np.exp(F.log_softmax(x, dim).numpy()), p, rtol=1e-12)
    order = np.random.default_rng(0).permutation(shape[dim])
    np.testing.assert_allclose(F.softmax(x.take(order, dim), dim).numpy(), p.take(order, dim), rtol=1e-13)


@pytest.mark.parametrize("function", [F.softmax, F.log_softmax], ids=lambda f: f.__name__)
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_softmax_gradients(function, dim):
    rng = np.random.default_rng(1)
    gradcheck(lambda x: function(x, dim), [rng.standard_normal((3, 4, 2))])
    gradcheck_directional(lambda x: function(x, dim), [rng.standard_normal((2, 5, 30, 31))])


def test_softmax_of_far_apart_logits():
    x = np.array([[0.0, -1000, 1000]])
    assert F.softmax(x).tolist() == [[0, 0, 1]]
    assert F.log_softmax(x).tolist() == [[-1000, -2000, 0]]


@pytest.mark.parametrize("function", [*POINTWISE, F.softmax, F.log_softmax, F.dropout], ids=lambda f: f.__name__)
def test_whole_numbers_are_refused(function):
    with pytest.raises(DTypeError, match=f"{function.__name__}: input is int64; needs float32 or float64"):
        function(np.zeros((2, 2), np.int64))


def test_what_does_not_fit_is_refused():
    with pytest.raises(ArgumentError, match=r"softmax: dim 2 of shape \(2, 3\); legal: -2 .. 1"):
        F.softmax(np.zeros((2, 3)), 2)
    with pytest.raises(ShapeError, match=r"prelu: weight of shape \(2,\) .* needs \(1,\) or \(3,\)"):
        F.prelu(np.zeros((2, 3)), np.zeros(2))
    with pytest.raises(ShapeError, match=r"prelu: input of shape \(3,\); needs \(N, C, ...\)"):
        F.prelu(np.zeros(3), np.zeros(1))
