"""A reduction's record of its cells: checksums of chunks, and the means themselves."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from store.schema.array_types import Floats
from store.schema.packed import checksum_at, n_checksums, unpack_numbers
from store.schema.seed_pairs import ordered_pairs

Pair = tuple[str, str]  # seed, other seed


def once(pairs: Iterable[Pair]) -> list[Pair]:
    """Return the first of both orders of each two seeds, in the order in which they come."""
    found: dict[frozenset[str], Pair] = {}
    for pair in pairs:
        found.setdefault(frozenset(pair), pair)
    return list(found.values())


@dataclass(frozen=True)
class PairSums:
    """One record of a reduction, of the pairs that it added or wrote again."""

    seeds: tuple[str, ...]
    before: frozenset[
        str
    ]  # the pairs among these were there, and earlier records say what they are
    cells: Mapping[str, Any]  # by array of results per token: checksums, pair by pair
    means: Mapping[str, Any]  # by array of means: numbers, pair by pair
    once: frozenset[str] = frozenset()  # those arrays whose cells have each two seeds once

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> PairSums:
        """Return what a record says; one of an earlier version has none."""
        names = ("cells", "means", "before", "once")
        cells, means, before, once = (record.get(name) for name in names)
        return cls(
            tuple(map(str, record["seeds"])),
            frozenset(map(str, before)) if isinstance(before, list) else frozenset(),
            cells if isinstance(cells, dict) else {},
            means if isinstance(means, dict) else {},
            frozenset(map(str, once)) if isinstance(once, list) else frozenset(),
        )

    def pairs(self) -> Iterator[Pair]:
        """Yield the pairs, in the order of cells and means."""
        for pair in itertools.permutations(self.seeds, 2):
            if not (pair[0] in self.before and pair[1] in self.before):
                yield pair

    @cached_property
    def _place(self) -> Mapping[Pair, int]:
        """Return where each pair is; kept, as all pairs of many seeds are often read one by one."""
        return {pair: place for place, pair in enumerate(self.pairs())}

    @cached_property
    def _place_once(self) -> Mapping[Pair, int]:
        """The same where both orders of two seeds are one."""
        places = {pair: place for place, pair in enumerate(once(self.pairs()))}
        return places | {(j, i): place for (i, j), place in places.items()}

    @property
    def n_pairs(self) -> int:
        """Return how many pairs there are, counted without going through them."""
        n, there = len(self.seeds), len(self.before & set(self.seeds))
        return n * (n - 1) - there * (there - 1)

    def checksums(self, name: str, pair: Pair) -> tuple[str | None, ...] | None:
        """Return the checksums of one pair's chunks; None when it is not among the pairs."""
        if not set(pair) <= set(self.seeds) or set(pair) <= self.before or pair[0] == pair[1]:
            return None
        once = name in self.once
        n_chunks = n_checksums(self.cells.get(name)) // (
            self.n_pairs // 2 if once else self.n_pairs
        )
        if not n_chunks:  # the record does not say, as one of an earlier version
            return ()
        first = (self._place_once if once else self._place)[pair] * n_chunks
        return tuple(checksum_at(self.cells.get(name), first + n) for n in range(n_chunks))

    def put_numbers(self, name: str, seeds: Mapping[str, int], values: Floats) -> None:
        """Put the means of the pairs into (seed, other_seed) of a study with these seeds.

        Nothing where the record does not say.
        """
        packed = self.means.get(name)
        if not isinstance(packed, str) or len(packed) < 8 * self.n_pairs:
            return
        if not seeds.keys() >= set(self.seeds):
            return
        index = np.array([seeds[seed] for seed in self.seeds], np.intp)
        there = np.array([seed in self.before for seed in self.seeds], bool)
        added = ordered_pairs(len(index)) & ~(there[:, None] & there)  # in the order of `pairs`
        i, j = np.nonzero(added)
        values[index[i], index[j]] = unpack_numbers(packed, self.n_pairs)


def recorded_pairs(sums: tuple[PairSums, ...], name: str, seeds: Mapping[str, int]) -> Floats:
    """Return a step's means as records say, newest last: (seed, other_seed); NaN: not known."""
    values = np.full((len(seeds), len(seeds)), np.nan)
    for record in sums:
        record.put_numbers(name, seeds, values)
    return values
