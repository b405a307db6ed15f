"""Loops of compiled kernels shared among threads: every item once, each thread by its number, whoever else works."""

import threading
import time

import numba
import numpy as np
import pytest

from tinyseg.jit import jit
from tinyseg.kernels.cpu.team import ASKED, Team, new_board, share, share_range
from tinyseg.kernels.cpu.threads import in_parallel, team


@jit
def count_all(team, count, n, visits, members, heat, slow):
    share(team, count, _count, (n, visits, members, heat, slow))


@jit
def _count(item, member, n, visits, members, heat, slow):
    visits[item] += n
    members[item] = member
    for k in range(slow):
        heat[item] = np.sin(heat[item] + k)


@jit
def double_all(team, elements, x, y):
    share_range(team, len(x), elements, _double, (x, 2.0, y))


@jit
def _double(first, last, x, factor, y):
    for i in range(first, last):
        y[i] += factor * x[i]


def counted(count, slow=0):
    visits, members = np.zeros(count, np.int64), np.full(count, -1)
    count_all(team(), count, 1, visits, members, np.zeros(count), slow)
    return visits, members


@pytest.mark.parametrize("count", [0, 1, 2, 1000])
def test_every_item_is_done_once(count):
    visits, members = counted(count)
    assert (visits == 1).all()
    assert ((members >= 0) & (members < numba.get_num_threads())).all()


@pytest.mark.parametrize("count", [0, 1, 7, 100_000])
@pytest.mark.parametrize("elements", [0, 1, 1 << 20])
def test_a_range_is_covered_once(count, elements):
    x, y = np.arange(count, dtype=np.float64), np.zeros(count)
    double_all(team(), elements, x, y)
    np.testing.assert_array_equal(y, 2 * x)


def test_both_threads_take_items(two_threads):
    if numba.config.DISABLE_JIT:
        pytest.skip("plain Python shares nothing")
    assert both_take_items()


def both_take_items():
    until = time.monotonic() + 60                    # a helper may be compiling what it needs
    return any(len(set(counted(64, slow=2000)[1])) == 2 for _ in iter(lambda: time.monotonic() < until, False))


@jit
def wait_and_count(team, wait, visits, members, heat, slow):
    share(team, 1, _count, (1, visits[:1], members[:1], heat[:1], wait))
    share(team, len(visits) - 1, _count, (1, visits[1:], members[1:], heat[1:], slow))


def test_helpers_stay_awake_while_another_loop_may_follow(two_threads):
    if numba.config.DISABLE_JIT:
        pytest.skip("plain Python shares nothing")
    def members(slow=2000):
        found = np.full(65, -1)
        wait_and_count(team(), 1000 * slow, np.zeros(65, np.int64), found, np.zeros(65), slow)
        return set(found[1:])
    assert any(len(members()) == 2 for _ in range(100))


def test_one_thread_asks_nobody():
    before = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert set(counted(100, slow=1000)[1]) == {0}
    finally:
        numba.set_num_threads(before)


def test_one_item_asks_nobody(two_threads):
    board = team().board
    asked = board[ASKED]
    counted(1)
    double_all(team(), 0, np.ones(9), np.ones(9))
    assert board[ASKED] == asked
    counted(2)
    assert board[ASKED] == asked + (not numba.config.DISABLE_JIT)


@pytest.mark.parametrize("size", [1, 2, 16])
def test_work_is_cut_for_threads_where_it_is_worth_it(size):
    turns = Team(new_board(), size).turns
    assert turns(0) == turns(1000) == 1
    assert turns(1 << 40) == turns(1 << 30) >= size
    assert all(turns(n) <= turns(2 * n) <= 2 * turns(n) + 1 for n in range(0, 1 << 20, 999))


def test_many_threads_lead_at_once():
    wrong = []

    def lead():
        for k in range(300):
            visits, _ = counted(1 + k % 20, slow=100)
            wrong.extend(visits[visits != 1])

    threads = [threading.Thread(target=lead) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_loops_and_calls_alternate(two_threads):
    done = []
    for k in range(200):
        assert (counted(9, slow=50)[0] == 1).all()
        in_parallel(done.append, range(k % 3))
    assert len(done) == sum(k % 3 for k in range(200))
    in_parallel(lambda n: done.append((counted(n)[0] == 1).all()), [3, 5, 8])     # a loop within a call
    assert done[-3:] == [True] * 3


def test_helpers_wake_again(two_threads):
    if numba.config.DISABLE_JIT:
        pytest.skip("plain Python shares nothing")
    counted(2)
    for _ in range(3):
        time.sleep(0.1)                              # asleep
        assert both_take_items()
