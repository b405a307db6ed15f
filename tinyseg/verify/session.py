"""`verify`: properties of a kernel in a process of its own, watched from here."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from tinyseg.errors import ArgumentError
from tinyseg.verify.child import Ledger, crashed
from tinyseg.verify.runner import Budget, Outcome
from tinyseg.verify.subject import Request
from tinyseg.verify.testing import named

__all__ = ["Report", "verify"]

FIRST = 90.0                                         # seconds for the first calls, which may compile
CRASHES = 3                                          # after so many properties a kernel is left alone
_FIRST = ("output size", "definition")
_SHRINK = 25.0                                       # seconds for making a crash smaller


@dataclass
class Report:
    """All that was found.

    kernels     what was verified: the kernel and its gradients, as described by the process that imported them
    outcomes    (kernel's name, outcome) for each property
    unusable    (fact, advice) where the kernel could not be called at all
    notes       what the reader should know about how it was done
    """

    request: Request
    seed: int = 0
    kernels: list[dict[str, Any]] = field(default_factory=list)
    outcomes: dict[tuple[str, str], Outcome] = field(default_factory=dict)
    unusable: tuple[str, str] | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def failed(self) -> list[tuple[str, Outcome]]:
        """The failing ones: wrong results before what follows from them, then the smallest case first."""
        found = [(name, o) for (name, _), o in self.outcomes.items() if o.failed]
        return sorted(found, key=lambda pair: (pair[1].property.name not in _FIRST, pair[1].case.size))

    @property
    def unreached(self) -> set[tuple[str, str]]:
        """Failures for the reason of another: the kernel raised, or gave no array, and there was nothing to check."""
        told: set[tuple[str, str]] = set()
        again = set()
        for name, outcome in self.failed:
            cause = name, outcome.violation.cause
            if cause in told:
                again.add((name, outcome.property.name))
            elif outcome.violation.cause:
                told.add(cause)
        return again

    @property
    def holds(self) -> bool:
        return self.unusable is None and not self.failed


class _Child:
    """The process, its messages, and why it ended."""

    def __init__(self, request: Request, task: dict[str, Any], folder: Path):
        key = secrets.token_bytes(16)
        self.ledger = Ledger(folder / "ledger", create=True)
        self.errors = folder / "errors"
        with Listener(authkey=key) as listener, open(self.errors, "wb") as errors:
            self.process = subprocess.Popen([sys.executable, "-m", "tinyseg.verify.child"], stdin=subprocess.PIPE,
                                            stdout=subprocess.DEVNULL, stderr=errors)
            self.process.stdin.write(f"{listener.address}\n{key.hex()}\n".encode())
            self.process.stdin.flush()
            self.line: Connection = listener.accept()
        self.line.send((request, task, str(folder / "ledger")))

    def receive(self, limit: float) -> tuple[Any, ...]:
        """The next message; ("crash", status) when it died, ("hang",) when a call took longer than `limit`."""
        while True:
            try:
                if self.line.poll(0.1):
                    return self.line.recv()
            except (EOFError, OSError):
                return "crash", self.process.wait()
            calls, since = self.ledger.running
            if since and time.monotonic() - since > (limit if calls > 3 else max(limit, FIRST)):
                return ("hang",)

    def place(self, file: str) -> str:
        """Where in the user's file it died, from the interpreter's last words."""
        words = self.errors.read_text(errors="replace")
        found = re.findall(rf'File "[^"]*{re.escape(Path(file).name)}", line (\d+) in (\S+)', words)
        return f" ({Path(file).name}, line {found[0][0]}, in {found[0][1]})" if found else ""

    def stop(self) -> None:
        with suppress(OSError, EOFError):
            self.line.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()


def verify(request: Request, budget: Budget | None = None, seed: int = 0, call_limit: float = 10.0,
           only: list[str] | None = None, tell: Callable[[Report], None] = lambda report: None) -> Report:
    """Every property of the kernel that `request` names, on drawn geometries, the failing ones made small.

    call_limit    seconds after which a call counts as endless
    only          names of properties; by default all
    tell          called with the report whenever there is more in it

    A crash, an endless call or an import that fails is a finding.  Raises ArgumentError for a request that makes no
    sense, like an unknown operation.
    """
    budget, report, started = budget or Budget(), Report(request, seed), time.monotonic()
    for name in only or ():
        named(name)                                  # refuses what is none
    crashes = 0
    with tempfile.TemporaryDirectory(prefix="tinyseg-verify-", ignore_cleanup_errors=True) as folder:
        while True:
            seconds = max(5.0, budget.seconds - (time.monotonic() - started))
            child = _Child(request, {"apart": None, "budget": replace(budget, seconds=seconds), "seed": seed,
                                     "only": only, "done": [key for key, o in report.outcomes.items() if o.failed]},
                           Path(folder))
            ended = _listen(child, report, call_limit, tell)
            place = child.place(request.target.rpartition(":")[0] or request.target) if ended else ""
            child.stop()
            if ended is None:
                break
            note = child.ledger.last()
            status = ended[1] if ended[0] == "crash" else None
            violation = crashed(status, call_limit)
            if note is None:
                report.unusable = f"{request.target}: importing {violation.numbers}{place}", violation.advice
                break
            name, prop, _, _, case = note
            violation.numbers += place
            left_over = budget.seconds - (time.monotonic() - started)
            report.outcomes[name, prop.name] = _smaller(request, Outcome(prop, 0, case, violation), note, call_limit,
                                                        Path(folder), min(_SHRINK, max(5.0, left_over / 2)), place)
            tell(report)
            crashes += 1
            if crashes >= CRASHES:
                report.notes.append(f"The process died or hung {crashes} times; the other properties were not tried.")
                break
    if not report.outcomes and report.unusable is None:
        raise ArgumentError(f"--only {', '.join(only or ())}: says nothing of {report.kernels[0]['operation']} with "
                            "the options that this kernel takes")
    report.seconds = time.monotonic() - started
    return report


def _listen(child: _Child, report: Report, limit: float, tell: Callable[[Report], None]) -> tuple[Any, ...] | None:
    """Take in what the child says.  None when it has finished, else how it ended."""
    while True:
        kind, *what = child.receive(limit)
        if kind == "loaded":
            report.kernels = [what[0], *what[0]["gradients"]]
        elif kind == "outcome":
            name, outcome = what
            known = report.outcomes.get((name, outcome.property.name))
            if known is None or not known.failed:
                report.outcomes[name, outcome.property.name] = outcome
        elif kind == "unusable":
            report.unusable = what[0], what[1]
            return None
        elif kind == "misuse":
            raise ArgumentError(what[0])
        elif kind == "done":
            return None
        elif kind in ("crash", "hang"):
            return kind, *what
        tell(report)


def _smaller(request: Request, outcome: Outcome, note: tuple[Any, ...], limit: float, folder: Path, seconds: float,
             place: str) -> Outcome:
    """Hunt again for what crashed, each call in a process of its own, so that it shrinks like any wrong result."""
    if not hasattr(os, "fork"):
        return outcome
    name, prop, examples, seed, _ = note
    child = _Child(request, {"apart": (name, prop.name, examples, seed, min(limit, 5.0), seconds)}, folder)
    found, end = outcome, time.monotonic() + 3 * seconds
    try:
        while time.monotonic() < end:
            kind, *what = child.receive(limit=2 * seconds)
            if kind == "outcome":
                other = what[1]
                if other.failed:
                    if other.violation.numbers + place == outcome.violation.numbers:
                        other.violation.numbers += place             # the same crash, so at the same line
                    found = other
            elif kind in ("done", "crash", "hang", "unusable", "misuse"):
                break
    finally:
        child.stop()
    return found
