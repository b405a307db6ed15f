"""Nets by name, so that a checkpoint can say which net its weights belong to."""

from importlib import import_module
from typing import Any

from tinyseg.errors import ArgumentError
from tinyseg.nn import Module

__all__ = ["build", "names"]

# name: (module, class, options that the name stands for)
_MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "unet": ("tinyseg.models.unet", "UNet", {}),
    "unet_paper": ("tinyseg.models.unet", "UNet", {"padding": "valid", "norm": None, "dropout": 0.5}),
}


def names() -> list[str]:
    """The names that `build` knows."""
    return list(_MODELS)


def build(name: str, in_channels: int, num_classes: int, **options: Any) -> Module:
    """A net with fresh weights.

    name           one of `names()`
    in_channels    channels of the images
    num_classes    channels of the logits
    options        what the net's class takes; they win over those that the name stands for

    Raises ArgumentError for an unknown name or option.
    """
    if name not in _MODELS:
        raise ArgumentError(f"build: no model {name!r}; legal: {', '.join(_MODELS)}")
    module, cls, preset = _MODELS[name]
    try:
        return getattr(import_module(module), cls)(in_channels, num_classes, **{**preset, **options})
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise ArgumentError(f"build: {name}: {error}") from error
