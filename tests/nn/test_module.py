import copy

import numpy as np
import pytest

from tinyseg import nn
from tinyseg.autograd import Tensor, no_grad, tensor
from tinyseg.errors import ArgumentError, CheckpointError, DTypeError


class Scale(nn.Module):
    """y = factor · x + offset, with everything a module can own."""

    def __init__(self):
        self.factor = nn.Parameter(np.full(2, 3.0, np.float32))
        self.register_buffer("seen", np.zeros((), np.int64))
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1, bias=False))
        self.offset = None

    def forward(self, x):
        return self.inner(self.factor * x)


NAMES = ["factor", "seen", "inner.0.weight", "inner.0.bias", "inner.2.weight"]


def test_attributes_are_the_register():
    net = Scale()
    assert [n for n, _ in net.named_parameters()] == [n for n in NAMES if n != "seen"]
    assert [n for n, _ in net.named_buffers()] == ["seen"]
    assert [n for n, _ in net.named_children()] == ["inner"]
    assert [n for n, _ in net.named_modules()] == ["", "inner", "inner.0", "inner.1", "inner.2"]
    assert list(net.state_dict()) == NAMES
    assert list(net.state_dict("net.")) == ["net." + n for n in NAMES]
    assert net.num_parameters() == 2 + 4 + 2 + 2


def test_a_parameter_set_later_or_removed():
    net = Scale()
    net.offset = nn.Parameter(np.zeros(1, np.float32))
    assert "offset" in net.state_dict()
    net.offset = None
    assert "offset" not in net.state_dict()
    with pytest.raises(ArgumentError, match=r"Scale\.factor is a parameter"):
        net.factor = tensor([1.0, 2.0])


def test_shared_parameters_count_once():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert net.num_parameters() == 4 + 2 + 2
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "1.bias"]
    assert list(net.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    one = nn.ReLU()
    assert len(list(nn.Sequential(one, one).modules())) == 2


def test_train_and_eval_reach_every_module():
    net = Scale()
    assert all(m.training for m in net.modules())
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    assert all(m.training for m in net.train().modules())


def test_zero_grad_freeze_and_apply():
    net = Scale()
    net(Tensor(np.ones((1, 2), np.float32))).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())
    net.inner.requires_grad_(False)
    assert net.num_parameters(trainable_only=True) == 2
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen == ["Linear", "ReLU", "Linear", "Sequential", "Scale"]


def test_state_dict_is_a_snapshot():
    net = Scale()
    state = net.state_dict()
    with no_grad():
        net.factor.copy_(np.zeros(2, np.float32))
    assert state["factor"].tolist() == [3, 3]
    state["factor"][0] = 7
    net.load_state_dict(state)
    assert net.factor.tolist() == [7, 3]


def test_loading_keeps_the_parameter_and_casts():
    net = Scale()
    before = net.factor
    net.load_state_dict({k: Tensor(v.astype(np.float64) if v.dtype.kind == "f" else v)
                         for k, v in Scale().state_dict().items()})
    assert net.factor is before
    assert net.factor.dtype == np.float32
    assert net.factor.requires_grad
    assert net.factor.is_leaf


@pytest.mark.parametrize("dtype", ["float16", "float64", "int16"])
def test_numbers_of_any_type_are_cast(dtype):
    net, half = Scale(), {k: (v * 4).astype(dtype) for k, v in Scale().state_dict().items()}
    net.load_state_dict(half)
    assert net.factor.tolist() == [12, 12]
    assert net.factor.dtype == np.float32


def test_a_state_that_does_not_fit_changes_nothing():
    net, state = Scale(), Scale().state_dict()
    before = net.state_dict()
    del state["inner.0.bias"]
    state["inner.2.weight"] = np.zeros((1, 3), np.float32)
    state["foreign"] = np.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        net.load_state_dict(state)
    text = str(caught.value)
    for part in ("missing: inner.0.bias", "unexpected: foreign", "inner.2.weight: float32 (1, 3) for (1, 2)"):
        assert part in text
    with pytest.raises(CheckpointError, match=r"inner\.2\.weight"):
        net.load_state_dict(state, strict=False)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_loading_a_part():
    net = Scale()
    result = net.load_state_dict({"factor": np.ones(2), "foreign": np.ones(1)}, strict=False)
    assert result.unexpected_keys == ["foreign"]
    assert result.missing_keys == NAMES[1:]
    assert net.factor.tolist() == [1, 1]


