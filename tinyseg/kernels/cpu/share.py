"""Sharing a loop among threads."""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from tinyseg.kernels.cpu.threads import in_parallel, num_threads

__all__ = ["share"]

_WORTH_A_THREAD = 1 << 16                            # elements: less is done before another thread wakes


def share(kernel: Callable[..., None], count: int, elements: int, *arrays: Any) -> None:
    """Call kernel(first, last, *arrays) for parts of range(count), side by side when there are `elements` enough.

    A result does not depend on the parts as long as each of its elements is computed in one turn of the loop.
    """
    parts = max(1, min(num_threads(), count, elements // _WORTH_A_THREAD))
    ends = [count * t // parts for t in range(parts + 1)]
    if parts == 1:
        kernel(0, count, *arrays)
    else:
        in_parallel(lambda part: kernel(*part, *arrays), pairwise(ends))
