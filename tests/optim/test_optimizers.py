import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg import optim
from tinyseg.autograd import Tensor, tensor
from tinyseg.errors import ArgumentError, CheckpointError, GraphError, ShapeError, TinysegError
from tinyseg.nn import Parameter

OPTIMIZERS = {
    "sgd": (optim.SGD, {"lr": 0.1}),
    "momentum": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}),
    "nesterov": (optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": (optim.Adam, {"weight_decay": 0.1}),
    "adamw": (optim.AdamW, {"betas": (0.8, 0.95)}),
    "rmsprop": (optim.RMSprop, {"momentum": 0.9, "centered": True}),
}
every = pytest.mark.parametrize(("make", "options"), OPTIMIZERS.values(), ids=OPTIMIZERS)


def parameters(seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    return [Parameter(rng.standard_normal(shape).astype(dtype)) for shape in ((3, 4), (5,), ())]


def steps(optimizer, params, first, last):
    for n in range(first, last):
        for k, p in enumerate(params):
            p.grad = Tensor(np.random.default_rng([n, k]).standard_normal(p.shape).astype(p.dtype))
        optimizer.step()


def values(params):
    return [p.detach().data.copy() for p in params]


@every
def test_finds_the_bottom_of_a_bowl(make, options):
    p = Parameter(np.array([1.5, 0.2]))
    optimizer = make([p], **{**options, "weight_decay": 0.0})
    for _ in range(2000):
        optimizer.zero_grad()
        ((p - 1) * (p - 1)).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(p.detach().data, 1, atol=0.1)


@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_resumes_to_the_bit(make, options, dtype):
    straight = parameters(dtype=dtype)
    optimizer = make(straight, **options)
    steps(optimizer, straight, 0, 4)
    kept, (arrays, settings) = values(straight), optimizer.state_dict()
    steps(optimizer, straight, 4, 9)

    resumed = [Parameter(v) for v in kept]
    other = make(resumed, lr=123.0)
    other.load_state_dict({k: v.copy() for k, v in arrays.items()}, json.loads(json.dumps(settings)))
    steps(other, resumed, 4, 9)
    for a, b in zip(values(straight), values(resumed), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.dtype == dtype


@every
def test_large_and_oddly_laid_out_parameters(make, options):
    """Pieces, whole arrays and transposed memory give the same bits."""
    rng = np.random.default_rng(0)
    start, grads = rng.standard_normal((130, 301)), [rng.standard_normal((130, 301)) for _ in range(3)]
    results = []
    for lay in (np.ascontiguousarray, np.asfortranarray):
        for lay_grad in (np.ascontiguousarray, np.asfortranarray):
            p = Parameter(lay(start).copy(order="K"))
            optimizer = make([p], **options)
            for g in grads:
                p.grad = Tensor(lay_grad(g))
                optimizer.step()
            results.append(p.detach().data)
    rows = [Parameter(row.copy()) for row in start]
    optimizer = make(rows, **options)
    for g in grads:
        for row, part in zip(rows, g, strict=True):
            row.grad = Tensor(part.copy())
        optimizer.step()
    results.append(np.stack(values(rows)))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])


@every
@pytest.mark.parametrize("size", [1, 15, 16, 17, 40_003])
def test_vectors_and_numbers_agree(make, options, size):
    """float32 goes through vectors, float64 through numbers."""
    start = np.random.default_rng(0).standard_normal(size)
    results = []
    for dtype in (np.float32, np.float64):
        p = Parameter(start.astype(dtype))
        steps(make([p], **options), [p], 0, 3)
        results.append(p.detach().data)
    np.testing.assert_allclose(*results, rtol=2e-5, atol=2e-6)


def test_a_step_changes_neither_gradient_nor_identity():
    for make, options in OPTIMIZERS.values():
        p = Parameter(np.ones(3))
        memory = p.detach().data.ctypes.data
        p.grad = Tensor(np.arange(3.0))
        make([p], **options).step()
        assert p.grad.tolist() == [0, 1, 2]
        assert p.detach().data.ctypes.data == memory
        assert p.is_leaf


def test_parameters_without_gradient_stay():
    a, b = Parameter(np.ones(1)), Parameter(np.ones(1))
    optimizer = optim.SGD([a, b], lr=0.1, momentum=0.9, weight_decay=0.5)
    a.grad = Tensor(np.ones(1))
    optimizer.step()
    assert a.tolist() == [0.85]
    assert b.tolist() == [1]
    assert optimizer.state_dict()[1]["steps"] == [1, 0]


def test_groups_have_their_own_options():
    a, b = Parameter(np.ones(1)), Parameter(np.ones(1))
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 1.0, "weight_decay": 0.5}], lr=0.1)
    for p in (a, b):
        p.grad = Tensor(np.ones(1))
    optimizer.step()
    assert a.tolist() == [0.9]
    assert b.tolist() == [-0.5]
    optim.Poly(total=2, power=1).set(optimizer, 1)
    assert [g["lr"] for g in optimizer.param_groups] == [0.05, 0.5]


def test_a_change_after_the_forward_pass_is_found_out():
    p = Parameter(np.ones(2))
    optimizer = optim.SGD([p], lr=0.1)
    (p * p).sum().backward()
    pending = (p * p).sum()
    optimizer.step()
    with pytest.raises(GraphError, match="changed in place"):
        pending.backward()


