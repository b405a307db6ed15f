"""The random numbers of dropout: one generator, whose state can be kept and brought back to the bit."""

import copy
from typing import Any

import numpy as np

from tinyseg.errors import ArgumentError

__all__ = ["generator", "get_rng_state", "manual_seed", "set_rng_state"]

generator = np.random.Generator(np.random.PCG64())   # never rebound; its methods hold its own lock


def manual_seed(seed: int) -> None:
    """Start the generator anew: the same seed gives the same numbers.  `seed` >= 0."""
    if not hasattr(seed, "__index__") or seed < 0:
        raise ArgumentError(f"manual_seed: {seed!r}; needs a whole number >= 0")
    generator.bit_generator.state = np.random.PCG64(int(seed)).state


def get_rng_state() -> dict[str, Any]:
    """The generator's state: strings and whole numbers only, so that it can be written as JSON."""
    return copy.deepcopy(generator.bit_generator.state)


def set_rng_state(state: dict[str, Any]) -> None:
    """Continue exactly where `get_rng_state` was called.  Raises ArgumentError for anything else."""
    try:
        generator.bit_generator.state = state
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ArgumentError(f"set_rng_state: not a state from get_rng_state() ({error!r})") from error
