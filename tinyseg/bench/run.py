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
from tinyseg.bench.net import Size, measure_net, yardsticks
from tinyseg.bench.peaks import measure_peaks
from tinyseg.bench.record import Bench, others
from tinyseg.bench.sweep import fit, swept
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
    net: Size = field(default_factory=Size)

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
    if request.suite == "net":
        return _net(request, listener)
    layers = select(read_layers(request.layers), request.suite, request.names)
    if request.sweep is not None:
        parameter, values, layers = swept(layers[0], request.sweep)
    kernel, verdicts = None, {}
    try:
        if request.kernel is not None:
            kernel, layers, verdicts = _kernel(request, layers, listener)
        candidates = contenders(request.against, kernel, request.algorithms)
        baseline = _baseline(request.baseline, candidates)
        directions = request.directions or (kernel.direction,) if kernel else request.directions or DIRECTIONS
        if all(c.refuses(layer, d) for layer in layers for d in directions if d in layer.directions
               for c in candidates):
            raise ArgumentError(f"bench: none of {', '.join(c.name for c in candidates)} can do any of "
                                f"{', '.join(layer.name for layer in layers)} in direction {', '.join(directions)}; "
                                "choose others with --algorithm, --layers or --direction")
        with threads(request.threads) as count, others() as busy:
            peaks = measure_peaks(count)
            results = measure(layers, directions, candidates, request.settings, verdicts, listener.progress)
            peaks = peaks.better(measure_peaks(count))
    finally:
        listener.stopped()
    found = Bench(_title(request, kernel), facts(count), peaks,
                  {**asdict(request.settings), "memory": memory.method()}, layers, results, baseline, busy[0])
    if request.sweep is not None:
        found.sweep = fit(found, parameter, values)
    return found


def _net(request: Request, listener: Listener) -> Bench:
    if request.kernel or request.sweep or request.algorithms or request.names or request.directions:
        raise ArgumentError("net: a whole net has no kernel, sweep, layer, direction or algorithm to choose; "
                            "it takes --base, --size, --batch and --against")
    names = ["tinyseg", *yardsticks(request.against)]
    baseline = request.baseline or ("torch" if "torch" in names else "tinyseg")
    if baseline not in names:
        raise ArgumentError(f"--baseline {baseline!r}; legal: {', '.join(names)}")
    try:
        with threads(request.threads) as count, others() as busy:
            peaks = measure_peaks(count)
            results = measure_net(request.net, request.against, request.settings, progress=listener.progress)
    finally:
        listener.stopped()
    return Bench(request.net.name, facts(count), peaks, {**asdict(request.settings), "memory": memory.method()}, [],
                 results, baseline, busy[0])


def facts(threads: int) -> dict[str, Any]:
    """Of the machine and of who competes on it."""
    return {**machine.facts(), "torch": _version("torch"), "threads": threads}


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
