"""`tinyseg bench` from a request to a finished measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from tinyseg import machine
from tinyseg.bench import memory
from tinyseg.bench.candidates import Candidate, contenders
from tinyseg.bench.harness import measure, threads
from tinyseg.bench.layers import DIRECTIONS, SUITES, Layer, read_layers, select
from tinyseg.bench.peaks import measure_peaks
from tinyseg.bench.record import Bench, others
from tinyseg.bench.timing import Settings
from tinyseg.bench.trial import trial
from tinyseg.bench.user import UserKernel, load
from tinyseg.errors import ArgumentError

__all__ = ["Listener", "Request", "bench"]


@dataclass(frozen=True)
class Request:
    """What to measure; the options of `tinyseg bench`."""

    suite: str | None = None
    kernel: str | None = None
    signature: str | None = None
    layers: str = "all"
    names: Sequence[str] = ()
    directions: Sequence[str] = ()
    algorithms: Sequence[str] = ()
    against: Sequence[str] | None = None
    sweep: str | None = None
    threads: int | None = None
    rounds: int = 9
    seconds: float = 0.3
    limit: float = 60.0
    seed: int = 0
    baseline: str | None = None
    net: dict[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return Settings(self.rounds, self.seconds, seed=self.seed)


class Listener(Protocol):
    def told(self, line: str) -> None: ...
    def progress(self, text: str, done: int, total: int) -> None: ...
    def stopped(self) -> None: ...


def bench(request: Request, listener: Listener) -> Bench:
    """Measure.  Raises ArgumentError or DataError for what cannot be; nothing has been measured then."""
    for direction in request.directions:
        if direction not in DIRECTIONS:
            raise ArgumentError(f"--direction {direction!r}; legal: {', '.join(DIRECTIONS)}")
    layers = select(read_layers(request.layers), request.suite, request.names)
    kernel, verdicts = None, {}
    try:
        if request.kernel is not None:
            kernel, layers, verdicts = _kernel(request, layers, listener)
        candidates = contenders(request.against, kernel, request.algorithms)
        baseline = _baseline(request.baseline, candidates)
        directions = request.directions or (kernel.direction,) if kernel else request.directions or DIRECTIONS
        with threads(request.threads) as count, others() as busy:
            peaks = measure_peaks(count)
            results = measure(layers, directions, candidates, request.settings, verdicts, listener.progress)
            peaks = peaks.better(measure_peaks(count))
    finally:
        listener.stopped()
    return Bench(_title(request, kernel), {**machine.facts(), "torch": _version("torch"), "threads": count}, peaks,
                 {**asdict(request.settings), "memory": memory.method()}, layers, results, baseline, busy[0])


def _kernel(request: Request, layers: list[Layer], listener: Listener) -> tuple[UserKernel, list[Layer], dict]:
    """The user's kernel once it has survived its trial, and the layers that it can do."""
    verdicts = trial(request.kernel, request.signature, layers, request.limit,
                     lambda name: listener.progress(f"trying {name}", 0, 1))
    kernel = load(request.kernel, request.signature)
    able = [layer for layer in layers if kernel.refuses(layer, kernel.direction) is None]
    if not able:
        why = "; ".join(dict.fromkeys(kernel.refuses(layer, kernel.direction) for layer in layers))
        raise ArgumentError(f"{kernel.name}: none of the layers is for it: {why}; choose others with --layers, or one "
                            f"of the suites {', '.join(SUITES)}")
    return kernel, able, verdicts


def _baseline(name: str | None, candidates: Sequence[Candidate]) -> str | None:
    names = [candidate.name for candidate in candidates]
    if name is None:
        return next((choice for choice in ("torch", "im2col") if choice in names), None)
    if name not in names:
        raise ArgumentError(f"--baseline {name!r}; legal: {', '.join(names)}")
    return name


def _title(request: Request, kernel: UserKernel | None) -> str:
    kind = request.suite or (kernel.operation if kernel else "all")
    return {"conv": "Convolutions", "transposed": "Transposed convolutions", "dilated": "Dilated convolutions",
            "pool": "Pooling", "conv2d": "Convolutions", "conv_transpose2d": "Transposed convolutions",
            "max_pool2d": "Pooling"}.get(kind, "The layers of segmentation nets") + " on one machine"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
