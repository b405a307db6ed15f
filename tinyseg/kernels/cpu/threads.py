"""Threads that help: awake while there is work, for the loops of kernels (see `team`) and for calls of NumPy.

A sleeping thread takes 30 to 200 µs to wake, which is longer than many a layer.  So a helper without work watches for
more, for about a millisecond, before it sleeps.  It watches outside the interpreter, which stays free for others.

Two pools that spin for work take the cores from each other when calls alternate: a convolution that fills columns and
lets BLAS's threads multiply them ran nine times slower.  So where the work multiplies matrices, BLAS is held to one
thread meanwhile.
"""

import math
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from contextvars import copy_context
from functools import cache
from queue import Empty, SimpleQueue
from typing import Any

import numba
import numpy as np
from threadpoolctl import ThreadpoolController

from tinyseg.kernels.cpu.team import ASKED, CALLS, LED, Team, increase, new_board, reaches, serve

__all__ = ["in_parallel", "num_threads", "team"]

_PATIENCE = 1e-3                                     # seconds without work after which a helper sleeps


def num_threads() -> int:
    """As many as Numba uses: `numba.set_num_threads` and NUMBA_NUM_THREADS decide for both."""
    return numba.get_num_threads()


def in_parallel(work: Callable[[Any], None], items: Iterable[Any], blas: bool = False) -> None:
    """Call `work` for every item; items must not depend on one another, nor write the same memory.

    blas    whether the work multiplies matrices with NumPy
    """
    items = list(items)
    helpers = min(num_threads(), len(items)) - 1 if len(items) > 1 else 0
    with _one_blas_thread if blas else nullcontext():
        if helpers < 1:
            for item in items:
                work(item)
            return
        call = _Call(work, items)
        _helpers.ask(call, helpers)
        call.finish()


class _Call:
    """The items of one `in_parallel`, which the caller and its helpers take one by one."""

    def __init__(self, work: Callable[[Any], None], items: list[Any]):
        self._work: Callable[[Any], None] | None = work
        self._items = iter(items)                    # next() on a list's iterator is atomic
        self._context = copy_context()               # so that numpy.errstate holds for the helpers too
        self._inside: list[threading.Lock] = []      # one for each helper that began, released when it is done
        self._error: BaseException | None = None
        self.left = np.zeros(1, np.int64)            # helpers that are done and out of the interpreter

    def help(self) -> None:
        """Take part, on a helper.  One that comes too late finds no items."""
        inside = threading.Lock()
        inside.acquire()
        self._inside.append(inside)                  # before the first item: who takes one is waited for
        try:
            self._context.copy().run(self._drain)
        except BaseException as error:
            self._error = error
        finally:
            inside.release()

    def finish(self) -> None:
        """Take part as the caller, and wait for the helpers that began."""
        try:
            self._drain()
        finally:
            reaches(self.left, 0, len(self._inside), _turns())
            for inside in self._inside:              # asleep, if need be
                inside.acquire()
            self._work = None                        # the arrays must not wait for helpers that never came
        if self._error is not None:
            raise self._error

    def _drain(self) -> None:
        try:
            for item in self._items:
                self._work(item)
        except BaseException:
            for _ in self._items:                    # nobody begins another item
                pass
            raise


class _Helpers:
    """Threads that wait for something to do: awake at first, then asleep."""

    def __init__(self) -> None:
        self.board = new_board()
        self._waiting: SimpleQueue[_Call | None] = SimpleQueue()
        self._lock, self._number, self._asleep = threading.Lock(), 0, 0

    def ask(self, call: _Call, number: int) -> None:
        """Have so many threads help with a call."""
        self.rouse(number)
        with self._lock:
            for _ in range(number):
                self._waiting.put(call)
            increase(self.board, CALLS, 1)
            increase(self.board, ASKED, 1)

    def rouse(self, number: int) -> None:
        """See to it that there are so many threads, and that they are awake."""
        if self._number < number or self._asleep:
            with self._lock:
                while self._number < number:
                    self._number += 1
                    threading.Thread(target=self._help, args=(self._number,), name=f"tinyseg {self._number}",
                                     daemon=True).start()
                for _ in range(self._asleep):
                    self._waiting.put(None)

    def _help(self, member: int) -> None:
        calls = 0
        while True:
            awake = serve(self.board, member, calls, _turns())
            calls = self.board[CALLS]                # before the look into the queue: no call is overlooked
            try:
                call = self._waiting.get_nowait()
            except Empty:
                if awake:
                    continue
                call = self._sleep()
            if call is not None:
                call.help()
                left = call.left
                del call                             # and with it the arrays
                increase(left, 0, 1)

    def _sleep(self) -> _Call | None:
        with self._lock:
            self._asleep += 1
        try:
            return None if self.board[LED] else self._waiting.get()     # who leads may not have seen that we sleep
        finally:
            with self._lock:
                self._asleep -= 1


@cache
def _turns() -> int:
    """How many turns of waiting take `_PATIENCE`.  The quickest counts: in others a busy machine took the core away."""
    board, quickest = new_board(), math.inf
    for _ in range(20):
        start = time.perf_counter()
        serve(board, 1, 0, 1)
        quickest = min(quickest, time.perf_counter() - start)
    return int(_PATIENCE / quickest) + 1


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


def team(items: int = 1 << 62) -> Team:
    """For a kernel that shares a loop over so many items, or more."""
    size = max(1, min(num_threads(), items))
    if size > 1:
        _helpers.rouse(size - 1)
    return Team(_helpers.board, size)


_helpers = _Helpers()
_one_blas_thread = _OneBlasThread()


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _start_anew() -> None:
    """A forked process has none of its parent's threads: its work would wait for them for ever."""
    global _helpers, _one_blas_thread
    _helpers, _one_blas_thread = _Helpers(), _OneBlasThread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
