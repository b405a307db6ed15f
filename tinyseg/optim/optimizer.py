"""What optimisers share: groups of parameters with their options, and a state that resumes to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from tinyseg.autograd import Tensor, no_grad
from tinyseg.errors import ArgumentError, CheckpointError, GraphError, ShapeError

__all__ = ["Optimizer", "clip_grad_norm_"]

_BLOCK = 1 << 14                                     # elements; five blocks of float32 stay in a second-level cache

Rule = tuple[Callable[[Any], bool], str]             # what is legal, and how to say so
NOT_NEGATIVE: Rule = (lambda v: 0 <= v < math.inf, "a finite number >= 0")
BELOW_ONE: Rule = (lambda v: 0 <= v < 1, "0 <= value < 1")
BOOLEAN: Rule = (lambda v: isinstance(v, bool), "True or False")


class Optimizer:
    """Changes parameters by their gradients, in place.

    params      tensors that require a gradient; or groups, dicts with "params" and options of their own:
                [{"params": net.backbone.parameters(), "lr": 1e-3}, {"params": net.head.parameters()}]
    options     those of the subclass, for all groups that do not say otherwise

    `param_groups` holds the groups; a schedule changes their "lr", a factor of "base_lr".  A parameter without a
    gradient is left alone, as is its state.  Raises ArgumentError for an option that is unknown or out of range.
    """

    rules: ClassVar[dict[str, Rule]]

    def __init__(self, params: Iterable[Any], **options: Any):
        self._defaults = options
        self.param_groups: list[dict[str, Any]] = []
        self._state: list[dict[str, Any]] = []       # one for each parameter, in the order of the groups
        groups = list(params)
        if not groups:
            raise ArgumentError(f"{self}: no parameters; needs at least one")
        if not isinstance(groups[0], Mapping):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """One more group: {"params": tensors, and any options}."""
        params = group["params"]
        params = [params] if isinstance(params, Tensor) else list(params)
        options = {**self._defaults, **{k: v for k, v in group.items() if k != "params"}}
        self._check(options)
        known = {id(p) for g in self.param_groups for p in g["params"]}
        for p in params:
            if not isinstance(p, Tensor):
                raise ArgumentError(f"{self}: a parameter is a {type(p).__name__}; needs tensors")
            if not p.is_leaf:
                raise GraphError(f"{self}: a parameter is the result of {p.grad_fn}; only leaves can be optimised")
            if id(p) in known:
                raise ArgumentError(f"{self}: a parameter of shape {p.shape} is given twice; needs each once")
            known.add(id(p))
        self.param_groups.append({"params": params, "base_lr": options["lr"], **options})
        self._state.extend({} for _ in params)

    def _check(self, options: Mapping[str, Any]) -> None:
        for name, value in options.items():
            if name not in self.rules:
                raise ArgumentError(f"{self}: no option {name!r}; legal: {', '.join(self.rules)}")
            legal, text = self.rules[name]
            try:
                fits = legal(value)
            except TypeError:
                fits = False
            if not fits:
                raise ArgumentError(f"{self}: {name} {value!r}; needs {text}")

    def zero_grad(self) -> None:
        """Forget the gradients: `grad` becomes None."""
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = None

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        with no_grad():
            for group, p, state in self._walk():
                if p.grad is None:
                    continue
                if p.grad.shape != p.shape:
                    raise ShapeError(f"{self}: gradient {p.grad.shape} of a parameter {p.shape}; they must be equal")
                grad = np.asarray(p.grad.data, dtype=p.dtype, order="C")
                state["step"] = state.get("step", 0) + 1
                with p.writing() as array:
                    plain = np.asarray(array, order="C")
                    self.update(plain, grad, state, group)
                    if plain is not array:
                        array[...] = plain

    def update(self, array: np.ndarray, grad: np.ndarray, state: dict[str, Any], group: Mapping[str, Any]) -> None:
        """Change a parameter's array in place; `state` keeps arrays like it under names, and counts "step" from 1.

        All are C-contiguous and of the parameter's type.
        """
        raise NotImplementedError(f"{self}.update")

    def _walk(self) -> Iterator[tuple[dict[str, Any], Tensor, dict[str, Any]]]:
        states = iter(self._state)
        return ((group, p, next(states)) for group in self.param_groups for p in group["params"])

    # -- the state -----------------------------------------------------------------------------------------------
    def state_dict(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """All that a resumed run needs: ({"0/momentum": a copy, ...}, values for JSON)."""
        groups = [{**{k: v for k, v in group.items() if k != "params"}, "params": len(group["params"])}
                  for group in self.param_groups]
        arrays = {f"{i}/{name}": value.copy() for i, state in enumerate(self._state)
                  for name, value in state.items() if name != "step"}
        return arrays, {"optimizer": repr(self), "groups": groups,
                        "steps": [state.get("step", 0) for state in self._state]}

    def load_state_dict(self, arrays: Mapping[str, np.ndarray], settings: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken: same optimiser, same parameters in the same order.

        Raises CheckpointError, and changes nothing, where they differ.
        """
        mine = [len(group["params"]) for group in self.param_groups]
        theirs = [group["params"] for group in settings["groups"]]
        if (settings["optimizer"], theirs) != (repr(self), mine):
            raise CheckpointError(f"load_state_dict: the state is of {settings['optimizer']} with groups of {theirs} "
                                  f"parameters, this is {self} with {mine}; build the same optimiser for the same net")
        if len(settings["steps"]) != len(self._state):
            raise CheckpointError(f"load_state_dict: {len(settings['steps'])} step counts for {len(self._state)} "
                                  "parameters; the state is damaged")
        fresh: list[dict[str, Any]] = [{"step": int(n)} if n else {} for n in settings["steps"]]
        for key, array in arrays.items():
            i, _, name = key.partition("/")
            if not i.isdigit() or int(i) >= len(fresh):
                raise CheckpointError(f"load_state_dict: {key!r} names no parameter of {len(fresh)}")
            fresh[int(i)][name] = array
        for i, ((_, p, _), new) in enumerate(zip(self._walk(), fresh, strict=True)):
            for name, array in new.items():
                if name != "step":
                    if array.shape != p.shape:
                        raise CheckpointError(f"load_state_dict: {i}/{name} has shape {array.shape}, "
                                              f"its parameter {p.shape}; they must be equal")
                    new[name] = np.array(array, dtype=p.dtype, order="C")
        for group, saved in zip(self.param_groups, settings["groups"], strict=True):
            # JSON knows no tuples
            group.update({k: tuple(v) if isinstance(v, list) else v for k, v in saved.items() if k != "params"})
        self._state = fresh

    def __repr__(self) -> str:
        return type(self).__name__


