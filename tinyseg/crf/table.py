"""A hash table from lattice points to consecutive numbers: 0, 1, 2 ... in the order in which they come.

Open addressing: a point stands in the slot that its hash names, or in the next free one.  At most half of the slots are
taken, so that a search ends after a step or two.
"""

import numpy as np

from tinyseg.crf.simplex import vertex
from tinyseg.jit import jit
from tinyseg.kernels.cpu.team import share
from tinyseg.kernels.cpu.threads import team
from tinyseg.kernels.cpu.workspace import ALIGNMENT
from tinyseg.machine import expect_room

__all__ = ["Table"]

_FREE = -1


class Table:
    """The points of a lattice.

    keys    int32 (capacity, d), of which the first `count` are points: d coordinates each, the last is minus their sum
    """

    def __init__(self, dimension: int):
        self.count = 0
        self._reserve(np.empty((0, dimension), np.int32), 1 << 10)

    def number(self, base: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """The numbers of all vertices of simplices, new points getting new numbers.

        base, rank    (N, d+1) each, as `enclose` gives them
        Returns int32 (N, d+1): column k is the vertex of remainder k.
        """
        numbers = np.empty(base.shape, np.int32)
        done = 0
        while done < len(base):
            done, self.count = _number(done, base, rank, self.keys, self._slots, self.count, numbers)
            if done < len(base):
                self._reserve(self.keys[:self.count], 2 * len(self.keys))
        return numbers

    def neighbours(self) -> np.ndarray:
        """Who lies beside each point along each of the d+1 axes, int32 (d+1, 2, count); `count` stands for nobody.

        The neighbours along axis j are -1 everywhere and +d on j, and the opposite.
        """
        d = self.keys.shape[1]
        result = np.full((d + 1, 2, self.count), self.count, np.int32)
        threads = team()                             # not sooner: helpers do not watch for that long
        own = np.empty((threads.size, d + ALIGNMENT), np.int32)          # far apart: no two threads write to a line
        _neighbours(threads, threads.turns(self.count * d * 8), self.keys, self._slots, own, result)
        return result

    def _reserve(self, keys: np.ndarray, capacity: int) -> None:
        """Room for `capacity` points, those of `keys` in it already."""
        d = keys.shape[1]
        # a key, two slots, and two neighbours on each axis
        expect_room(f"crf: a lattice of more than {len(keys):,} vertices", capacity * 4 * (d + 2 + 2 * (d + 1)),
                    "Take a smaller image or a larger sigma, or cut the image into tiles")
        self.keys = np.empty((capacity, d), np.int32)
        self.keys[:len(keys)] = keys
        self._slots = np.full(2 * capacity, _FREE, np.int32)
        _place(len(keys), self.keys, self._slots)


@jit
def _slot(key, keys, slots):
    """The slot of a point, or the free one where it would be.  The number of slots is a power of two."""
    mask = len(slots) - 1
    code = np.uint64(0)
    for i in range(len(key)):
        code = (code + np.uint64(np.int64(key[i]))) * np.uint64(0x9E3779B97F4A7C15)
    slot = np.int64(code >> np.uint64(32)) & mask    # the upper half depends on every bit of the key
    while slots[slot] != _FREE:
        at = slots[slot]
        same = True
        for i in range(len(key)):
            same &= keys[at, i] == key[i]
        if same:
            return slot
        slot = (slot + 1) & mask
    return slot


@jit(allocates=True)
def _number(first, base, rank, keys, slots, count, numbers):
    """Number simplices from `first` on, as long as there is room; returns the first that is left, and the count."""
    n = base.shape[1]
    key = np.empty(n - 1, np.int32)
    for p in range(first, len(base)):
        if count + n > len(keys):
            return p, count
        for k in range(n):
            vertex(base[p], rank[p], k, key)
            slot = _slot(key, keys, slots)
            if slots[slot] == _FREE:
                keys[count] = key
                slots[slot] = count
                count += 1
            numbers[p, k] = slots[slot]
    return len(base), count


@jit
def _place(count, keys, slots):
    for point in range(count):
        slots[_slot(keys[point], keys, slots)] = point


@jit
def _neighbours(team, turns, keys, slots, own, result):
    share(team, turns, _neighbours_of_points, (turns, keys, slots, own, result))


@jit
def _neighbours_of_points(turn, member, turns, keys, slots, own, result):
    d, points = keys.shape[1], result.shape[2]
    key = own[member, :d]
    for point in range(turn * points // turns, (turn + 1) * points // turns):
        for axis in range(d + 1):
            for i in range(d):
                key[i] = keys[point, i] + (d if i == axis else -1)
            other = slots[_slot(key, keys, slots)]
            if other != _FREE:                       # whose neighbour on the other side this is
                result[axis, 0, point] = other
                result[axis, 1, other] = point
