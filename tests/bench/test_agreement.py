"""Who disagrees with float64 is not timed; and the float64 reference is itself checked."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
from measured_layers import LAYERS

from tinyseg import precision
from tinyseg.bench import operands as room
from tinyseg.bench.candidates import Algorithm, Mine, contenders
from tinyseg.bench.harness import measure, measure_layer, places
from tinyseg.bench.layers import DIRECTIONS, Layer
from tinyseg.bench.operands import Operands, error_of, reference
from tinyseg.bench.timing import Settings
from tinyseg.bench.user import UserKernel
from tinyseg.kernels import registry
from tinyseg.kernels.cpu import im2col
from tinyseg.kernels.foreign import ForeignKernel
from tinyseg.kernels.registry import run

QUICK = Settings(rounds=3, seconds=0, warm_up=0.01)
LAYER = Layer.of(name="tiny", in_channels=4, out_channels=6, input_size=8, kernel_size=3, padding=1)


def right(x, weight, stride, padding, dilation, groups):
    return run("conv2d", x, weight, LAYER.geometry, algorithm="im2col")


def mine(function):
    return Mine(UserKernel("my.py:conv", ForeignKernel.of(function, "conv2d")))


def test_a_right_kernel_is_timed():
    results = measure_layer(LAYER, "forward", [mine(right), Algorithm("im2col"), Algorithm("loops")], QUICK)
    assert [r.status for r in results] == ["measured"] * 3
    for result in results:
        assert result.error < 1e-6
        assert len(result.samples) >= 3
        assert result.extra >= 0


def wrong(x, weight, *rest):
    return right(x, weight[:, :, ::-1].copy(), *rest)


def one_element_wrong(*arguments):
    y = right(*arguments)
    y[0, 0, 0, 0] += 0.01
    return y


def not_finite(*arguments):
    y = right(*arguments)
    y[0, 3, 2, 1] = np.nan
    return y


@pytest.mark.parametrize("kernel", [wrong, one_element_wrong, not_finite])
def test_a_wrong_kernel_is_listed_with_its_error_and_not_timed(kernel):
    bad, good = measure_layer(LAYER, "forward", [mine(kernel), Algorithm("im2col")], QUICK)
    assert bad.status == "wrong"
    assert bad.error > 1e-4
    assert not bad.samples
    assert good.status == "measured"


def test_every_candidate_has_its_own_tolerance():
    """A name may end in a precision: then the same result is right that is wrong without."""
    strict, loose = (Mine(UserKernel(name, ForeignKernel.of(one_element_wrong, "conv2d")), tolerance)
                     for name, tolerance in (("my.py:conv", 1e-12), ("my.py:conv@medium", 1e-1)))
    wrong, close = measure_layer(LAYER, "forward", [strict, loose], QUICK)
    assert (wrong.status, wrong.tolerance, wrong.precision) == ("wrong", 1e-12, "highest")
    assert (close.status, close.tolerance, close.precision) == ("measured", 1e-1, "medium")
    assert close.error == wrong.error


def changes_its_input(x, *rest):
    y = right(x, *rest)
    x += 1
    return y


@pytest.mark.parametrize(("kernel", "message"), [
    (lambda *a: right(*a)[:, :, 1:], "returns shape"),
    (lambda *a: right(*a).astype(np.float64), "returns float64; needs float32"),
    (lambda *a: None, "returns NoneType; needs a NumPy array"),
    (lambda *a: 1 / 0, "ZeroDivisionError"),
    (lambda *a: exit(3), "SystemExit"),
    (changes_its_input, "changes its input"),
])
def test_a_failing_kernel_is_listed_and_the_others_are_measured(kernel, message):
    bad, good = measure_layer(LAYER, "forward", [mine(kernel), Algorithm("im2col")], QUICK)
    assert bad.status == "failed"
    assert message in bad.reason
    assert good.status == "measured"
    assert good.error < 1e-6


def test_who_cannot_do_a_layer_refuses():
    strided = LAYER.changed(stride=2)
    result, = measure_layer(strided, "forward", [mine(lambda x, weight: x)], QUICK)
    assert (result.status, result.reason) == ("refused", "it takes no stride")
    large = Layer.of(in_channels=64, out_channels=64, input_size=64, kernel_size=3)
    assert "flops" in Algorithm("loops").refuses(large, "forward")


def test_every_built_in_algorithm_agrees_on_every_kind_of_layer():
    layers = [layer.changed(name=f"n{k}") for k, layer in enumerate(LAYERS)]
    results = list(chain.from_iterable(measure(layers, DIRECTIONS, contenders([]), QUICK)))
    assert {r.status for r in results} == {"measured", "refused"}
    dense = {c.name for c in contenders([])} - {"diagonal"}
    assert {r.candidate for r in results if r.time} == dense
    willing = places(layers, DIRECTIONS, contenders([]))
    assert willing == Counter((r.layer, r.direction) for r in results if r.status == "measured")


@pytest.mark.oracle
def test_pytorch_agrees_on_every_kind_of_layer():
    pytest.importorskip("torch")
    layers = [layer.changed(name=f"n{k}") for k, layer in enumerate(LAYERS[1::2])]
    torches = [c for c in contenders(["torch", "torch-channels-last", "torch-bf16"]) if c.name.startswith("torch")]
    results = list(chain.from_iterable(measure(layers, DIRECTIONS, torches, QUICK)))
    wrong = [r for r in results if r.status in ("wrong", "failed")]
    assert not wrong
    assert {r.candidate for r in results if r.status == "measured"} == {c.name for c in torches}


@pytest.mark.parametrize("layer", LAYERS[:5], ids=lambda layer: f"{layer.operation} {layer.text}")
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_reference_of_large_layers_is_that_of_small_ones(layer, direction, monkeypatch):
    operands = Operands(layer)
    by_definition = reference(operands, direction)
    monkeypatch.setattr(room, "LOOPS", 0)
    by_product = reference(operands, direction)      # its elements are probed on the way
    assert by_product.dtype == np.float64
    assert error_of(by_product, by_definition) < 1e-14


def test_a_wrong_reference_is_noticed(monkeypatch):
    operands = Operands(LAYER)
    monkeypatch.setattr(room, "LOOPS", 0)
    monkeypatch.setattr(room, "run", lambda *a, **k: run(*a, **k) * 1.001)
    for direction in DIRECTIONS:
        with pytest.raises(AssertionError, match="by the definition"):
            reference(operands, direction)


def test_operands_are_drawn_from_the_seed():
    assert np.array_equal(Operands(LAYER, 3).x, Operands(LAYER, 3).x)
    assert not np.array_equal(Operands(LAYER, 3).x, Operands(LAYER, 4).x)


def test_a_choice_is_measured_at_its_precision(monkeypatch):
    kept = {key: dict(kernels) for key, kernels in registry._kernels.items()}
    kept["conv2d", "cpu"] = {"loops": registry.find("conv2d", "loops")}          # which gives the reference
    monkeypatch.setattr(registry, "_kernels", kept)
    seen = []

    def coarse(x, weight, geometry):
        seen.append(precision.get_float32_matmul_precision())
        return im2col.conv2d(x, weight, geometry) * np.float32(1.002)

    registry.register("conv2d", "coarse", coarse, precision="medium")
    found, = measure_layer(LAYER, "forward", contenders([], chosen=["auto@medium"]), QUICK)
    assert (found.status, found.precision) == ("measured", "medium")
    assert set(seen) == {"medium"}
    assert precision.get_float32_matmul_precision() == "high"


def test_activations_in_lines_agree_too():
    pytest.importorskip("numba")
    from tinyseg.kernels.cpu import amx
    if not amx.available():
        pytest.skip("no matrix unit here")
    layer = Layer.of(in_channels=32, out_channels=64, input_size=(9, 20), kernel_size=3, padding=1)
    for direction in ("forward", "input_grad"):
        for result in measure_layer(layer, direction, contenders([], chosen=["lines@high", "lines@medium"]), QUICK):
            assert result.status == "measured"
            assert result.error < {"high": 3e-5, "medium": 1e-2}[result.precision]
    assert "32" in contenders([], chosen=["lines@high"])[0].refuses(LAYER, "forward")
