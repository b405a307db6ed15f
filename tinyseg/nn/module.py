"""`Module`: a piece of a net that owns parameters and other modules, found by looking at its attributes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, Self

import numpy as np

from tinyseg.arrays import Array, namespace
from tinyseg.autograd import Tensor, as_tensor, no_grad
from tinyseg.errors import ArgumentError, CheckpointError, DTypeError

__all__ = ["LoadResult", "Module", "Parameter", "RemovableHook"]


class Parameter(Tensor):
    """A tensor that training changes: as an attribute of a Module it is one of its `parameters()`.

    array            float32 or float64; not copied
    requires_grad    False freezes it
    """

    __slots__ = ()

    def __init__(self, array: Array | Tensor, requires_grad: bool = True):
        super().__init__(array._array if isinstance(array, Tensor) else array, requires_grad)
        if isinstance(array, Tensor):                # the same memory: a change of one is a change of the other
            self._version = array._version


class LoadResult(NamedTuple):
    """What `load_state_dict(strict=False)` left aside."""

    missing_keys: list[str]
    unexpected_keys: list[str]


class RemovableHook:
    """A registered hook; `remove()` takes it out again, also at the end of a `with` block."""

    def __init__(self, module: Module, hook: Callable[..., Any]):
        self._module, self._hook = module, hook
        module._forward_hooks = (*module._forward_hooks, self)

    def remove(self) -> None:
        self._module._forward_hooks = tuple(h for h in self._module._forward_hooks if h is not self)

    def __call__(self, *arguments: Any) -> Any:
        return self._hook(*arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: Any) -> None:
        self.remove()


class Module:
    """Subclass it, set Parameters and Modules as attributes, and write `forward`.

    Attributes are the only register, and their order is the order of `parameters()` and of `state_dict()`.  A Python
    list of modules is invisible: use `ModuleList`.  Values that are saved but not trained go through `register_buffer`.
    """

    training: bool = True
    _buffer_names: tuple[str, ...] = ()
    _forward_hooks: tuple[RemovableHook, ...] = ()

    def forward(self, *inputs: Any, **options: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}.forward")

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        output = self.forward(*inputs, **options)
        for hook in self._forward_hooks:
            replaced = hook(self, inputs, output)
            output = output if replaced is None else replaced
        return output

    def __setattr__(self, name: str, value: Any) -> None:
        if value is not None and isinstance(vars(self).get(name), Parameter) and not isinstance(value, Parameter):
            raise ArgumentError(f"{type(self).__name__}.{name} is a parameter and would be lost; "
                                f"assign a Parameter or None, or change it with {name}.copy_(...) under no_grad()")
        super().__setattr__(name, as_tensor(value) if name in self._buffer_names and value is not None else value)

    # -- what it is made of --------------------------------------------------------------------------------------
    def register_buffer(self, name: str, value: Any) -> None:
        """Keep a tensor that belongs to the state but is not trained, such as a running mean."""
        if name not in self._buffer_names:
            self._buffer_names = (*self._buffer_names, name)
        setattr(self, name, value)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        return ((name, value) for name, value in vars(self).items() if isinstance(value, Module))

    def children(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def named_modules(self, prefix: str = "", _seen: set[int] | None = None) -> Iterator[tuple[str, Module]]:
        """This module, named `prefix`, and everything below; a module that is used twice comes once."""
        seen = set() if _seen is None else _seen
        if id(self) in seen:
            return
        seen.add(id(self))
        yield prefix, self
        for name, child in self.named_children():
            yield from child.named_modules(_join(prefix, name), seen)

    def modules(self) -> Iterator[Module]:
        return (module for _, module in self.named_modules())

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, under the first of its names."""
        seen: set[int] = set()
        for path, module in self.named_modules(prefix):
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield _join(path, name), value

    def parameters(self) -> Iterator[Parameter]:
        return (parameter for _, parameter in self.named_parameters())

    def named_buffers(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        for path, module in self.named_modules(prefix):
            for name in module._buffer_names:
                if (value := getattr(module, name)) is not None:
                    yield _join(path, name), value

    def buffers(self) -> Iterator[Tensor]:
        return (buffer for _, buffer in self.named_buffers())

    def num_parameters(self, trainable_only: bool = False) -> int:
        return sum(p.numel() for p in self.parameters() if p.requires_grad or not trainable_only)

    # -- changes of all at once ----------------------------------------------------------------------------------
    def train(self, mode: bool = True) -> Self:
        """Training behaviour of batch normalisation and dropout, here and below; `train(False)` is `eval()`."""
        for module in self.modules():
            module.training = bool(mode)
        return self

    def eval(self) -> Self:
        return self.train(False)

    def apply(self, function: Callable[[Module], Any]) -> Self:
        """Call `function` on every module below, then on this one."""
        for child in self.children():
            child.apply(function)
        function(self)
        return self

    def zero_grad(self) -> None:
        """Forget the gradients: `grad` becomes None."""
        for parameter in self.parameters():
            parameter.grad = None

    def requires_grad_(self, value: bool = True) -> Self:
        """Freeze (False) or thaw (True) every parameter."""
        for parameter in self.parameters():
            parameter.requires_grad_(value)
        return self

    def to(self, dtype: Any) -> Self:
        """Turn every float parameter and buffer to float32 or float64, in place; gradients are forgotten."""
        dtype = np.dtype(dtype)
        if dtype.name not in ("float32", "float64"):
            raise DTypeError(f"Module.to: dtype {dtype}; legal: float32, float64")
        for value in (*self.parameters(), *self.buffers()):
            if value.dtype.kind == "f":
                value._array = namespace(value._array).astype(value._array, dtype)
                value.grad = None
        return self

    def register_forward_hook(self, hook: Callable[[Module, tuple, Any], Any]) -> RemovableHook:
        """Call `hook(module, inputs, output)` after each forward; what it returns, if not None, replaces the output."""
        return RemovableHook(self, hook)

    # -- the state -----------------------------------------------------------------------------------------------
    def state_dict(self, prefix: str = "") -> dict[str, np.ndarray]:
        """Copies of all parameters and buffers under their dotted names: a snapshot that training does not change."""
        return {name: np.array(value._array) for name, value in self._state(prefix).items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> LoadResult:
        """Copy arrays or tensors into the parameters and buffers of the same names.

        state     values are cast to the type of what they fill; shapes must be equal
        strict    False leaves missing and unexpected names aside and returns them

        Raises CheckpointError that lists everything that does not fit; nothing is changed then.  A missing
        `num_batches_tracked` is no error: files older than it exist.
        """
        own = self._state()
        missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
        unexpected = [k for k in state if k not in own]
        given = {k: state[k].detach().data if isinstance(state[k], Tensor) else np.asarray(state[k])
                 for k in own if k in state}
        wrong = [f"{k}: {v.dtype} {v.shape} for {own[k].shape}" for k, v in given.items()
                 if v.shape != own[k].shape or v.dtype.kind not in "fiub"]
        problems = [f"{what} {', '.join(keys)}" for what, keys in
                    (("missing:", missing if strict else []), ("unexpected:", unexpected if strict else []),
                     ("of another shape or type:", wrong)) if keys]
        if problems:
            raise CheckpointError(f"load_state_dict: the state does not fit {type(self).__name__}; "
                                  f"{'; '.join(problems)}. Nothing was loaded. Build the net with the options of the "
                                  "one that was saved" + ("" if wrong else ", or pass strict=False"))
        with no_grad():
            for key, array in given.items():
                own[key].copy_(array.astype(own[key].dtype))
        return LoadResult(missing, unexpected)

    def _state(self, prefix: str = "") -> dict[str, Tensor]:
        """Names to tensors, in PyTorch's order: own parameters, own buffers, children; shared ones under each name."""
        own = {name: value for name, value in vars(self).items() if isinstance(value, Parameter)}
        own |= {name: getattr(self, name) for name in self._buffer_names}
        state = {prefix + name: value for name, value in own.items() if value is not None}
        for name, child in self.named_children():
            state |= child._state(f"{prefix}{name}.")
        return state

    # -- how it looks --------------------------------------------------------------------------------------------
    def summary(self, input_size: tuple[int, int, int]) -> str:
        """The layers as text in columns, for an input (C, H, W): see `layer_table`."""
        from tinyseg.nn.table import layer_table, table_text
        return table_text(layer_table(self, input_size), self.num_parameters())

    def extra_repr(self) -> str:
        """The options, as they appear between the brackets."""
        return ""

    def __repr__(self) -> str:
        lines = [f"({name}): {child!r}".replace("\n", "\n  ") for name, child in self.named_children()]
        if not lines:
            return f"{type(self).__name__}({self.extra_repr()})"
        return f"{type(self).__name__}({self.extra_repr()}\n  " + "\n  ".join(lines) + "\n)"


def _join(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name
