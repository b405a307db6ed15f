"""The process that runs somebody's kernel: whatever happens to it, the report lives on.

It draws the cases and checks the properties itself, so that a call costs no message; what it is doing stands in a
ledger that both processes see.  After a crash it can be started again with every call in a process of its own, which
makes a crash one more wrong result, and so the smallest geometry that crashes is found as any other.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import pickle
import select
import signal
import struct
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import product
from multiprocessing.connection import Client
from pathlib import Path
from typing import Any

from tinyseg.arithmetic import ConvGeometry
from tinyseg.errors import KernelError, TinysegError
from tinyseg.kernels.foreign import ended
from tinyseg.verify.cases import LAYOUTS, Case
from tinyseg.verify.subject import Refused, Request, Subject, load
from tinyseg.verify.violation import Violation

__all__ = ["Ledger", "crashed", "main"]

COMPILING = 20.0                                     # seconds for the first call with arrays of a type
_HEAD = struct.Struct("qdq")                         # calls so far, when the one now running began or 0, bytes of note


class Ledger:
    """A file in memory: how many calls there were, since when one runs, and on which case."""

    SIZE = 1 << 16

    def __init__(self, path: str | Path, create: bool = False):
        if create:
            Path(path).write_bytes(bytes(self.SIZE))
        with open(path, "r+b") as file:
            self._map = mmap.mmap(file.fileno(), self.SIZE)
        self._calls, self._note = 0, b""

    def watch(self, running: bool) -> None:
        self._calls += running
        self._map[:_HEAD.size] = _HEAD.pack(self._calls, time.monotonic() if running else 0.0, len(self._note))

    def note(self, *what: Any) -> None:
        self._note = pickle.dumps(what)
        self._map[_HEAD.size:_HEAD.size + len(self._note)] = self._note
        self.watch(False)

    @property
    def running(self) -> tuple[int, float]:
        """How many calls there were, and when the one that runs began, 0 for none."""
        return _HEAD.unpack(self._map[:_HEAD.size])[:2]

    def last(self) -> tuple[Any, ...] | None:
        """The last note of a process that has ended."""
        length = _HEAD.unpack(self._map[:_HEAD.size])[2]
        return pickle.loads(self._map[_HEAD.size:_HEAD.size + length]) if length else None


def crashed(status: int | None, limit: float) -> Violation:
    """What the end of a process says about the kernel in it.  `status` as of subprocess; None: it was stopped."""
    if status is None:
        advice = "A loop does not reach its end: does its counter move, and towards the end?"
    elif status >= 0:
        advice = "A kernel must not call exit; raise an exception in its place."
    else:
        advice = {-signal.SIGSEGV: "It reads or writes outside its arrays: run it with NUMBA_BOUNDSCHECK=1, or in "
                                   "Python.",
                  -signal.SIGKILL: "It was killed, as the system does when memory runs out.",
                  -signal.SIGFPE: "It divides a whole number by zero."}.get(status, "Compiled code aborted.")
    return Violation(f"it {ended(status, limit)}", direct=True, advice=advice)


def apart(function: Callable[..., Any], limit: float) -> Callable[..., Any]:
    """`function`, each call in a process of its own.  Who takes 30 times as long as any call before is stopped."""
    longest = 0.0

    def call(*arguments: Any, **options: Any) -> Any:
        nonlocal longest
        patience, began = max(0.3, 30 * longest) if longest else limit, time.monotonic()
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(ours)
            try:
                answer = function(*arguments, **options)
            except BaseException as error:           # as ordinary exceptions go, it is told as one
                answer = error
            with os.fdopen(theirs, "wb") as out, suppress(BaseException):
                pickle.dump(answer, out)
            os._exit(0)
        os.close(theirs)
        end, data = began + min(limit, patience), []
        with os.fdopen(ours, "rb", buffering=0) as pipe:
            while True:
                ready, _, _ = select.select([pipe], [], [], max(0.0, end - time.monotonic()))
                if not ready:
                    os.kill(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                    raise crashed(None, limit)
                part = pipe.read(1 << 20)
                if not part:
                    break
                data.append(part)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not data:
            raise crashed(status, limit)
        longest = max(longest, time.monotonic() - began)
        answer = pickle.loads(b"".join(data))
        if isinstance(answer, BaseException):
            raise answer
        return answer
    return call


def _limit_memory() -> None:
    """So that a size computed from wrong numbers is an error here and no trouble for the machine."""
    with suppress(ImportError, ValueError, OSError):
        import resource
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        resource.setrlimit(resource.RLIMIT_AS, (total * 3 // 4, resource.getrlimit(resource.RLIMIT_AS)[1]))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _serve(tell: Callable[..., None], ledger: Ledger, request: Request, task: dict[str, Any]) -> None:
    from tinyseg.verify.properties import PROPERTIES
    from tinyseg.verify.runner import Outcome, examine, hunt
    ledger.watch(True)                               # an import may not end either
    subject = load(request)
    ledger.watch(False)
    tell("loaded", _described(subject))
    if task["apart"] is None:
        subjects = [subject, *subject.gradients.values()]
        for each in subjects:
            each.watch = ledger.watch
        for each in subjects:
            examine(each, task["budget"], task["seed"], task["only"],
                    [prop for name, prop in task["done"] if name == each.name],
                    lambda outcome, each=each: tell("outcome", each.name, outcome),
                    lambda *what, each=each: ledger.note(each.name, *what))
            tell("examined", each.name)
        return
    name, prop, examples, seed, limit, seconds = task["apart"]
    if name != subject.name:
        subject = next(s for s in subject.gradients.values() if s.name == name)
    outcome = Outcome(next(p for p in PROPERTIES if p.name == prop))
    side = (subject.possible["kernel"] or [1])[:1] * 2
    geometry = (ConvGeometry.pooling if subject.operation.pools else ConvGeometry)(tuple(side), tuple(side))
    for dtype, layout in product(subject.dtypes, outcome.property.draw.get("layouts", LAYOUTS[:1])):
        simplest = Case(geometry, dtype=dtype, layout=layout)
        arguments = *(simplest[o] for o in subject.operation.operands), geometry
        with suppress(Violation, Refused):           # where this is safe it compiles once, and not in every process
            replace(subject, function=apart(subject.function, max(limit, COMPILING)))(*arguments)
            subject(*arguments)
    alone = replace(subject, function=apart(subject.function, limit))
    hunt(outcome.property, alone, outcome, examples, seed, seconds, shrinking=seconds)
    tell("outcome", name, outcome)


def _described(subject: Subject) -> dict[str, Any]:
    return {"name": subject.name, "operation": subject.operation.name,
            "supports": sorted(subject.supports), "style": subject.style, "options": list(subject.options),
            "gradients": [_described(s) for s in subject.gradients.values()]}


def main() -> None:
    address, key = sys.stdin.readline().strip(), bytes.fromhex(sys.stdin.readline().strip())
    with Client(address, authkey=key) as line:
        request, task, path = line.recv()
        faulthandler.enable()
        if not os.environ.get("NUMBA_ENABLE_CUDASIM") and "cuda" not in request.target:
            _limit_memory()
        try:
            _serve(lambda *message: line.send(message), Ledger(path), request, task)
            line.send(("done",))
        except KernelError as unusable:
            line.send(("unusable", unusable.fact, unusable.advice))
        except TinysegError as error:
            line.send(("misuse", str(error)))
        line.recv()                                  # until the other has read it all


if __name__ == "__main__":
    main()