def test_a_state_older_than_num_batches_tracked():
    net = nn.BatchNorm2d(2)
    state = net.state_dict()
    del state["num_batches_tracked"]
    net.load_state_dict(state)


def test_to_changes_floats_in_place():
    net = Scale()
    p = net.factor
    net.to("float64")
    assert net.factor is p
    assert p.dtype == np.float64
    assert net.seen.dtype == np.int64
    assert net(Tensor(np.ones((1, 2)))).dtype == np.float64
    with pytest.raises(DTypeError, match="legal: float32, float64"):
        net.to("int64")


def test_buffers_stay_tensors():
    net = Scale()
    net.seen = np.int64(4)
    assert isinstance(net.seen, Tensor)
    assert net.state_dict()["seen"] == 4


def test_hooks_see_and_replace_the_output():
    net, seen = nn.ReLU(), []
    handle = net.register_forward_hook(lambda module, inputs, output: seen.append((module, inputs[0], output)))
    x = tensor([-1.0, 1.0])
    y = net(x)
    assert seen[0][0] is net
    assert seen[0][1] is x
    assert seen[0][2] is y
    handle.remove()
    net(x)
    assert len(seen) == 1
    with net.register_forward_hook(lambda module, inputs, output: output * 2):
        assert net(x).tolist() == [0, 2]
    assert net(x).tolist() == [0, 1]


def test_deepcopy_is_independent():
    net = Scale()
    other = copy.deepcopy(net)
    with no_grad():
        other.factor.copy_(np.zeros(2, np.float32))
    assert net.factor.tolist() == [3, 3]
    assert isinstance(other.factor, nn.Parameter)


def test_parameter_shares_the_version_of_its_tensor():
    from tinyseg.errors import GraphError
    t = tensor([1.0, 2.0])
    p = nn.Parameter(t)
    y = (p * p).sum()
    t.copy_(np.zeros(2, np.float32))
    with pytest.raises(GraphError, match="changed in place"):
        y.backward()


def test_repr_is_a_tree():
    assert repr(Scale()) == ("Scale(\n  (inner): Sequential(\n    (0): Linear(2, 2)\n    (1): ReLU()\n"
                             "    (2): Linear(2, 1, bias=False)\n  )\n)")
    assert repr(nn.Conv2d(4, 8, (3, 1), stride=2, padding=1, groups=2, bias=False)) == \
        "Conv2d(4, 8, kernel_size=(3, 1), stride=2, padding=1, groups=2, bias=False)"


def test_sequential_by_name_and_by_slice():
    net = nn.Sequential({"conv": nn.Conv2d(1, 2, 1), "act": nn.ReLU()})
    assert list(net.state_dict()) == ["conv.weight", "conv.bias"]
    assert len(net) == 2
    assert isinstance(net[-1], nn.ReLU)
    assert list(net[:1].state_dict()) == ["conv.weight", "conv.bias"]
    with pytest.raises(ArgumentError, match="needs a Module"):
        net.append(np.sin)
    with pytest.raises(ArgumentError, match="cannot be named 'forward'"):
        nn.Sequential({"forward": nn.ReLU()})


def test_module_list_registers():
    class Holder(nn.Module):
        def __init__(self):
            self.parts = nn.ModuleList([nn.Linear(1, 1, bias=False)])
            self.parts.append(nn.Linear(1, 1, bias=False))

    assert list(Holder().state_dict()) == ["parts.0.weight", "parts.1.weight"]


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match=r"ModuleList\.forward"):
        nn.ModuleList()(1)
