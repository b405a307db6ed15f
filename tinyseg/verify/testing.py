"""The same properties in somebody's own test suite."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from tinyseg.errors import ArgumentError
from tinyseg.verify.cases import Case
from tinyseg.verify.properties import PROPERTIES, Property, properties_of
from tinyseg.verify.runner import EXAMPLES, Outcome, hunt
from tinyseg.verify.subject import Request, Subject, load

__all__ = ["assert_holds", "check", "kernel_tests", "named"]


def check(target: str | Callable[..., Any], name: str, case: Case, *, op: str | None = None, **options: Any) -> None:
    """One property of a kernel on one case; raises a Violation where it fails.

    target    a function, or what `tinyseg verify` takes; `options` are those of `Subject.of` or `Request`
    """
    subject = load(Request(target, op, **options)) if isinstance(target, str) else Subject.of(target, op, **options)
    named(name).check(subject, case)


def named(name: str) -> Property:
    found = next((p for p in PROPERTIES if p.name == name), None)
    if found is None:
        raise ArgumentError(f"property {name!r}; legal: {', '.join(p.name for p in PROPERTIES)}")
    return found


def assert_holds(prop: Property, subject: Subject, examples: int = 100, seed: int = 0) -> Outcome:
    """Draw cases for a property; fail with the smallest that breaks it, and its formula with numbers."""
    outcome = Outcome(prop)
    for turn, first in enumerate(range(0, examples, EXAMPLES)):
        hunt(prop, subject, outcome, min(EXAMPLES, examples - first), seed * 1000 + turn, 60.0)
        if outcome.failed:
            break
    if outcome.failed:
        advice = f"\n{outcome.violation.advice}" if outcome.violation.advice else ""
        raise AssertionError(f"{prop.name}: {prop.formula}\n  {outcome.case}\n  {outcome.violation.numbers}{advice}\n"
                             f"  check(kernel, {prop.name!r}, {outcome.case!r}, op={subject.operation.name!r})"
                             ) from None
    return outcome


def kernel_tests(kernel: str | Callable[..., Any], op: str | None = None, *, examples: int = 100, seed: int = 0,
                 supports: Collection[str] | None = None, also: Collection[str] = (), **options: Any) -> Any:
    """A pytest test with one parameter for each property of a kernel: `test_conv = kernel_tests(conv, op="conv2d")`.

    kernel      a function, or what `tinyseg verify` takes
    also        names of properties that not every kernel promises, like "float64 sums"
    The kernel runs in the process of the tests: a crash ends them.  `tinyseg verify` survives it.
    """
    import pytest
    if isinstance(kernel, str):
        subject = load(Request(kernel, op, supports=None if supports is None else tuple(supports), **options))
    else:
        subject = Subject.of(kernel, op, supports, **options)
    chosen = properties_of(subject.operation.name, subject.supports) + [named(name) for name in also]

    @pytest.mark.parametrize("prop", chosen, ids=lambda p: p.name.replace(" ", "-"))
    def test(prop: Property) -> None:
        __tracebackhide__ = True
        assert_holds(prop, subject, examples, seed)
    return test
