"""Work shared among threads: done once, raised here, and leaving nothing behind."""

import gc
import os
import subprocess
import sys
import threading
import time
import weakref

import numba
import numpy as np
import pytest

from tinyseg.kernels.cpu.threads import _blas, in_parallel
from tinyseg.kernels.cpu.workspace import pool


def blas_threads():
    return [library.num_threads for library in _blas().lib_controllers if library.user_api == "blas"]


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_every_item_is_done_once(count):
    done = []
    in_parallel(done.append, range(count))
    assert sorted(done) == list(range(count))


def test_an_error_in_any_item_is_raised():
    with pytest.raises(ZeroDivisionError):
        in_parallel(lambda item: 1 / item, [3, 2, 1, 0])


def test_two_threads_work_side_by_side(two_threads):
    together = threading.Barrier(2, timeout=60)
    in_parallel(lambda _: together.wait(), range(2))


def test_an_error_on_a_helper_is_raised_and_nothing_more_is_begun(two_threads):
    caller, done = threading.get_ident(), []
    together = threading.Barrier(2, timeout=60)

    def work(item):
        together.wait() if item < 2 else done.append(item)
        if threading.get_ident() != caller:
            raise KeyError(item)
        while item < 2 and not raised():
            time.sleep(0.001)

    def raised():
        return any(type(o).__name__ == "_Call" and o._error is not None for o in gc.get_objects())

    with pytest.raises(KeyError):
        in_parallel(work, range(1000))
    assert len(done) < 998


def test_an_interrupt_waits_for_the_helpers(two_threads):
    together, finished = threading.Barrier(2, timeout=60), []
    caller = threading.get_ident()

    def work(item):
        together.wait()
        if threading.get_ident() == caller:
            raise KeyboardInterrupt
        time.sleep(0.05)
        finished.append(item)

    with pytest.raises(KeyboardInterrupt):
        in_parallel(work, range(2))
    assert len(finished) == 1


def test_calls_within_calls_and_from_many_threads():
    totals = np.zeros((6, 40, 30), np.int64)

    def outer(t):
        for _ in range(5):
            in_parallel(lambda i: in_parallel(lambda j: inner(t, i, j), range(30)), range(40))

    def inner(t, i, j):
        totals[t, i, j] += 1

    threads = [threading.Thread(target=outer, args=(t,)) for t in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (totals == 5).all()


@pytest.mark.parametrize("count", [2, 1])
def test_the_number_of_threads_may_change(count, two_threads):
    numba.set_num_threads(count)
    seen, together = set(), threading.Barrier(count, timeout=60)
    in_parallel(lambda _: (together.wait(), seen.add(threading.get_ident())), range(2 * count))
    assert len(seen) == count


def test_numpy_settings_hold_on_helpers(two_threads):
    together = threading.Barrier(2, timeout=60)

    def work(_):
        together.wait()
        np.float32(1) / np.float32(0)

    with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
        in_parallel(work, range(2))
    with np.errstate(divide="ignore"):
        in_parallel(work, range(2))


def test_nothing_is_kept_after_a_call(two_threads):
    class Array:
        pass

    array = Array()
    gone = weakref.ref(array)
    in_parallel(lambda _, array=array: time.sleep(0.001), range(4))
    del array
    lent = pool.lent
    for _ in range(1000):
        if gone() is None:
            break
        time.sleep(0.001)
    assert gone() is None
    assert pool.lent <= lent


def test_helpers_without_work_fall_asleep(two_threads):
    in_parallel(lambda _: time.sleep(0.001), range(4))
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.1


def test_blas_gets_its_threads_back_though_calls_overlap():
    before, meanwhile = blas_threads(), []
    entered, left = threading.Event(), threading.Event()

    def outlast(_):
        entered.set()
        left.wait()
        meanwhile.extend(blas_threads())

    other = threading.Thread(target=in_parallel, args=(outlast, [0], True))
    in_parallel(lambda _: (other.start(), entered.wait()), [0], blas=True)  # the other enters, and this ends first
    left.set()
    other.join()
    assert set(meanwhile) <= {1}
    assert blas_threads() == before


FORKED = """
import os, warnings
from tinyseg.kernels.cpu.threads import in_parallel
warnings.simplefilter("ignore")                      # that forking with threads is risky
done = []
in_parallel(done.append, range(50))
child = os.fork()
if child == 0:
    in_parallel(done.append, range(50))
    os._exit(0 if len(done) == 100 else 1)
raise SystemExit(os.waitpid(child, 0)[1])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_has_threads_of_its_own():
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=60)
