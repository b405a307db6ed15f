"""Choosing by measurement, and remembering it."""

import json
import time
from unittest import mock

import numpy as np
import pytest

from tinyseg import kernels, precision
from tinyseg.arithmetic import ConvGeometry
from tinyseg.kernels import registry, tune

GEOMETRY = ConvGeometry.convolution((6, 7), 3)
X, WEIGHT = np.ones((1, 2, 6, 7), np.float32), np.ones((3, 2, 3, 3), np.float32)


def slow(x, weight, geometry):
    time.sleep(0.01)
    return "slow"


def quick(x, weight, geometry):
    return "quick"


@pytest.fixture
def tuning(tmp_path, monkeypatch):
    monkeypatch.setenv("TINYSEG_CACHE_DIR", str(tmp_path))
    with mock.patch.object(registry, "_kernels", {}), mock.patch.object(tune, "_known", None), \
            mock.patch.object(registry, "tuned", None):
        kernels.register("conv2d", "slow", slow)
        kernels.register("conv2d", "quick", quick)
        kernels.autotune()
        yield tmp_path / "autotune.json"


def convolve():
    return kernels.run("conv2d", X, WEIGHT, GEOMETRY)


def test_the_fastest_is_chosen_and_remembered(tuning):
    assert convolve() == "quick"
    (kinds,) = json.loads(tuning.read_text()).values()
    (kind, name), = kinds.items()
    assert name == "quick"
    assert kind.startswith("conv2d ConvGeometry(")
    with mock.patch.object(tune, "_known", None), mock.patch.object(tune, "_fastest") as measure:
        assert convolve() == "quick"                 # another process reads it
    measure.assert_not_called()
    kernels.autotune(False)
    assert convolve() == "slow"                      # the rule: the first registered


def test_a_named_algorithm_is_not_measured(tuning):
    assert kernels.run("conv2d", X, WEIGHT, GEOMETRY, algorithm="slow") == "slow"
    assert not tuning.exists()


def test_only_who_can_and_may_is_measured(tuning):
    kernels.register("conv2d", "coarse", lambda *_: "coarse", precision="medium")
    kernels.register("conv2d", "narrow", lambda *_: "narrow", refuses=lambda geometry: "never")
    kernels.register("conv2d", "double", lambda *_: "double", dtypes=("float64",))
    kernels.register("conv2d", "loops", lambda *_: "loops", definition=True)
    assert convolve() == "quick"
    kernels.register("conv2d", "quick", slow)
    with precision.float32_matmul_precision("medium"):
        assert convolve() == "coarse"


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"a": 3}'])
def test_a_damaged_file_is_measured_anew(tuning, text):
    tuning.write_text(text)
    assert convolve() == "quick"
    assert json.loads(tuning.read_text())


def test_a_folder_that_cannot_be_written_is_no_error(tuning, monkeypatch):
    tuning.write_text("")
    monkeypatch.setenv("TINYSEG_CACHE_DIR", str(tuning))
    assert convolve() == "quick"
