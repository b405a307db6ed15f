"""`tinyseg bench` from a request to a finished measurement."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol

from tinyseg import machine
from tinyseg.bench import memory
from tinyseg.bench.candidates import contenders
from tinyseg.bench.harness import Result, measure, places, threads
from tinyseg.bench.layers import DIRECTIONS, SUITES, Layer, read_layers, select
from tinyseg.bench.net import MODES, Size, measure_net, yardsticks
from tinyseg.bench.net_memory import METHOD
from tinyseg.bench.peaks import measure_peaks
from tinyseg.bench.profile import Profile, profile_net
from tinyseg.bench.record import Bench, busy_text, others
from tinyseg.bench.sweep import fit, swept
from tinyseg.bench.timing import Settings
from tinyseg.bench.trial import trial
from tinyseg.bench.user import UserKernel, load
from tinyseg.errors import ArgumentError, Interrupted

__all__ = ["Listener", "Request", "bench", "profiles"]


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
    rounds: int = Settings.rounds
    seconds: float = Settings.seconds
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


Keep = Callable[[Bench], None]
NET_PATIENCE = 60.0                                  # seconds: a step of a large net takes several


def bench(request: Request, listener: Listener, keep: Keep = lambda found: None) -> Bench:
    """Measure.  Raises ArgumentError or DataError for what cannot be; nothing has been measured then.

    keep    gets what is found so far after each layer and direction
    Ctrl-C or SIGTERM ends it early: what is found then says what is missing.  Raises Interrupted if nothing is found.
    """
    for direction in request.directions:
        if direction not in DIRECTIONS:
            raise ArgumentError(f"--direction {direction!r}; legal: {', '.join(DIRECTIONS)}")
    try:
        with _terminable():
            return (_net if request.suite == "net" else _layers)(request, listener, keep)
    except KeyboardInterrupt:
        raise Interrupted("stopped before anything was measured") from None
    finally:
        listener.stopped()


def profiles(request: Request, listener: Listener) -> list[Profile]:
    """Where the time of a U-Net goes, in each mode, beside PyTorch's for the same layers."""
    if request.suite != "net":
        raise ArgumentError("--profile: it is for a whole net; needs tinyseg bench net --profile")
    _check_net(request)
    yardstick = next(iter(yardsticks(request.against)), None)
    cores = others()
    try:
        with threads(request.threads, yardstick is not None):
            found = profile_net(request.net, yardstick, request.seed, listener.progress)
    finally:
        listener.stopped()
    return [replace(profile, busy=busy_text(cores(), os.cpu_count())) for profile in found]


def _layers(request: Request, listener: Listener, keep: Keep) -> Bench:
    layers = select(read_layers(request.layers), request.suite, request.names)
    if request.sweep is not None:
        parameter, values, layers = swept(layers[0], request.sweep)
    kernel, verdicts = None, {}
    if request.kernel is not None:
        kernel, layers, verdicts = _kernel(request, layers, listener)
    candidates = contenders(request.against, kernel, request.algorithms)
    names = [candidate.name for candidate in candidates]
    baseline = _baseline(request.baseline, names, ("torch", "im2col"))
    directions = request.directions or ((kernel.direction,) if kernel else DIRECTIONS)
    work = places(layers, directions, candidates)
    if not any(work.values()):
        raise ArgumentError(f"bench: none of {', '.join(names)} can do any of "
                            f"{', '.join(layer.name for layer in layers)} in direction {', '.join(directions)}; "
                            "choose others with --algorithm, --layers or --direction")
    with threads(request.threads, any(name.startswith("torch") for name in names)) as count:
        listener.told(f"{sum(work.values())} measurements: {len(work)} layers and directions, by those who can of "
                      f"{', '.join(names)}")
        found = Bench(_title(request, kernel), facts(count), measure_peaks(count),
                      {**asdict(request.settings), "memory": memory.method()}, layers, [], baseline,
                      missing=list(work))
        _gather(found, measure(layers, directions, candidates, request.settings, verdicts, listener.progress), keep)
        if not found.missing:
            with suppress(KeyboardInterrupt):
                found.peaks = found.peaks.better(measure_peaks(count))
    if request.sweep is not None:
        found.sweep = fit(found, parameter, values)
    return found


def _net(request: Request, listener: Listener, keep: Keep) -> Bench:
    _check_net(request)
    names = ["tinyseg", *yardsticks(request.against)]
    baseline = _baseline(request.baseline, names, ("torch", "tinyseg"))
    settings = replace(request.settings, patience=NET_PATIENCE)
    with threads(request.threads, len(names) > 1) as count:
        found = Bench(request.net.name, facts(count), measure_peaks(count), {**asdict(settings), "memory": METHOD}, [],
                      [], baseline, missing=[(request.net.name, mode) for mode in MODES])
        _gather(found, measure_net(request.net, names[1:], settings, count, listener.progress), keep)
    return found


def _check_net(request: Request) -> None:
    if request.kernel or request.sweep or request.algorithms or request.names or request.directions:
        raise ArgumentError("net: a whole net has no kernel, sweep, layer, direction or algorithm to choose; "
                            "it takes --base, --size, --batch and --against")


def _gather(found: Bench, groups: Iterable[list[Result]], keep: Keep) -> None:
    """Add to `found` what comes, until it ends or somebody asks to stop."""
    cores = others()
    try:
        for results in groups:
            found.add(results)
            found.others = cores()
            keep(found)
    except KeyboardInterrupt:
        if not found.results:
            raise


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a measurement as Ctrl-C does; only the main thread can be told."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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


def _baseline(name: str | None, names: Sequence[str], preferred: Sequence[str]) -> str | None:
    if name is None:
        return next((choice for choice in preferred if choice in names), None)
    if name not in names:
        raise ArgumentError(f"--baseline {name!r}; legal: {', '.join(names)}")
    return name


def _title(request: Request, kernel: UserKernel | None) -> str:
    kind = request.suite or (kernel.operation if kernel else "all")
    return {"conv": "Convolutions", "transposed": "Transposed convolutions", "dilated": "Dilated convolutions",
            "pool": "Pooling", "conv2d": "Convolutions", "conv_transpose2d": "Transposed convolutions",
            "max_pool2d": "Pooling", "avg_pool2d": "Pooling",
            }.get(kind, "The layers of segmentation nets") + " on one machine"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
