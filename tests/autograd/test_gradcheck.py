"""The checker must be able to fail: gradients that are wrong in one way each, for both forms of the check."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.autograd import Function, GradientError, Tensor, gradcheck, gradcheck_directional, tensor, unbroadcast
from tinyseg.errors import ArgumentError, DTypeError

both = pytest.mark.parametrize("check", [gradcheck, gradcheck_directional])
RNG = np.random.default_rng(0)
SMALL, LARGE = RNG.standard_normal((3, 4)), RNG.standard_normal((100, 100))


def planted(change, forward=lambda x: x * x * x, derivative=lambda x: 3 * x * x):
    """x³ with its gradient 3x² dy put through `change(gradient, dy, x)`."""
    class Planted(Function):
        def forward(self, x):
            self.save(x)
            return forward(x)

        def backward(self, grad):
            x, = self.saved
            return change(derivative(x) * grad, grad, x)

    return lambda x: Planted()(x)


def one_element(g, dy, x):
    g = g.copy()
    g.flat[g.size // 2] *= 1.01
    return g


def moved(g, dy, x):
    return np.roll(g, 1, axis=-1)


def with_a(value):
    def change(g, dy, x):
        g = g.copy()
        g.flat[-1] = value
        return g
    return change


WRONG = {
    "sign": lambda g, dy, x: -g, "factor": lambda g, dy, x: 2 * g, "small factor": lambda g, dy, x: 1.001 * g,
    "one element": one_element, "one element nan": with_a(np.nan), "one element inf": with_a(np.inf),
    "all nan": lambda g, dy, x: g * np.nan, "zero": lambda g, dy, x: 0 * g, "offset": lambda g, dy, x: g + 0.01,
    "moved": moved, "ignores its cotangent": lambda g, dy, x: 3 * x * x,
    "the cotangent's mean": lambda g, dy, x: 3 * x * x * dy.mean(),
    "the cotangent's sign": lambda g, dy, x: 3 * x * x * np.sign(dy),
    "forgets the inner derivative": lambda g, dy, x: dy + 0 * g,
}


@both
@pytest.mark.parametrize("x", [SMALL, LARGE[:8, :8]], ids=["small", "larger"])
def test_a_right_gradient_passes(check, x):
    assert check(planted(lambda g, dy, x: g), [x])


@both
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_gradient_fails(check, wrong):
    with pytest.raises(GradientError, match="backward gives"):
        check(planted(WRONG[wrong]), [SMALL])


@pytest.mark.parametrize("wrong", WRONG)
def test_one_direction_of_ten_thousand_elements_is_enough(wrong):
    with pytest.raises(GradientError):
        gradcheck_directional(planted(WRONG[wrong]), [LARGE], directions=1)


@given(seed=st.integers(0, 2**32 - 1), where=st.integers(0, 11))
def test_any_wrong_element_fails(seed, where):
    def change(g, dy, x):
        g = g.copy()
        g.flat[where] += 0.01
        return g

    for check in (gradcheck, gradcheck_directional):
        with pytest.raises(GradientError):
            check(planted(change), [SMALL], seed=seed)


class Shift(Function):
    """x + b, with b broadcast; `sums` is how the gradient of b comes back to its shape."""

    def __init__(self, sums):
        self.sums = sums

    def forward(self, x, b):
        self.shape = b.shape
        return x + b

    def backward(self, grad):
        return grad, self.sums(grad, self.shape)


@both
@pytest.mark.parametrize("shape", [(1, 4), (3, 1), (1, 1)])
def test_a_missing_broadcast_sum_fails(check, shape):
    """The first row or column, or a mean, has the right shape."""
    b = np.ones(shape)
    assert check(lambda x, b: Shift(unbroadcast)(x, b), [SMALL, b])
    axes = tuple(a for a in (0, 1) if shape[a] == 1)
    for sums in (lambda g, s: g[:s[0], :s[1]].copy(), lambda g, s: g.mean(axes, keepdims=True)):
        with pytest.raises(GradientError, match="input 1"):
            check(lambda x, b, sums=sums: Shift(sums)(x, b), [SMALL, b])


@both
def test_every_input_and_every_output_is_checked(check):
    class Pair(Function):
        def __init__(self, wrong):
            self.factors = [2.0 if wrong == k else 1.0 for k in range(4)]

        def forward(self, a, b):
            self.save(a, b)
            return a * b, a + b

        def backward(self, product, total):
            a, b = self.saved
            f = self.factors
            return f[0] * product * b + f[1] * total, f[2] * product * a + f[3] * total

    operands = [SMALL, SMALL[::-1].copy()]
    assert check(lambda a, b: Pair(None)(a, b), operands)
    for wrong in range(4):
        with pytest.raises(GradientError):
            check(lambda a, b, wrong=wrong: Pair(wrong)(a, b), operands)


@both
def test_a_gradient_that_never_arrives_fails(check):
    with pytest.raises(GradientError, match="backward gives 0"):
        check(lambda x, y: x.detach() * y, [SMALL, SMALL])


@both
def test_a_function_that_is_not_finite_fails(check):
    """A difference of inf must not stretch the tolerance over everything else."""
    def steep(x):
        with np.errstate(all="ignore"):
            return np.where(x > 3, np.inf, x)

    x = np.array([1.0, 2.0, 3.0])                    # the last one is finite, and a step further is not
    with np.errstate(all="ignore"), pytest.raises(GradientError):
        check(planted(lambda g, dy, x: g * 2, steep, np.ones_like), [x])


@both
def test_the_inputs_are_left_as_they_were(check):
    x, t = SMALL.copy(), tensor(SMALL, requires_grad=True)
    check(lambda a, b: a * b, [x, t])
    np.testing.assert_array_equal(x, SMALL)
    np.testing.assert_array_equal(t.detach().data, SMALL)
    assert t.grad is None


@both
def test_only_those_that_require_a_gradient_are_checked(check):
    wrong = planted(lambda g, dy, x: -g)
    x, y = Tensor(SMALL.copy(), requires_grad=True), Tensor(SMALL.copy())
    assert check(lambda x, y: x * wrong(y), [x, y])
    with pytest.raises(GradientError):
        check(lambda x, y: x * wrong(y), [x, y.requires_grad_()])
    labels = np.array([0, 1])
    assert check(lambda x, k: x[k], [x, labels])


@both
def test_what_cannot_be_checked(check):
    with pytest.raises(DTypeError, match="input 0 is float32; differences need float64"):
        check(lambda x: x * x, [SMALL.astype(np.float32)])
    with pytest.raises(ArgumentError, match="no input is a float"):
        check(lambda x: x, [np.array([1])])
    with pytest.raises(ArgumentError, match="does not depend on any checked input"):
        check(lambda x: x.detach(), [SMALL])


def test_the_text_names_the_element():
    with pytest.raises(GradientError, match=r"input 0 of shape \(3, 4\), element \(1, 2\): backward gives .* "
                                            r"1 of 12 elements are off"):
        gradcheck(planted(one_element), [SMALL])
