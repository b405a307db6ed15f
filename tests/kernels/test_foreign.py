"""Somebody's file: what its function computes and how it is called are told by names; each mistake is one line."""

import subprocess
import sys

import numba
import numpy as np
import pytest

from tinyseg.arithmetic import ConvGeometry
from tinyseg.errors import ArgumentError, DataError, KernelError, TinysegError
from tinyseg.kernels import foreign
from tinyseg.kernels.foreign import SIGNATURES, ForeignKernel, ended, guess, load, reason

X, WEIGHT = np.zeros((1, 4, 6, 7)), np.zeros((6, 2, 3, 2))
GEOMETRY = ConvGeometry.convolution((6, 7), (3, 2), (1, 2), (2, 1), (2, 1), 2)
POOL = ConvGeometry.pooling((6, 7), 3, 2, 1, ceil_mode=True)


def function(parameters, name="conv", body="return dict(locals())"):
    space = {"__name__": "elsewhere"}
    exec(f"def {name}({parameters}): {body}", space)
    return space[name]


@pytest.mark.parametrize("operation", SIGNATURES)
def test_the_full_signatures_are_told_by_their_parameters(operation):
    arrays, options = SIGNATURES[operation]
    kernel = ForeignKernel.of(function(", ".join(arrays + options), "kernel"))
    assert (kernel.operation, kernel.options, kernel.style) == (operation, options, "names")
    assert guess(operation.upper()) == operation


@pytest.mark.parametrize(("name", "parameters", "operation"), [
    ("my_conv", "x w", "conv2d"), ("deconv", "x w", "conv_transpose2d"), ("transposed", "x w", "conv_transpose2d"),
    ("conv_backward", "grad weight input_shape", "conv2d_input_grad"), ("wgrad", "grad x", "conv2d_weight_grad"),
    ("conv_weight_backward", "g x", "conv2d_weight_grad"), ("bias_grad", "g", "conv2d_bias_grad"),
    ("pool", "x k", "max_pool2d"), ("pool_backward", "g i", "max_pool2d_grad"), ("mean_pool", "x k", "avg_pool2d"),
    ("averages", "x kernel_size stride", "avg_pool2d"), ("avgpool_grad", "g shape k", "avg_pool2d_grad"),
])
def test_the_operation_is_guessed_by_the_name_then_by_the_parameters(name, parameters, operation):
    assert guess(name, parameters.split()) == operation


@pytest.mark.parametrize(("parameters", "options", "style"), [
    ("x, weight", (), "names"),
    ("x, w, dilation, stride", ("dilation", "stride"), "names"),
    ("x, w, *, padding", ("padding",), "names"),
    ("x, w, padding, tile=3", ("padding",), "names"),
    ("x, w, a, b", ("stride", "padding"), "order"),
    ("x, w, padding, stride, /", ("padding", "stride"), "order"),
    ("x, w, *rest", ("stride", "padding", "dilation", "groups"), "order"),
    ("x, w, **options", ("stride", "padding", "dilation", "groups"), "names"),
    ("x, w, geometry", ("stride", "padding", "dilation", "groups"), "geometry"),
])
def test_how_options_are_taken(parameters, options, style):
    kernel = ForeignKernel.of(function(parameters))
    assert (kernel.options, kernel.style) == (options, style)
    kernel(X, WEIGHT, GEOMETRY)


def test_compiled_functions_have_signatures_too():
    kernel = ForeignKernel.of(numba.njit(function("x, weight, padding, stride", body="return x, padding, stride")))
    assert (kernel.name, kernel.options) == ("conv", ("padding", "stride"))
    assert kernel(X, WEIGHT, GEOMETRY)[1:] == ((2, 1), (1, 2))


def test_each_option_has_its_value():
    values = {"stride": (1, 2), "padding": (2, 1), "dilation": (2, 1), "groups": 2}
    for parameters in ("x, weight, groups, padding, stride, dilation", "x, weight, **rest", "x, weight, *rest",
                       "x, weight, padding, dilation, stride, groups, /"):
        got = ForeignKernel.of(function(parameters))(X, WEIGHT, GEOMETRY)
        rest = got.get("rest", {})
        got |= rest if isinstance(rest, dict) else dict(zip(values, rest, strict=True))
        assert {name: got[name] for name in values} == values
    assert ForeignKernel.of(function("x, weight, geometry"))(X, WEIGHT, GEOMETRY)["geometry"] is GEOMETRY
    grad = np.zeros((1, 6, *GEOMETRY.output_size))
    assert ForeignKernel.of(function("grad, weight, input_shape"))(grad, WEIGHT, GEOMETRY)["input_shape"] == X.shape
    assert ForeignKernel.of(function("grad, x, weight_shape"))(grad, X, GEOMETRY)["weight_shape"] == WEIGHT.shape


def test_a_rounded_up_pooling_names_the_padding_that_was_asked_for():
    assert POOL.padding == ((1, 2), (1, 1))
    got = ForeignKernel.of(function("x, kernel_size, stride, padding, ceil_mode", "pool"))(X, POOL)
    assert (got["kernel_size"], got["padding"], got["ceil_mode"]) == ((3, 3), (1, 1), True)


