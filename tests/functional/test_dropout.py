import json

import numpy as np
import pytest

import tinyseg.functional as F
from tinyseg.autograd import tensor
from tinyseg.errors import ArgumentError, ShapeError

BOTH = pytest.mark.parametrize("function", [F.dropout, F.dropout2d], ids=lambda f: f.__name__)


@BOTH
def test_nothing_happens_when_not_training_or_not_dropping(function):
    x = tensor(np.ones((2, 3, 4, 4)))
    assert function(x, 0.5, training=False) is x
    assert function(x, 0.0) is x


@BOTH
def test_all_is_dropped_at_one(function):
    x = tensor(np.ones((2, 3, 4, 4)), requires_grad=True)
    y = function(x, 1.0)
    y.sum().backward()
    assert not y.detach().numpy().any()
    assert not x.grad.numpy().any()


@pytest.mark.parametrize("p", [0.1, 0.5, 0.75])
def test_survivors_are_scaled_so_that_the_mean_stays(p):
    F.manual_seed(0)
    x = tensor(np.full((4, 8, 50, 50), 2.0), requires_grad=True)
    y = F.dropout(x, p)
    values = y.detach().numpy()
    assert set(np.unique(values)) == {0.0, 2 / (1 - p)}
    deviation = 2 * np.sqrt(p / (1 - p) / values.size)
    assert abs(values.mean() - 2) < 5 * deviation
    y.backward(np.ones(x.shape))
    np.testing.assert_allclose(x.grad.numpy(), values / 2)       # the derivative is the same mask


def test_whole_channels_are_dropped():
    F.manual_seed(0)
    y = F.dropout2d(np.ones((8, 16, 5, 5)), 0.5).numpy().reshape(8 * 16, -1)
    assert (y == y[:, :1]).all()
    assert 0 < np.count_nonzero(y[:, 0]) < len(y)


def test_the_same_seed_gives_the_same_mask():
    x = np.ones((3, 7))
    F.manual_seed(5)
    first = [F.dropout(x).tolist() for _ in range(3)]
    F.manual_seed(5)
    assert [F.dropout(x).tolist() for _ in range(3)] == first
    F.manual_seed(6)
    assert [F.dropout(x).tolist() for _ in range(3)] != first


def test_the_state_survives_json():
    F.manual_seed(1)
    F.dropout(np.ones(3, np.float32))                # an odd number: half of a 64-bit word waits in the generator
    kept = json.dumps(F.get_rng_state())
    expected = F.dropout(np.ones(1001, np.float32)).tolist()
    F.dropout(np.ones(10))
    F.set_rng_state(json.loads(kept))
    assert F.dropout(np.ones(1001, np.float32)).tolist() == expected


@BOTH
@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(function, p):
    with pytest.raises(ArgumentError, match=f"{function.__name__}: p {p}; needs 0 <= p <= 1"):
        function(np.ones((1, 2)), p)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match=r"dropout2d: input of shape \(3,\)"):
        F.dropout2d(np.ones(3))
    with pytest.raises(ArgumentError, match="manual_seed: -1; needs a whole number >= 0"):
        F.manual_seed(-1)
    for broken in ({}, {"bit_generator": "MT19937"}, None):
        with pytest.raises(ArgumentError, match=r"set_rng_state: not a state from get_rng_state\(\)"):
            F.set_rng_state(broken)
