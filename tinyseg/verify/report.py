"""The findings as people read them, and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tinyseg.verify.operations import Operation, operation
from tinyseg.verify.reproduce import lines, spelled
from tinyseg.verify.runner import Outcome
from tinyseg.verify.session import Report
from tinyseg.verify.violation import wrong_cells

__all__ = ["as_json", "as_text", "matrix"]

_LARGEST = 9                                         # rows and columns of a matrix that are shown


def as_text(report: Report, everything: bool = False) -> RenderableType:
    """For a terminal: what held, then the smallest failing case in full; with `everything` each failing property."""
    parts: list[RenderableType] = []
    if report.unusable is not None:
        fact, advice = report.unusable
        return Group(Text.assemble(("cannot be verified: ", "bold red"), fact), Text(f"  {advice}"))
    for kernel in report.kernels:
        parts += [_heading(report, kernel), _table(report, kernel), Text()]
    failed = [(name, o) for name, o in report.failed if (name, o.property.name) not in report.unreached]
    shown: set[Any] = set()
    for name, outcome in failed:
        same = (str(outcome.case), outcome.violation.numbers)
        if (shown and not everything) or same in shown:
            continue
        shown.add(same)
        parts += [_details(report, name, outcome), Text()]
    parts += [Text(note, "yellow") for note in report.notes]
    parts.append(_verdict(report, len(failed), len(shown)))
    return Group(*parts)


def _heading(report: Report, kernel: dict[str, Any]) -> Text:
    op = operation(kernel["operation"])
    options = ", ".join(o for o in op.options if o in kernel["supports"]) or "no options"
    return Text.assemble((kernel["name"], "bold"), f" as {op.name} with {options};  seed {report.seed}")


def _table(report: Report, kernel: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    table.add_column(no_wrap=True)
    for key, outcome in report.outcomes.items():
        if key[0] != kernel["name"]:
            continue
        if key in report.unreached:
            table.add_row(Text(f"  ✗ {outcome.property.name}", "red"), Text(outcome.property.formula, "dim"),
                          Text(f"held on {outcome.held}, then the same" if outcome.held else "not reached", "red"))
        elif outcome.failed:
            table.add_row(Text(f"  ✗ {outcome.property.name}", "bold red"), Text(outcome.property.formula, "red"),
                          Text("FAILS", "bold red"))
        else:
            table.add_row(Text(f"  ✓ {outcome.property.name}"), Text(outcome.property.formula, "dim"),
                          Text(f"held on {outcome.held}" if outcome.held else "not tried",
                               "green" if outcome.held else "yellow"))
    return table


def _details(report: Report, name: str, outcome: Outcome) -> RenderableType:
    kernel = next(k for k in report.kernels if k["name"] == name)
    op, prop, violation = operation(kernel["operation"]), outcome.property, outcome.violation
    rows: list[tuple[str, RenderableType]] = [
        ("formula", Text(op.formula if prop.check.__name__ == "definition" else prop.formula)),
        ("source", Text(prop.source, "dim")),
        ("smallest failing geometry", Text(str(outcome.case), "bold")),
        ("what happened" if violation.expected is None else "with numbers",
         Text(spelled(op, outcome) or violation.numbers)),
    ]
    if violation.advice:
        rows.append(("advice", Text(violation.advice)))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    parts: list[RenderableType] = [Text.assemble((f"{prop.name} fails", "bold red")), Padding(table, (0, 0, 0, 2))]
    matrices = list(_matrices(op, outcome))
    if matrices:
        parts.append(Padding(Columns(matrices, padding=(0, 4)), (1, 0, 0, 2)))
    parts += [Text("\n  reproduce it:", "dim"),
              Padding(Text(lines(report.request, kernel, outcome, op), overflow="fold"), (0, 0, 0, 4))]
    return Group(*parts)


def _matrices(op: Operation, outcome: Outcome) -> Iterator[RenderableType]:
    """Operands, expected and got, each as the plane that the first wrong cell is in."""
    case, violation = outcome.case, outcome.violation
    for word, name in zip(op.words, op.operands, strict=True):
        yield _titled(word, case[name], None, (0, 0))
    expected, got = violation.expected, violation.got
    if expected is None or got is None:
        return
    wrong = wrong_cells(expected, got, violation.tolerance) if expected.shape == got.shape else None
    at = tuple(int(i) for i in np.argwhere(wrong)[0]) if wrong is not None and wrong.any() else (0,) * expected.ndim
    yield _titled("expected", expected, wrong, at)
    yield _titled("got", got, wrong, at if wrong is not None else (0,) * got.ndim, marked=True)


def _titled(word: str, array: np.ndarray, wrong: np.ndarray | None, at: tuple[int, ...], marked: bool = False) -> Text:
    front = at[:max(0, array.ndim - 2)]
    plane = array[front] if array.size else array.reshape(0, 0)
    title = f"{word}[{', '.join(map(str, front))}]" if any(n > 1 for n in array.shape[:-2]) else word
    rows = np.atleast_2d(plane)
    cells = np.atleast_2d(wrong[front]) if wrong is not None else np.zeros(rows.shape, bool)
    centre = at[-2:] if array.ndim >= 2 and len(at) == array.ndim else (0, 0)
    return Text.assemble((title, "dim"), "\n", matrix(rows, cells, centre, marked))


def matrix(rows: np.ndarray, wrong: np.ndarray, centre: tuple[int, int] = (0, 0), marked: bool = True) -> Text:
    """Numbers in columns.  A wrong cell is red and, for terminals without colour, stands in [brackets]."""
    slices = []
    for n, middle in zip(rows.shape, centre, strict=True):
        first = max(0, min(middle - _LARGEST // 2, n - _LARGEST))
        slices.append(slice(first, first + _LARGEST))
    part, bad = rows[tuple(slices)], wrong[tuple(slices)]
    words = [[f"[{_number(v)}]" if b and marked else f" {_number(v)} " for v, b in zip(r, w, strict=True)]
             for r, w in zip(part, bad, strict=True)]
    width = max((len(word) for row in words for word in row), default=1)
    text = Text()
    for r, row in enumerate(words):
        for q, word in enumerate(row):
            text.append(word.rjust(width), ("bold red" if marked else "bold green") if bad[r, q] else None)
        text.append(" ...\n" if rows.shape[1] > _LARGEST else "\n")
    if len(rows) > _LARGEST:
        text.append("  ...")
    text.rstrip()
    return text


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, np.floating) else str(value)


def _verdict(report: Report, bad: int, shown: int) -> Text:
    properties, unreached = len(report.outcomes), len(report.unreached)
    cases = sum(o.held for o in report.outcomes.values())
    if not bad:
        return Text(f"All {properties} properties hold on {cases} cases ({report.seconds:.0f} s).", "bold green")
    text = f"{bad} of {properties} properties {'fails' if bad == 1 else 'fail'}"
    if unreached:
        text += f", {unreached} for the same reason"
    text += f" ({report.seconds:.0f} s)."
    if bad > shown:
        text += f"  The smallest case is shown; {bad - shown} more with --all."
    return Text(text, "bold red")


def as_json(report: Report) -> dict[str, Any]:
    """The same as plain data."""
    def entry(name: str, outcome: Outcome) -> dict[str, Any]:
        prop, violation = outcome.property, outcome.violation
        row: dict[str, Any] = {"kernel": name, "property": prop.name, "formula": prop.formula, "source": prop.source,
                               "held": outcome.held, "failed": outcome.failed, "seconds": round(outcome.seconds, 3),
                               "reached": (name, prop.name) not in report.unreached}
        if violation is not None:
            kernel = next(k for k in report.kernels if k["name"] == name)
            op = operation(kernel["operation"])
            row |= {"geometry": str(outcome.case), "case": repr(outcome.case),
                    "numbers": spelled(op, outcome) or violation.numbers, "advice": violation.advice,
                    "expected": None if violation.expected is None else violation.expected.tolist(),
                    "got": None if violation.got is None else violation.got.tolist(),
                    "reproduce": lines(report.request, kernel, outcome, op)}
        return row

    unusable = report.unusable and {"fact": report.unusable[0], "advice": report.unusable[1]}
    return {"target": report.request.target, "kernels": [{k: v for k, v in kernel.items() if k != "gradients"}
                                                         for kernel in report.kernels],
            "seed": report.seed, "holds": report.holds, "seconds": round(report.seconds, 3), "unusable": unusable,
            "notes": report.notes, "properties": [entry(name, o) for (name, _), o in report.outcomes.items()]}
