import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg.functional as F
from tinyseg.autograd import gradcheck, tensor
from tinyseg.errors import ArgumentError, DTypeError, ShapeError


def drawn(shape, seed=0):
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(np.float64)


AMOUNTS = st.tuples(*[st.integers(0, 4)] * 4)


@given(amounts=AMOUNTS, shape=st.sampled_from([(5, 6), (2, 5, 6), (2, 3, 5, 5)]))
def test_padding_is_numpys(amounts, shape):
    left, right, top, bottom = amounts
    x = drawn(shape)
    sides = [(0, 0)] * (len(shape) - 2) + [(top, bottom), (left, right)]
    np.testing.assert_array_equal(F.pad(x, amounts).numpy(), np.pad(x, sides))
    np.testing.assert_array_equal(F.pad(x, amounts, value=7).numpy(), np.pad(x, sides, constant_values=7))
    np.testing.assert_array_equal(F.pad(x, amounts, "reflect").numpy(), np.pad(x, sides, mode="reflect"))


def test_one_number_is_four_and_two_are_of_w():
    x = drawn((1, 1, 3, 4))
    assert F.pad(x, 2).shape == (1, 1, 7, 8)
    assert F.pad(x, (1, 2)).shape == (1, 1, 3, 7)


@given(amounts=st.tuples(*[st.integers(-2, 3)] * 4))
def test_negative_amounts_cut(amounts):
    x = drawn((1, 2, 5, 5))
    far = F.pad(F.pad(x, 9, value=3), tuple(a - 9 for a in amounts), value=3)
    np.testing.assert_array_equal(F.pad(x, amounts, value=3).numpy(), far.numpy())
    assert F.pad(F.pad(x, 4), -4).tolist() == x.tolist()


@given(amounts=st.tuples(*[st.integers(-2, 3)] * 4), mode=st.sampled_from(["constant", "reflect"]))
def test_the_gradient_is_the_transpose(amounts, mode):
    if mode == "reflect":
        amounts = tuple(abs(a) for a in amounts)
    x = tensor(drawn((2, 1, 5, 6)), requires_grad=True)
    y = F.pad(x, amounts, mode)
    cotangent = drawn(y.shape, 1)
    y.backward(cotangent)
    assert np.vdot(y.data, cotangent) == np.vdot(x.data, x.grad.data)           # whole numbers: exact


def test_gradients():
    x = drawn((1, 2, 3, 4))
    gradcheck(lambda x: F.pad(x, (1, 2, 3, 0), value=5), [x])
    gradcheck(lambda x: F.pad(x, (1, -2, -1, 3)), [x])
    gradcheck(lambda x: F.pad(x, (3, 1, 2, 0), "reflect"), [x])


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool"])
def test_masks_can_be_padded(dtype):
    y = F.pad(np.zeros((2, 3), dtype), 1, value=1)
    assert y.dtype == dtype
    assert y.numpy().sum() == 20 - 6


@pytest.mark.parametrize(("arguments", "error", "text"), [
    ((1, "edge"), ArgumentError, "pad: mode 'edge'; legal: constant, zero, reflect"),
    (((1, 2, 3),), ArgumentError, r"pad: padding \(1, 2, 3\); needs"),
    ((1.5,), ArgumentError, "pad: padding 1.5; needs a whole number"),
    (((0, 0, 3, 0), "reflect"), ArgumentError, "pad: 3 and 0 in H by reflection of size 3; .* at most 2"),
    (((-1, 0, 0, 0), "reflect"), ArgumentError, "pad: -1 and 0 in W by reflection"),
    (((-2, -2, 0, 0),), ShapeError, "pad: -2 and -2 in W of size 4; needs at least one cell"),
    (((5, -5, 0, 0),), ShapeError, "pad: 5 and -5 in W of size 4"),
    ((1, "zero", 3), ArgumentError, 'pad: mode "zero" with value 3'),
])
def test_what_does_not_fit_is_refused(arguments, error, text):
    with pytest.raises(error, match=text):
        F.pad(np.zeros((1, 1, 3, 4)), *arguments)


def test_arrays_that_do_not_fit_are_refused():
    with pytest.raises(ShapeError, match=r"pad: input of shape \(3,\)"):
        F.pad(np.zeros(3), 1)
    with pytest.raises(DTypeError, match="pad: input is uint8; needs float32 or float64"):
        F.pad(np.zeros((3, 3), np.uint8), 1, "reflect")
