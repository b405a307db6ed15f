"""The measured choice among algorithms: `autotune()` times them on the first call of each kind, and remembers.

What was found is kept in autotune.json in the user's cache (TINYSEG_CACHE_DIR names another folder), by processor,
thread count and precision; the file can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from tinyseg.arithmetic import ConvGeometry
from tinyseg.errors import DataError, TinysegError
from tinyseg.files import replacing
from tinyseg.kernels import registry
from tinyseg.kernels.registry import Kernel
from tinyseg.precision import get_float32_matmul_precision, permits

__all__ = ["autotune", "choice", "store"]

_ROUNDS = 3                                          # calls of each candidate after one that may compile
_HOPELESS = 3.0                                      # times the best so far: not called again

_lock = threading.Lock()
_known: dict[str, dict[str, str]] | None = None      # machine -> kind of call -> algorithm


def autotune(enabled: bool = True) -> None:
    """From now on "auto" means the algorithm that was fastest on this machine for the same geometry and shapes.

    The first call of each kind takes longer: every algorithm that can do it is timed, and the choice kept for later
    processes.  `autotune(False)` goes back to choosing by rule.
    """
    registry.tuned = choice if enabled else None


def store() -> Path:
    """The file that remembers."""
    folder = os.environ.get("TINYSEG_CACHE_DIR")
    if folder is None:
        home = Path.home()
        folder = {"win32": os.environ.get("LOCALAPPDATA", home), "darwin": home / "Library" / "Caches"}.get(
            sys.platform, os.environ.get("XDG_CACHE_HOME") or home / ".cache")
        return Path(folder) / "tinyseg" / "autotune.json"
    return Path(folder) / "autotune.json"


def choice(kernels: dict[str, Kernel], arguments: tuple[Any, ...], geometry: ConvGeometry | None, dtype: str,
           shapes: tuple[tuple[int, ...], ...]) -> Kernel | None:
    """The fastest of an operation's kernels for this call, measured now if need be; None: there is no choice."""
    able = {name: k for name, k in kernels.items()
            if not k.definition and permits(k.precision) and k.cannot(geometry, dtype) is None}
    if geometry is None or len(able) < 2:
        return None
    operation = next(iter(able.values())).operation
    kind = f"{operation} {geometry} {dtype} {shapes} {get_float32_matmul_precision()}"
    with _lock:
        known = _load().setdefault(_machine(), {})
        if known.get(kind) not in able:
            known[kind] = _fastest(able, arguments)
            _save()
        return able[known[kind]]


def _fastest(able: dict[str, Kernel], arguments: tuple[Any, ...]) -> str:
    times: dict[str, float] = {}
    for name, kernel in able.items():
        try:
            kernel.function(*arguments)
        except TinysegError:                         # it finds out late that it cannot
            continue
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            kernel.function(*arguments)
            times[name] = min(times.get(name, float("inf")), time.perf_counter() - start)
            if times[name] > _HOPELESS * min(times.values()):
                break
    return min(times, key=times.__getitem__)


@cache
def _processor() -> str:
    import llvmlite.binding as llvm
    features = hashlib.sha256(llvm.get_host_cpu_features().flatten().encode()).hexdigest()[:12]
    return f"{llvm.get_host_cpu_name()} {features}"


def _machine() -> str:
    import numba
    return f"{_processor()}, {numba.get_num_threads()} threads"


def _load() -> dict[str, dict[str, str]]:
    global _known
    if _known is None:
        _known = _read()
    return _known


def _read() -> dict[str, dict[str, str]]:
    try:
        found = json.loads(store().read_text(encoding="utf-8"))
        return {machine: {kind: str(name) for kind, name in kinds.items()} for machine, kinds in found.items()}
    except (OSError, ValueError, AttributeError):
        return {}                                    # there is none yet, or it is damaged: measure again


def _save() -> None:
    merged = _read()                                 # other processes measure too
    for machine, kinds in _load().items():
        merged[machine] = {**merged.get(machine, {}), **kinds}
    with suppress(DataError), replacing(store()) as file:                # where it cannot be kept, this process knows
        file.write(json.dumps(merged, indent=1).encode())
