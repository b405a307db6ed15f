"""A kernel of one's own: `verify` and `bench` take the same ones, and say the same of the same mistake."""

import json
import sys

import numpy as np
import pytest

from tinyseg.bench import user
from tinyseg.bench.layers import Layer
from tinyseg.bench.operands import Operands
from tinyseg.kernels import conv2d
from tinyseg.verify import subject as subjects

KERNELS = '''
from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels import conv2d

def by_name(x, weight, padding, stride):
    return conv2d(x, weight, ConvGeometry.convolution(x.shape[2:], weight.shape[2:], stride, padding))

def by_order(x, w, s, p):
    return by_name(x, w, p, s)

def by_geometry(x, weight, geometry):
    return conv2d(x, weight, geometry)

def foreign(x, weight, stride, speed):
    pass
'''
LAYERS = [{"name": "small", "in_channels": 2, "out_channels": 3, "input_size": 6, "kernel_size": 3, "padding": 1}]
VERIFY = ("--seconds", 2, "--only", "output size")
BENCH = ("--layers", "layers.json", "--seconds", 0, "--rounds", 3, "--against", "none", "--algorithm", "im2col")


@pytest.fixture
def both(tinyseg, tmp_path):
    """What each of the two commands says of a kernel."""
    (tmp_path / "mine.py").write_text(KERNELS)
    (tmp_path / "broken.py").write_text("def conv(x, weight):\n    pass\nundefined()\n")
    (tmp_path / "layers.json").write_text(json.dumps(LAYERS))

    def call(target, *options, status=0):
        for command, quick in (("verify", VERIFY), ("bench", BENCH)):
            done = tinyseg(command, target, *quick, *options, status=status)
            yield " ".join((done.stdout + done.stderr).split())
    return call


@pytest.mark.parametrize("target", ["mine.py:by_name", "mine.py:by_order", "mine.py:by_geometry", "mine:by_name"])
def test_both_take_the_same_kernels(both, target, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    layer = Layer.of(**LAYERS[0])
    arrays, subject = Operands(layer).of("forward"), subjects.load(subjects.Request(target))
    expected = conv2d(*arrays, layer.geometry)
    assert np.array_equal(user.load(target).bound(layer, arrays)(), expected)
    assert np.array_equal(subject(*arrays, layer.geometry), expected)
    assert subject.supports >= {"stride", "padding"}


@pytest.mark.parametrize(("target", "options", "status", "words"), [
    ("none.py:conv", [], 2, "none.py: no such file; name a Python file and a function in it, like my_kernel.py:conv"),
    ("nowhere:conv", [], 2, "nowhere: no such module; name one that Python can import, or a file like my_kernel.py:"),
    ("mine.py:conv", [], 2, "mine.py: no function 'conv'; it has by_name, by_order, by_geometry, foreign"),
    ("mine.py:", [], 2, "mine.py:: a kernel needs its function too: mine.py:conv2d"),
    ("mine.py:by_name", ["--op", "conv3d"], 2, "operation 'conv3d'; legal: conv2d, conv_transpose2d, conv2d_inp"),
    ("broken.py:conv", [], 1, "broken.py: does not import: NameError: name 'undefined' is not defined "
                              "(broken.py, line 3: undefined())"),
    ("mine.py:foreign", [], 1, "foreign(x, weight, stride, speed): another signature: it wants speed, which conv2d has "
                               "not"),
    ("mine.py:by_name", ["--op", "conv2d_input_grad"], 1, "by_name(x, weight, padding, stride): another signature: it "
                                                          "takes no input_shape"),
])
def test_both_say_the_same_of_the_same_mistake(both, target, options, status, words):
    for said in both(target, *options, status=status):
        assert words in said
        assert "Traceback" not in said
