"""Optimisers that divide by the size of past gradients: `Adam`, `AdamW`, `RMSprop`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np

from tinyseg.optim.optimizer import BELOW_ONE, BOOLEAN, NOT_NEGATIVE, Optimizer, Rule, blocks, like

__all__ = ["Adam", "AdamW", "RMSprop"]

_BETAS = (lambda v: isinstance(v, tuple | list) and len(v) == 2 and all(0 <= b < 1 for b in v),
          "two numbers, 0 <= beta < 1")


class Adam(Optimizer):
    """p -= lr · m̂ / (√v̂ + eps), with running means m of g and v of g² (Kingma & Ba, arXiv:1412.6980, algorithm 1).

    lr              learning rate
    betas           weights of the past in m and v; m̂ = m / (1 - β₁ᵗ) and v̂ = v / (1 - β₂ᵗ) undo the start at 0
    eps             keeps the quotient finite
    weight_decay    added to the gradient, times p; `AdamW` keeps it out of m and v
    """

    rules: ClassVar[dict[str, Rule]] = {"lr": NOT_NEGATIVE, "betas": _BETAS, "eps": NOT_NEGATIVE,
                                        "weight_decay": NOT_NEGATIVE}
    _decoupled = False

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 0.0):
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update(self, array, grad, state, group):
        from tinyseg.kernels.cpu import optimize
        lr, (beta1, beta2), decay = group["lr"], group["betas"], group["weight_decay"]
        rate = lr / (1 - beta1 ** state["step"])
        correction = math.sqrt(1 - beta2 ** state["step"])
        mean, square = (state.setdefault(name, like(array)) for name in ("mean", "square"))
        shrink = 1 - lr * decay if self._decoupled else 1.0
        optimize.adam(array, grad, mean, square, rate, beta1, beta2, correction, group["eps"],
                      0.0 if self._decoupled else decay, shrink)


class AdamW(Adam):
    """Adam with p *= 1 - lr·weight_decay apart from the gradient (Loshchilov & Hutter, arXiv:1711.05101)."""

    _decoupled = True

    def __init__(self, params: Iterable[Any], lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999),
                 eps: float = 1e-8, weight_decay: float = 1e-2):
        super().__init__(params, lr, betas, eps, weight_decay)


class RMSprop(Optimizer):
    """p -= lr · g / (√v + eps), with the running mean v of g² (Hinton, lecture 6e).

    lr              learning rate
    alpha           weight of the past in v
    eps             keeps the quotient finite
    weight_decay    added to the gradient, times p
    momentum        b = momentum·b + g / (√v + eps); p -= lr·b
    centered        divide by the standard deviation, √(v - mean²), instead (Graves, arXiv:1308.0850)
    """

    rules: ClassVar[dict[str, Rule]] = {"lr": NOT_NEGATIVE, "alpha": BELOW_ONE, "eps": NOT_NEGATIVE,
                                        "weight_decay": NOT_NEGATIVE, "momentum": NOT_NEGATIVE, "centered": BOOLEAN}

    def __init__(self, params: Iterable[Any], lr: float = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
                 weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False):
        super().__init__(params, lr=lr, alpha=alpha, eps=eps, weight_decay=weight_decay, momentum=momentum,
                         centered=centered)

    def update(self, array, grad, state, group):
        lr, alpha, decay, momentum = group["lr"], group["alpha"], group["weight_decay"], group["momentum"]
        names = ["square"] + ["mean"] * group["centered"] + ["momentum"] * bool(momentum)
        for name in names:
            state.setdefault(name, like(array))
        for p, d, *states, t, u in blocks(array, grad, *(state[name] for name in names)):
            s = dict(zip(names, states, strict=True))
            v = s["square"]
            if decay:
                np.multiply(p, decay, out=t)
                d = np.add(t, d, out=t)
            v *= alpha
            np.multiply(d, d, out=u)
            v += np.multiply(u, 1 - alpha, out=u)
            if group["centered"]:
                mean = s["mean"]
                mean += np.multiply(np.subtract(d, mean, out=u), 1 - alpha, out=u)
                np.multiply(mean, mean, out=u)
                np.subtract(v, u, out=u)
                np.maximum(u, 0, out=u)              # rounding may leave less than nothing
                np.sqrt(u, out=u)
            else:
                np.sqrt(v, out=u)
            u += group["eps"]
            np.divide(d, u, out=u)
            if momentum:
                s["momentum"] *= momentum
                s["momentum"] += u
                np.copyto(u, s["momentum"])
            p -= np.multiply(u, lr, out=u)
