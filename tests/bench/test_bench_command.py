"""`tinyseg bench` as a user runs it, on layers of 8x8."""

import json
import re
import subprocess
import sys

import pytest

from tinyseg.bench.net import Size
from tinyseg.bench.net_memory import net_memory
from tinyseg.cli.bench_table import time_left

LAYERS = [{"name": "plain", "in_channels": 2, "out_channels": 3, "input_size": 8, "kernel_size": 3, "padding": 1},
          {"name": "wide", "in_channels": 2, "out_channels": 3, "input_size": 8, "kernel_size": 3, "dilation": 2},
          {"name": "up", "operation": "conv_transpose2d", "in_channels": 2, "out_channels": 3, "input_size": 4,
           "kernel_size": 2, "stride": 2},
          {"name": "pool", "operation": "max_pool2d", "in_channels": 2, "input_size": 8, "kernel_size": 2}]
KERNEL = '''
import numpy as np
from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels import conv2d

def conv(x, weight, stride, padding, dilation, groups):
    return conv2d(x, weight, ConvGeometry.convolution(x.shape[2:], weight.shape[2:], stride, padding, dilation, groups))

def flipped(x, weight, stride, padding, dilation, groups):
    return conv(x, weight[:, :, ::-1, ::-1].copy(), stride, padding, dilation, groups)

def raising(x, weight, stride, padding):
    raise RuntimeError("not today")

def shapeless(x, weight, stride, padding):
    return np.zeros(3, np.float32)

def crashing(x, weight, stride, padding):
    import os
    os.abort()

def endless(x, weight, stride, padding):
    while True: pass

def stopped(x, weight, stride, padding, dilation, groups):
    """Somebody ends the measurement, not the trial before it, at the second layer."""
    import os, signal, sys
    if dilation != (1, 1) and "bench" in sys.argv:
        os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))
    return conv(x, weight, stride, padding, dilation, groups)
'''
# The machine's peaks take seconds to measure; one test has the patience.
NO_PEAKS = """
from tinyseg.bench import peaks, run
run.measure_peaks = lambda threads: peaks.Peaks(threads, 1e11, 2e11, 1e11, 1e10, None, {})
"""
QUICK = ("--layers", "layers.json", "--seconds", 0, "--rounds", 3, "--against", "none")


@pytest.fixture
def bench(tmp_path):
    (tmp_path / "layers.json").write_text(json.dumps(LAYERS))
    (tmp_path / "my_kernel.py").write_text(KERNEL)

    def call(*arguments, status=0, before=NO_PEAKS):
        code = f"{before}\nfrom tinyseg.cli import main; main()"
        done = subprocess.run([sys.executable, "-c", code, "bench", *map(str, arguments)], cwd=tmp_path,
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == status, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        if status == 2:
            told = [line for line in done.stderr.splitlines() if "compiling kernels" not in line]
            assert len(told) == 1, done.stderr
            return told[0]
        return done.stdout
    return call


def test_the_whole_way(bench, tmp_path):
    out = bench("my_kernel.py:conv", *QUICK, "--direction", "forward", "--out", "results", "--threads", 1,
                before="")
    assert "plain · forward" in out
    assert "my_kernel.py:conv" in out
    assert "im2col" in out
    assert "loops" in out
    assert "geometric mean" in out
    assert "peaks: float32" in out
    found = json.loads((tmp_path / "results" / "bench.json").read_text())
    assert {layer["name"] for layer in found["layers"]} == {"plain", "wide"}     # a conv2d is asked for no others
    assert all(r["samples"] for r in found["results"] if r["status"] == "measured")
    assert found["machine"]["cpu"]
    assert found["peaks"]["bandwidth"] > 0
    assert str(tmp_path) not in json.dumps(found)
    assert {p.name for p in (tmp_path / "results").iterdir()} == {"bench.json", "roofline.png", "report.html"}
    side_by_side = bench("--compare", "results/bench.json", "results/bench.json")
    assert "not different" in side_by_side
    assert "plain" in side_by_side


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 130), ("SIGINT", 130), ("SIGKILL", -9)])
def test_what_is_measured_before_it_is_stopped_is_kept(bench, tmp_path, monkeypatch, name, status):
    monkeypatch.setenv("SIGNAL", name)
    # Who runs the tests in the background may have Ctrl-C switched off.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)" + NO_PEAKS
    out = bench("my_kernel.py:stopped", *QUICK, "--direction", "forward", "--algorithm", "im2col", "--out", "part",
                status=status, before=listening)
    found = json.loads((tmp_path / "part" / "bench.json").read_text())
    assert found["missing"] == [["wide", "forward"]]
    assert {(r["layer"], r["candidate"]) for r in found["results"]} == {("plain", "my_kernel.py:stopped"),
                                                                       ("plain", "im2col")}
    told = "Incomplete: 1 of 2 layers and directions are measured; missing: wide"
    assert f"first: {told}" in bench("--compare", "part/bench.json", "part/bench.json")
    if status == 130:
        assert "plain · forward" in out
        assert told in out
        assert told in (tmp_path / "part" / "report.html").read_text()


def test_stopped_before_anything_is_measured(bench, monkeypatch):
    monkeypatch.setenv("SIGNAL", "SIGTERM")
    assert not bench("my_kernel.py:stopped", *QUICK, "--layer", "wide", status=130)


