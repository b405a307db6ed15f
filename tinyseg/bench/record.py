"""A finished measurement: the machine, its peaks, every sample; as a file, and beside another machine's."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from tinyseg.bench.harness import Place, Result
from tinyseg.bench.layers import Layer
from tinyseg.bench.peaks import Peaks
from tinyseg.bench.statistics import Summary, different, geometric_mean
from tinyseg.errors import ArgumentError, DataError
from tinyseg.files import replacing

__all__ = ["Bench", "Compared", "Standing", "busy_text", "compare", "others"]

FORMAT = "tinyseg-bench-1"
BUSY = 0.15              # cores in the hands of other programs, above which the times are not the machine's own


@dataclass
class Bench:
    """What `tinyseg bench` found.

    machine     facts of `tinyseg.machine`, and PyTorch's version
    settings    of the clock, in seconds and rounds, and how memory was measured
    others      cores that other programs used meanwhile, None where the system does not say
    sweep       {"parameter", "values"} when the layers are one layer at several sizes
    missing     what was asked for and is not measured, because somebody stopped it or it still runs
    """

    title: str
    machine: dict[str, Any]
    peaks: Peaks
    settings: dict[str, Any]
    layers: list[Layer]
    results: list[Result]
    baseline: str | None = None
    others: float | None = None
    sweep: dict[str, Any] | None = None
    missing: list[Place] = field(default_factory=list)

    def add(self, results: list[Result]) -> None:
        """Those of one place."""
        self.results += results
        self.missing.remove((results[0].layer, results[0].direction))

    @property
    def candidates(self) -> list[str]:
        """Those that were measured, or could not be, on any layer; not those that refused all."""
        return list(dict.fromkeys(r.candidate for r in self.results if r.status != "refused"))

    def layer(self, name: str) -> Layer | None:
        """None for a whole net."""
        return next((layer for layer in self.layers if layer.name == name), None)

    def find(self, layer: str, direction: str, candidate: str | None) -> Result | None:
        return next((r for r in self.results
                     if (r.layer, r.direction, r.candidate) == (layer, direction, candidate)), None)

    def ratio(self, result: Result) -> Ratio | None:
        """The baseline's time over this one's: above 1 is faster than the baseline."""
        base = self.find(result.layer, result.direction, self.baseline)
        if base is None or base.time is None or result.time is None or base is result:
            return None
        return Ratio.of(base.time, result.time)

    def standings(self) -> list[Standing]:
        """Of every candidate against the baseline: by direction, and over all directions where there are several."""
        directions: list[str | None] = list(dict.fromkeys(r.direction for r in self.results))
        if len(directions) > 1:
            directions.append(None)
        return [standing for name in self.candidates for direction in directions
                if (standing := self._standing(name, direction)) is not None]

    def _standing(self, candidate: str, direction: str | None) -> Standing | None:
        mine = [r for r in self.results if r.candidate == candidate and direction in (None, r.direction)]
        rated = [(r, ratio) for r in mine if (ratio := self.ratio(r)) is not None]
        if not rated:
            return None
        of = sum(r.candidate == self.baseline and r.time is not None and direction in (None, r.direction)
                 for r in self.results)
        below = [r.layer if ratio.clear else f"({r.layer})" for r, ratio in rated if ratio.value < 1]
        return Standing(candidate, direction, geometric_mean(ratio.value for _, ratio in rated), len(rated), of,
                        len(below), below if direction else [])

    @property
    def incomplete(self) -> str | None:
        """What is missing, on one line."""
        if not self.missing:
            return None
        by_layer: dict[str, list[str]] = {}
        for layer, direction in self.missing:
            by_layer.setdefault(layer, []).append(direction.replace("_", " "))
        measured = {(r.layer, r.direction) for r in self.results}
        untouched = [layer for layer in by_layer if layer not in {layer for layer, _ in measured}]
        parts = [f"{layer} ({', '.join(ds)})" for layer, ds in by_layer.items() if layer not in untouched]
        return (f"Incomplete: {len(measured)} of {len(measured) + len(self.missing)} layers and directions are "
                f"measured; missing: {', '.join(parts + untouched)}")

    @property
    def busy(self) -> str | None:
        """A warning when other programs ran meanwhile."""
        return busy_text(self.others, self.machine.get("cores") or os.cpu_count())

    def to_dict(self) -> dict[str, Any]:
        """For JSON; "means" follow from the rest, for who reads the file without tinyseg."""
        return {"format": FORMAT, **{key: getattr(self, key) for key in
                                      ("title", "machine", "settings", "baseline", "others", "sweep", "missing")},
                 "means": [asdict(standing) for standing in self.standings()], "peaks": self.peaks.to_dict(),
                 "layers": [layer.to_dict() for layer in self.layers],
                 "results": [asdict(result) for result in self.results]}

    def write(self, path: str | Path) -> None:
        with replacing(path) as file:
            file.write(json.dumps(self.to_dict(), indent=1).encode())

    @classmethod
    def read(cls, path: str | Path) -> Bench:
        """Raises DataError that starts with the path."""
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(found, dict) or found.get("format") != FORMAT:
                raise DataError(f"{path}: not a measurement; needs the bench.json that tinyseg bench --out writes")
            peaks = {key: value for key, value in found["peaks"].items() if key != "flops"}
            return cls(found["title"], found["machine"], Peaks(**peaks), found["settings"],
                       [Layer.of(**item) for item in found["layers"]], [Result(**item) for item in found["results"]],
                       found["baseline"], found["others"], found["sweep"],
                       [(layer, direction) for layer, direction in found.get("missing", ())])
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror or error}); name a bench.json") from None
        except (ValueError, KeyError, TypeError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: damaged ({type(error).__name__}: {error}); measure again") from None


@dataclass(frozen=True)
class Ratio:
    """A quotient of two medians, and the widest that their intervals allow.  `clear` when those do not overlap."""

    value: float
    low: float
    high: float
    clear: bool

    @classmethod
    def of(cls, first: Summary, second: Summary) -> Ratio:
        """first / second: how many times faster the second is."""
        return cls(first.median / second.median, first.low / second.high, first.high / second.low,
                   different(first, second))


@dataclass(frozen=True)
class Standing:
    """How a candidate does against the baseline.

    direction    None for all of them
    mean         geometric mean of the ratios
    layers, of   on how many it was measured, and the baseline
    below        how many ratios are under 1
    slower       the layers of these, in one direction; in parentheses where the times are not different
    """

    candidate: str
    direction: str | None
    mean: float
    layers: int
    of: int
    below: int
    slower: list[str]


@dataclass(frozen=True)
class Compared:
    """A candidate on one layer on two machines; `ratio` is the first machine's time over the second's."""

    layer: str
    direction: str
    candidate: str
    first: Summary
    second: Summary
    ratio: Ratio


def compare(first: Bench, second: Bench) -> list[Compared]:
    """What both measured: the same layer by name and by sizes.  Raises ArgumentError when there is nothing."""
    sizes = {layer.name: layer for layer in second.layers}
    rows = []
    for a in first.results:
        if sizes.get(a.layer) != first.layer(a.layer):
            continue
        b = second.find(a.layer, a.direction, a.candidate)
        if a.time and b is not None and b.time:
            rows.append(Compared(a.layer, a.direction, a.candidate, a.time, b.time, Ratio.of(a.time, b.time)))
    if not rows:
        raise ArgumentError("compare: the two files have no layer and candidate in common; measure the same --layers")
    return rows


def busy_text(others: float | None, cores: int | None) -> str | None:
    if others is None or others <= BUSY:
        return None
    return (f"Other programs used {others:.1f} of {cores} cores meanwhile: neither times nor ratios are to be "
            "trusted. Measure again on a quiet machine.")


def others() -> Callable[[], float | None]:
    """A clock: how many cores other programs have used since it was made; None where the system does not say."""
    before, began = _processor_seconds(), perf_counter()

    def cores() -> float | None:
        now, seconds = _processor_seconds(), perf_counter() - began
        if not before or not now or seconds <= 0:
            return None
        return max(0.0, ((now[0] - before[0]) - (now[1] - before[1])) / seconds)
    return cores


def _processor_seconds() -> tuple[float, float] | None:
    """Of the whole machine, and of this process with its children."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, softirq, steal = (int(v) for v in file.readline().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4])
    except (OSError, ValueError):
        return None
