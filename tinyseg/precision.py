"""How exactly float32 products are computed: a choice between speed and digits, in PyTorch's words.

    highest    float32 multiply-adds throughout: max |error| / max |result| up to 1e-6
    high       forms that lose a digit or two where they are faster, such as Winograd's F(4x4, 3x3) and products of
               numbers split in two bf16 words: up to 3e-5
    medium     products of bf16 words, 8 bits each, summed in float32: up to 5e-3
"""

from collections.abc import Iterator
from contextlib import contextmanager

from tinyseg.errors import ArgumentError

__all__ = ["ERRORS", "LEVELS", "float32_matmul_precision", "get_float32_matmul_precision", "permits",
           "set_float32_matmul_precision"]

ERRORS = {"highest": 1e-6, "high": 3e-5, "medium": 5e-3}
LEVELS = tuple(ERRORS)
_level = "high"


def set_float32_matmul_precision(precision: str) -> None:
    """Choose "highest", "high" (the default) or "medium" for every float32 convolution of this process."""
    global _level
    if precision not in LEVELS:
        raise ArgumentError(f"set_float32_matmul_precision: {precision!r}; legal: {', '.join(LEVELS)}")
    _level = precision


def get_float32_matmul_precision() -> str:
    return _level


@contextmanager
def float32_matmul_precision(precision: str) -> Iterator[None]:
    """The same inside a `with` block only."""
    before = _level
    set_float32_matmul_precision(precision)
    try:
        yield
    finally:
        set_float32_matmul_precision(before)


def permits(precision: str) -> bool:
    """May a kernel that is as exact as `precision` says be chosen now?"""
    return LEVELS.index(precision) <= LEVELS.index(_level)
