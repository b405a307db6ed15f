"""Facts about the machine that decide how fast kernels run."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tinyseg.errors import ArgumentError

__all__ = ["available_memory", "cache_folder", "expect_room", "facts"]

# What the vector kernels ask for, widest first; LLVM's names.
_FEATURES = ("amx-bf16", "amx-tile", "avx512bf16", "avx512f", "avx2", "fma", "neon")


def facts() -> dict[str, Any]:
    """Versions, threads, CPU features and CUDA, as words for JSON; no paths, since reports are shared."""
    import llvmlite.binding as llvm
    import numba
    from numba import cuda
    features = llvm.get_host_cpu_features()
    return {
        "tinyseg": _version("tinyseg"),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("numpy", "numba", "llvmlite", "pillow", "safetensors")},
        "platform": platform.platform(),
        "cpu": f"{_cpu_model()}, {llvm.get_host_cpu_name()}",
        "features": " ".join(name for name in _FEATURES if features.get(name)) or "none of those tinyseg looks for",
        "cores": os.cpu_count(),
        "threads": f"{numba.get_num_threads()} (set NUMBA_NUM_THREADS to change)",
        "blas": _blas(),
        "jit": "off (NUMBA_DISABLE_JIT is set)" if numba.config.DISABLE_JIT else "on",
        "cuda": "yes" if cuda.is_available() else "no",
    }


def cache_folder() -> str:
    """Where compiled kernels are kept: beside the sources when that can be written, else in the user's own cache."""
    import numba

    from tinyseg.kernels.cpu import im2col
    if numba.config.DISABLE_JIT:
        return "not used"
    return numba.config.CACHE_DIR or im2col._gather.stats.cache_path


def available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    try:
        with open("/proc/meminfo") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) * 1024
    except (OSError, StopIteration):
        return None


def expect_room(operation: str, needed: int, advice: str) -> None:
    """Raise ArgumentError when `needed` bytes are more than can be had: a word now, not a machine that stands still."""
    available = available_memory()
    if available is not None and needed > available:
        raise ArgumentError(f"{operation}: takes {needed / 2**30:.1f} GiB of memory, and {available / 2**30:.1f} GiB "
                            f"are free. {advice}")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _blas() -> str:
    from threadpoolctl import threadpool_info
    found = [p for p in threadpool_info() if p["user_api"] == "blas"]
    return ", ".join(f"{p['internal_api']} {p['version']} ({p.get('architecture')})" for p in found) or "unknown"
