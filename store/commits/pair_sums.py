"""What a record of a reduction says of its cells: checksums of chunks, and the means themselves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.schema.packed import checksum_at, n_checksums, unpack_numbers

Pair = tuple[str, str]  # seed, other seed


@dataclass(frozen=True)
class PairSums:
    """One record of a reduction, of the pairs that it added or wrote again."""

    seeds: tuple[str, ...]
    before: frozenset[
        str
    ]  # the pairs among these were there, and earlier records say what they are
    cells: Mapping[str, Any]  # by array of results per token: checksums, pair by pair
    means: Mapping[str, Any]  # by array of means: numbers, pair by pair

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> PairSums:
        """Return what a record says; one of an earlier version says nothing."""
        cells, means, before = (record.get(name) for name in ("cells", "means", "before"))
        return cls(
            tuple(map(str, record["seeds"])),
            frozenset(map(str, before)) if isinstance(before, list) else frozenset(),
            cells if isinstance(cells, dict) else {},
            means if isinstance(means, dict) else {},
        )

    def pairs(self) -> Iterator[Pair]:
        """Yield the pairs, in the order of cells and means."""
        for pair in itertools.permutations(self.seeds, 2):
            if not (pair[0] in self.before and pair[1] in self.before):
                yield pair

    @property
    def n_pairs(self) -> int:
        """How many pairs there are, counted without going through them."""
        n, there = len(self.seeds), len(self.before & set(self.seeds))
        return n * (n - 1) - there * (there - 1)

    def checksums(self, name: str, pair: Pair) -> tuple[str | None, ...] | None:
        """Return the checksums of one pair's chunks; None when it is not among the pairs."""
        if not set(pair) <= set(self.seeds) or set(pair) <= self.before or pair[0] == pair[1]:
            return None
        n_chunks = n_checksums(self.cells.get(name)) // self.n_pairs
        if not n_chunks:  # the record does not say, as one of an earlier version
            return ()
        first = list(self.pairs()).index(pair) * n_chunks
        return tuple(checksum_at(self.cells.get(name), first + n) for n in range(n_chunks))

    def numbers(self, name: str) -> dict[Pair, float]:
        """Return the means of the pairs; none where the record does not say."""
        packed = self.means.get(name)
        if not isinstance(packed, str) or len(packed) < 8 * self.n_pairs:
            return {}
        return dict(zip(self.pairs(), unpack_numbers(packed, self.n_pairs).tolist(), strict=True))


def recorded_pairs(
    sums: tuple[PairSums, ...], name: str, seeds: Mapping[str, int]
) -> NDArray[np.float64]:
    """Return a step's means as records say, newest last: (seed, other_seed); NaN: not known."""
    values = np.full((len(seeds), len(seeds)), np.nan)
    for record in sums:
        for (i, j), value in record.numbers(name).items():
            if i in seeds and j in seeds:
                values[seeds[i], seeds[j]] = value
    return values
