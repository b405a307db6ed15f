"""Every operation's gradient against differences, over drawn shapes, values and cotangents.

Values keep clear of kinks and poles, and ties are made on purpose where a test is about them.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, basic_indices, mutually_broadcastable_shapes

import tinyseg.autograd as ag
from tinyseg.autograd import Tensor, gradcheck, tensor
from tinyseg.errors import ArgumentError, ShapeError

seeds = st.integers(0, 2**32 - 1)
shapes = array_shapes(min_dims=0, max_dims=3, max_side=3)
broadcasts = mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3).map(lambda s: s.input_shapes)


def distinct(seed, shape):
    """Values at least 0.1 apart and away from 0, half of them negative: no kink within reach of a difference."""
    size = int(np.prod(shape))
    ranks = np.random.default_rng(seed).permutation(size).reshape(shape)
    return np.asarray((ranks - size // 2) * 0.1 + 0.05)


def normal(seed, shape):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape))


def positive(seed, shape):
    return np.asarray(np.random.default_rng(seed).uniform(0.5, 2, shape))


BINARY = {
    "add": (lambda a, b: a + b, np.add, normal), "subtract": (lambda a, b: a - b, np.subtract, normal),
    "multiply": (lambda a, b: a * b, np.multiply, normal), "divide": (lambda a, b: a / b, np.divide, positive),
    "power": (lambda a, b: a ** b, np.power, positive),
    "maximum": (ag.maximum, np.maximum, None), "minimum": (ag.minimum, np.minimum, None),
}


@pytest.mark.parametrize("name", BINARY)
@given(shapes=broadcasts, seed=seeds)
def test_two_operands_that_broadcast(name, shapes, seed):
    function, reference, draw = BINARY[name]
    if draw is None:                                 # the two never tie, whatever meets whatever
        a, b = distinct(seed, shapes[0]), distinct(seed + 1, shapes[1]) + 0.033
    else:
        a, b = draw(seed, shapes[0]), draw(seed + 1, shapes[1])
    np.testing.assert_array_equal(function(Tensor(a), Tensor(b)).data, reference(a, b))
    gradcheck(function, [a, b], seed=seed)


@given(shape=shapes, seed=seeds, number=st.sampled_from([2.0, 3, -1.5]))
def test_numbers_and_arrays_on_either_side(shape, seed, number):
    x = positive(seed, shape)
    gradcheck(lambda x: (number + x) * (number - x) / (number * x) + (x - number) / number, [x], seed=seed)
    gradcheck(lambda x: abs(number) ** x + x ** number, [x], seed=seed)
    array = normal(seed, shape)
    gradcheck(lambda x: array + array * x - (array - x) / 2, [x], seed=seed)


UNARY = {"exp": (ag.exp, np.exp, normal), "log": (ag.log, np.log, positive), "sqrt": (ag.sqrt, np.sqrt, positive),
         "abs": (ag.abs, np.abs, distinct), "negative": (lambda x: -x, np.negative, normal),
         "clip": (lambda x: x.clip(-0.2, 0.3), lambda x: np.clip(x, -0.2, 0.3), distinct),
         "clip below": (lambda x: x.clamp(min=0), lambda x: np.maximum(x, 0), distinct),
         "clip above": (lambda x: x.clip(max=0.1), lambda x: np.minimum(x, 0.1), distinct),
         "clone": (lambda x: x.clone(), np.array, normal)}


@pytest.mark.parametrize("name", UNARY)
@given(shape=shapes, seed=seeds)
def test_one_operand(name, shape, seed):
    function, reference, draw = UNARY[name]
    x = draw(seed, shape)
    np.testing.assert_array_equal(function(Tensor(x)).data, reference(x))
    gradcheck(function, [x], seed=seed)


@st.composite
def reductions(draw):
    shape = draw(array_shapes(min_dims=1, max_dims=3, max_side=3))
    axes = st.integers(-len(shape), len(shape) - 1)
    dims = st.lists(axes, min_size=1, unique_by=lambda d: d % len(shape)).map(tuple)
    return shape, draw(st.none() | axes | dims), draw(st.booleans())


@pytest.mark.parametrize("name", ["sum", "mean", "max", "min"])
@given(case=reductions(), seed=seeds)
def test_reductions(name, case, seed):
    shape, dim, keepdim = case
    x = distinct(seed, shape)
    function = getattr(ag, name)
    y = function(Tensor(x), dim, keepdim)
    np.testing.assert_array_equal(y.data, getattr(np, name)(x, axis=dim, keepdims=keepdim))
    gradcheck(lambda x: function(x, dim, keepdim), [x], seed=seed)


@pytest.mark.parametrize("name", ["max", "min"])
@given(case=reductions(), seed=seeds)
def test_ties_share_the_gradient(name, case, seed):
    """Each of n equal extremes gets 1/n, so that the whole is kept."""
    shape, dim, _ = case
    x = tensor(np.random.default_rng(seed).integers(0, 2, shape).astype(float), requires_grad=True)
    y = getattr(x, name)(dim, True)
    y.sum().backward()
    hit = x.data == y.data
    np.testing.assert_allclose(x.grad.data, hit / hit.sum(dim, keepdims=True))


def test_ties_of_maximum_and_minimum_share_the_gradient():
    for function in (ag.maximum, ag.minimum):
        a, b = tensor([1.0, 2.0], requires_grad=True), tensor([1.0, 3.0], requires_grad=True)
        function(a, b).sum().backward()
        assert a.grad[0].item() == b.grad[0].item() == 0.5
        assert a.grad[1].item() + b.grad[1].item() == 1


@st.composite
def products(draw):
    """Shapes (..., n, k) and (..., k, m) with leading axes that broadcast; either may be a vector."""
    n, k, m = (draw(st.integers(1, 3)) for _ in range(3))
    lead = draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=2, max_side=2)).input_shapes
    left = draw(st.sampled_from([(*lead[0], n, k), (k,)]))
    right = draw(st.sampled_from([(*lead[1], k, m), (k,)]))
    return left, right


@given(shapes=products(), seed=seeds)
def test_matrix_product(shapes, seed):
    a, b = normal(seed, shapes[0]), normal(seed + 1, shapes[1])
    np.testing.assert_allclose((Tensor(a) @ Tensor(b)).data, a @ b, atol=1e-12)
    gradcheck(lambda a, b: a @ b, [a, b], seed=seed)
    gradcheck(lambda b: a @ b, [b], seed=seed)


@given(shape=array_shapes(min_dims=1, max_dims=4, max_side=3), seed=seeds, data=st.data())
def test_moves(shape, seed, data):
    x = normal(seed, shape)
    order = data.draw(st.permutations(range(len(shape))))
    order = [d - len(shape) * data.draw(st.booleans()) for d in order]
    one, two = (data.draw(st.integers(-len(shape), len(shape) - 1)) for _ in range(2))
    start, end = sorted((one % len(shape), two % len(shape)))
    at = data.draw(st.integers(-len(shape) - 1, len(shape)))
    for ours, reference in (
            (lambda x: x.permute(*order), x.transpose(order)), (lambda x: x.permute(order), x.transpose(order)),
            (lambda x: x.transpose(one, two), x.swapaxes(one, two)),
            (lambda x: x.reshape(-1), x.reshape(-1)), (lambda x: x.view(*shape[::-1]), x.reshape(shape[::-1])),
            (lambda x: x.flatten(start, end), x.reshape(*shape[:start], -1, *shape[end + 1:])),
            (lambda x: x.unsqueeze(at), np.expand_dims(x, at)), (lambda x: x.squeeze(), x.squeeze()),
            (lambda x: x.T, x.T)):
        np.testing.assert_array_equal(ours(Tensor(x)).data, reference)
        gradcheck(ours, [x], seed=seed)


@st.composite
def indexings(draw):
    """An array and something to index it by: slices and numbers, masks, whole numbers with repeats, and mixtures."""
    shape = draw(array_shapes(min_dims=1, max_dims=3, max_side=4))
    x = normal(draw(seeds), shape)
    rng = np.random.default_rng(draw(seeds))
    repeats = [rng.integers(-n, n, draw(st.integers(1, 5))) for n in shape]
    kinds = [basic_indices(shape, allow_newaxis=True, allow_ellipsis=True), st.just(rng.random(shape) < 0.5),
             st.just(repeats[0]), st.just(repeats[0].tolist()),
             st.just((Ellipsis, repeats[-1])), st.just((rng.random(shape[0]) < 0.5, Ellipsis))]
    if len(shape) > 1:
        pairs = tuple(rng.integers(0, n, (2, 3)) for n in shape[:2])
        kinds += [st.just(pairs), st.just((slice(None), repeats[1])), st.just((repeats[0], slice(None, None, -1)))]
    return x, draw(st.one_of(kinds))


@given(case=indexings(), seed=seeds)
def test_indexing(case, seed):
    x, index = case
    np.testing.assert_array_equal(Tensor(x)[index].data, x[index])
    gradcheck(lambda x: x[index], [x], seed=seed)


@given(shape=array_shapes(min_dims=1, max_dims=3, max_side=3), seed=seeds, data=st.data())
def test_joining(shape, seed, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    parts = []
    for k, size in enumerate(data.draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))):
        own = list(shape)
        own[dim] = size
        parts.append(normal(seed + k, own))
    np.testing.assert_array_equal(ag.cat([Tensor(p) for p in parts], dim).data, np.concatenate(parts, dim))
    gradcheck(lambda *parts: ag.concatenate(parts, dim), parts, seed=seed)
    same = [normal(seed + k, shape) for k in range(len(parts))]
    at = data.draw(st.integers(-len(shape) - 1, len(shape)))
    np.testing.assert_array_equal(ag.stack([Tensor(p) for p in same], at).data, np.stack(same, at))
    gradcheck(lambda *parts: ag.stack(parts, at), same, seed=seed)


@given(shapes=mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3), seed=seeds)
def test_where(shapes, seed):
    condition = np.asarray(np.random.default_rng(seed).random(shapes.input_shapes[0]) < 0.5)
    a, b = (normal(seed + k, s) for k, s in enumerate(shapes.input_shapes[1:]))
    np.testing.assert_array_equal(ag.where(condition, Tensor(a), Tensor(b)).data, np.where(condition, a, b))
    gradcheck(lambda a, b: ag.where(condition, a, b), [a, b], seed=seed)
    gradcheck(lambda a: ag.where(Tensor(condition), a, 2.0), [a], seed=seed)


@given(shape=shapes, seed=seeds)
def test_casts_between_floats(shape, seed):
    x = tensor(normal(seed, shape), requires_grad=True)
    (x.float() * 3).double().sum().backward()
    assert x.grad.dtype == np.float64
    np.testing.assert_allclose(x.grad.data, 3, rtol=1e-6)


@given(a=st.sampled_from([0.0, 1.5]), b=st.sampled_from([0.0, 1.0, 2.0]))
def test_power_at_its_corners(a, b):
    """0⁰ = 1 and x⁰ is flat; the slope of aᵇ in b at a = 0 is that of the constant 0 to its right."""
    x, y = tensor(a, requires_grad=True), tensor(b, requires_grad=True)
    (x ** y).backward()
    assert x.grad.item() == (0 if b == 0 else b * a ** (b - 1))
    assert y.grad.item() == pytest.approx(0 if a == 0 else a ** b * np.log(a))


def test_power_of_a_negative_base_has_no_slope_in_the_exponent():
    x, y = tensor(-2.0, requires_grad=True), tensor(2.0, requires_grad=True)
    (x ** y).backward()
    assert x.grad.item() == -4
    assert np.isnan(y.grad.item())


def test_absolute_value_is_flat_at_zero():
    x = tensor([-2.0, 0.0, 2.0], requires_grad=True)
    x.abs().sum().backward()
    assert x.grad.tolist() == [-1, 0, 1]


def test_the_caller_may_change_an_index_or_a_condition_later():
    x, index, mask, names = tensor(np.zeros(3), requires_grad=True), tensor([0, 0]), tensor([True, False, False]), [2]
    y = x[index].sum() + 10 * x[mask].sum() + 100 * x[names].sum() + 1000 * ag.where(mask, x, 0.0).sum()
    index.copy_(np.array([1, 1]))
    mask[1] = True
    names[0] = 1
    y.backward()
    assert x.grad.tolist() == [1012, 0, 100]


X = tensor(np.zeros((2, 3)))


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: X + tensor(np.zeros((2, 2))), ShapeError, r"add: shapes \(2, 3\) and \(2, 2\) do not broadcast"),
    (lambda: tensor([1, 2]) ** tensor(-1), ArgumentError, "power: .*negative integer powers"),
    (lambda: ag.where(np.ones(4), X, X), ShapeError, r"where: shapes \(4,\)"),
    (lambda: X.clip(), ArgumentError, "clip: give low, high"), (lambda: X.clip(2, 1), ArgumentError, "needs low <="),
    (lambda: X.sum(2), ArgumentError, r"sum: dim 2 of shape \(2, 3\); legal: -2 .. 1"),
    (lambda: X.sum((0, -2)), ArgumentError, "names an axis twice"),
    (lambda: tensor(1.0).mean(0), ArgumentError, "has no axes"),
    (lambda: tensor(np.zeros((2, 0))).mean(1), ShapeError, "mean: .*no elements"),
    (lambda: tensor(np.zeros((2, 0))).max(1), ShapeError, "max: .*no elements"),
    (lambda: X @ X, ShapeError, "inner sizes 3 and 2"),
    (lambda: tensor(np.zeros((2, 3, 3))) @ tensor(np.zeros((3, 3, 3))), ShapeError, "leading axes do not broadcast"),
    (lambda: X @ tensor(1.0), ShapeError, "a scalar has no matrix product"),
    (lambda: X.reshape(4, 2), ShapeError, r"6 elements of shape \(2, 3\) do not fill \(4, 2\)"),
    (lambda: X.permute(0, 0), ArgumentError, "needs each of 0 .. 1 once"),
    (lambda: X.permute(0, 3), ArgumentError, "permute: dim 3"),
    (lambda: X.transpose(0, 2), ArgumentError, "transpose: dim 2"),
    (lambda: X.flatten(1, 0), ArgumentError, "flatten: start_dim 1 comes after"),
    (lambda: X.unsqueeze(3), ArgumentError, "unsqueeze: dim 3"), (lambda: X.squeeze(2), ArgumentError, "squeeze"),
    (lambda: ag.cat([]), ArgumentError, "no tensors"), (lambda: ag.cat([X, X], 2), ArgumentError, "concatenate: dim 2"),
    (lambda: ag.cat([X, X.T]), ShapeError, r"concatenate: shapes \(2, 3\), \(3, 2\) along dim 0"),
    (lambda: ag.stack([X, X.T]), ShapeError, "stack: shapes"), (lambda: X[2], ArgumentError, r"index: 2 does not fit"),
])
def test_errors_name_the_operation_and_the_shapes(call, error, text):
    with pytest.raises(error, match=text):
        call()