def like(p: np.ndarray) -> np.ndarray:
    """Zeros for a state beside p."""
    return np.zeros(p.shape, p.dtype)


def blocks(*arrays: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Matching pieces of arrays of one shape, and two scratch arrays of the piece's size.

    An update takes about ten passes over its arrays; on pieces that stay in the cache they cost little more than one,
    and the scratch is small and allocated once.
    """
    flat = [a.reshape(-1) for a in arrays]
    size = flat[0].size
    scratch = np.empty((2, min(size, _BLOCK)), flat[0].dtype)
    for start in range(0, size, _BLOCK):
        n = min(_BLOCK, size - start)
        yield (*(a[start:start + n] for a in flat), scratch[0, :n], scratch[1, :n])


def clip_grad_norm_(parameters: Iterable[Tensor] | Tensor, max_norm: float) -> float:
    """Scale all gradients together so that their joint Euclidean norm is at most `max_norm`; return what it was.

    The norm is summed in float64 in a fixed order.  A norm that is not finite changes nothing: the caller sees it.
    """
    from tinyseg.kernels.cpu import optimize
    if not max_norm > 0:
        raise ArgumentError(f"clip_grad_norm_: max_norm {max_norm}; needs max_norm > 0")
    parameters = [parameters] if isinstance(parameters, Tensor) else parameters
    grads = [p.grad for p in parameters if p.grad is not None]
    total = math.sqrt(math.fsum(optimize.square_sum(np.asarray(g.data, order="C")) for g in grads))
    factor = max_norm / (total + 1e-6)
    if math.isfinite(total) and factor < 1:
        for grad in grads:
            with grad.writing() as array:
                if array.flags.c_contiguous:
                    optimize.scale(array, factor)
                else:
                    array *= factor
    return total
