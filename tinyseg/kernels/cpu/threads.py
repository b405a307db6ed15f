"""Sharing matrix products among threads.

Two pools that spin for work, BLAS's and Numba's, take the cores from each other when calls alternate: a convolution
that fills columns and multiplies them band by band ran nine times slower.  So each thread here multiplies on its own,
with BLAS held to one thread meanwhile.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numba
from threadpoolctl import ThreadpoolController

__all__ = ["in_parallel", "num_threads"]


def num_threads() -> int:
    """As many as Numba uses: `numba.set_num_threads` and NUMBA_NUM_THREADS decide for both."""
    return numba.get_num_threads()


def in_parallel(work: Callable[[Any], None], items: Iterable[Any]) -> None:
    """Call `work` for every item; items must not depend on one another, nor write the same memory."""
    items = list(items)
    queue = iter(items)                              # next() on a list's iterator is atomic

    def drain() -> None:
        for item in queue:
            work(item)

    with _blas().limit(limits=1, user_api="blas"):
        helpers = [_pool().submit(drain) for _ in range(min(num_threads(), len(items)) - 1)]
        try:
            drain()
        finally:
            for helper in helpers:
                helper.result()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, thread_name_prefix="tinyseg-gemm")


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()
