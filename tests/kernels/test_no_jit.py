"""Every kernel has a readable Python body that runs without the compiler."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("file", ["test_conv_by_hand.py", "test_between_layers.py", "test_threads.py"])
def test_kernels_run_without_the_compiler(file):
    path = Path(__file__).with_name(file)
    finished = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", path], text=True,
                              env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, timeout=120)
    assert finished.returncode == 0, finished.stdout
