"""Medians with the interval they lie in, ratios, means and exponents.  Times are in seconds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

__all__ = ["Summary", "different", "exponent", "geometric_mean", "summarize"]

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Summary:
    """Of n samples: their median and how sure it is.

    low, high     an interval that holds the true median with probability `confidence`, between two of the samples
    p10, p90      where the middle four fifths of the samples lie: how unsteady a single call is
    """

    median: float
    low: float
    high: float
    p10: float
    p90: float
    n: int
    confidence: float

    @property
    def spread(self) -> float:
        """Half the interval's width, relative to the median."""
        return (self.high - self.low) / 2 / self.median if self.median else 0.0


def summarize(samples: Sequence[float], confidence: float = CONFIDENCE) -> Summary:
    """The median between order statistics: no assumption about the distribution of times, which has a long tail.

    The number of samples below the median is binomial(n, 1/2), so x_(k) .. x_(n+1-k) misses it with probability
    2·P(at most k-1 below).  The narrowest interval with at least `confidence` is taken; fewer than 6 samples cannot
    give 95 %, then it runs from the smallest to the largest and `confidence` says what that is worth.
    """
    x = np.sort(np.asarray(samples, np.float64))
    n = len(x)
    k, missed = 1, 2 / 2**n
    while k < (n + 1) // 2:
        more = missed + 2 * comb(n, k) / 2**n
        if 1 - more < confidence:
            break
        k, missed = k + 1, more
    p10, p90 = np.quantile(x, (0.1, 0.9))
    return Summary(float(np.median(x)), float(x[k - 1]), float(x[n - k]), float(p10), float(p90), n,
                   max(0.0, 1 - missed))


def different(a: Summary, b: Summary) -> bool:
    """Whether the intervals of the two medians are apart.  Where they overlap, nothing is claimed."""
    return a.high < b.low or b.high < a.low


def geometric_mean(values: Iterable[float]) -> float:
    """nan for none."""
    logs = np.log(np.fromiter(values, np.float64))
    return float(np.exp(logs.mean())) if len(logs) else float("nan")


def exponent(x: Sequence[float], y: Sequence[float]) -> float:
    """b of the power law y = a·x^b that fits best by least squares in the logarithms; nan for fewer than two points."""
    if len(set(x)) < 2:
        return float("nan")
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])
