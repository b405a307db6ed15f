"""`Violation`: what was expected, what came, and the formula with the numbers in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

__all__ = ["Violation", "equal", "wrong_cells"]


@dataclass
class Violation(Exception):
    """A formula that does not hold, or a kernel that gave no array to hold it against.

    numbers    the formula with numbers, or what happened in its place
    advice     what to look at first
    """

    numbers: str
    expected: np.ndarray | None = None
    got: np.ndarray | None = None
    advice: str = ""
    direct: bool = False                             # `got` is what the kernel gives for the case's own arrays
    tolerance: np.ndarray | None = field(default=None, repr=False)
    cause: str = ""                                  # what kept the kernel from giving an array, alike for all formulas

    def __str__(self) -> str:
        return self.numbers

    def __reduce__(self) -> tuple:
        return type(self), (self.numbers, self.expected, self.got, self.advice, self.direct, self.tolerance,
                            self.cause)


def wrong_cells(expected: np.ndarray, got: np.ndarray, tolerance: np.ndarray | float | None = None) -> np.ndarray:
    """Where two arrays of one shape differ; nan is equal to nan."""
    agree = (got == expected) | (np.isnan(got) & np.isnan(expected))
    if tolerance is not None:
        with np.errstate(invalid="ignore"):
            agree |= np.abs(got - expected) <= tolerance
    return ~agree


def equal(got: np.ndarray, expected: np.ndarray, formula: str, *, direct: bool = False, advice: str = "",
          tolerance: np.ndarray | None = None) -> None:
    """Raise a Violation unless the arrays have one shape and equal values, or differ by no more than `tolerance`.

    formula    the words before the numbers, like "f(x)[n] = f(x[n:n+1])"
    """
    if got.shape != expected.shape:
        raise Violation(f"{formula}: shape {got.shape}, expected {expected.shape}", expected, got, advice, direct)
    wrong = wrong_cells(expected, got, tolerance)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        where = ", ".join(map(str, at))
        allowed = "" if tolerance is None else f" ± {np.broadcast_to(tolerance, got.shape)[at]:.3g}"
        raise Violation(f"{formula}: at [{where}] expected {expected[at]!s}{allowed}, got {got[at]!s}; "
                        f"{wrong.sum()} of {wrong.size} cells wrong", expected, got, advice, direct, tolerance)
