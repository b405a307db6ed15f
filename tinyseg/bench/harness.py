"""Measure candidates on layers: agreement first, then memory, then time."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import numpy as np

from tinyseg.bench import memory
from tinyseg.bench.candidates import Candidate, Mine
from tinyseg.bench.layers import Layer
from tinyseg.bench.operands import Operands, error_of, reference
from tinyseg.bench.statistics import Summary, summarize
from tinyseg.bench.timing import Settings, interleave
from tinyseg.errors import ArgumentError
from tinyseg.kernels import registry
from tinyseg.kernels.foreign import reason
from tinyseg.precision import LEVELS

__all__ = ["Place", "Progress", "Result", "measure", "measure_layer", "places", "precision_of",
           "threads"]

Place = tuple[str, str]                              # the name of a layer, and a direction
Progress = Callable[[str, int, int], None]


@dataclass
class Result:
    """One candidate on one layer in one direction.

    status     "measured", "wrong" (it disagrees), "failed" (it raised, crashed or did not return) or "refused"
    reason     why it was not measured
    error      max |y - y64| / max |y64| against float64
    tolerance  the largest error with which this candidate still agrees
    precision  how exactly it multiplies, one of `tinyseg.precision.LEVELS`
    samples    seconds for one call
    extra      bytes beside operands and result
    peak       bytes that a process which does nothing else takes at most; of whole nets
    """

    layer: str
    direction: str
    candidate: str
    status: str = "measured"
    reason: str = ""
    error: float | None = None
    tolerance: float | None = None
    precision: str = "highest"
    samples: list[float] = field(default_factory=list)
    calls_per_sample: int = 1
    extra: int | None = None
    peak: int | None = None

    @property
    def reduced(self) -> bool:
        """Whether it multiplies words of 8 bits: less work than float32."""
        return self.precision == "medium"

    @property
    def time(self) -> Summary | None:
        return summarize(self.samples) if self.samples and self.status == "measured" else None


def precision_of(candidate: str) -> str:
    """`auto@medium` chooses one, a registered algorithm states its own, PyTorch's bfloat16 is "medium"."""
    chosen = candidate.partition("@")[2]
    if chosen in LEVELS:
        return chosen
    stated = registry.stated_precision(candidate)
    return stated or ("medium" if candidate.endswith("bf16") else LEVELS[0])


def places(layers: Sequence[Layer], directions: Sequence[str], candidates: Sequence[Candidate]) -> dict[Place, int]:
    """What there is to measure, and by how many candidates."""
    return {(layer.name, direction): sum(c.refuses(layer, direction) is None for c in candidates)
            for layer in layers for direction in layer.directions if direction in directions}


def measure(layers: Sequence[Layer], directions: Sequence[str], candidates: Sequence[Candidate], settings: Settings,
            verdicts: Mapping[Place, str] | None = None,
            progress: Progress = lambda text, done, total: None) -> Iterator[list[Result]]:
    """Every candidate on every layer in every direction; yields the results of one place after the other.

    verdicts    what a trial in another process found wrong with the user's kernel
    progress    is told what is being measured, how many candidates in how many places are done, and of how many
    """
    work, named = places(layers, directions, candidates), {layer.name: layer for layer in layers}
    done, total = 0, sum(work.values())
    try:
        for (name, direction), count in work.items():
            progress(f"{name} · {direction.replace('_', ' ')}", done, total)
            gc.collect()
            gc.freeze()                              # libraries are large: each later collection would walk them all
            yield measure_layer(named[name], direction, candidates, settings, (verdicts or {}).get((name, direction)))
            done += count
        progress("", total, total)
    finally:
        gc.unfreeze()


