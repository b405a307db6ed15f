"""Profiles on a terminal: every piece of work that counts, and the sums by kind."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tinyseg.bench.profile import Entry, Profile
from tinyseg.bench.rows import NOTHING, seconds_text

__all__ = ["print_profile"]

_LEAST = 0.005           # share of the whole below which an entry has no line of its own


def print_profile(console: Console, found: Profile) -> None:
    console.print(Text.assemble((found.title, "bold"), f"   {seconds_text(found.seconds)}"), soft_wrap=True)
    lines = _table("time", "share", "calls", "PyTorch", "lost", "", "", "", "")
    large = [entry for entry in found.entries if entry.seconds >= _LEAST * found.seconds]
    for entry in large:
        lines.add_row(*_words(found, entry))
    rest = found.entries[len(large):]
    seconds = sum(entry.seconds for entry in rest)
    lines.add_row(_milliseconds(seconds), _share(seconds, found), str(sum(entry.calls for entry in rest)), "", "",
                  f"{len(rest)} others, each less than {100 * _LEAST:g} %")
    console.print(lines, soft_wrap=True)
    console.print()
    sums = _table("time", "share", "", "")
    for (kind, direction), seconds in found.by_kind().items():
        if seconds < _LEAST / 5 * found.seconds:
            break
        sums.add_row(_milliseconds(seconds), _share(seconds, found), kind, direction.replace("_", " "))
    console.print(sums)
    if (worst := found.worst) is not None:
        console.print(f"most is lost in {worst.work.name} of {worst.work.what}: {_milliseconds(worst.seconds)} ms, "
                      f"PyTorch {_milliseconds(worst.torch)} ms", highlight=False, soft_wrap=True)
    if found.busy:
        console.print(Text(found.busy, "yellow"), soft_wrap=True)
    console.print()


def _table(*names: str) -> Table:
    lines = Table(box=None, pad_edge=False, header_style="dim")
    for name in names:
        unit = " ms" if name in ("time", "PyTorch", "lost") else ""
        lines.add_column(name + unit, justify="right" if name else "left", no_wrap=True)
    return lines


def _words(found: Profile, entry: Entry) -> tuple[str, ...]:
    work, theirs = entry.work, ("", "")
    if entry.torch is not None:
        theirs = _milliseconds(entry.torch), _milliseconds(entry.lost)
    return (_milliseconds(entry.seconds), _share(entry.seconds, found), str(entry.calls), *theirs, work.name,
            work.direction.replace("_", " "), work.algorithm or NOTHING, work.what)


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.1f}" if abs(seconds) < 1 else f"{1e3 * seconds:.0f}"


def _share(seconds: float, found: Profile) -> str:
    return f"{100 * seconds / found.seconds:.1f} %"