def test_suites_layers_and_sweeps(bench, tmp_path):
    out = bench("pool", *QUICK)
    assert "pool · input grad" in out
    assert "plain" not in out
    out = bench("transposed", *QUICK, "--algorithm", "im2col", "--algorithm", "matrix", "--baseline", "matrix")
    assert "up · weight grad" in out
    assert "loops" not in out
    out = bench("my_kernel.py:conv", *QUICK, "--layer", "plain", "--sweep", "channels=2,4", "--out", "swept")
    assert "my_kernel.py:conv, forward: e = " in out
    assert "the work has e = 2.00" in out
    assert (tmp_path / "swept" / "sweep.png").exists()


def test_what_is_wrong_with_a_kernel_is_listed_and_the_others_are_measured(bench):
    for name, message in (("flipped", "wrong on plain, forward: error"), ("raising", "RuntimeError: not today"),
                          ("shapeless", "it returns shape (3,); needs (1, 3, 8, 8)"),
                          ("crashing", "it killed its process (SIGABRT)"),
                          ("endless", "it did not return within 2 s")):
        out = bench(f"my_kernel.py:{name}", *QUICK, "--op", "conv2d", "--limit", 2, "--layer", "plain",
                    "--algorithm", "im2col")
        assert message in out
        assert "im2col" in out.split("plain · forward")[1]
        assert ("find out where: tinyseg verify my_kernel.py:flipped" in out) == (name == "flipped")


@pytest.mark.parametrize(("arguments", "message"), [
    (("konv",), "bench: no suite 'konv'; legal: conv, transposed, dilated, pool, net"),
    (("my_kernel.py",), "a kernel needs its function too: my_kernel.py:conv2d"),
    (("conv", "pool"), "needs one suite and one kernel at most"),
    (("none.py:conv",), "none.py: no such file"),
    (("my_kernel.py:missing",), "my_kernel.py: no function 'missing'; it has conv, flipped"),
    (("my_kernel.py:conv", "--layer", "pool"), "none of the layers is for it: it is a conv2d"),
    (("--layers", "layerz"), "layers 'layerz'; legal: unet, fcn"),
    (("--layers", "none.json"), "none.json: cannot be read"),
    (("--layer", "q"), "no layer 'q'; legal: plain, wide, up, pool"),
    (("--algorithm", "fft"), "no algorithm 'fft'; legal: "),
    (("--against", "jax"), "--against 'jax'; legal: none, torch"),
    (("--baseline", "fastest"), "--baseline 'fastest'; legal: "),
    (("--direction", "up"), "--direction 'up'; legal: forward, input_grad, weight_grad"),
    (("--threads", "4096"), "--threads 4096: needs 1 to"),
    (("--sweep", "speed=1,2"), "--sweep speed=1,2: needs one of dilation"),
    (("--compare", "layers.json", "layers.json"), "layers.json: not a measurement"),
    (("pool", "--algorithm", "im2col"), "bench: none of im2col can do any of pool in direction forward, input_grad"),
    (("pool", "--direction", "weight_grad"), "in direction weight_grad; choose others"),
    (("--out", "layers.json"), "--out layers.json: is a file; name a folder"),
    (("net", "--baseline", "torch", "--against", "none"), "--baseline 'torch'; legal: tinyseg"),
    (("net", "--size", "40"), "a size that four poolings halve"),
    (("conv", "--profile"), "--profile: it is for a whole net; needs tinyseg bench net --profile"),
    (("net", "--sweep", "size=1,2"), "net: a whole net has no kernel, sweep"),
])
def test_bad_input_is_one_line(bench, arguments, message):
    assert message in bench(*QUICK, *arguments, status=2)


def test_the_time_left_is_told_after_the_first_few():
    assert time_left(10, 2, 10) == ""
    assert time_left(10, 5, 10) == "about 10 s left"
    assert time_left(100, 5, 20) == "about 5 min left"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say it of a process as it runs")
def test_the_memory_of_a_net_is_measured_in_its_own_process():
    small, large = (net_memory("tinyseg", "training step", Size(base, 32, 1), 1) for base in (2, 32))
    assert 0 < small.before < small.peak < large.peak


def test_a_profile_of_a_net(bench, tmp_path):
    out = bench("net", "--profile", "--base", 2, "--size", 16, "--against", "none", "--out", "found")
    for words in ("U-Net-2, 16x16, batch 2 · inference", "U-Net-2, 16x16, batch 2 · training step", "weight grad",
                  "normalisation", "optimizer"):
        assert words in out
    assert re.search(r"3x3, \d+->\d+, \d+x\d+, batch 2", out)        # which one is among the slowest, nobody knows
    assert [p.name for p in (tmp_path / "found").iterdir()] == ["profile.json"]


def test_without_pytorch(bench):
    before = "import sys; sys.modules['torch'] = None" + NO_PEAKS
    quick = QUICK[:-2]
    out = bench("conv", *quick, "--direction", "forward", before=before)
    assert "im2col" in out
    assert "torch" not in out
    assert "PyTorch is not installed; install tinyseg[bench]" in bench(*quick, "--against", "torch", before=before,
                                                                      status=2)
    out = bench("net", "--base", 2, "--size", 16, "--batch", 2, *quick[2:], before=before)
    assert "U-Net-2, 16x16, batch 2 · training step" in out
