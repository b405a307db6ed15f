"""Values and gradients against PyTorch, in float64."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from poolings import SIZES, poolings

import tinyseg.functional as F
from tinyseg.autograd import tensor
from tinyseg.kernels import axis

torch = pytest.importorskip("torch")
TF = torch.nn.functional
pytestmark = pytest.mark.oracle
SEEDS = st.integers(0, 999)


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(0, 2, shape)


def check_same(ours, theirs, *arrays, rtol=1e-10, atol=1e-11):
    """Both functions on float64 arrays: the values, and the gradients of all arrays for one random cotangent."""
    mine = [tensor(a, requires_grad=True) for a in arrays]
    yours = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, expected = ours(*mine), theirs(*yours)
    assert y.shape == tuple(expected.shape)
    np.testing.assert_allclose(y.data, expected.detach().numpy(), rtol=rtol, atol=atol)
    cotangent = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(cotangent)
    expected.backward(torch.tensor(cotangent))
    for a, b in zip(mine, yours, strict=True):
        np.testing.assert_allclose(a.grad.data, b.grad.numpy(), rtol=rtol, atol=atol)


@pytest.mark.parametrize("name", ["relu", "relu6", "leaky_relu", "sigmoid", "tanh", "hardsigmoid", "hardswish"])
def test_pointwise(name):
    kinks = np.array([-3.0, 0, 3, 6])
    x = np.append(normal(500) * 3, kinks if name not in ("hardswish", "leaky_relu") else [])
    check_same(getattr(F, name), getattr(TF, name), x, rtol=1e-7 if "hard" in name else 1e-10)   # their 1/6 is float32


@pytest.mark.parametrize("slopes", [1, 3])
def test_prelu(slopes):
    check_same(F.prelu, TF.prelu, normal((2, 3, 4, 5)), np.array([0.1, 0.2, -0.3])[:slopes])


@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_softmax(dim):
    check_same(lambda x: F.softmax(x, dim), lambda x: TF.softmax(x, dim), normal((3, 4, 5, 6)) * 20)
    check_same(lambda x: F.log_softmax(x, dim), lambda x: TF.log_softmax(x, dim), normal((3, 4, 5, 6)) * 20)


@given(pooling=poolings(), seed=SEEDS)
def test_max_pool2d(pooling, seed):
    size, arguments = pooling
    x = normal((2, 2, *size), seed)
    check_same(lambda x: F.max_pool2d(x, **arguments), lambda x: TF.max_pool2d(x, **arguments), x)
    indices = F.max_pool2d(x, **arguments, return_indices=True)[1]
    expected = TF.max_pool2d(torch.tensor(x), **arguments, return_indices=True)[1]
    np.testing.assert_array_equal(indices.numpy(), expected.numpy())


@given(shape=st.tuples(st.integers(2, 6), st.integers(2, 6)), seed=SEEDS)
def test_max_pool2d_of_ties_and_nan(shape, seed):
    x = np.random.default_rng(seed).integers(0, 2, (1, 2, *shape)).astype(np.float64)
    x[x == 1] = [np.nan, np.inf][seed % 2]
    y, indices = F.max_pool2d(x, 2, 1, return_indices=True)
    expected, where = TF.max_pool2d(torch.tensor(x), 2, 1, return_indices=True)
    np.testing.assert_array_equal(y.numpy(), expected.numpy())
    np.testing.assert_array_equal(indices.numpy(), where.numpy())


@given(pooling=poolings(dilation=[1]), count_include_pad=st.booleans(), seed=SEEDS)
def test_avg_pool2d(pooling, count_include_pad, seed):
    size, arguments = pooling
    del arguments["dilation"]
    arguments["count_include_pad"] = count_include_pad
    check_same(lambda x: F.avg_pool2d(x, **arguments), lambda x: TF.avg_pool2d(x, **arguments),
               normal((2, 2, *size), seed))


@given(size=SIZES, output_size=SIZES)
def test_adaptive_avg_pool2d(size, output_size):
    check_same(lambda x: F.adaptive_avg_pool2d(x, output_size), lambda x: TF.adaptive_avg_pool2d(x, output_size),
               normal((2, 2, *size)))


@given(size=SIZES, new=SIZES, align_corners=st.booleans())
def test_bilinear_to_a_size(size, new, align_corners):
    options = {"mode": "bilinear", "align_corners": align_corners}
    check_same(lambda x: F.interpolate(x, new, **options), lambda x: TF.interpolate(x, new, **options),
               normal((2, 2, *size)))


@given(size=st.tuples(st.integers(3, 9), st.integers(3, 9)), align_corners=st.booleans(),
       factors=st.tuples(st.floats(0.4, 3), st.floats(0.4, 3)))
def test_bilinear_by_a_factor(size, align_corners, factors):
    options = {"scale_factor": factors, "mode": "bilinear", "align_corners": align_corners}
    check_same(lambda x: F.interpolate(x, **options), lambda x: TF.interpolate(x, **options), normal((2, 2, *size)))


@given(size=SIZES, new=SIZES, mode=st.sampled_from(["nearest", "nearest-exact"]))
def test_nearest_to_a_size(size, new, mode):
    check_same(lambda x: F.interpolate(x, new, mode=mode), lambda x: TF.interpolate(x, new, mode=mode),
               normal((2, 2, *size)))


@pytest.mark.parametrize("factor", [0.5, 1, 2, 3, 4, 1.5, (2, 0.5), (1.15, 2.15)])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_by_a_factor(factor, mode):
    check_same(lambda x: F.interpolate(x, scale_factor=factor, mode=mode),
               lambda x: TF.interpolate(x, scale_factor=factor, mode=mode), normal((2, 2, 6, 7)))


def test_nearest_differs_only_where_pytorch_rounds():
    for i in range(1, 80):
        for o in range(1, 80):
            theirs = TF.interpolate(torch.arange(float(i))[None, None, None], (1, o)).numpy().ravel().astype(int)
            ours = axis.nearest(i, o).source
            exact = [x * i // o for x in range(o)]
            assert ours.tolist() == exact
            rounded = np.flatnonzero(theirs != ours)
            assert all(x * i % o == 0 and theirs[x] == ours[x] - 1 for x in rounded), (i, o)


@given(amounts=st.tuples(*[st.integers(-2, 4)] * 4), mode=st.sampled_from(["constant", "reflect"]))
def test_pad(amounts, mode):
    if mode == "reflect":
        amounts = tuple(abs(a) for a in amounts)
    check_same(lambda x: F.pad(x, amounts, mode), lambda x: TF.pad(x, amounts, mode), normal((2, 3, 5, 6)))


@pytest.mark.parametrize("shape", [(6, 4), (3, 4, 5), (3, 4, 5, 6)])
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(shape, training):
    rng = np.random.default_rng(0)
    statistics = [(tensor(a.copy()), torch.tensor(a.copy())) for a in (rng.standard_normal(4), rng.uniform(1, 2, 4))]
    mine, yours = zip(*statistics, strict=True)
    check_same(lambda x, w, b: F.batch_norm(x, *mine, w, b, training, 0.3, 1e-3),
               lambda x, w, b: TF.batch_norm(x, *yours, w, b, training, 0.3, 1e-3),
               normal(shape), rng.standard_normal(4), rng.standard_normal(4))
    for a, b in statistics:
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("shape", [(2, 6, 4), (3, 6, 4, 5)])
def test_group_norm(groups, shape):
    check_same(lambda x, w, b: F.group_norm(x, groups, w, b), lambda x, w, b: TF.group_norm(x, groups, w, b),
               normal(shape), normal(6, 1), normal(6, 2))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("shape", [(9,), (3, 7), (2, 5, 6), (2, 2, 3, 4)])
def test_cross_entropy(shape, smoothing, weighted, reduction):
    rng = np.random.default_rng(0)
    target = rng.integers(0, 4, shape)
    target[rng.random(shape) < 0.2] = 255
    weight = rng.uniform(0.5, 2, 4) if weighted else None
    options = {"ignore_index": 255, "reduction": reduction, "label_smoothing": smoothing}
    check_same(lambda x: F.cross_entropy(x, target, weight, **options),
               lambda x: TF.cross_entropy(x, torch.tensor(target), None if weight is None else torch.tensor(weight),
                                          **options),
               normal((shape[0], 4, *shape[1:])) * 5)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy_with_logits(weighted, reduction):
    rng = np.random.default_rng(0)
    z = rng.random((2, 3, 4))
    weight, pos_weight = (rng.uniform(0.5, 2, (3, 1)), rng.uniform(0.5, 2, 4)) if weighted else (None, None)
    theirs = [None if w is None else torch.tensor(w) for w in (weight, pos_weight)]
    check_same(lambda x: F.binary_cross_entropy_with_logits(x, z, weight, reduction, pos_weight),
               lambda x: TF.binary_cross_entropy_with_logits(x, torch.tensor(z), theirs[0], reduction=reduction,
                                                             pos_weight=theirs[1]), normal((2, 3, 4)) * 20)


def test_linear():
    check_same(F.linear, TF.linear, normal((2, 3, 4)), normal((5, 4)), normal(5))
