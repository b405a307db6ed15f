import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from poolings import SIZES, batches, poolings

import tinyseg.functional as F
from tinyseg.arithmetic import ConvGeometry
from tinyseg.autograd import gradcheck, gradcheck_directional, tensor
from tinyseg.errors import ArgumentError, DTypeError, ShapeError
from tinyseg.kernels.registry import run


def distinct(shape, seed=0):
    """No two values closer than 0.1: no maximum changes its place in a difference quotient."""
    return np.random.default_rng(seed).permutation(int(np.prod(shape))).reshape(shape) * 0.1


# -- max ----------------------------------------------------------------------------------------------------------
@given(pooling=poolings(), data=st.data())
def test_max_pooling_is_its_definition(pooling, data):
    size, arguments = pooling
    x = data.draw(batches(size, integers=True))
    geometry = ConvGeometry.pooling(size, **arguments)
    y, indices = F.max_pool2d(x, **arguments, return_indices=True)
    expected, where = run("max_pool2d", x, geometry, algorithm="loops")
    np.testing.assert_array_equal(y.numpy(), expected)
    np.testing.assert_array_equal(indices.numpy(), where)
    assert y.shape[2:] == geometry.output_size

    cotangent = np.random.default_rng(0).integers(-4, 5, y.shape).astype(np.float64)
    leaf = tensor(x, requires_grad=True)
    F.max_pool2d(leaf, **arguments).backward(cotangent)
    np.testing.assert_array_equal(leaf.grad.numpy(),
                                  run("max_pool2d_grad", cotangent, where, geometry, algorithm="loops"))


def test_max_pooling_by_hand():
    x = np.array([[[[1.0, 5, 2, 0], [3, 4, 7, 7], [0, 0, -1, -2], [0, 9, -3, -4]]]])
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    assert y.tolist() == [[[[5, 7], [9, -1]]]]
    assert indices.tolist() == [[[[1, 6], [13, 10]]]]                    # of the two 7s the first
    assert indices.dtype == "int64"


def test_padding_never_wins():
    x = np.full((1, 1, 3, 3), -5.0)
    assert (F.max_pool2d(x, 3, 2, padding=1).numpy() == -5).all()


def test_nan_and_minus_infinity_are_values():
    x = np.full((1, 1, 2, 4), -np.inf)
    x[0, 0, 1, 2] = np.nan
    y, indices = F.max_pool2d(x, 2, return_indices=True)
    np.testing.assert_array_equal(y.numpy(), [[[[-np.inf, np.nan]]]])
    assert indices.tolist() == [[[[0, 6]]]]


@pytest.mark.parametrize("arguments", [
    {"kernel_size": 2}, {"kernel_size": 3, "stride": 2, "padding": 1}, {"kernel_size": (2, 3), "stride": (1, 2)},
    {"kernel_size": 2, "dilation": 2}, {"kernel_size": 2, "ceil_mode": True},
])
def test_max_pooling_gradients(arguments):
    gradcheck(lambda x: F.max_pool2d(x, **arguments), [distinct((2, 2, 5, 5))])
    gradcheck_directional(lambda x: F.max_pool2d(x, **arguments), [distinct((2, 3, 31, 30))])


def test_windows_all_in_the_padding_are_refused():
    with pytest.raises(ShapeError, match="max_pool2d: kernel 2 with dilation 3 has a window that meets only padding"):
        F.max_pool2d(np.zeros((1, 1, 2, 5)), 2, padding=1, dilation=3)


