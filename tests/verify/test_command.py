"""`tinyseg verify` as somebody uses it: wrong kernels of every kind, in files of their own."""

import json
import subprocess
import sys

import numpy as np
import pytest

KERNELS = '''
import ctypes, os, time
import numpy as np
from numba import njit


@njit
def body(x, w, s, p, d, y, start):
    for n in range(y.shape[0]):
        for o in range(y.shape[1]):
            for i in range(y.shape[2]):
                for j in range(y.shape[3]):
                    total = 0.0
                    for c in range(x.shape[1]):
                        for u in range(w.shape[2]):
                            for v in range(w.shape[3]):
                                h, q = i * s[0] - p[0] + u * d[0], j * s[1] - p[1] + v * d[1]
                                if start <= h < x.shape[2] and 0 <= q < x.shape[3]:
                                    total += x[n, c, h, q] * w[o, c, u, v]
                    y[n, o, i, j] = total


def right(x, weight, stride, padding, dilation, start=0):
    size = [(i + 2 * p - d * (k - 1) - 1) // s + 1
            for i, k, s, p, d in zip(x.shape[2:], weight.shape[2:], stride, padding, dilation)]
    y = np.empty((len(x), len(weight), *size), x.dtype)
    body(x, weight, stride, padding, dilation, y, start)
    return y


def wrong(x, weight, stride=(1, 1), padding=(0, 0)):
    return right(x, weight, stride, padding, (1, 1), start=padding[0])


def by_position(x, weight, s, p, d):
    return right(x, weight, s, p, d)


def dies(x, weight, stride):
    if stride[1] > 1:
        ctypes.string_at(0)
    return right(x, weight, stride, (0, 0), (1, 1))


def leaves(x, weight):
    os._exit(3) if x.shape[1] > 1 else None
    return right(x, weight, (1, 1), (0, 0), (1, 1))


def hangs(x, weight):
    while x.shape[0] > 1:
        pass
    return right(x, weight, (1, 1), (0, 0), (1, 1))


def nothing(x, weight):
    pass


def raises(x, weight, stride):
    np.zeros(2)[stride[0]]
    return right(x, weight, stride, (0, 0), (1, 1))


def never(x, weight, stride):
    raise ValueError(f"not of size {x.shape}")


def foreign(x, weight, stride, speed):
    pass


def transposed_input_grad(grad, weight, input_shape, stride, padding, dilation):
    dx = np.zeros(input_shape, grad.dtype)
    for n, o, p, q in np.ndindex(grad.shape):
        for c, u, v in np.ndindex(weight.shape[1:]):
            h, w = p * stride[0] - padding[0] + u * dilation[0], q * stride[1] - padding[1] + v * dilation[1]
            if 0 <= h < dx.shape[2] and 0 <= w < dx.shape[3]:
                dx[n, c, h, w] += grad[n, o, p, q] * weight[o, c, v % weight.shape[2], v]     # wrong: u, v
    return dx


def prints(x, weight):
    print("x" * 10000)
    return right(x, weight, (1, 1), (0, 0), (1, 1))
'''


@pytest.fixture
def verify(tmp_path):
    (tmp_path / "kernels_of_mine.py").write_text(KERNELS)
    (tmp_path / "broken.py").write_text("import nothing_of_that_name\n")

    def call(*arguments, status):
        done = subprocess.run([sys.executable, "-c", "from tinyseg.cli import main; main()", "verify",
                               *map(str, arguments)], cwd=tmp_path, capture_output=True, text=True, timeout=200)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        return " ".join(done.stdout.split()) if "--json" not in arguments else json.loads(done.stdout)
    call.folder = tmp_path
    return call


QUICK = ("--seconds", 2, "--only", "definition,output size")


def test_a_right_kernel_holds(verify):
    out = verify("kernels_of_mine.py:right", "--seconds", 6, status=0)
    assert "right as conv2d with stride, padding, dilation" in out
    assert "All 18 properties hold" in out


def test_other_names_for_options_are_taken_in_order_and_prints_stay_away(verify):
    assert verify("kernels_of_mine.py:by_position", *QUICK, "--json", status=0)["holds"]
    assert verify("kernels_of_mine.py:prints", *QUICK, "--json", status=0)["holds"]


