"""The roof: how fast this machine multiplies and adds, and how fast it moves memory, at best.

A peak is the best of many short tries, since other programs can only take away from it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import pairwise
from time import perf_counter
from typing import Any

import numpy as np

__all__ = ["Peaks", "measure_peaks"]

_TRIES, _FMA_STEPS, _TILE_STEPS = 12, 400_000, 200_000
_TRIAD_BYTES = 1 << 27                               # of each of three arrays: beyond the caches of most machines
_SIDE = 2048                                         # of the square matrices


@dataclass(frozen=True)
class Peaks:
    """Rates per second; None where the machine has no such unit or nothing here could drive it.

    fma_one, fma_all    float32 operations (a fused multiply-add is two) of one thread and of all of `threads`
    sgemm               float32 operations of BLAS on large square matrices
    bandwidth           bytes moved by a[i] = b[i] + s·c[i], two read and one written
    bf16                operations of the bfloat16 matrix unit
    notes               how each was measured, or why not
    """

    threads: int
    fma_one: float | None
    fma_all: float | None
    sgemm: float
    bandwidth: float
    bf16: float | None
    notes: dict[str, str]

    @property
    def flops(self) -> float:
        """The float32 roof: the best that any of the measurements reached."""
        return max(self.fma_all or 0.0, self.sgemm)

    def better(self, other: Peaks) -> Peaks:
        """The higher of each: what a busy moment took from one."""
        mine, theirs = asdict(self), asdict(other)
        best = {name: max((value for value in (mine[name], theirs[name]) if value is not None), default=None)
                for name in ("fma_one", "fma_all", "sgemm", "bandwidth", "bf16")}
        return Peaks(self.threads, notes=self.notes, **best)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "flops": self.flops}


def measure_peaks(threads: int) -> Peaks:
    """All of them with `threads` threads, in about two seconds."""
    import numba
    notes = {}
    if numba.config.DISABLE_JIT:
        one = every = None
        notes["fma"] = "not measured: NUMBA_DISABLE_JIT is set; the roof is BLAS's"
    else:
        one, every, notes["fma"] = _fma(threads)
    a = np.random.default_rng(0).standard_normal((_SIDE, _SIDE), np.float32)
    sgemm = 2 * _SIDE**3 / _best(lambda: a @ a, 4)
    notes["sgemm"] = f"NumPy's BLAS, {_SIDE} x {_SIDE} matrices"
    bandwidth, notes["bandwidth"] = _triad(threads)
    bf16, notes["bf16"] = _bf16(threads)
    return Peaks(threads, one, every, sgemm, bandwidth, bf16, notes)


def _best(run: Callable[[], Any], tries: int = _TRIES) -> float:
    """The shortest of some calls, in seconds, after one that does not count."""
    run()
    times = []
    for _ in range(tries):
        start = perf_counter()
        run()
        times.append(perf_counter() - start)
    return min(times)


def _fma(threads: int) -> tuple[float, float, str]:
    from tinyseg.bench.fma import CHAINS, LANES, multiply_add
    from tinyseg.kernels.cpu.threads import in_parallel
    flops = 2 * LANES * CHAINS * _FMA_STEPS
    one = flops / _best(lambda: multiply_add(_FMA_STEPS))
    every = threads * flops / _best(lambda: in_parallel(multiply_add, [_FMA_STEPS] * threads)) if threads > 1 else one
    return one, every, f"{CHAINS} chains of fused multiply-adds on vectors of {LANES} floats, in registers"


def _tiles(threads: int) -> float:
    from tinyseg.bench.fma import TILE_OPERATIONS, multiply_tiles
    from tinyseg.kernels.cpu.amx import aligned
    from tinyseg.kernels.cpu.threads import in_parallel
    words = aligned(512, 1.0)
    seconds = _best(lambda: in_parallel(lambda steps: multiply_tiles(steps, words), [_TILE_STEPS] * threads))
    return threads * TILE_OPERATIONS * _TILE_STEPS / seconds


def _triad(threads: int) -> tuple[float, str]:
    from tinyseg.bench.fma import triad
    from tinyseg.kernels.cpu.threads import in_parallel
    n = _TRIAD_BYTES // 4
    a, b, c = (np.full(n, value, np.float32) for value in (0, 1, 2))
    ends = [n * t // threads for t in range(threads + 1)]
    parts = [slice(first, last) for first, last in pairwise(ends)]
    seconds = _best(lambda: in_parallel(lambda part: triad(a[part], b[part], c[part]), parts), 5)
    note = f"triad over 3 arrays of {_TRIAD_BYTES >> 20} MiB"
    cache_bytes = _last_level_cache()
    if cache_bytes and cache_bytes > 3 * _TRIAD_BYTES:
        note += f"; the processor's last cache ({cache_bytes >> 20} MiB) may hold them"
    return 3 * _TRIAD_BYTES / seconds, note


def _last_level_cache() -> int:
    """Bytes, or 0 where nobody says."""
    from pathlib import Path
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        sizes.append(int(text[:-1]) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0) if text[:-1].isdigit() else 0)
    return max(sizes)


def _bf16(threads: int) -> tuple[float | None, str]:
    """Of the matrix unit itself where we can drive it, else of PyTorch's matrix product on whatever unit there is."""
    from numba import config

    from tinyseg.kernels.cpu import amx
    if amx.available() and not config.DISABLE_JIT:
        return _tiles(threads), "amx-bf16, products of tiles that stay in registers"
    import llvmlite.binding as llvm
    features = llvm.get_host_cpu_features()
    unit = next((name for name in ("amx-bf16", "avx512bf16", "bf16") if features.get(name)), None)
    if unit is None:
        return None, "not measured: the processor has no bfloat16 unit"
    try:
        import torch
    except ImportError:
        return None, f"not measured: the processor has {unit}, but the probe is PyTorch's matrix product"
    rates = []
    torch.set_num_threads(threads)
    with torch.inference_mode():
        for side in (_SIDE // 4, _SIDE // 2, _SIDE):
            a = torch.ones(side, side, dtype=torch.bfloat16)
            rates.append(2 * side**3 / _best(lambda a=a: torch.nn.functional.linear(a, a)))
    return max(rates), f"{unit}, the best of PyTorch's matrix products up to side {_SIDE}; the unit itself may do more"
