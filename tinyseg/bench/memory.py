"""What a call needs besides its operands and its result."""

from __future__ import annotations

import ctypes
import gc
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter
from typing import Any

from tinyseg.kernels.cpu.workspace import pool

__all__ = ["extra_bytes", "method", "resident"]

_STATUS, _CLEAR = "/proc/self/status", "/proc/self/clear_refs"


def method() -> str:
    """How `extra_bytes` measures here, in words."""
    if _resets():
        return "peak resident memory of the process during one warm call; what is kept from earlier calls is not seen"
    return "peak of Python's and NumPy's allocations during one warm call; what other libraries allocate is not seen"


def extra_bytes(run: Callable[[], Any], result_bytes: int) -> tuple[int, float]:
    """The highest point of memory during `run()`, above what was there before, without the result; and its seconds."""
    gc.collect()
    pool.release()                                   # what is kept for the next call would hide what this one needs
    if not _resets():
        tracemalloc.start()
        try:
            seconds = _seconds(run)
            return max(0, tracemalloc.get_traced_memory()[1] - result_bytes), seconds
        finally:
            tracemalloc.stop()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)             # pages freed but kept would hide what the call needs
    before = _kilobytes("VmRSS")
    _resets()
    seconds = _seconds(run)
    return max(0, (_kilobytes("VmHWM") - before) * 1024 - result_bytes), seconds


def _seconds(run: Callable[[], Any]) -> float:
    began = perf_counter()
    run()
    return perf_counter() - began


def resident() -> tuple[int, int] | None:
    """Bytes of this process in memory: now, and at most so far; None where the system does not say."""
    with suppress(OSError):
        return _kilobytes("VmRSS") * 1024, _kilobytes("VmHWM") * 1024
    with suppress(ImportError):
        import resource
        # Only the highest is known, and Linux counts what the process was before it became this program.
        highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        return highest, highest
    return None


def _resets() -> bool:
    """Set the process's peak to what it holds now; only Linux can."""
    try:
        with open(_CLEAR, "w") as file:
            file.write("5")
        return True
    except OSError:
        return False


def _kilobytes(name: str) -> int:
    with open(_STATUS) as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name))