def test_the_smallest_failing_geometry_is_shown_and_its_reproduction_reproduces(verify):
    found = verify("kernels_of_mine.py:wrong", *QUICK, "--json", status=1)
    failing = next(p for p in found["properties"] if p["failed"])
    assert failing["geometry"] == "input 1x1, kernel 1x1, padding 1x0"
    assert failing["numbers"] == "y[0, 0, 1, 0] = 1·1 = 1; got 0"
    done = subprocess.run([sys.executable, "-c", failing["reproduce"]], cwd=verify.folder, capture_output=True,
                          text=True, check=True)
    got, expected = done.stdout.removeprefix("got\n").split("expected\n")
    assert "1." in expected
    assert got != expected
    case = verify("kernels_of_mine.py:wrong", "--seconds", 20, "--only", "padding", "--json", status=1)["properties"][0]
    again = subprocess.run([sys.executable, "-c", case["reproduce"]], cwd=verify.folder, capture_output=True, text=True)
    assert "Violation: f(x, p) = f(padded x, 0)" in again.stderr
    text = verify("kernels_of_mine.py:wrong", *QUICK, status=1)
    assert "[0]" in text                             # a wrong cell is marked without colour too


@pytest.mark.parametrize(("kernel", "words", "geometry"), [
    ("dies", "it killed its process (SIGSEGV) (kernels_of_mine.py, line", "stride 1x2"),
    ("leaves", "it killed its process (exit status 3)", "2 channels, input 1x1, kernel 1x1"),
    ("hangs", "it did not return within 2 s", "2 images of 1 channels, input 1x1, kernel 1x1"),
    ("nothing", "the result is None, no array", "input 1x1, kernel 1x1"),
    ("raises", "IndexError: index", "stride 2x1"),
])
def test_whatever_a_kernel_does_is_a_finding(verify, kernel, words, geometry):
    out = verify(f"kernels_of_mine.py:{kernel}", "--seconds", 16, "--only", "definition", "--call-limit", 2, status=1)
    assert words in out
    assert geometry in out


def test_an_exception_on_every_geometry_is_said_once(verify):
    out = verify("kernels_of_mine.py:never", "--seconds", 4, status=1)
    assert out.count("ValueError: not of size (1, 1, 1, 1) (kernels_of_mine.py, line") == 1
    assert out.count("not reached") == 15
    assert "1 of 16 properties fails, 15 for the same reason" in out
    found = verify("kernels_of_mine.py:never", "--seconds", 4, "--json", status=1)["properties"]
    assert all(p["failed"] and "ValueError: not of size" in p["numbers"] and p["reproduce"] for p in found)
    assert sum(p["reached"] for p in found) == 1


def test_gradients_are_verified_as_adjoints(verify):
    found = verify("kernels_of_mine.py:right", "--seconds", 4, "--only", "adjoint,definition", "--json", "--backward",
                   "input_grad=kernels_of_mine.py:transposed_input_grad", status=1)
    failed = {(p["kernel"], p["property"]) for p in found["properties"] if p["failed"]}
    assert ("right", "adjoint") in failed
    assert ("transposed_input_grad", "definition") in failed
    assert ("right", "definition") not in failed


def test_what_cannot_be_called_says_what_it_needs(verify):
    assert "it wants speed, which conv2d has not" in verify("kernels_of_mine.py:foreign", status=1)
    assert "No module named 'nothing_of_that_name'" in verify("broken.py:conv", status=1)


@pytest.mark.parametrize("arguments", [
    ["absent.py:conv"], ["kernels_of_mine.py"], ["kernels_of_mine.py:conv"], ["fft"],
    ["kernels_of_mine.py:right", "--op", "conv3d"],
    ["kernels_of_mine.py:right", "--supports", "speed"], ["kernels_of_mine.py:right", "--adapter", "jax"],
    ["kernels_of_mine.py:right", "--backward", "input_grad"], ["im2col", "--only", "definitoin"],
    ["kernels_of_mine.py:right", "--only", "groups"],
])
def test_misuse_is_one_line(verify, arguments):
    verify(*arguments, status=2)


def test_names_of_algorithms_and_of_other_libraries(verify):
    assert verify("im2col", "--op", "conv_transpose2d", *QUICK, "--json", status=0)["holds"]
    pytest.importorskip("torch")
    assert verify("torch.nn.functional:conv_transpose2d", "--adapter", "torch", *QUICK, "--json", status=0)["holds"]


def test_matrices_show_where_they_are_wrong():
    from tinyseg.verify.report import matrix
    text = matrix(np.arange(6.0).reshape(2, 3), np.array([[False, True, False], [False, False, False]]))
    assert text.plain.splitlines()[0].split() == ["0", "[1]", "2"]
    wide = matrix(np.zeros((1, 40)), np.arange(40)[None] == 30, (0, 30))
    assert "[0]" in wide.plain
    assert wide.plain.endswith("...")
