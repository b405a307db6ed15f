"""What a measurement says, as words for a terminal, a page or a slide: nothing is rounded anywhere else."""

from __future__ import annotations

from dataclasses import dataclass

from tinyseg.bench.harness import Result
from tinyseg.bench.record import Bench, Ratio, Standing
from tinyseg.bench.statistics import Summary

__all__ = ["COLUMNS", "Row", "bytes_text", "layers_text", "processes_text", "quotient_text", "rate_text",
           "ratio_text", "rows", "seconds_text", "spread_text"]

COLUMNS = ("time", "±", "ratio", "GFLOP/s", "% peak", "extra memory", "error")
NOTHING = "–"
FEW = 6                  # samples that an interval of 95 % needs


@dataclass(frozen=True)
class Row:
    """A result beside what follows from it.

    rate     operations per second
    share    of the peak of its kind: the matrix unit for reduced precision, memory for pooling, else float32
    roof     which of them, "float32", "bfloat16" or "memory"
    """

    result: Result
    ratio: Ratio | None
    is_baseline: bool
    rate: float | None
    share: float | None
    roof: str

    @property
    def words(self) -> tuple[str, ...]:
        """One text for each of COLUMNS."""
        time = self.result.time
        if time is None:
            return (NOTHING,) * 6 + (error_text(self.result.error),)
        ratio = "1" if self.is_baseline else ratio_text(self.ratio)
        return (seconds_text(time.median), spread_text(time), ratio, rate_text(self.rate), share_text(self.share),
                bytes_text(self.result.extra, coarse=True), error_text(self.result.error))


def rows(bench: Bench) -> dict[tuple[str, str], list[Row]]:
    """By (layer, direction), the fastest first, then who was not measured; who refused is left out."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for result in bench.results:
        if result.status != "refused":
            groups.setdefault((result.layer, result.direction), []).append(_row(bench, result))
    for found in groups.values():
        found.sort(key=lambda row: row.result.time.median if row.result.time else float("inf"))
    return groups


def _row(bench: Bench, result: Result) -> Row:
    layer, peaks = bench.layer(result.layer), bench.peaks
    rate = share = None
    roof = "float32"
    if layer is not None and result.time is not None:
        rate = layer.flops / result.time.median
        if layer.pools:
            roof, share = "memory", layer.bytes(result.direction) / result.time.median / peaks.bandwidth
        elif result.reduced:
            roof, share = "bfloat16", rate / peaks.bf16 if peaks.bf16 else None
        else:
            share = rate / peaks.flops
    return Row(result, bench.ratio(result), result.candidate == bench.baseline, rate, share, roof)


def layers_text(standing: Standing) -> str:
    """`13`, or `2 of 13` where the candidate was not measured on all."""
    return str(standing.of) if standing.layers == standing.of else f"{standing.layers} of {standing.of}"


def seconds_text(seconds: float) -> str:
    """0.00123 -> 1.23 ms."""
    unit, size = ("s", 1.0) if seconds >= 1 else ("ms", 1e-3) if seconds >= 1e-3 else ("µs", 1e-6)
    value = seconds / size
    return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"


def spread_text(time: Summary) -> str:
    """Half the interval of the median, in percent; and of how many samples where they are few."""
    if time.n == 1:
        return "1 call"
    percent = 100 * time.spread
    return (f"{percent:.1f} %" if percent < 10 else f"{percent:.0f} %") + f" of {time.n}" * (time.n < FEW)


def ratio_text(ratio: Ratio | None) -> str:
    """"not different" where the intervals overlap: then there is nothing to say."""
    if ratio is None:
        return NOTHING
    return quotient_text(ratio.value) if ratio.clear else "not different"


def quotient_text(value: float) -> str:
    return f"{value:.2f}" if value >= 0.095 else f"{value:.1g}"


def rate_text(rate: float | None) -> str:
    return NOTHING if rate is None else f"{rate / 1e9:,.0f}" if rate >= 1e11 else f"{rate / 1e9:.3g}"


def share_text(share: float | None) -> str:
    return NOTHING if share is None else f"{100 * share:.0f}" if share >= 0.095 else f"{100 * share:.1g}"


def bytes_text(count: float | None, coarse: bool = False) -> str:
    """Bytes in 1024s.  `coarse` leaves out what a measurement by pages cannot see."""
    if count is None:
        return NOTHING
    if coarse and count < 1 << 20:
        return "< 1 MiB"
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= size:
            return f"{count / size:.3g} {unit}" if count < 1000 * size else f"{count / size:.0f} {unit}"
    return f"{count:.0f} B"


def processes_text(bench: Bench, direction: str) -> str:
    """How large the processes of whole nets grew, or nothing."""
    found = [f"{r.candidate} {bytes_text(r.peak)}" for r in bench.results if r.direction == direction and r.peak]
    return f"Memory of the whole process at its highest, {direction}: {', '.join(found)}" if found else ""


def error_text(error: float | None) -> str:
    return NOTHING if error is None else f"{error:.1e}"
