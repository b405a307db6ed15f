"""Parameters that learn at rates of their own: rules on names, and the groups that follow from them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tinyseg.autograd import Tensor
from tinyseg.errors import ArgumentError

__all__ = ["VECTORS", "GroupRule", "ParameterGroup", "parameter_groups"]

VECTORS = "vectors"


@dataclass(frozen=True)
class GroupRule:
    """What some parameters multiply the learning rate and the weight decay by.

    pattern    a regular expression that is found in their names, say "bias$" or "^classifier"; or "vectors": all
               that have one axis, which are biases and the scales of normalisations
    lr, decay  the factors, >= 0
    """

    pattern: str
    lr: float = 1.0
    decay: float = 1.0

    def __post_init__(self):
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ArgumentError(f"group {self}: {error}; needs a regular expression, such as bias$ or ^classifier, "
                                f"or {VECTORS}") from error
        for name in ("lr", "decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ArgumentError(f"group {self}: factor {name}={getattr(self, name)}; needs a finite number >= 0")

    @classmethod
    def parse(cls, text: str) -> GroupRule:
        """From "PATTERN:lr=10,decay=0", as it is written on the command line; a factor left out is 1."""
        pattern, _, factors = text.rpartition(":")
        pairs = [part.partition("=")[::2] for part in factors.split(",")]
        try:
            values = {name.strip(): float(value) for name, value in pairs}
        except ValueError:
            values = {}
        if not pattern or not values or set(values) - {"lr", "decay"}:
            raise ArgumentError(f"group {text!r}: needs PATTERN:lr=FACTOR,decay=FACTOR, for example "
                                "bias$:lr=2,decay=0")
        return cls(pattern, **values)

    def matches(self, name: str, parameter: Tensor) -> bool:
        return parameter.ndim <= 1 if self.pattern == VECTORS else re.search(self.pattern, name) is not None

    def __str__(self) -> str:
        return f"{self.pattern}:lr={self.lr:g},decay={self.decay:g}"


class ParameterGroup(NamedTuple):
    """Parameters with the same factors of the learning rate and the weight decay, and their names."""

    lr: float
    decay: float
    names: list[str]
    params: list[Tensor]

    def options(self, lr: float, weight_decay: float) -> dict[str, Any]:
        """The group as an optimiser takes it."""
        return {"params": self.params, "lr": lr * self.lr, "weight_decay": weight_decay * self.decay}


def parameter_groups(named: Iterable[tuple[str, Tensor]], rules: Sequence[GroupRule]) -> list[ParameterGroup]:
    """Groups of the parameters that require a gradient; the factors of all rules that match one are multiplied.

    named    `model.named_parameters()`

    "head:lr=10" and "bias$:lr=2,decay=0" together give the head's biases 20 times the rate and no decay, as DeepLab
    has it.  Groups that learn at the plain rate come first.  Raises ArgumentError for a rule that matches nothing.
    """
    trained = [(name, p) for name, p in named if p.requires_grad]
    found: dict[tuple[float, float], ParameterGroup] = {}
    for rule in rules:
        if rule.pattern != VECTORS and not any(rule.matches(name, p) for name, p in trained):
            last = ", ".join(name for name, _ in trained[-3:])
            raise ArgumentError(f"group {rule}: matches none of the {len(trained)} parameters that are trained; "
                                f"their names end with {last}")
    for name, p in trained:
        matching = [rule for rule in rules if rule.matches(name, p)]
        factors = math.prod(rule.lr for rule in matching), math.prod(rule.decay for rule in matching)
        group = found.setdefault(factors, ParameterGroup(*factors, [], []))
        group.names.append(name)
        group.params.append(p)
    return sorted(found.values(), key=lambda group: (group.lr != 1, group.lr, -group.decay))