# -- mean ---------------------------------------------------------------------------------------------------------
def mean_by_loops(x, kernel_size, stride, padding, ceil_mode, dilation=(1, 1), count_include_pad=True):
    geometry = ConvGeometry.pooling(x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    y = np.empty((*x.shape[:2], *geometry.output_size))
    for i, j in np.ndindex(geometry.output_size):
        inside, counted = [], 0
        for u, v in np.ndindex(*kernel_size):
            h, w = i * stride[0] - padding[0] + u, j * stride[1] - padding[1] + v
            if 0 <= h < x.shape[2] and 0 <= w < x.shape[3]:
                inside.append(x[:, :, h, w])
            counted += h < x.shape[2] + padding[0] and w < x.shape[3] + padding[1]
        y[:, :, i, j] = sum(inside) / (counted if count_include_pad else len(inside))
    return y


@given(pooling=poolings(dilation=[1]), count_include_pad=st.booleans(), data=st.data())
def test_mean_pooling_is_its_definition(pooling, count_include_pad, data):
    size, arguments = pooling
    del arguments["dilation"]
    x = data.draw(batches(size))
    y = F.avg_pool2d(x, **arguments, count_include_pad=count_include_pad)
    np.testing.assert_allclose(y.numpy(), mean_by_loops(x, **arguments, count_include_pad=count_include_pad),
                               rtol=1e-12, atol=1e-14)


def test_mean_pooling_by_hand():
    x = np.arange(9.0).reshape(1, 1, 3, 3)
    assert F.avg_pool2d(x, 2, 1).tolist() == [[[[2, 3], [5, 6]]]]
    # One column of zeros counts; the row and column that ceil_mode adds at the far end do not.
    assert F.avg_pool2d(x, 2, 2, ceil_mode=True).tolist() == [[[[2, 3.5], [6.5, 8]]]]
    assert F.avg_pool2d(x, 2, 2, padding=1).tolist() == [[[[0, 0.75], [2.25, 6]]]]
    assert F.avg_pool2d(x, 2, 2, padding=1, count_include_pad=False).tolist() == [[[[0, 1.5], [4.5, 6]]]]


@given(size=SIZES, output_size=SIZES, data=st.data())
def test_adaptive_pooling_is_its_definition(size, output_size, data):
    x = data.draw(batches(size))
    y = F.adaptive_avg_pool2d(x, output_size).numpy()
    (height, width), (H, W) = output_size, size
    for i, j in np.ndindex(output_size):
        rows, columns = (slice(int(np.floor(t * n / o)), int(np.ceil((t + 1) * n / o)))
                         for t, n, o in ((i, H, height), (j, W, width)))
        np.testing.assert_allclose(y[:, :, i, j], x[:, :, rows, columns].mean(axis=(2, 3)), rtol=1e-12, atol=1e-14)


def test_global_pooling_is_the_mean():
    x = np.random.default_rng(0).random((2, 3, 40, 50)).astype(np.float32)
    np.testing.assert_allclose(F.adaptive_avg_pool2d(x, 1).numpy()[..., 0, 0], x.mean(axis=(2, 3), dtype=np.float64),
                               rtol=1e-6)
    assert F.adaptive_avg_pool2d(x, (None, 7)).shape == (2, 3, 40, 7)


LINEAR = st.one_of(
    st.tuples(poolings(dilation=[1]), st.booleans()).map(lambda drawn: (drawn[0][0], lambda x: F.avg_pool2d(
        x, **{k: v for k, v in drawn[0][1].items() if k != "dilation"}, count_include_pad=drawn[1]))),
    st.tuples(SIZES, SIZES).map(lambda drawn: (drawn[0], lambda x: F.adaptive_avg_pool2d(x, drawn[1]))))


@given(case=LINEAR, data=st.data())
def test_the_gradient_is_the_transpose(case, data):
    size, pool = case
    x = tensor(data.draw(batches(size)), requires_grad=True)
    y = pool(x)
    cotangent = np.random.default_rng(1).standard_normal(y.shape)
    y.backward(cotangent)
    np.testing.assert_allclose(np.vdot(y.detach().numpy(), cotangent), np.vdot(x.data,
                                                                              x.grad.numpy()), rtol=1e-11, atol=1e-12)


def test_mean_pooling_gradients():
    x = np.random.default_rng(0).standard_normal((2, 2, 5, 6))
    gradcheck(lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False), [x])
    gradcheck(lambda x: F.adaptive_avg_pool2d(x, (3, 8)), [x])


# -- errors -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda: F.max_pool2d(np.zeros((3, 4, 4)), 2), ShapeError,
     r"max_pool2d: input of shape \(3, 4, 4\); needs \(N, C, H, W\)"),
    (lambda: F.max_pool2d(np.zeros((1, 1, 4, 4), int), 2), DTypeError, "max_pool2d: input is int64"),
    (lambda: F.max_pool2d(np.zeros((1, 1, 4, 4)), 5), ShapeError, "max_pool2d: kernel 5 .* in H"),
    (lambda: F.max_pool2d(np.zeros((1, 1, 4, 4)), 2, padding=2), ArgumentError, "max_pool2d: padding 2 with kernel 2"),
    (lambda: F.max_pool2d(np.zeros((1, 1, 4, 4)), 2, stride=0), ArgumentError, "max_pool2d: stride 0 in H"),
    (lambda: F.max_pool2d(np.zeros((1, 1, 4, 4)), 2, algorithm="fft"), ArgumentError,
     "max_pool2d: no algorithm 'fft'; legal: auto, direct, loops"),
    (lambda: F.avg_pool2d(np.zeros((1, 1, 4, 4)), (2, 2, 2)), ArgumentError, "avg_pool2d: kernel_size"),
    (lambda: F.avg_pool2d(np.zeros((1, 1, 4, 4)), 2, padding=(0, 2)), ArgumentError, "avg_pool2d: padding 2 .* in W"),
    (lambda: F.adaptive_avg_pool2d(np.zeros((1, 1, 4, 4)), 0), ShapeError, "adaptive_avg_pool2d: .* to 0x0"),
    (lambda: F.adaptive_avg_pool2d(np.zeros((1, 1, 4, 4)), 1.5), ArgumentError, "adaptive_avg_pool2d: output_size 1.5"),
])
def test_what_does_not_fit_is_refused(call, error, text):
    with pytest.raises(error, match=text):
        call()