def measure_layer(layer: Layer, direction: str, candidates: Iterable[Candidate], settings: Settings,
                  verdict: str | None = None) -> list[Result]:
    """All candidates on one layer in one direction, taking turns.  Only those that agree with float64 are timed."""
    candidates = list(candidates)
    results = {c.name: Result(layer.name, direction, c.name, tolerance=c.tolerance, precision=precision_of(c.name))
               for c in candidates}
    operands = Operands(layer, settings.seed)
    willing = []
    for candidate in candidates:
        result = results[candidate.name]
        if why := candidate.refuses(layer, direction):
            result.status, result.reason = "refused", why
        elif verdict and isinstance(candidate, Mine):
            result.status, result.reason = "failed", verdict
        else:
            willing.append(candidate)
    if not willing:
        return list(results.values())
    y64 = reference(operands, direction)
    runners: dict[str, Callable[[], Any]] = {}
    warm: dict[str, float] = {}
    for candidate in willing:
        if found := _check(candidate, operands, direction, y64, results[candidate.name]):
            runners[candidate.name], warm[candidate.name] = found
    for name, timed in interleave(runners, settings, warm).items():
        result = results[name]
        result.samples, result.calls_per_sample = timed.samples, timed.calls
        if timed.error is not None:
            result.status, result.reason = "failed", reason(timed.error)
    return list(results.values())


def _check(candidate: Candidate, operands: Operands, direction: str, y64: np.ndarray,
           result: Result) -> tuple[Callable[[], Any], float] | None:
    """The call to time, and the seconds of its second one; or None: then `result` says why."""
    before = [array.copy() for array in operands.of(direction)] if isinstance(candidate, Mine) else []
    try:
        run, view = candidate.prepare(operands, direction)
        raw = run()
        y = view(raw)
        problem = _problem(y, y64)
        if problem is None:
            result.error = error_of(y, y64)
            result.extra, seconds = memory.extra_bytes(run, _bytes(raw))
    except (Exception, SystemExit) as error:
        result.status, result.reason = "failed", reason(error)
        return None
    if before:
        changed = [not np.array_equal(old, new) for old, new in zip(before, operands.of(direction), strict=True)]
        for old, new, is_changed in zip(before, operands.of(direction), changed, strict=True):
            if is_changed:
                new[...] = old                       # the others need it as it was
        if any(changed):
            problem = "it changes its input"
    if problem is not None:
        result.status, result.reason = "failed", problem
        return None
    if result.error > candidate.tolerance:
        result.status = "wrong"
        result.reason = f"error {result.error:.1e} > {candidate.tolerance:.0e}"
        return None
    return run, seconds


def _problem(y: Any, y64: np.ndarray) -> str | None:
    if not isinstance(y, np.ndarray):
        return f"it returns {type(y).__name__}; needs a NumPy array"
    if y.shape != y64.shape:
        return f"it returns shape {y.shape}; needs {y64.shape}"
    if y.dtype != np.float32:
        return f"it returns {y.dtype}; needs float32, as its operands"
    return None


def _bytes(raw: Any) -> int:
    return sum(_bytes(part) for part in raw) if isinstance(raw, (tuple, list)) else getattr(raw, "nbytes", 0)


@contextmanager
def threads(count: int | None, torch: bool = False) -> Iterator[int]:
    """The same number of threads for Numba, BLAS and PyTorch; afterwards as before.  None keeps Numba's number.

    torch    whether PyTorch will be used: it must be loaded to be told
    """
    import numba
    from threadpoolctl import threadpool_limits
    most, before = numba.config.NUMBA_NUM_THREADS, numba.get_num_threads()
    count = before if count is None else count
    if not 1 <= count <= most:
        raise ArgumentError(f"--threads {count}: needs 1 to {most}; NUMBA_NUM_THREADS sets the most")
    library = import_module("torch") if torch else None
    library_before = library.get_num_threads() if library else None
    numba.set_num_threads(count)
    if library:
        library.set_num_threads(count)
    try:
        with threadpool_limits(count, user_api="blas"):
            yield count
    finally:
        numba.set_num_threads(before)
        if library:
            library.set_num_threads(library_before)
