"""A finished measurement: the machine, its peaks, every sample; as a file, and beside another machine's."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from tinyseg.bench.harness import Result
from tinyseg.bench.layers import Layer
from tinyseg.bench.peaks import Peaks
from tinyseg.bench.statistics import Summary, different, geometric_mean
from tinyseg.errors import ArgumentError, DataError
from tinyseg.files import replacing

__all__ = ["Bench", "Compared", "compare", "others"]

FORMAT = "tinyseg-bench-1"
BUSY = 0.15              # cores in the hands of other programs, above which the times are not the machine's own


@dataclass
class Bench:
    """What `tinyseg bench` found.

    machine     facts of `tinyseg.machine`, and PyTorch's version
    settings    of the clock, in seconds and rounds, and how memory was measured
    others      cores that other programs used meanwhile, None where the system does not say
    sweep       {"parameter", "values"} when the layers are one layer at several sizes
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

    def geometric_means(self, direction: str | None = None) -> dict[str, tuple[float, int]]:
        """For each candidate the mean ratio over what both it and the baseline were measured on, and the count."""
        means = {}
        for name in self.candidates:
            ratios = [ratio.value for r in self.results if r.candidate == name and direction in (None, r.direction)
                      and (ratio := self.ratio(r)) is not None]
            if ratios:
                means[name] = geometric_mean(ratios), len(ratios)
        return means

    @property
    def busy(self) -> str | None:
        """A warning when other programs ran meanwhile."""
        if self.others is None or self.others <= BUSY:
            return None
        cores = self.machine.get("cores") or os.cpu_count()
        return (f"Other programs used {self.others:.1f} of {cores} cores meanwhile: neither times nor ratios are to be "
                "trusted. Measure again on a quiet machine.")

    def write(self, path: str | Path) -> None:
        found = {"format": FORMAT, **{key: getattr(self, key) for key in
                                      ("title", "machine", "settings", "baseline", "others", "sweep")},
                 "peaks": self.peaks.to_dict(), "layers": [layer.to_dict() for layer in self.layers],
                 "results": [asdict(result) for result in self.results]}
        with replacing(path) as file:
            file.write(json.dumps(found, indent=1).encode())

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
                       found["baseline"], found["others"], found["sweep"])
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


@contextmanager
def others() -> Iterator[list[float | None]]:
    """Afterwards the list holds how many cores other programs used meanwhile; None where the system does not say."""
    found: list[float | None] = [None]
    before, began = _processor_seconds(), perf_counter()
    yield found
    after, seconds = _processor_seconds(), perf_counter() - began
    if before and after and seconds > 0:
        found[0] = max(0.0, ((after[0] - before[0]) - (after[1] - before[1])) / seconds)


def _processor_seconds() -> tuple[float, float] | None:
    """Of the whole machine, and of this process with its children."""
    try:
        with open("/proc/stat") as file:
            user, nice, system, _, _, irq, softirq, steal = (int(v) for v in file.readline().split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4])
    except (OSError, ValueError):
        return None
