"""Turns: everybody gets them, in changing order, and who raises does not stop the others."""

import time
from functools import partial
from itertools import islice

from tinyseg.bench import timing
from tinyseg.bench.timing import Settings, interleave, orders

QUICK = Settings(rounds=6, seconds=0, warm_up=0.01)


def test_a_round_is_a_permutation_and_rounds_differ():
    rounds = list(islice(orders(list("abcd")), 30))
    assert all(sorted(order) == list("abcd") for order in rounds)
    assert len({tuple(order) for order in rounds}) > 10
    assert {order[0] for order in rounds} == set("abcd")
    assert rounds == list(islice(orders(list("abcd")), 30))


def test_candidates_take_turns(monkeypatch):
    """A turn is one unclocked and one clocked call; each round holds one turn of everybody."""
    monkeypatch.setattr(timing, "_SAMPLE", 0)
    monkeypatch.setattr(timing, "_WAKE", 1e9)
    calls = []
    timed = interleave({name: partial(calls.append, name) for name in "abc"}, QUICK)
    assert all(len(clock.samples) == 6 for clock in timed.values())
    turns = calls[-36:]
    assert turns[::2] == turns[1::2]
    assert all(sorted(turns[k:k + 6:2]) == list("abc") for k in range(0, 36, 6))


def test_a_fast_call_is_repeated_within_a_sample():
    clock = interleave({"a": lambda: None}, QUICK)["a"]
    assert clock.calls > 100
    assert max(clock.samples) < 1e-3


def test_who_raises_is_left_out():
    state = {"calls": 0}

    def fails():
        state["calls"] += 1
        if state["calls"] > 4:
            raise ValueError("enough")

    timed = interleave({"bad": fails, "never": lambda: 1 / 0, "good": lambda: None}, QUICK)
    assert isinstance(timed["bad"].error, ValueError)
    assert isinstance(timed["never"].error, ZeroDivisionError)
    assert timed["good"].error is None
    assert len(timed["good"].samples) >= 6
    assert interleave({}, QUICK) == {}


def test_a_slow_candidate_stops_when_patience_ends():
    clock = interleave({"a": lambda: sum(range(30000))}, Settings(rounds=100, seconds=9, patience=0, warm_up=0))["a"]
    assert len(clock.samples) == 3


def test_who_is_far_behind_gets_few_samples():
    """Five, or what a second holds; but what costs nothing is measured in full."""
    naps = {"fast": 0.002, "slower": 0.02, "behind": 0.1, "far": 0.4, "farther": 1}
    runners = {name: partial(time.sleep, nap) for name, nap in naps.items()}
    timed = interleave(runners, QUICK)
    assert {name: len(clock.samples) for name, clock in timed.items()} == {
        "fast": 6, "slower": 6, "behind": 5, "far": 3, "farther": 1}
    timed = interleave({"fast": lambda: None, "cheap": runners["fast"]}, QUICK)
    assert len(timed["cheap"].samples) == 6


def test_a_long_call_just_made_was_the_warm_up():
    timed = interleave({"short": lambda: None, "long": partial(time.sleep, 0.06)}, QUICK,
                       warm={"short": 1e-6, "long": 0.06})
    assert timed["short"].warm_up > 0
    assert timed["long"].warm_up == 0
    timed = interleave({"short": lambda: None, "endless": lambda: 1 / 0}, QUICK, warm={"endless": 2.0})
    assert timed["endless"].samples == [2.0]         # and not called again