@pytest.mark.parametrize(("make", "options", "text"), [
    (optim.SGD, {"lr": -1}, "lr -1; needs a finite number >= 0"),
    (optim.SGD, {"lr": float("nan")}, "lr nan"),
    (optim.SGD, {"lr": "fast"}, "lr 'fast'"),
    (optim.SGD, {"momentum": -0.1}, "momentum -0.1"),
    (optim.SGD, {"weight_decay": -0.1}, "weight_decay -0.1"),
    (optim.SGD, {"nesterov": True}, "nesterov with momentum 0.0"),
    (optim.SGD, {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "needs momentum > 0 and dampening 0"),
    (optim.Adam, {"betas": (0.9, 1.0)}, "betas .*0 <= beta < 1"),
    (optim.Adam, {"eps": -1e-8}, "eps"),
    (optim.RMSprop, {"alpha": 1.5}, "alpha 1.5; needs 0 <= value < 1"),
    (optim.RMSprop, {"centered": 1}, "centered 1; needs True or False"),
])
def test_values_that_make_no_sense(make, options, text):
    with pytest.raises(ArgumentError, match=text):
        make(parameters(), **options)
    with pytest.raises(ArgumentError, match=text):
        make([{"params": parameters(), **options}])


def test_parameters_that_make_no_sense():
    p = Parameter(np.ones(2))
    with pytest.raises(ArgumentError, match="no parameters"):
        optim.SGD([])
    with pytest.raises(ArgumentError, match="given twice"):
        optim.SGD([{"params": [p]}, {"params": [p]}])
    with pytest.raises(ArgumentError, match="is a float"):
        optim.SGD([1.0])
    with pytest.raises(GraphError, match="result of Multiply"):
        optim.SGD([p * 2])
    with pytest.raises(ArgumentError, match="no option 'momentun'"):
        optim.SGD([{"params": [p], "momentun": 0.9}])
    p.grad = Tensor(np.ones(3))
    with pytest.raises(ShapeError, match="gradient"):
        optim.SGD([p]).step()


def test_a_state_of_something_else_changes_nothing():
    params = parameters()
    optimizer = optim.Adam(params)
    steps(optimizer, params, 0, 2)
    before = optimizer.state_dict()
    arrays, settings = before
    sgd, fewer = optim.SGD(parameters(), momentum=0.9), parameters()[:2]
    steps(sgd, sgd.param_groups[0]["params"], 0, 1)
    for other in (sgd.state_dict(), optim.Adam(fewer).state_dict(),
                  ({**arrays, "0/mean": np.zeros(2)}, settings), ({**arrays, "7/mean": np.zeros(2)}, settings),
                  ({**arrays, "mean": np.zeros(2)}, settings), (arrays, {**settings, "steps": [2]})):
        with pytest.raises(CheckpointError, match="load_state_dict"):
            optimizer.load_state_dict(*other)
    after = optimizer.state_dict()
    assert after[1] == settings
    assert all(np.array_equal(after[0][k], v) for k, v in arrays.items())


@given(norm=st.floats(0.01, 100), seed=st.integers(0, 99))
def test_clipping_limits_the_norm_and_keeps_the_direction(norm, seed):
    params = parameters()
    steps_without = [np.random.default_rng([seed, k]).standard_normal(p.shape) for k, p in enumerate(params)]
    for p, g in zip(params, steps_without, strict=True):
        p.grad = Tensor(np.array(g))
    before = optim.clip_grad_norm_(params, norm)
    flat = np.concatenate([np.ravel(g) for g in steps_without])
    clipped = np.concatenate([np.ravel(p.grad.data) for p in params])
    assert before == pytest.approx(np.linalg.norm(flat))
    assert np.linalg.norm(clipped) <= norm * (1 + 1e-9)
    np.testing.assert_allclose(clipped * np.linalg.norm(flat), flat * np.linalg.norm(clipped), atol=1e-9)
    if before < norm - 1e-5:
        np.testing.assert_array_equal(clipped, flat)


def test_clipping_real_gradients():
    """Those of a mean are broadcast by nature, and must be owned by the time they are clipped."""
    p = tensor(np.ones((2, 3)), requires_grad=True)
    p.mean().backward()
    optim.clip_grad_norm_(p, 0.1)
    np.testing.assert_allclose(p.grad.data, 0.1 / np.sqrt(6), rtol=1e-4)


def test_clipping_what_is_not_finite():
    p = Parameter(np.ones(2))
    p.grad = Tensor(np.array([np.inf, 1.0]))
    assert optim.clip_grad_norm_([p], 1.0) == np.inf
    assert p.grad.tolist() == [np.inf, 1]
    with pytest.raises(ArgumentError, match="max_norm 0"):
        optim.clip_grad_norm_([p], 0)


def test_float32_sums_do_not_overflow():
    p = Parameter(np.zeros(4, np.float32))
    p.grad = Tensor(np.full(4, 1e30, np.float32))
    assert optim.clip_grad_norm_(p, 1.0) == pytest.approx(2e30)


def test_by_name():
    for name in optim.OPTIMIZERS:
        assert type(optim.build(name, parameters(), 0.1)).__name__.lower() == name
    assert optim.build("adam", parameters(), 0.1, 0.8).param_groups[0]["betas"] == (0.8, 0.999)
    with pytest.raises(TinysegError, match="legal: sgd, adam, adamw, rmsprop"):
        optim.build("lion", parameters(), 0.1)
