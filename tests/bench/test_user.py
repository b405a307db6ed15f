"""Somebody's file: its signature is told, and whatever is wrong with it is one error that names it."""

import numpy as np
import pytest

from tinyseg.bench.layers import Layer
from tinyseg.bench.trial import trial
from tinyseg.bench.user import SIGNATURES, load
from tinyseg.errors import ArgumentError, TinysegError

LAYER = Layer.of(name="tiny", in_channels=2, out_channels=4, input_size=6, kernel_size=3, padding=1)


@pytest.fixture
def kernel(tmp_path):
    def write(text):
        path = tmp_path / "my_kernel.py"
        path.write_text(text)
        return f"{path}:conv"
    return write


@pytest.mark.parametrize(("parameters", "signature", "takes"), [
    *((", ".join(names), signature, len(names)) for signature, names in SIGNATURES.items()),
    ("x, weight", "conv2d", 2),
    ("x, weight, stride=(1, 1)", "conv2d", 3),
    ("grad, weight, input_shape", "conv2d_input_grad", 3),
    ("x, w, *rest", "conv2d", 6),
])
def test_a_signature_is_told_by_its_parameters(kernel, parameters, signature, takes):
    found = load(kernel(f"def conv({parameters}): pass"))
    assert (found.signature, found.takes) == (signature, takes)
    assert found.name == "my_kernel.py:conv"         # a report holds no paths


def test_numba_functions_and_given_signatures(kernel):
    found = load(kernel("import numba\n@numba.njit\ndef conv(x, weight, stride, padding): return x"))
    assert (found.signature, found.takes) == ("conv2d", 4)
    found = load(kernel("def conv(x, weight, stride): pass"), "conv_transpose2d")
    assert (found.operation, found.direction) == ("conv_transpose2d", "forward")


def test_the_arguments_are_numbers_and_pairs(kernel):
    found = load(kernel("def conv(grad, weight, input_shape, stride, padding): pass"))
    assert found.arguments(LAYER, ("g", "w")) == ("g", "w", (1, 2, 6, 6), (1, 1), (1, 1))
    assert found.refuses(LAYER, "input_grad") is None
    assert found.refuses(LAYER, "forward") == "it is a conv2d_input_grad"
    assert found.refuses(LAYER.changed(groups=2), "input_grad") == "it takes no groups"


@pytest.mark.parametrize(("text", "message"), [
    ("def conv(:", "my_kernel.py: does not import: SyntaxError"),
    ("1 / 0", r"does not import: ZeroDivisionError: division by zero \(line 1 of my_kernel.py\)"),
    ("raise SystemExit('no')", "does not import: SystemExit: no"),
    ("def convolve(x, weight): pass", "no function 'conv'; it has convolve"),
    ("conv = 3", "no function 'conv'; it has none"),
    ("def conv(): pass", r"no known signature; needs conv2d\(x, weight, stride, padding, dilation, groups\)"),
    ("def conv(x, weight, padding, stride): pass", "another signature; needs conv2d"),
    ("def conv(x, weight, stride, padding, dilation, groups, bias): pass", "another signature; needs conv2d"),
])
def test_a_bad_file_is_one_error(kernel, text, message):
    target = kernel(text)
    for attempt in (lambda: load(target), lambda: trial(target, None, [LAYER], 30)):
        with pytest.raises(TinysegError, match=message) as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_names_that_are_no_target(tmp_path):
    with pytest.raises(ArgumentError, match=r"needs FILE\.py:FUNCTION"):
        load("conv")
    with pytest.raises(TinysegError, match="no such file"):
        load(f"{tmp_path}/none.py:conv")
    path = tmp_path / "a.py"
    path.write_text("def conv(x, weight): pass")
    with pytest.raises(ArgumentError, match="--op 'conv3d'; legal: conv2d"):
        load(f"{path}:conv", "conv3d")


def test_a_trial_survives_what_the_kernel_does(kernel):
    """By size: 6 is right, 7 raises, 8 kills the process, 9 never returns, 10 is right again."""
    target = kernel("import os, signal, time\nprint('hello')\ndef conv(x, weight, stride, padding):\n"
                    "    size = x.shape[2]\n"
                    "    if size == 7: raise ValueError('odd')\n"
                    "    if size == 8: os.kill(os.getpid(), signal.SIGSEGV)\n"
                    "    if size == 9: time.sleep(60)\n"
                    "    print('called')\n    return x")
    layers = [LAYER.changed(name=f"size {n}", input_size=n) for n in (6, 7, 8, 9, 10)]
    verdicts = trial(target, None, layers, 1.5)
    assert set(verdicts) == {("size 7", "forward"), ("size 8", "forward"), ("size 9", "forward")}
    assert verdicts["size 7", "forward"].startswith("ValueError: odd (line 5 of my_kernel.py)")
    assert verdicts["size 8", "forward"] == "it killed its process (SIGSEGV)"
    assert verdicts["size 9", "forward"].startswith("it did not return within 1.5 s")


def test_an_import_that_kills_the_process_or_never_ends(kernel):
    with pytest.raises(TinysegError, match="importing it killed its process"):
        trial(kernel("import os\nos._exit(7)"), None, [LAYER], 30)
    with pytest.raises(TinysegError, match="importing it did not return within 1 s"):
        trial(kernel("while True: pass"), None, [LAYER], 1)


def test_a_kernel_may_import_its_neighbours(kernel, tmp_path):
    (tmp_path / "my_helpers.py").write_text("import numpy as np\ndef zeros(x): return np.zeros_like(x)")
    found = load(kernel("from my_helpers import zeros\ndef conv(x, weight): return zeros(x)"))
    assert not found.function(np.ones(3), None).any()
