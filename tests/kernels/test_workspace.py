"""The pool of memory: never lends what is in use, aligns what it lends, and keeps no more than was needed once."""

import gc
import os
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyseg.kernels.cpu.workspace import ALIGNMENT, Pool, empty, empty_like, pool, zeros

MB = 1 << 20
FLOAT = np.dtype(np.float32)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 5), (1000, 1000), (7, 300, 301)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8"])
def test_arrays_begin_at_a_line_of_the_cache(shape, dtype):
    a = empty(shape, dtype)
    assert (a.shape, a.dtype, a.flags.c_contiguous, a.flags.writeable) == (shape, dtype, True, True)
    assert a.__array_interface__["data"][0] % ALIGNMENT == 0
    assert empty_like(a).shape == shape
    assert not zeros(shape, dtype).any()


def test_memory_comes_back_when_the_last_view_is_gone():
    mine = Pool()
    a = mine.empty((MB,), FLOAT)
    view = a[5:].reshape(-1, 1).T
    assert mine.lent == mine.held == 4 * MB
    del a
    assert mine.lent == 4 * MB
    del view
    assert mine.lent == 0
    assert mine.held == 4 * MB
    again = mine.empty((MB - 1000,), FLOAT)          # a little smaller: the same block
    assert mine.held == 4 * MB
    del again
    mine.release()
    assert mine.held == 0


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 9)), max_size=60))
def test_no_two_arrays_share_memory(requests):
    mine, alive = Pool(), {}
    for number, (size, slot) in enumerate(requests):
        alive.pop(slot, None)
        alive[slot] = (number, mine.empty((size, 16384), FLOAT))
        alive[slot][1].fill(number)
    for number, array in alive.values():
        assert (array == number).all()
    assert mine.lent >= sum(a.nbytes for _, a in alive.values())


def test_it_holds_little_more_than_was_lent_at_once():
    mine, most = Pool(), 0
    rng = np.random.default_rng(0)
    for _ in range(30):
        sizes = rng.integers(1, 40, 6)
        arrays = [mine.empty((int(n), 65536), FLOAT) for n in sizes]
        most = max(most, mine.lent)
        assert mine.held <= 1.3 * most
        del arrays
    a = mine.empty((10_000, 65536), FLOAT)           # never touched: it costs no memory
    assert mine.held <= 1.1 * (a.nbytes + most)


def test_an_array_outlives_its_block_in_the_pool():
    mine = Pool()
    a = mine.empty((MB,), FLOAT)
    a.fill(7)
    mine.release()
    mine._blocks.clear()
    gc.collect()
    assert (a == 7).all()


def test_threads_never_get_the_same_memory():
    wrong = []

    def work(number):
        for _ in range(200):
            a = empty((MB // 8,))
            a.fill(number)
            time.sleep(0)
            if not (a == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_does_not_wait_for_its_parents_lock():
    held, done = threading.Event(), threading.Event()

    def hold():
        with pool._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if child == 0:
        empty((MB,))
        os._exit(0)
    done.set()
    thread.join()
    for _ in range(600):
        finished, status = os.waitpid(child, os.WNOHANG)
        if finished:
            break
        time.sleep(0.05)
    else:
        os.kill(child, 9)
        pytest.fail("the child waits for ever")
    assert status == 0
