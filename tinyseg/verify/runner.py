"""Running the properties of a kernel: many drawn cases for each, and the smallest that breaks it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np

from tinyseg.errors import ArgumentError
from tinyseg.kernels.foreign import reason
from tinyseg.verify.cases import Case
from tinyseg.verify.properties import Property, properties_of
from tinyseg.verify.strategies import cases
from tinyseg.verify.subject import DTYPES, Refused, Subject
from tinyseg.verify.violation import Violation

try:
    import hypothesis
    from hypothesis import HealthCheck, Phase, settings
except ModuleNotFoundError as error:
    raise ArgumentError('verify: hypothesis is not installed; pip install "tinyseg[verify]"') from error

__all__ = ["Budget", "Outcome", "examine", "hunt"]

EXAMPLES = 10                                        # drawn at a time: from then on hypothesis varies those it had
LONGEST = 1.0                                        # seconds that a case may be expected to take
SHRINKING = 8.0                                      # seconds after the first failure of a property


@dataclass(frozen=True)
class Budget:
    """How long to look: `seconds` in all, at most `examples` of each property."""

    seconds: float = 60.0
    examples: int = 150

    @classmethod
    def deep(cls) -> Budget:
        return cls(900.0, 3000)


@dataclass
class Outcome:
    """One property: on how many cases it held, and the smallest on which it did not."""

    property: Property
    held: int = 0
    case: Case | None = None
    violation: Violation | None = None
    seconds: float = 0.0
    failures: int = field(default=0)

    @property
    def failed(self) -> bool:
        return self.violation is not None


def hunt(prop: Property, subject: Subject, outcome: Outcome, examples: int, seed: int, seconds: float,
         note: Callable[[Case], None] = lambda case: None, shrinking: float = SHRINKING) -> None:
    """Draw so many cases for one property, within so many seconds; shrink the first that fails.

    The smallest failing case is kept here, so that a kernel that fails only now and then is caught all the same.
    note    told of every case before it is tried
    """
    started, first_failure = time.monotonic(), None
    limits = {"large": False, "dtypes": DTYPES, **prop.draw}
    limits["dtypes"] = [d for d in limits["dtypes"] if d in subject.dtypes] or subject.dtypes
    strategy = cases(subject.operation, subject.supports - set(prop.without), plain=subject.plain,
                     possible=subject.possible, **limits)

    @hypothesis.seed(seed)
    @settings(max_examples=examples, database=None, deadline=None, derandomize=False, report_multiple_bugs=False,
              suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink), print_blob=False,
              verbosity=hypothesis.Verbosity.quiet)
    @hypothesis.given(case=strategy)
    def example(case: Case) -> None:
        nonlocal first_failure
        now = time.monotonic()
        if now - (first_failure or started) > (shrinking if first_failure else seconds):
            return
        hypothesis.assume(subject.refuses(case.geometry) is None)
        if case.work > subject.reach:
            return                                   # too slow a kernel for so large a case: no reason to blame it
        note(case)
        began = perf_counter()
        try:
            with np.errstate(all="ignore"):
                _check(prop, subject, case)
        except Refused:
            return
        except Violation as violation:
            first_failure = first_failure or now
            outcome.failures += 1
            if outcome.case is None or case.size < outcome.case.size:
                outcome.case, outcome.violation = case, violation
            raise
        if case.work > 500:
            subject.reach = max(subject.reach, LONGEST / (perf_counter() - began) * case.work)
        outcome.held += not first_failure

    try:
        example()
    except Violation:
        pass
    except hypothesis.errors.HypothesisException:
        pass                                         # fails now and then: the outcome has what was seen
    outcome.seconds += time.monotonic() - started


def _check(prop: Property, subject: Subject, case: Case) -> None:
    """A formula that cannot even be evaluated on what the kernel gives is a formula that it breaks."""
    try:
        prop.check(subject, case)
    except (Violation, Refused):
        raise
    except Exception as error:
        raise Violation(f"what the kernel gives does not fit the formula: {reason(error)}") from error


def examine(subject: Subject, budget: Budget | None = None, seed: int = 0, only: Collection[str] | None = None,
            done: Collection[str] = (), tell: Callable[[Outcome], None] = lambda outcome: None,
            note: Callable[[Property, int, int, Case], None] = lambda *what: None) -> list[Outcome]:
    """Every property of a kernel: first all of them on a few cases, then on more and more while time is left.

    only    names of the properties; by default all that speak of the operation, in either case not those `done`
    tell    called with each outcome whenever it has changed
    note    called before every case, with the property, the number of examples and the seed that lead to it
    """
    budget = budget or Budget()
    outcomes = [Outcome(p) for p in properties_of(subject.operation.name, subject.supports)
                if (only is None or p.name in only) and p.name not in done]
    end, turn = time.monotonic() + budget.seconds, 0
    tried = dict.fromkeys((o.property.name for o in outcomes), 0)
    while open_ := [o for o in outcomes if not o.failed and tried[o.property.name] < budget.examples]:
        for place, outcome in enumerate(open_):
            prop, remaining = outcome.property, end - time.monotonic()
            if remaining <= 0:
                return outcomes
            count = min(EXAMPLES, budget.examples - tried[prop.name])
            hunt(prop, subject, outcome, count, seed * 1000 + turn, remaining / (len(open_) - place),
                 lambda case, about=(prop, count, seed * 1000 + turn): note(*about, case))
            tried[prop.name] += count
            tell(outcome)
        turn += 1
    return outcomes
