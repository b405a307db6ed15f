"""The clock.  Candidates take turns in one process, in a new order every round: they share the machine's moods."""

from __future__ import annotations

import gc
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import ceil
from time import perf_counter
from typing import Any

__all__ = ["Settings", "Timed", "interleave", "orders"]

_SAMPLE = 5e-3           # seconds: a faster call is repeated within one sample, beyond the clock's and Python's grain
_WAKE = 0.05             # seconds: a faster call is made once unclocked when its turn comes; see `interleave`
_STEADY = 0.1            # warm-up ends when two calls in a row differ by less
_BEHIND = 20             # times the fastest's, more than bfloat16 gains: who takes so long gets 5 samples or a second
_ONCE = 1.0              # seconds, that second
_CHEAP = 0.02            # seconds: a faster call is worth all its samples however far behind it is


@dataclass(frozen=True)
class Settings:
    """How long to measure.

    rounds      samples of each candidate at least, unless it is far behind; 9 are the fewest with a 95 % interval that
                leaves out a stray one
    seconds     of clocked time for each candidate at least
    patience    seconds of clocked time after which a slow candidate stops, with 3 samples at least
    warm_up     seconds after which the warm-up ends even if calls still differ
    """

    rounds: int = 9
    seconds: float = 0.2
    patience: float = 5.0
    warm_up: float = 1.0
    seed: int = 0


@dataclass
class Timed:
    """Seconds for one call, each the mean of `calls` in a row; `error` if the candidate raised.

    warm_up     calls made here before the first sample
    last        seconds of the last call before the first sample
    """

    samples: list[float] = field(default_factory=list)
    calls: int = 1
    warm_up: int = 0
    last: float = 0.0
    error: BaseException | None = None


def interleave(runners: Mapping[str, Callable[[], Any]], settings: Settings,
               warm: Mapping[str, float] | None = None) -> dict[str, Timed]:
    """Time all runners, each called once before; one that raises keeps its error and the others go on.

    warm    seconds of a call that is no first one and was made just now: if long, it was the warm-up; of who is far
            behind the fastest and takes a second, it is the sample

    Whoever comes after another library finds that library's threads still spinning for work, its own asleep and the
    caches full of another's data.  So every turn of a short call starts with one that is not clocked: what is measured
    is a call among its own kind, as in a network.  Who is far behind the fastest gets fewer samples.
    """
    timed = {name: Timed() for name in runners}
    for name, run in runners.items():
        if (warm or {}).get(name, 0.0) >= _WAKE:
            timed[name].last = warm[name]
        else:
            _guarded(timed[name], _warm_up, run, timed[name], settings)
    going = [name for name in runners if timed[name].error is None]
    best = min((timed[name].last for name in going), default=0.0)
    for name in going:
        if timed[name].last >= max(_BEHIND * best, _ONCE) and not timed[name].warm_up:
            timed[name].samples.append(timed[name].last)                 # one more call would say little more
    enough = {name for name in going if _satisfied(timed[name], settings, best)}
    order = orders(going, settings.seed)
    collecting = gc.isenabled()
    gc.disable()
    try:
        while any(timed[name].error is None and name not in enough for name in going):
            for name in next(order):
                clock = timed[name]
                if clock.error is None and name not in enough:
                    _guarded(clock, _sample, runners[name], clock)
                    if _satisfied(clock, settings, best):
                        enough.add(name)
            gc.collect(0)
    finally:
        if collecting:
            gc.enable()
    return timed


def orders(names: list[str], seed: int = 0):
    """For ever a new order of the names, one for each round: shuffled, so that nobody always follows the same one."""
    rng = random.Random(seed)
    while True:
        yield rng.sample(names, len(names))


def _warm_up(run, clock: Timed, settings: Settings) -> None:
    began, last = perf_counter(), float("inf")
    while True:
        start = perf_counter()
        run()
        now = perf_counter()
        clock.warm_up += 1
        steady = abs(now - start - last) <= _STEADY * last
        last = now - start
        if last >= _WAKE or now - began >= settings.warm_up or (clock.warm_up >= 2 and steady):
            break                                    # a long call has warmed up before its end
    clock.last, clock.calls = last, max(1, ceil(_SAMPLE / max(last, 1e-7)))


def _sample(run, clock: Timed) -> None:
    if (clock.samples or [clock.last])[-1] < _WAKE:
        run()
    start = perf_counter()
    for _ in range(clock.calls):
        run()
    clock.samples.append((perf_counter() - start) / clock.calls)


def _satisfied(clock: Timed, settings: Settings, best: float) -> bool:
    n, spent = len(clock.samples), sum(clock.samples) * clock.calls
    if clock.last > max(_BEHIND * best, _CHEAP) and (n >= 5 or spent >= _ONCE):
        return True
    return (n >= settings.rounds and spent >= settings.seconds) or (n >= 3 and spent >= settings.patience)


def _guarded(clock: Timed, step, *arguments) -> None:
    try:
        step(*arguments)
    except (Exception, SystemExit) as error:
        clock.error = error
