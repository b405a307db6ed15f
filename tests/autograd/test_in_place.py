"""Changes in place: seen, or refused, and never a wrong gradient."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg.autograd as ag
from tinyseg.autograd import no_grad, tensor
from tinyseg.errors import ArgumentError, GraphError, ShapeError

CHANGES = {
    "assignment": lambda t: t.__setitem__(0, 9.0),
    "copy_": lambda t: t.copy_(np.full(t.shape, 9.0)),
    "writing": lambda t: write(t),
    "through detach": lambda t: t.detach().__setitem__(Ellipsis, 9.0),
    "through a slice": lambda t: t.detach()[:1].__setitem__(0, 9.0),
    "through a reshape": lambda t: t.detach().reshape(-1).__setitem__(0, 9.0),
    "through a transpose": lambda t: t.detach().reshape(1, -1).T.__setitem__(0, 9.0),
}
USES = {
    "an operand": lambda x, w: x * w, "an operand of a product": lambda x, w: (x * w).reshape(1, -1) @ x,
    "a slice": lambda x, w: x[:2] * w[:2], "a reshaped operand": lambda x, w: x.reshape(1, -1) * w,
    "a detached operand": lambda x, w: x.detach() * w, "a power": lambda x, w: x ** w,
    "a maximum": lambda x, w: ag.maximum(x, w), "an extreme": lambda x, w: (x * w).max() + x.max() * w,
}


def write(t):
    with t.writing() as array:
        array += 1


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("wants", [True, False], ids=["parameter", "constant"])
def test_a_change_of_a_saved_operand_is_found_out(use, change, wants):
    x = tensor(np.array([1.0, 2.0, 3.0]), requires_grad=wants)
    w = tensor(np.array([0.5, 0.25, 5.0]), requires_grad=True)
    y = USES[use](x, w).sum()
    with no_grad():
        CHANGES[change](x)
    with pytest.raises(GraphError, match="changed in place"):
        y.backward()
    assert w.grad is None
    assert x.grad is None


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("function", [ag.exp, ag.sqrt])
def test_a_change_of_a_saved_result_is_found_out(function, change):
    x = tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    y = function(x)
    CHANGES[change](y.detach())
    with pytest.raises(GraphError, match="changed in place"):
        y.sum().backward()
    assert x.grad is None


def test_a_change_between_two_passes_is_found_out():
    x = tensor([1.0, 2.0], requires_grad=True)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    with no_grad():
        x[0] = 5.0
    with pytest.raises(GraphError, match="version 1, saved at version 0"):
        y.backward()
    assert x.grad.tolist() == [2, 4]


def test_a_view_made_later_and_one_made_earlier():
    base = tensor(np.arange(6.0).reshape(2, 3))
    early = base[0]
    w = tensor(np.ones(3), requires_grad=True)
    y = (base[1] * w).sum()
    early[0] = 100.0                                 # other elements, but one memory: refused, to be safe
    with pytest.raises(GraphError, match="changed in place"):
        y.backward()


def test_a_change_of_what_was_not_saved_is_no_matter():
    x = tensor(np.array([1.0, 2.0]), requires_grad=True)
    y = (x + 1) * 3                                  # sums keep nothing, and 3 is no part of x
    s = x.sum()
    with no_grad():
        x[0] = 9.0
    (y.sum() + s).backward()
    assert x.grad.tolist() == [4, 4]


def test_a_change_of_a_copy_is_no_matter():
    x = tensor(np.array([1.0, 2.0]), requires_grad=True)
    y = (x * x).sum()
    for other in (x.clone().detach(), x.detach()[np.array([0, 1])], tensor(x.detach()), copy.deepcopy(x).detach()):
        other[0] = 9.0
    y.backward()
    assert x.grad.tolist() == [2, 4]


@given(first=st.integers(0, 3), then=st.integers(0, 3), seed=st.integers(0, 99))
def test_never_a_wrong_gradient(first, then, seed):
    """Use, change, use again, in any order: right for what was used, or refused."""
    rng = np.random.default_rng(seed)
    x, w = tensor(rng.standard_normal(4)), tensor(rng.standard_normal(4), requires_grad=True)
    expected = x.data.copy() * first
    total = (w * 0).sum()
    for _ in range(first):
        total = total + (w * x).sum()
    for _ in range(then):
        x[rng.integers(4)] = 7.0
    if first and then:
        with pytest.raises(GraphError, match="changed in place"):
            total.backward()
    else:
        total.backward()
        np.testing.assert_allclose(w.grad.data, expected)


@pytest.mark.parametrize("change", ["assignment", "copy_", "writing"])
def test_results_that_carry_a_gradient_are_not_to_be_changed(change):
    x = tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    for y in (x * 2, x[:], x.reshape(3, 1)):
        before = y.detach().data.copy()
        for context in (no_grad(), ag.enable_grad()):
            with context, pytest.raises(GraphError, match="in-place change of the result of"):
                CHANGES[change](y)
        np.testing.assert_array_equal(y.detach().data, before)


@pytest.mark.parametrize("change", ["assignment", "copy_", "writing"])
def test_leaves_are_changed_under_no_grad_only(change):
    x = tensor(np.array([1.0, 2.0, 3.0]), requires_grad=True)
    with pytest.raises(GraphError, match=r"leaf that requires a gradient.*no_grad\(\)"):
        CHANGES[change](x)
    assert x.tolist() == [1, 2, 3]
    with no_grad():
        CHANGES[change](x)
    assert x.tolist() != [1, 2, 3]
    assert x.is_leaf


def test_augmented_assignment_makes_a_new_tensor():
    x = tensor([1.0, 2.0], requires_grad=True)
    y = before = x * 2
    y += 1
    assert y is not before
    y.sum().backward()
    assert x.grad.tolist() == [2, 2]


def test_arrays_are_given_out_to_read():
    x = tensor(np.array([1.0, 2.0]))
    for array in (x.data, x.numpy(), x.detach().numpy(), tensor(3.0).data):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    np.asarray(x)[0] = 7.0                           # a copy
    assert x.tolist() == [1, 2]
    with pytest.raises(GraphError, match=r"call \.detach\(\)\.numpy\(\)"):
        tensor([1.0], requires_grad=True).numpy()
    with pytest.raises(TypeError):
        np.add(x, 1, out=x.data)


def test_tensor_copies_what_it_is_given():
    array = np.ones(2)
    t = tensor(array)
    array[0] = 5
    assert t.tolist() == [1, 1]
    u = tensor(t)
    u[0] = 7.0
    assert t.tolist() == [1, 1]


def test_assignment_does_not_lose_a_gradient():
    x, y = tensor([1.0], requires_grad=True), tensor([0.0, 0.0])
    with pytest.raises(GraphError, match="use where or concatenate"):
        y[0] = x * 2
    with no_grad():
        y[:1] = x * 2
    assert y.tolist() == [2, 0]
    for index, value in ((0, [1.0, 2.0]), (2, 1.0)):
        with pytest.raises(ArgumentError, match="assignment: "):
            y[index] = value
    with pytest.raises(ShapeError, match=r"copy_: the value has shape \(1,\), the tensor \(2,\)"):
        y.copy_(x)


def test_only_leaves_are_set_or_copied():
    x = tensor([1.0], requires_grad=True)
    y = x * 2
    with pytest.raises(GraphError, match="only leaves"):
        y.requires_grad_(False)
    with pytest.raises(GraphError, match="only leaves"):
        copy.deepcopy(y)
    twin = copy.deepcopy(x)
    assert twin.requires_grad
    assert twin is not x
