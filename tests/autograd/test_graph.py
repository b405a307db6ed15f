"""The pass back through the graph: what it adds up, what it frees, and what it refuses."""

import gc
import threading
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinyseg.autograd as ag
from tinyseg.autograd import Function, enable_grad, gradcheck, is_grad_enabled, no_grad, tensor, watching
from tinyseg.errors import DTypeError, GraphError, ShapeError


def leaf(*values, dtype=np.float64):
    return tensor(np.array(values, dtype), requires_grad=True)


# -- sums over paths ----------------------------------------------------------------------------------------------

def test_gradients_add_up_over_passes():
    x = leaf(1.0, 2.0)
    (x * 3).sum().backward()
    (x * x).sum().backward()
    assert x.grad.tolist() == [5, 7]
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3, 3]


def test_fan_out_and_diamonds():
    x = leaf(2.0)
    a = x * x                                        # 4
    b, c = a + 1, a * 3                              # 5, 12
    (b * c + a).sum().backward()                     # (a+1)·3a + a;  da = 6a + 4, dx = (6a + 4)·2x
    assert x.grad.tolist() == [(6 * 4 + 4) * 4]
    y = leaf(3.0)
    (y + y + y).sum().backward()
    assert y.grad.tolist() == [3]


@given(wiring=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99), st.sampled_from("+*m")), min_size=1,
                       max_size=12), seed=st.integers(0, 99))
def test_any_graph(wiring, seed):
    """Nodes that combine any two earlier ones, however often each is used."""
    def function(x, y):
        nodes = [x, y]
        for i, j, kind in wiring:
            a, b = nodes[i % len(nodes)], nodes[j % len(nodes)]
            nodes.append(a + b if kind == "+" else (a * b).clip(-3, 3) if kind == "*" else a - b.mean())
        return nodes[-1] + x * 0 + y * 0

    rng = np.random.default_rng(seed)
    gradcheck(function, [rng.uniform(0.4, 0.6, 3), rng.uniform(-0.6, -0.4, 3)], seed=seed, rtol=1e-4)


def test_a_chain_of_ten_thousand():
    x = leaf(1.0)
    y = x
    for _ in range(10_000):
        y = y + x
    y.sum().backward()
    assert x.grad.tolist() == [10_001]
    z = x
    for _ in range(50_000):                         # taken apart without a pass, too
        z = -z
    del z


def test_the_order_is_topological_whatever_the_order_of_building():
    x = leaf(3.0)
    early = x * 2
    late = x * early                                 # uses early, which the sum lists first
    (early + late + early).sum().backward()
    assert x.grad.tolist() == [4 + 4 * 3]


# -- where a pass begins ------------------------------------------------------------------------------------------

def test_a_pass_from_an_array_needs_a_cotangent():
    x = leaf(1.0, 2.0)
    y = x * x
    with pytest.raises(GraphError, match=r"shape \(2,\) is no scalar; give a cotangent"):
        y.backward()
    with pytest.raises(ShapeError, match=r"cotangent has shape \(3,\), the tensor \(2,\)"):
        y.backward(np.ones(3))
    assert x.grad is None
    y.backward(np.array([1.0, 10.0]))
    assert x.grad.tolist() == [2, 40]


def test_one_element_of_any_shape_is_a_scalar():
    x = leaf(3.0)
    (x * x).reshape(1, 1).backward()
    assert x.grad.tolist() == [6]


def test_the_cotangent_is_neither_kept_nor_changed():
    x, c = leaf(1.0, 2.0), np.ones(2)
    (x + 0).backward(c)
    c[:] = 7
    assert x.grad.tolist() == [1, 1]
    x.backward(c)
    x.grad[0] = 0
    assert c.tolist() == [7, 7]
    y = leaf(1.0, 2.0)
    y.backward(c)                                    # a leaf may be where the pass begins
    y.grad[0] = 0
    assert c.tolist() == [7, 7]


def test_a_pass_without_a_graph_says_so():
    with pytest.raises(GraphError, match="does not depend on anything that requires a gradient"):
        tensor([1.0]).backward()
    with no_grad():
        y = leaf(1.0) * 2
    with pytest.raises(GraphError, match="does not depend"):
        y.backward()


# -- one pass or two ----------------------------------------------------------------------------------------------

def test_a_freed_graph_is_refused_and_no_gradient_touched():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    h = x.exp()
    first, second = (h * w).sum(), (w * w).sum() + (h * h).sum()
    first.backward()
    before = x.grad.tolist(), w.grad.tolist()
    for again in (first, second):                    # the whole graph, and another that shares a part of it
        with pytest.raises(GraphError, match=r"freed by an earlier backward pass.*retain_graph=True"):
            again.backward()
        assert (x.grad.tolist(), w.grad.tolist()) == before


