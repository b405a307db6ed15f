"""A measurement on a terminal: progress while it runs, a table at its end."""

from time import perf_counter

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from tinyseg.bench.profile import Profile
from tinyseg.bench.record import Bench, Compared
from tinyseg.bench.rows import (
    COLUMNS,
    Row,
    bytes_text,
    layers_text,
    processes_text,
    quotient_text,
    rate_text,
    ratio_text,
    rows,
    seconds_text,
    spread_text,
)
from tinyseg.cli.profile_table import print_profile

__all__ = ["Terminal"]

_PIPE = 200              # columns: a pipe has no width
_FEW = 5                 # measurements that an estimate of the time needs
_STYLE = {"wrong": "red", "failed": "red"}


class Terminal:
    """Prints to standard output; progress goes to standard error."""

    def __init__(self) -> None:
        self.console = Console()
        if not self.console.is_terminal:
            self.console.width = _PIPE
        self.errors = Console(stderr=True)
        self.bar: Progress | None = None

    def told(self, line: str) -> None:
        self.errors.print(line, markup=False, highlight=False, soft_wrap=True)

    def progress(self, text: str, done: int, total: int) -> None:
        if not self.errors.is_terminal:
            return
        if self.bar is None:
            self.bar = Progress(TextColumn("{task.description:<28}"), BarColumn(bar_width=None), MofNCompleteColumn(),
                                TimeElapsedColumn(), TextColumn("{task.fields[left]}"), console=self.errors,
                                transient=True)
            self.task, self.began = self.bar.add_task("", left=""), perf_counter()
            self.bar.start()
        left = time_left(perf_counter() - self.began, done, total)
        self.bar.update(self.task, description=escape(text), completed=done, total=total, left=left)
        if done >= total:
            self.stopped()

    def stopped(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def table(self, bench: Bench) -> None:
        out = self.console
        groups = rows(bench)
        everything = [row for group in groups.values() for row in group]
        names = max(len(row.result.candidate) for row in everything)
        widths = [max(map(len, column)) for column in zip(COLUMNS, *(row.words for row in everything), strict=True)]
        for (layer, direction), group in groups.items():
            out.print(_heading(bench, layer, direction), soft_wrap=True)
            lines = Table(box=None, pad_edge=False, header_style="dim")
            lines.add_column("", width=names, no_wrap=True)
            for name, width in zip(COLUMNS, widths, strict=True):
                lines.add_column(name, justify="right", width=width, no_wrap=True)
            for row in group:
                lines.add_row(Text(row.result.candidate, _STYLE.get(row.result.status, "")), *row.words)
            out.print(lines, soft_wrap=True)
            out.print()
        for row in (row for row in everything if row.result.reason):
            out.print(Text.assemble((f"{row.result.candidate}: {row.result.status}", _STYLE[row.result.status]),
                                    f" on {row.result.layer}, {row.result.direction.replace('_', ' ')}: "
                                    f"{row.result.reason}{advice(row)}"), soft_wrap=True)
        self._standings(bench)
        for direction in dict.fromkeys(direction for _, direction in groups):
            if memory := processes_text(bench, direction):
                out.print(memory, highlight=False, soft_wrap=True)
        if bench.sweep:
            for line in bench.sweep["lines"]:
                out.print(line, highlight=False, soft_wrap=True)
        peaks = bench.peaks
        matrix_unit = f", bfloat16 {rate_text(peaks.bf16)}" if peaks.bf16 else ""
        out.print(f"peaks: float32 {rate_text(peaks.flops)} GFLOP/s ({peaks.threads} threads), BLAS "
                  f"{rate_text(peaks.sgemm)}{matrix_unit}; memory {peaks.bandwidth / 1e9:.3g} GB/s", highlight=False,
                  soft_wrap=True)
        for warning in filter(None, (bench.busy, bench.incomplete)):
            out.print(Text(warning, "yellow"), soft_wrap=True)

    def _standings(self, bench: Bench) -> None:
        """Nothing for a single layer, whose ratios are in its own table."""
        found = bench.standings()
        if not found or len({result.layer for result in bench.results}) == 1:
            return
        lines = Table(box=None, pad_edge=False, header_style="dim")
        for name, justify in (("", "left"), ("", "left"), ("mean", "right"), ("layers", "right"), ("< 1", "right"),
                              ("slower on", "left")):
            lines.add_column(name, justify=justify, no_wrap=name != "slower on")
        last = None
        for standing in found:
            who = "" if standing.candidate == last else standing.candidate
            direction = (standing.direction or "all").replace("_", " ")
            lines.add_row(Text(who), direction, quotient_text(standing.mean), layers_text(standing),
                          str(standing.below), Text(", ".join(standing.slower)))
            last = standing.candidate
        self.console.print(Text.assemble(("geometric mean of the ratios", "bold"),
                                         f" to {bench.baseline}; in parentheses: not different"), soft_wrap=True)
        self.console.print(lines)
        self.console.print()

    def profiles(self, found: list[Profile]) -> None:
        for profile in found:
            print_profile(self.console, profile)

    def compared(self, first: Bench, second: Bench, found: list[Compared]) -> None:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for name, justify in (("layer", "left"), ("", "left"), ("candidate", "left"), ("first", "right"),
                              ("±", "right"), ("second", "right"), ("±", "right"), ("first / second", "right")):
            table.add_column(name, justify=justify, no_wrap=True)
        last = None
        for row in found:
            place = row.layer, row.direction
            shown = ("", "") if place == last else (escape(row.layer), row.direction.replace("_", " "))
            table.add_row(*shown, escape(row.candidate), seconds_text(row.first.median), spread_text(row.first),
                          seconds_text(row.second.median), spread_text(row.second), ratio_text(row.ratio))
            last = place
        for name, bench in (("first", first), ("second", second)):
            self.console.print(f"{name + ':':<8}{bench.machine.get('cpu')}, {bench.peaks.threads} threads, float32 "
                               f"peak {rate_text(bench.peaks.flops)} GFLOP/s", highlight=False, markup=False,
                               soft_wrap=True)
        self.console.print(table)
        for name, bench in (("first", first), ("second", second)):
            for warning in filter(None, (bench.busy, bench.incomplete)):
                self.console.print(Text(f"{name}: {warning}", "yellow"), soft_wrap=True)


def _heading(bench: Bench, name: str, direction: str) -> Text:
    layer = bench.layer(name)
    heading = Text.assemble((f"{name} · {direction.replace('_', ' ')}", "bold"))
    if layer is not None:
        heading.append(f"   {layer.text} · {layer.flops / 1e9:.3g} GFLOP, moves at least "
                       f"{bytes_text(layer.bytes(direction))}", "dim")
    return heading


def time_left(spent: float, done: int, total: int) -> str:
    """Nothing before the first few, which also load and compile."""
    if done < _FEW:
        return ""
    left = spent / done * (total - done)
    return f"about {left / 60:.0f} min left" if left >= 90 else f"about {left:.0f} s left"


def advice(row: Row) -> str:
    """What to do about a candidate that disagrees."""
    return f"; find out where: tinyseg verify {row.result.candidate}" if row.result.status == "wrong" else ""
