"""Learning rates over time.  A schedule is a function of the step number alone: to resume, go on counting.

    schedule = WarmUp(Poly(total=10_000), steps=500)
    for step in range(10_000):
        schedule.set(optimizer, step)                # before optimizer.step(); step 0 is the first
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tinyseg.errors import ArgumentError
from tinyseg.optim.optimizer import Optimizer

__all__ = ["Constant", "Cosine", "Exponential", "Poly", "Schedule", "Step", "WarmUp"]


class Schedule:
    """Maps a step number, from 0, to a factor of the learning rate."""

    def __call__(self, step: int) -> float:
        raise NotImplementedError(f"{type(self).__name__}.__call__")

    def set(self, optimizer: Optimizer, step: int) -> float:
        """Give every group the learning rate of that step, its own base_lr times the factor; return the first one's."""
        if step < 0:
            raise ArgumentError(f"{type(self).__name__}: step {step}; needs step >= 0")
        factor = self(step)
        for group in optimizer.param_groups:
            group["lr"] = group["base_lr"] * factor
        return optimizer.param_groups[0]["lr"]


@dataclass(frozen=True)
class Constant(Schedule):
    """Always 1."""

    def __call__(self, step: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Step(Schedule):
    """Times `factor` at every milestone that was reached.

    milestones    increasing step numbers
    """

    milestones: Sequence[int]
    factor: float = 0.1

    def __post_init__(self):
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ArgumentError(f"Step: milestones {list(self.milestones)}; needs increasing numbers")

    def __call__(self, step: int) -> float:
        return self.factor ** sum(step >= m for m in self.milestones)


@dataclass(frozen=True)
class Poly(Schedule):
    """(1 - step / total)^power, then 0: the rule of ParseNet and DeepLab (Chen et al., arXiv:1606.00915)."""

    total: int
    power: float = 0.9

    def __post_init__(self):
        _needs_total("Poly", self.total)

    def __call__(self, step: int) -> float:
        return (1 - min(step, self.total) / self.total) ** self.power


@dataclass(frozen=True)
class Cosine(Schedule):
    """From 1 to `floor` along half a cosine (Loshchilov & Hutter, arXiv:1608.03983), then `floor`."""

    total: int
    floor: float = 0.0

    def __post_init__(self):
        _needs_total("Cosine", self.total)

    def __call__(self, step: int) -> float:
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * min(step, self.total) / self.total)) / 2


@dataclass(frozen=True)
class Exponential(Schedule):
    """Times `factor` after every `every` steps, say those of an epoch."""

    every: int
    factor: float = 0.995

    def __post_init__(self):
        if self.every < 1 or not 0 <= self.factor <= 1:
            raise ArgumentError(f"Exponential: every {self.every}, factor {self.factor}; needs every >= 1 step, "
                                "0 <= factor <= 1")

    def __call__(self, step: int) -> float:
        return self.factor ** (step // self.every)


@dataclass(frozen=True)
class WarmUp(Schedule):
    """`schedule` times a factor that grows evenly over the first `steps` steps and is then 1.

    start    where the growth would begin one step before the first: with 0 no step is wasted on a learning rate of 0
    The schedule's own clock runs from step 0, as if there were no warm-up, so that its `total` stays the whole run.
    """

    schedule: Schedule
    steps: int
    start: float = 0.0

    def __post_init__(self):
        if self.steps < 0 or not 0 <= self.start <= 1:
            raise ArgumentError(f"WarmUp: steps {self.steps}, start {self.start}; needs steps >= 0, 0 <= start <= 1")

    def __call__(self, step: int) -> float:
        done = min(1.0, (step + 1) / (self.steps + 1))
        return (self.start + (1 - self.start) * done) * self.schedule(step)


def _needs_total(name: str, total: int) -> None:
    if total < 1:
        raise ArgumentError(f"{name}: total {total}; needs at least 1 step")
