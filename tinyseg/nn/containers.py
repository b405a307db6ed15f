"""Modules that hold modules: `Sequential`, `ModuleList`, `Identity`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Self

from tinyseg.autograd import is_grad_enabled
from tinyseg.errors import ArgumentError
from tinyseg.nn.activations import ReLU
from tinyseg.nn.convolution import Conv2d
from tinyseg.nn.module import Module
from tinyseg.nn.normalization import BatchNorm2d

__all__ = ["Identity", "ModuleList", "Sequential"]


class Identity(Module):
    """Returns its input: a placeholder."""

    def forward(self, x: Any) -> Any:
        return x


class _Indexed(Module):
    """Children under the names "0", "1", ..., or the keys of a mapping."""

    def _add(self, name: str, module: Module) -> None:
        if not isinstance(module, Module):
            raise ArgumentError(f"{type(self).__name__}: element {name} is a {type(module).__name__}; needs a Module")
        if not name or "." in name or hasattr(type(self), name):
            raise ArgumentError(f"{type(self).__name__}: a child cannot be named {name!r}; "
                                "needs a name without dots that no attribute has")
        setattr(self, name, module)

    def append(self, module: Module) -> Self:
        self._add(str(len(self)), module)
        return self

    def __len__(self) -> int:
        return sum(1 for _ in self.children())

    def __iter__(self) -> Iterator[Module]:
        return self.children()

    def __getitem__(self, index: int | slice) -> Any:
        """One child, or for a slice a container of the same kind."""
        named = list(self.named_children())
        if not isinstance(index, slice):
            return named[index][1]
        part = type(self)()
        for name, child in named[index]:
            part._add(name, child)
        return part


class Sequential(_Indexed):
    """Modules applied one after the other.

    modules    the modules, or one mapping of names to modules; the names become part of the parameters' names

    A convolution or batch normalisation that a ReLU follows does the ReLU's work while it writes its result.  So does a
    convolution the work of a batch normalisation where that is a constant: in `eval()`, without gradients.
    """

    def __init__(self, *modules: Module | Mapping[str, Module]):
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            for name, module in modules[0].items():
                self._add(name, module)
        else:
            for module in modules:
                self.append(module)

    def forward(self, x: Any) -> Any:
        return chain(self.children(), x)


def chain(modules: Iterable[Module], x: Any) -> Any:
    """Apply modules one after the other, those that can in one pass over memory."""
    modules = list(modules)
    while modules:
        module, together = modules.pop(0), {}
        if modules and _folds(module, modules[0]):
            together["norm"] = modules.pop(0)
        if modules and _takes(module, modules[0]):
            modules.pop(0)
            together["relu"] = True
        x = module(x, **together)
    return x


def _takes(module: Module, following: Module) -> bool:
    """Whether a module can cut its result off below 0 itself in place of the ReLU that follows.

    Not a subclass of one that can: its forward may be another.  Who hooks one of the two sees both at work.
    """
    return (type(following) is ReLU and "takes_relu" in vars(type(module))
            and not (module._forward_hooks or following._forward_hooks))


def _folds(module: Module, following: Module) -> bool:
    """Whether a convolution can multiply by the constants of the normalisation that follows."""
    return (type(module) is Conv2d and type(following) is BatchNorm2d and following.num_features == module.out_channels
            and not following.training and following.track_running_stats and not is_grad_enabled()
            and not (module._forward_hooks or following._forward_hooks))


class ModuleList(_Indexed):
    """A list whose modules count as children; it has no forward of its own."""

    def __init__(self, modules: Iterable[Module] = ()):
        for module in modules:
            self.append(module)
