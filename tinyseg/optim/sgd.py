"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from tinyseg.errors import ArgumentError
from tinyseg.optim.optimizer import BOOLEAN, NOT_NEGATIVE, Optimizer, Rule, like

__all__ = ["SGD"]


class SGD(Optimizer):
    """d = g + weight_decay·p;  m = momentum·m + (1 - dampening)·d;  p -= lr·m.

    lr              learning rate
    momentum        weight of the past; with 0 there is no m, and p -= lr·d
    dampening       share of the new gradient that is left out of m (not at the first step)
    weight_decay    pulls p to 0; part of the gradient here, unlike in AdamW
    nesterov        p -= lr·(d + momentum·m): a look ahead; needs momentum and no dampening

    PyTorch's formula: lr multiplies m as it is used, so a change of lr acts at once (Caffe keeps lr inside m).
    """

    rules: ClassVar[dict[str, Rule]] = {"lr": NOT_NEGATIVE, "momentum": NOT_NEGATIVE, "dampening": NOT_NEGATIVE,
                                        "weight_decay": NOT_NEGATIVE, "nesterov": BOOLEAN}

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
                 weight_decay: float = 0.0, nesterov: bool = False):
        super().__init__(params, lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay,
                         nesterov=nesterov)

    def _check(self, options):
        super()._check(options)
        if options["nesterov"] and (not options["momentum"] or options["dampening"]):
            raise ArgumentError(f"SGD: nesterov with momentum {options['momentum']}, dampening {options['dampening']}; "
                                "needs momentum > 0 and dampening 0")

    def update(self, array, grad, state, group):
        from tinyseg.kernels.cpu import optimize
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        if momentum and "momentum" not in state:
            state["momentum"] = like(array)
            keep, fresh = 0.0, 1.0                   # the first m is d itself
        else:
            keep, fresh = momentum, 1 - group["dampening"]
        if not momentum:
            optimize.descend(array, grad, lr, decay)
        else:
            shares = (momentum, 1.0) if group["nesterov"] else (1.0, 0.0)
            optimize.sgd(array, grad, state["momentum"], lr, decay, keep, fresh, *shares)
