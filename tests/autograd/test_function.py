"""Operations of one's own: several outputs, inputs without gradients, and what a wrong one is told."""

import numpy as np
import pytest

from tinyseg.autograd import Function, Tensor, gradcheck, tensor
from tinyseg.errors import ArgumentError, DTypeError, GraphError, ShapeError


def leaf(*values):
    return tensor(np.array(values, np.float64), requires_grad=True)


class Square(Function):
    def forward(self, x):
        self.save(x)
        return x * x

    def backward(self, grad):
        x, = self.saved
        return 2 * x * grad


class MinMax(Function):
    """Two outputs."""

    def forward(self, x):
        self.save(x)
        return np.min(x), np.max(x)

    def backward(self, low, high):
        x, = self.saved
        return low * (x == x.min()) + high * (x == x.max())


def returning(value):
    class Odd(Function):
        def forward(self, a, b):
            return a + b

        def backward(self, grad):
            return value

    return Odd


def test_a_function_of_ones_own():
    x = np.array([1.0, -2.0])
    gradcheck(lambda x: Square()(x), [x])
    gradcheck(lambda x: Square.apply(x), [x])
    node = Square()
    node(tensor([1.0]))
    with pytest.raises(GraphError, match="called already"):
        node(tensor([1.0]))


def test_several_outputs():
    x = np.array([3.0, 1.0, 2.0])
    gradcheck(lambda x: MinMax()(x), [x])
    gradcheck(lambda x: MinMax()(x)[1] * 2, [x])     # the other's cotangent is zero
    t = leaf(3.0, 1.0)
    low, high = MinMax()(t)
    (low * 2 + high * high).backward()
    assert t.grad.tolist() == [6, 2]


def test_an_output_of_whole_numbers_takes_no_part():
    class Largest(Function):
        def forward(self, x):
            self.index = int(np.argmax(x))
            return np.max(x), np.argmax(x)

        def backward(self, grad, _):
            dx = np.zeros(3)
            dx[self.index] = grad
            return dx

    x = leaf(1.0, 3.0, 2.0)
    value, index = Largest()(x)
    assert index.item() == 1
    assert not index.requires_grad
    value.backward()
    assert x.grad.tolist() == [0, 1, 0]


@pytest.mark.parametrize(("value", "error", "text"), [
    (np.ones(2), ShapeError, "returned 1 gradients for 2 inputs"),
    ((np.ones(2),) * 3, ShapeError, "returned 3 gradients for 2 inputs"),
    ((np.ones(2), np.ones(3)), ShapeError, r"gradient 1 has shape \(3,\), its input \(2,\)"),
    ((np.ones((1, 2)), None), ShapeError, r"gradient 0 has shape \(1, 2\)"),
    ((np.ones(2), 1.0), DTypeError, "backward: returned a float"),
    ([np.ones(2), np.ones(2)], DTypeError, "backward: returned a list"),
])
def test_wrong_gradients_are_refused(value, error, text):
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    with pytest.raises(error, match=f"Odd.*{text}" if error is ShapeError else text):
        returning(value)()(a, b).sum().backward()


def test_an_input_may_have_no_gradient():
    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    returning((None, np.ones(2)))()(a, b).sum().backward()
    assert a.grad is None
    assert b.grad.tolist() == [1, 1]


def test_forward_must_return_arrays():
    class Lazy(Function):
        def forward(self, x):
            return [1.0]

    with pytest.raises(DTypeError, match=r"Lazy\.forward: returned a list"):
        Lazy()(leaf(1.0))
    with pytest.raises(ArgumentError, match="None is not a number"):
        Square()(None)


def test_functions_know_who_wants_a_gradient():
    seen = []

    class Look(Function):
        def forward(self, a, b):
            seen.append(self.needs_grad)
            return a + b

    Look()(leaf(1.0), tensor([1.0]))
    Look()(1.0, leaf(1.0))
    assert seen == [(True, False), (False, True)]


def test_a_tensor_reads_as_what_it_is():
    x = leaf(1.0)
    assert repr(x) == "tensor([1.], dtype=float64, requires_grad=True)"
    assert "grad_fn=Multiply" in repr(x * 2)
    assert isinstance(np.ones(1) * x, Tensor)
    assert [t.item() for t in leaf(1.0, 2.0)] == [1, 2]
    assert len(x) == x.numel() == x.size(0) == 1
    assert bool(x > 0)
    assert float(x) == int(x) == 1