def test_fewer_options_are_fewer_geometries():
    kernel = ForeignKernel.of(function("x, weight, stride, padding"))
    assert kernel.refuses(ConvGeometry.convolution((6, 7), 3, 2, 1)) is None
    assert kernel.refuses(GEOMETRY) == "it takes no dilation"
    pool = ForeignKernel.of(function("x, kernel_size", "pool"))
    assert pool.refuses(ConvGeometry.pooling((6, 6), 3)) is None          # its stride is the kernel's size
    assert pool.refuses(ConvGeometry.pooling((6, 6), 3, 1)) == "it takes no stride"
    assert pool.refuses(ConvGeometry.pooling((6, 6), 3, ceil_mode=True)) == "it takes no ceil_mode"


@pytest.mark.parametrize(("parameters", "fact"), [
    ("", r"conv\(\): another signature: it takes 0 of the arrays x and weight"),
    ("x, weight, stride, speed", r"stride, speed\): another signature: it wants speed, which conv2d has not"),
    ("x, w, a, b, c, d, e", "it wants e, which conv2d has not"),
    ("grad, weight, stride", "another signature: it takes no input_shape"),
])
def test_another_signature_says_what_it_has_and_what_it_needs(parameters, fact):
    with pytest.raises(KernelError, match=fact) as caught:
        ForeignKernel.of(function(parameters))
    assert "where the last may be missing; --op names another operation." in caught.value.advice
    assert str(caught.value) == f"{caught.value.fact}. {caught.value.advice}"


@pytest.mark.parametrize(("text", "error", "message"), [
    ("def conv(:", KernelError, "my_kernel.py: does not import: SyntaxError"),
    ("def f():\n    1 / 0\nf()", KernelError,
     r"my_kernel.py: does not import: ZeroDivisionError: division by zero \(my_kernel.py, line 2: 1 / 0\)"),
    ("raise SystemExit('no')", KernelError, "does not import: SystemExit: no"),
    ("import nothing_of_that_name", KernelError, "does not import: ModuleNotFoundError: No module named 'nothing_of"),
    ("from os import fspath\ndef convolve(x, w): pass", ArgumentError, "no function 'conv'; it has convolve$"),
    ("from os import fspath", ArgumentError, "no function 'conv'; it has fspath$"),
    ("conv = 3", ArgumentError, "my_kernel.py: no function 'conv'; it has none"),
])
def test_a_bad_file_is_one_line(tmp_path, text, error, message):
    (tmp_path / "my_kernel.py").write_text(text)
    with pytest.raises(error, match=message) as caught:
        load(f"{tmp_path}/my_kernel.py:conv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("target", "error", "message"), [
    ("conv", ArgumentError, "conv: a kernel needs its function too: conv:conv2d"),
    ("none.py:conv", DataError, "none.py: no such file; name a Python file and a function in it"),
    ("nowhere.kernels:conv", DataError, "nowhere.kernels: no such module"),
    ("json:loads_", ArgumentError, "json: no function 'loads_'; it has"),
])
def test_names_that_lead_nowhere(target, error, message):
    with pytest.raises(error, match=message):
        load(target)


def test_an_unknown_operation_lists_those_that_are_known():
    with pytest.raises(ArgumentError, match="operation 'conv3d'; legal: conv2d, conv_transpose2d"):
        load("json:loads", "conv3d")


def test_modules_and_neighbours(tmp_path, monkeypatch):
    (tmp_path / "my_helpers.py").write_text("import numpy as np\ndef zeros(x): return np.zeros_like(x)\n"
                                            "class Kernels:\n    @staticmethod\n    def conv(x, weight): return x")
    (tmp_path / "my_kernel.py").write_text("from my_helpers import zeros\ndef conv(x, weight): return zeros(x)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    assert not load(f"{tmp_path}/my_kernel.py:conv")(X, WEIGHT, GEOMETRY).any()
    assert load("my_helpers:Kernels.conv").name == "Kernels.conv"
    assert load("tinyseg.kernels.cpu.loops:conv2d").style == "geometry"


def test_an_error_is_told_with_the_line_of_the_users_file_that_led_to_it(tmp_path):
    path = tmp_path / "raising.py"
    path.write_text("import json\ndef conv(x, weight):\n    return helper(x)\n"
                    "def helper(x):\n    return json.loads('{')\n")
    with pytest.raises(ValueError, match="Expecting property name") as caught:
        load(f"{path}:conv")(X, WEIGHT, GEOMETRY)
    told = reason(caught.value.with_traceback(caught.value.__traceback__.tb_next))       # without this test
    assert told.startswith("JSONDecodeError: Expecting property name")
    assert told.endswith("(raising.py, line 5: return json.loads('{'))")
    assert reason(ValueError("two\n  lines")) == "ValueError: two lines"
    assert reason(ValueError()) == "ValueError: no message"


def test_how_processes_end():
    assert ended(None, 2.0) == "did not return within 2 s"
    assert ended(-11, 2.0) == "killed its process (SIGSEGV)"
    assert ended(3, 2.0) == "killed its process (exit status 3)"


def test_it_is_light():
    code = "import sys, tinyseg.kernels.foreign; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numba", "hypothesis", "matplotlib", "rich"} & set(loaded)


def test_errors_of_kernels_are_errors_of_tinyseg_and_travel():
    import pickle
    error = KernelError("it fails", "Mend it.")
    assert isinstance(error, TinysegError)
    assert str(pickle.loads(pickle.dumps(error))) == "it fails. Mend it."
    assert foreign.signature("conv2d").arrays == ("x", "weight")
