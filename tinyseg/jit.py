"""Numba's compiler as tinyseg uses it: cached on disk, and never silent while it works.

A kernel is a plain Python function under `@jit`; with `NUMBA_DISABLE_JIT=1` it stays one.
"""

import sys
import threading

import numba
import numpy as np
from numba import types
from numba.core import event

__all__ = ["jit"]


class _Announcer(event.Listener):
    """Says once per process that kernels are being compiled: the first second of silence puzzles people."""

    def __init__(self):
        self._said = threading.Event()

    def on_start(self, event):
        if not self._said.is_set() and event.data["dispatcher"].py_func.__module__.startswith("tinyseg"):
            self._said.set()
            print("tinyseg: compiling kernels (first use on this machine; cached afterwards) ...",
                  file=sys.stderr, flush=True)

    def on_end(self, event):
        pass


event.register("numba:compile", _Announcer())


def jit(function=None, *, fastmath=False, inline="never", allocates=False, inner=False, constants=False):
    """Compile a kernel for the CPU.  It releases the interpreter, so that threads can share its loops.

    inner        whether kernels only call it: what would let Python do so is left out, and a call from there crashes
    allocates    whether it makes arrays, or calls one that returns some.  Others do not count the references to their
                 arrays, which would cost some 100 cycles whenever one kernel calls another.
    constants    whether each constant that another kernel passes makes a kernel of its own, which knows it
    """
    def compile_(body):
        if numba.config.DISABLE_JIT:
            return np.errstate(all="ignore")(body)   # compiled arithmetic signals nothing either
        kernel = numba.njit(cache=True, fastmath=fastmath, inline=inline, nogil=True, error_model="numpy",
                            _nrt=allocates, no_cpython_wrapper=inner,
                            no_cfunc_wrapper=True)(body)     # no caller from C: a tenth of compile time
        return kernel if constants else _without_constants(kernel)
    return compile_ if function is None else compile_(function)


def _without_constants(kernel):
    called = kernel.get_call_template
    kernel.get_call_template = lambda arguments, named: called(
        tuple(map(types.unliteral, arguments)), {name: types.unliteral(kind) for name, kind in named.items()})
    return kernel
