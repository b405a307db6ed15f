"""Somebody's kernel among the candidates: what it is measured on, and a trial that survives it."""

import pytest

from tinyseg.bench.layers import Layer
from tinyseg.bench.operands import Operands
from tinyseg.bench.trial import trial
from tinyseg.bench.user import load
from tinyseg.errors import ArgumentError, KernelError, TinysegError

LAYER = Layer.of(name="tiny", in_channels=2, out_channels=4, input_size=6, kernel_size=3, padding=1)


@pytest.fixture
def kernel(tmp_path):
    def write(text):
        path = tmp_path / "my_kernel.py"
        path.write_text(text)
        return f"{path}:conv"
    return write


@pytest.mark.parametrize(("parameters", "operation", "direction"), [
    ("x, weight, stride", "conv2d", "forward"), ("grad, weight, input_shape", "conv2d", "input_grad"),
    ("grad, x, weight_shape", "conv2d", "weight_grad"), ("x, weight, output_padding", "conv_transpose2d", "forward"),
    ("x, kernel_size", "max_pool2d", "forward"), ("x, kernel_size, count_include_pad", "avg_pool2d", "forward"),
    ("grad, indices, input_shape", "max_pool2d", "input_grad"),
])
def test_what_it_is_measured_on(kernel, parameters, operation, direction):
    found = load(kernel(f"def conv({parameters}): pass"))
    assert (found.operation, found.direction) == (operation, direction)
    assert found.name == "my_kernel.py:conv"         # a report holds no paths


def test_the_call_has_the_layers_numbers(kernel):
    found = load(kernel("def conv(grad, weight, input_shape, stride, padding): return input_shape, stride, padding"))
    assert found.bound(LAYER, Operands(LAYER).of("input_grad"))() == ((1, 2, 6, 6), (1, 1), (1, 1))
    assert found.refuses(LAYER, "input_grad") is None
    assert found.refuses(LAYER, "forward") == "it is a conv2d_input_grad"
    assert found.refuses(LAYER.changed(groups=2), "input_grad") == "it takes no groups"


def test_what_no_layer_measures_is_refused(kernel):
    with pytest.raises(ArgumentError, match="is a conv2d_bias_grad, which no layer measures; legal: conv2d, "):
        load(kernel("def conv(grad): pass"))


@pytest.mark.parametrize(("text", "message"), [
    ("1 / 0", "does not import: ZeroDivisionError"), ("def convolve(x, weight): pass", "no function 'conv'"),
    ("def conv(x, weight, stride, bias): pass", "another signature"),
])
def test_a_trial_says_what_loading_says(kernel, text, message):
    target, errors = kernel(text), []
    for attempt in (lambda: load(target), lambda: trial(target, None, [LAYER], 30)):
        with pytest.raises(TinysegError, match=message) as caught:
            attempt()
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]


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
    assert verdicts["size 7", "forward"].startswith("ValueError: odd (my_kernel.py, line 5: if")
    assert verdicts["size 8", "forward"] == "it killed its process (SIGSEGV)"
    assert verdicts["size 9", "forward"].startswith("it did not return within 1.5 s")


def test_an_import_that_kills_the_process_or_never_ends(kernel):
    with pytest.raises(KernelError, match="importing it killed its process"):
        trial(kernel("import os\nos._exit(7)"), None, [LAYER], 30)
    with pytest.raises(KernelError, match="importing it did not return within 1 s"):
        trial(kernel("while True: pass"), None, [LAYER], 1)
