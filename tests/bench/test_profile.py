"""Where the time goes: everything is counted once, under its right name, and nothing is changed afterwards."""

import json
import threading
import time

import numpy as np
import pytest

import tinyseg.functional as F
from tinyseg import nn, optim
from tinyseg.autograd import Function, Tensor, no_grad
from tinyseg.bench.net import Size
from tinyseg.bench.profile import Clock, Work, compare_with_torch, profile, profile_net, recording, write
from tinyseg.kernels import registry
from tinyseg.optim import Optimizer

DOORS = [(registry, "find"), (Function, "__call__"), (Tensor, "backward"), (Optimizer, "step")]


@pytest.fixture
def step():
    """One step of a net with a convolution, a pooling, an up-sampling and two normalisations."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
                        nn.Conv2d(4, 6, 3, padding=1, stride=2), nn.BatchNorm2d(6),
                        nn.ConvTranspose2d(6, 2, 4, stride=4, output_padding=1))
    optimizer = optim.SGD(list(net.parameters()), lr=0.1)
    rng = np.random.default_rng(0)
    images = Tensor(rng.standard_normal((2, 3, 8, 8), np.float32))
    masks = Tensor(rng.integers(0, 2, (2, 9, 9)))

    def call():
        optimizer.zero_grad()
        F.cross_entropy(net(images), masks).backward()
        optimizer.step()
    return call


def test_every_part_of_a_step_has_its_name_and_direction(step):
    found = profile(step, rounds=1)
    kernels = {(e.work.name, e.work.direction, e.work.what): e for e in found.entries if e.work.layer}
    first, second, up = "3x3, 3->4, 8x8, batch 2", "3x3 s2, 4->6, 4x4, batch 2", "4x4 s4, 6->2, 2x2, batch 2"
    assert {("conv2d", "forward", first), ("conv2d_weight_grad", "weight_grad", first),
            ("conv2d", "forward", second), ("conv2d_input_grad", "input_grad", second),
            ("conv2d_weight_grad", "weight_grad", second),
            # transposed convolution exchanges the two
            ("conv2d_input_grad", "forward", up), ("conv2d", "input_grad", up),
            ("conv2d_weight_grad", "weight_grad", up),
            ("max_pool2d", "forward", "2x2 s2, 4, 8x8, batch 2"),
            ("max_pool2d_grad", "input_grad", "2x2 s2, 4, 8x8, batch 2")} == set(kernels)
    assert all(e.calls == 1 and e.work.algorithm in registry.algorithms(e.work.name) for e in kernels.values())
    assert kernels["conv2d", "input_grad", up].work.layer.output_padding == (1, 1)
    assert {("normalisation", "forward"), ("normalisation", "backward"), ("elementwise", "forward"),
            ("loss", "forward"), ("loss", "backward"), ("optimizer", ""), ("autograd", "backward"),
            ("the rest", "")} <= set(found.by_kind())


def test_every_moment_is_counted_once(step):
    step()
    began = time.perf_counter()
    with recording() as clock:
        step()
    spent = time.perf_counter() - began
    counted = sum(seconds for seconds, _ in clock.totals.values())
    assert 0 < counted < spent
    found = profile(step, rounds=3)
    assert sum(e.seconds for e in found.entries) == pytest.approx(found.seconds)
    assert sum(found.by_kind().values()) == pytest.approx(found.seconds)
    assert [e.seconds for e in found.entries] == sorted((e.seconds for e in found.entries), reverse=True)


def test_a_call_inside_another_is_not_counted_twice():
    clock = Clock()
    inner = clock.timed(lambda: Work("", "inner"), lambda: time.sleep(0.05))
    outer = clock.timed(lambda: Work("", "outer"), lambda: (time.sleep(0.01), inner(), inner()))
    outer()
    seconds = {work.name: (seconds, calls) for work, (seconds, calls) in clock.totals.items()}
    assert seconds["inner"][1] == 2
    assert seconds["inner"][0] >= 0.1
    assert 0.01 <= seconds["outer"][0] < 0.1


def test_the_doors_are_as_they_were(step):
    before = [vars(owner)[name] for owner, name in DOORS]

    def fails():
        assert all(vars(owner)[name] is not door for (owner, name), door in zip(DOORS, before, strict=True))
        step()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), recording():
        fails()
    assert all(vars(owner)[name] is door for (owner, name), door in zip(DOORS, before, strict=True))


def test_what_fails_is_counted_too_and_the_rest_goes_on():
    x, weight = np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3), np.float32)
    with recording() as clock:
        with pytest.raises(ValueError, match="algorithm"):
            F.conv2d(x, weight, algorithm="none")
        F.conv2d(x, weight)
        assert not clock.open
    assert sum(calls for work, (_, calls) in clock.totals.items() if work.name == "Conv2d") == 2


def test_other_threads_are_left_alone(step):
    with recording() as clock, no_grad():
        thread = threading.Thread(target=step)
        thread.start()
        thread.join()
    assert not clock.totals


def test_a_profile_survives_as_json(tmp_path):
    found = profile_net(Size(2, 16, 2))
    assert [p.title.rpartition(" · ")[2] for p in found] == ["inference", "training step"]
    write(found, tmp_path / "profile.json")
    read = json.loads((tmp_path / "profile.json").read_text())
    assert read[1]["entries"][0]["seconds"] == found[1].entries[0].seconds
    assert {e["work"]["direction"] for e in read[0]["entries"]} <= {"forward", ""}


@pytest.mark.oracle
def test_pytorch_stands_beside_its_layers(step):
    pytest.importorskip("torch")
    found = profile(step, rounds=1)
    compare_with_torch(found)
    assert all((e.torch is not None) == (e.work.layer is not None) for e in found.entries)
    worst = found.worst
    assert worst is None or worst.lost == max(e.lost for e in found.entries)