def test_a_retained_graph_goes_twice():
    x = leaf(2.0)
    y = (x * x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [24]
    with pytest.raises(GraphError, match="freed"):
        y.backward()


def test_intermediate_gradients_on_request():
    x = leaf(2.0)
    h = x * 3
    h.retain_grad()
    (h * h).sum().backward()
    assert h.grad.tolist() == [12]
    h.grad[0] = 0
    assert x.grad.tolist() == [36]


# -- memory -------------------------------------------------------------------------------------------------------

def kept(array):
    """A weak reference to an array's memory, by an object that lives as long."""
    class Memory(np.ndarray):
        pass
    return array.view(Memory)


def test_arrays_are_freed_as_the_pass_goes():
    alive = []

    class Keep(Function):
        def forward(self, x):
            held = kept(x + 1)
            alive.append(weakref.ref(held))
            self.save(held)
            return x * 2

        def backward(self, grad):
            done.append([ref() is None for ref in alive])
            return grad * 2

    done = []
    x = leaf(1.0)
    y = Keep()(Keep()(Keep()(x)))
    loss = y.sum()
    loss.backward()
    assert done == [[False] * 3, [False, False, True], [False, True, True]]
    assert [ref() for ref in alive] == [None] * 3    # though the loss is still here
    assert x.grad.tolist() == [8]


def test_a_result_and_its_graph_die_without_a_pass():
    gc.collect()
    gc.disable()                                     # by counting references alone: no cycles
    try:
        x = leaf(1.0, 2.0)
        h = x.exp()
        ref, node = weakref.ref(h), weakref.ref(h.grad_fn)
        y = (h * h).sum()
        del h, y
        assert ref() is None
        assert node() is None
    finally:
        gc.enable()


def test_nothing_is_kept_without_recording():
    x = leaf(1.0)
    with no_grad():
        y = x.exp()
    assert y.grad_fn is None
    assert not y.requires_grad


def test_leaf_gradients_own_their_memory():
    """None shares memory with another, with a cotangent or an operand, nor its elements with each other."""
    a, b, c, d = (leaf(1.0, 2.0, 3.0) for _ in range(4))
    e = leaf(2.0)
    cotangent = np.ones(3)
    y = a + b + ag.cat([c[:2], d[2:]]) + (a - a) + e.reshape(1)
    y.backward(cotangent)
    m = leaf(1.0, 2.0)
    m.mean().backward()
    s = tensor(np.ones((2, 2)), requires_grad=True)
    s.T.sum(0).sum().backward()
    grads = [t.grad.data for t in (a, b, c, d, e, m, s)]
    for i, one in enumerate(grads):
        assert not np.shares_memory(one, cotangent)
        for other in grads[:i]:
            assert not np.shares_memory(one, other)
    for t in (a, b, c, d, e, m, s):
        with t.grad.writing() as g:
            g[...] = 0
            g[(0,) * g.ndim] = 5
            assert g.sum() == 5


def test_a_gradient_that_is_an_operand_is_copied():
    class Swap(Function):
        def forward(self, a, b):
            self.a, self.b = a, b                    # not through save
            return np.sum(a * b)

        def backward(self, grad):
            return self.b, self.a

    a, b = leaf(1.0, 2.0), leaf(3.0, 4.0)
    Swap()(a, b).backward()
    assert not np.shares_memory(a.grad.data, b.data)
    assert not np.shares_memory(b.grad.data, a.data)
    assert a.grad.tolist() == [3, 4]


# -- types --------------------------------------------------------------------------------------------------------

class FreshTwice(Function):
    """x + y, whose gradients are new, and one array."""

    def forward(self, x, y):
        return x + y

    def backward(self, grad):
        fresh = grad.copy()
        return fresh, fresh


class Slope(Function):
    """slope · x on all of x; `slope` stays with the function, and is its gradient."""

    def __init__(self, slope):
        self.slope = slope

    def forward(self, x):
        return (x * self.slope).sum(keepdims=True)

    def backward(self, grad):
        return self.slope


@given(seed=st.integers(0, 999), retained=st.booleans())
def test_what_adds_up_changes_nothing_else(seed, retained):
    """Gradients are added in place where nobody else holds them: shuffled uses of two results, twice over."""
    rng = np.random.default_rng(seed)
    x, y = (tensor(rng.standard_normal(3), requires_grad=True) for _ in range(2))
    slope = rng.standard_normal(3)
    before = slope.copy()
    a, b = x * 1.0, y * 1.0                          # results that several operations use
    if retained:
        a.retain_grad()
        b.retain_grad()
    expected = np.zeros((2, 3))
    total = (a * 0).sum() + (b * 0).sum()
    for use in rng.integers(0, 6, 5):
        if use == 0:
            total, expected = total + FreshTwice()(a, b).sum(), expected + 1
        elif use == 1:
            total, expected = total + Slope(slope)(a).sum(), expected + np.stack([slope, 0 * slope])
        elif use == 2:
            total, expected = total + (a + b).sum(), expected + 1
        elif use == 3:
            total, expected = total + (a + a).sum(), expected + np.array([[2], [0]])
        elif use == 4:
            total, expected = total + ag.concatenate([a, b])[1:].sum(), expected + np.array([[0, 1, 1], [1, 1, 1]])
        else:
            total, expected = total + (b * slope).sum(), expected + np.stack([0 * slope, slope])
    for times in (1, 2):
        total.backward(retain_graph=True)
        np.testing.assert_allclose([x.grad.data, y.grad.data], times * expected, rtol=1e-12, atol=1e-12)
        np.testing.assert_array_equal(slope, before)
        if retained:
            np.testing.assert_allclose([a.grad.data, b.grad.data], times * expected, rtol=1e-12, atol=1e-12)


def test_single_precision_stays():
    x = leaf(1.0, 2.0, dtype=np.float32)
    y = ((x * 2 + 1.5) / 3 - x ** 2).mean() + x.max() + (x @ x) + x.sqrt().exp().log().sum()
    assert y.dtype == np.float32
    y.backward()
    assert x.grad.dtype == np.float32
    assert tensor([1.0]).dtype == np.float32
    assert tensor(np.ones(1)).dtype == np.float64


def test_mixed_precision_returns_to_each_leaf_its_own():
    x, y = leaf(1.0, dtype=np.float32), leaf(2.0)
    z = x * y + x
    assert z.dtype == np.float64
    z.sum().backward()
    assert (x.grad.dtype, y.grad.dtype) == (np.float32, np.float64)
    assert (x.grad.item(), y.grad.item()) == (3, 1)


def test_whole_numbers_flow_without_gradients():
    labels, x = tensor([0, 2]), leaf(1.0, 2.0, 3.0)
    assert labels.dtype == np.int64
    assert (labels + 1).tolist() == [1, 3]
    assert (labels == 2).tolist() == [False, True]
    assert (labels > 0).sum().item() == 1
    y = x[labels] * labels
    assert y.dtype == np.float64
    y.sum().backward()
    assert x.grad.tolist() == [0, 0, 2]
    assert not (labels * 2).requires_grad
    for make in (lambda: tensor([1, 2], requires_grad=True), lambda: labels.requires_grad_()):
        with pytest.raises(DTypeError, match="only float32 and float64"):
            make()
    with pytest.raises(DTypeError, match="complex128 is not taken; legal: float32"):
        tensor(np.ones(2, complex))


def test_results_without_axes_are_arrays_too():
    x = leaf(1.0, 2.0)
    for y in (x.sum(), x.mean(), x[0], x @ x, x.max()):
        assert y.shape == ()
        assert isinstance(y.detach().data, np.ndarray)
    t = tensor([1.0, 2.0]).sum()
    t.copy_(5.0)
    assert t.item() == 5


# -- recording ----------------------------------------------------------------------------------------------------

def test_no_grad_nests_and_restores():
    assert is_grad_enabled()
    with no_grad():
        assert not is_grad_enabled()
        with enable_grad():
            assert is_grad_enabled()
            with no_grad():
                assert not is_grad_enabled()
            assert is_grad_enabled()
        assert not is_grad_enabled()
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert is_grad_enabled()


def test_no_grad_decorates():
    @no_grad()
    def inner(x, depth=3):
        assert not is_grad_enabled()
        return inner(x, depth - 1) if depth else x * 2   # also within itself

    @enable_grad()
    def outer(x):
        return inner(x), x * 2

    with no_grad():
        silent, recorded = outer(leaf(1.0))
    assert (silent.requires_grad, recorded.requires_grad) == (False, True)
    assert is_grad_enabled()


def test_no_grad_is_of_the_thread():
    seen = {}
    with no_grad():
        thread = threading.Thread(target=lambda: seen.update(there=is_grad_enabled()))
        thread.start()
        thread.join()
        assert not is_grad_enabled()
    assert seen == {"there": True}


def test_one_decorated_function_in_two_threads():
    """Each thread comes back to its own setting, though they leave in the order they came."""
    inside, leave = threading.Barrier(2), [threading.Event(), threading.Event()]
    seen = {}

    @no_grad()
    def work(k):
        inside.wait()
        leave[k].wait()

    def run(k, enabled):
        with enable_grad() if enabled else no_grad():
            work(k)
            seen[k] = is_grad_enabled()

    threads = [threading.Thread(target=run, args=(k, enabled)) for k, enabled in enumerate((True, False))]
    for thread in threads:
        thread.start()
    for event, thread in zip(leave, threads, strict=True):
        event.set()
        thread.join()
    assert seen == {0: True, 1: False}


def test_watchers_see_every_operation():
    seen = []
    x = leaf(1.0, 2.0)
    with watching(lambda function, inputs, outputs: seen.append((repr(function), inputs, outputs))):
        y = x * 2
        with no_grad():
            z = y.sum()
    _ = z + 1
    assert [s[0] for s in seen] == ["Multiply", "Sum"]
    assert seen[0][1][0] is x
    assert seen[0][2][0] is y
    assert seen[1][2][0] is z
