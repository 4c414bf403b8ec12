"""A reduction's record of results that depend on all seeds compared at the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from store.schema.layout import VARIABLES
from store.schema.packed import checksum_at, n_checksums

FIELD = "of_set"
"""The field of the record: by array, checksums of the chunks of each of the record's `seeds`."""

SET_RESULTS = tuple(name for name, variable in VARIABLES.items() if variable.by_set)
"""Results per token that depend on all seeds that were compared."""


@dataclass(frozen=True)
class SeedSet:
    """Seeds whose results of this kind can be read at a step; those of fewer seeds cannot."""

    seeds: tuple[str, ...]  # in the order of the checksums
    cells: Mapping[str, Any]  # by array: checksums of chunks, seed by seed

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> SeedSet | None:
        """Return what a record of a reduction says; None: nothing of this kind."""
        cells = record.get(FIELD)
        if not isinstance(cells, dict) or not cells:
            return None
        return cls(tuple(map(str, record["seeds"])), cells)

    @property
    def place(self) -> int:
        """Return where on the axis `compared` the results are."""
        return len(self.seeds) - 1

    def checksums(self, name: str, seed: str) -> tuple[str | None, ...]:
        """Return the checksums of the chunks of one seed; none when the record has none."""
        packed = self.cells.get(name)
        n_chunks = n_checksums(packed) // len(self.seeds)
        first = self.seeds.index(seed) * n_chunks
        return tuple(checksum_at(packed, first + n) for n in range(n_chunks))
