"""Rates and decays of groups, by arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.autograd import Tensor, no_grad
from tinyseg.errors import ArgumentError
from tinyseg.nn import Parameter
from tinyseg.optim import OPTIMIZERS, SGD, AdamW, GroupRule, Poly, build, parameter_groups

DEEPLAB = [GroupRule.parse(r"\.fc8\.:lr=10"), GroupRule.parse("bias$:lr=2,decay=0")]


def net():
    """(name, parameter) of a small net, all of them 1."""
    shapes = {"conv.weight": (2, 3), "conv.bias": (2,), "norm.weight": (2,), "fov.fc8.weight": (2, 2),
              "fov.fc8.bias": (2,)}
    return {name: Parameter(np.ones(shape)) for name, shape in shapes.items()}


def factors(parameters, rules):
    return {name: (group.lr, group.decay) for group in parameter_groups(parameters.items(), rules)
            for name in group.names}


def test_deeplabs_factors():
    assert factors(net(), DEEPLAB) == {"conv.weight": (1, 1), "conv.bias": (2, 0), "norm.weight": (1, 1),
                                       "fov.fc8.weight": (10, 1), "fov.fc8.bias": (20, 0)}


def test_vectors_are_biases_and_scales():
    found = factors(net(), [GroupRule("vectors", decay=0)])
    assert {name for name, (_, decay) in found.items() if decay == 0} == {"conv.bias", "norm.weight", "fov.fc8.bias"}


def test_the_plain_rate_comes_first_and_frozen_parameters_not_at_all():
    parameters = net()
    parameters["conv.bias"].requires_grad = False
    groups = parameter_groups(parameters.items(), [*DEEPLAB, GroupRule("norm", lr=0.1)])
    assert [group.lr for group in groups] == [1, 0.1, 10, 20]
    assert "conv.bias" not in {name for group in groups for name in group.names}


@given(lr=st.floats(1e-4, 1), decay=st.floats(0, 0.1), step=st.integers(0, 9))
def test_a_step_of_sgd_by_hand(lr, decay, step):
    """p - lr · factor · poly · (g + decay · factor · p), for p = g = 1."""
    parameters = net()
    groups = parameter_groups(parameters.items(), DEEPLAB)
    optimizer = SGD([group.options(lr, decay) for group in groups], lr)
    Poly(10).set(optimizer, step)
    for p in parameters.values():
        p.grad = Tensor(np.ones(p.shape))
    optimizer.step()
    rate = lr * (1 - step / 10) ** 0.9
    for name, (faster, decays) in factors(net(), DEEPLAB).items():
        np.testing.assert_allclose(parameters[name].data, 1 - rate * faster * (1 + decay * decays), rtol=1e-12)


def test_decoupled_decay_takes_the_groups_rate():
    parameters = net()
    optimizer = AdamW([g.options(0.1, 0.5) for g in parameter_groups(parameters.items(), DEEPLAB)], 0.1)
    for p in parameters.values():
        p.grad = Tensor(np.zeros(p.shape))           # what is left is decay: p *= 1 - lr · decay
    optimizer.step()
    assert parameters["fov.fc8.weight"].data == pytest.approx(1 - 0.1 * 10 * 0.5)
    assert parameters["fov.fc8.bias"].data == pytest.approx(1)
    assert parameters["conv.weight"].data == pytest.approx(1 - 0.1 * 0.5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_groups_resume(name):
    def trained(steps, state=None):
        parameters = net()
        optimizer = build(name, [g.options(0.1, 0.01) for g in parameter_groups(parameters.items(), DEEPLAB)], 0.1)
        if state:
            with no_grad():
                for p, array in zip(parameters.values(), state[0], strict=True):
                    p[...] = array
            optimizer.load_state_dict(*state[1])
        for step in range(*steps):
            Poly(8).set(optimizer, step)
            for k, p in enumerate(parameters.values()):
                p.grad = Tensor(np.full(p.shape, 1.0 + k - step))
            optimizer.step()
        return [p.detach().numpy().copy() for p in parameters.values()], optimizer.state_dict()

    whole, parts = trained((0, 6)), trained((3, 6), trained((0, 3)))
    for a, b in zip(whole[0], parts[0], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(("text", "message"), [
    ("bias$", "PATTERN:lr=FACTOR"), (":lr=2", "PATTERN:lr=FACTOR"), ("bias:rate=2", "PATTERN:lr=FACTOR"),
    ("bias:lr=two", "PATTERN:lr=FACTOR"), ("bias:lr=-1", "finite number >= 0"), ("(bias:lr=2", "regular expression")])
def test_rules_that_cannot_be_read(text, message):
    with pytest.raises(ArgumentError, match=message):
        GroupRule.parse(text)


def test_a_rule_that_matches_nothing():
    with pytest.raises(ArgumentError, match=r"head:lr=10,decay=1: matches none of the 5 .* fov\.fc8\.bias"):
        parameter_groups(net().items(), [GroupRule("head", lr=10)])
