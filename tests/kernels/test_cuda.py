"""Kernels for numba.cuda: on a GPU where there is one, and under Numba's simulator, where threads are slow and few."""

import os
import subprocess
import sys
import threading
from unittest import mock

import numpy as np
import pytest
from numba import config

from tinyseg import kernels
from tinyseg.arithmetic import ConvGeometry
from tinyseg.errors import ArgumentError
from tinyseg.kernels.registry import find
from tinyseg.verify import OPERATIONS
from tinyseg.verify.properties import properties_of
from tinyseg.verify.subject import Subject
from tinyseg.verify.testing import assert_holds

SIMULATED = bool(config.ENABLE_CUDASIM)
NAMES = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
EXAMPLES = 5 if SIMULATED else 30


def usable():
    try:
        from numba import cuda
        return cuda.is_available()
    except Exception:                                # whatever a half-installed driver raises
        return False


pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")        # of nan, by simulated threads
on_a_device = pytest.mark.skipif(not usable(), reason="numba.cuda finds no GPU")


@pytest.mark.skipif(SIMULATED, reason="this is what it starts")
def test_under_the_simulator():
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", __file__]
    finished = subprocess.run(command, text=True, env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"}, capture_output=True,
                              timeout=300)
    assert finished.returncode == 0, finished.stdout
    assert " passed" in finished.stdout


@pytest.fixture
def few_threads():
    """The simulator has a Python thread for each of a block's, and one that watches them without a pause: it should
    not keep the interpreter for long."""
    if not SIMULATED:
        yield
        return
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    from tinyseg.kernels.cuda import direct
    shared, lock = FakeCUDAShared.array, threading.Lock()

    def array(*arguments):
        """Two threads that come at once would get an array each.  Our kernels have one, whatever line it is from."""
        with lock:
            return shared(*arguments)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    with mock.patch.multiple(direct, THREADS=4, BLOCKS=2), mock.patch.object(FakeCUDAShared, "array", array):
        yield
    sys.setswitchinterval(interval)


def subject(name):
    """A kernel that takes arrays there and back, to be judged like any other."""
    def there_and_back(*arguments):
        from numba import cuda
        *arrays, geometry = arguments
        arrays = [cuda.to_device(np.ascontiguousarray(a)) for a in arrays]
        return kernels.run(name, *arrays, geometry, algorithm="direct").copy_to_host()

    op = OPERATIONS[name]
    return Subject(op, there_and_back, f"{name} on cuda", frozenset({*op.options, "asymmetric padding"}), op.options,
                   refuses=find(name, "direct", "cuda").refuses)


@on_a_device
@pytest.mark.parametrize(("name", "prop"), [pytest.param(name, prop, id=f"{name}-{prop.name}") for name in NAMES
                                            for prop in properties_of(name, subject(name).supports)])
def test_property(name, prop, few_threads):
    if SIMULATED and prop.draw.get("large"):
        pytest.skip("too slow under the simulator")
    assert_holds(prop, subject(name), examples=EXAMPLES)


@on_a_device
@pytest.mark.parametrize("name", NAMES)
def test_an_empty_batch(name, few_threads):
    geometry = ConvGeometry.convolution((4, 5), 3, padding=1)
    weight, empty = np.ones((2, 2, 3, 3), np.float32), np.empty((0, 2, 4, 5), np.float32)
    result = subject(name)(empty, empty if name == "conv2d_weight_grad" else weight, geometry)
    expected = np.zeros_like(weight) if name == "conv2d_weight_grad" else empty
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


@on_a_device
def test_what_a_device_array_must_be():
    from numba import cuda
    geometry = ConvGeometry((4, 4), (1, 1))
    x, weight = cuda.to_device(np.ones((1, 1, 4, 4)).transpose(0, 1, 3, 2)), cuda.to_device(np.ones((1, 1, 1, 1)))
    with pytest.raises(ArgumentError, match="C-contiguous"):
        kernels.conv2d(x, weight, geometry)
    with pytest.raises(ArgumentError, match="no algorithm 'im2col'; legal: auto, direct"):
        kernels.conv2d(cuda.to_device(np.ones((1, 1, 4, 4))), weight, geometry, "im2col")


def test_nothing_loads_numba_cuda_before_it_is_used():
    code = "import sys, tinyseg, tinyseg.kernels.cpu.direct; sys.exit('tinyseg.kernels.cuda.direct' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
