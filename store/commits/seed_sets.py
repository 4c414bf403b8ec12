"""A reduction's record of results that depend on all seeds compared at the step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from store.schema.layout import VARIABLES
from store.schema.packed import checksum_at, n_checksums

FIELD = "of_set"
"""The field of the record: by array, checksums of the chunks of each of the record's `seeds`."""

REFERENCE = "reference"
"""The field with the fingerprint of the reference model's weights."""

SET_RESULTS = tuple(name for name, variable in VARIABLES.items() if variable.by_set)
"""Results per token that depend on all seeds that were compared."""


@dataclass(frozen=True)
class SeedSet:
    """Seeds whose results of this kind can be read at a step; those of fewer seeds cannot."""

    seeds: tuple[str, ...]  # in the order of the checksums
    cells: Mapping[str, Any]  # by array that there is: checksums of chunks, seed by seed
    reference: str | None = None  # fingerprint of the weights that `kl_to_reference` is to

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> SeedSet | None:
        """Return what a record of a reduction says; None: nothing of this kind."""
        cells = record.get(FIELD)
        if not isinstance(cells, dict) or not cells:
            return None
        reference = record.get(REFERENCE)
        known = reference if isinstance(reference, str) else None
        return cls(tuple(map(str, record["seeds"])), cells, known)

    def with_earlier(self, before: SeedSet | None) -> SeedSet:
        """Return what there is with an earlier record of the same seeds, in the same order."""
        if before is None or before.seeds != self.seeds:
            return self
        cells = {**before.cells, **self.cells}
        return replace(self, cells=cells, reference=self.reference or before.reference)

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
