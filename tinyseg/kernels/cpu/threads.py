"""Sharing matrix products among threads.

Two pools that spin for work, BLAS's and Numba's, take the cores from each other when calls alternate: a convolution
that fills columns and multiplies them band by band ran nine times slower.  So each thread here multiplies on its own,
with BLAS held to one thread meanwhile.
"""

import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
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

    with _one_blas_thread:
        # A copy of the context, so that numpy.errstate holds for the helpers too.
        helpers = [_pool().submit(copy_context().run, drain) for _ in range(min(num_threads(), len(items)) - 1)]
        try:
            drain()
        finally:
            for helper in helpers:
                helper.result()


class _OneBlasThread:
    """BLAS held to one thread from the first to enter to the last to leave, whichever threads they are on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._limit = _blas().limit(limits=1, user_api="blas").__enter__()
            self._inside += 1

    def __exit__(self, *exception: Any) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                for library in _blas().lib_controllers:
                    # threadpoolctl 3.8 lets only the thread that set a limit lift it, and that thread may have left.
                    if hasattr(library, "clear_controlling_thread"):
                        library.clear_controlling_thread(force=True)
                self._limit.__exit__(None, None, None)


_one_blas_thread = _OneBlasThread()


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(numba.config.NUMBA_NUM_THREADS, thread_name_prefix="tinyseg")


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _start_anew() -> None:
    """A forked process has none of its parent's threads: its work would wait for them for ever."""
    global _one_blas_thread
    _one_blas_thread = _OneBlasThread()
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
