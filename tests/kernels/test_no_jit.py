"""Every kernel has a readable Python body that runs without the compiler."""

import os
import subprocess
import sys
from pathlib import Path


def test_convolutions_run_without_the_compiler():
    by_hand = Path(__file__).with_name("test_conv_by_hand.py")
    finished = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", by_hand], text=True,
                              env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, timeout=120)
    assert finished.returncode == 0, finished.stdout
