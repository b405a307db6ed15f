"""The lattice is Python that can be read, and run, without the compiler."""

import os
import subprocess
import sys
from pathlib import Path


def test_the_lattice_runs_without_the_compiler():
    path = Path(__file__).with_name("test_lattice.py")
    finished = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", path, "-k",
                               "mixture or adjoint or vectors"], text=True, capture_output=True, timeout=120,
                              env=os.environ | {"NUMBA_DISABLE_JIT": "1"})
    assert finished.returncode == 0, finished.stdout
