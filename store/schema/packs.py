"""Packs: the files that hold what all seeds, or all pairs, have per token at one step.

A pack is a shard of Zarr: chunks one after the other, then an index of 16 bytes for each chunk that
may be there (where it begins and how long it is, little endian; all ones: it is not there), and the
`crc32c` of the index. Its chunks are those that were loose, byte by byte, so that what records say
of them stays true. Loose chunks count before packed ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from store.schema import layout
from store.schema.packed import CHECKSUM_BYTES

ENTRY_BYTES = 16  # of the index, for each chunk: where it begins, and how long it is


@dataclass(frozen=True)
class PackedPlace:
    """Where a chunk of results per token is, once it is packed."""

    key: str  # of the pack
    number: int  # of the chunk in it
    n_chunks: int  # that may be in it

    @property
    def index_bytes(self) -> int:
        """How long the index at the end of the pack is."""
        return self.n_chunks * ENTRY_BYTES + CHECKSUM_BYTES


def place_of(key: str) -> PackedPlace | None:
    """Return where the loose chunk of this key is packed; None: it is the key of something else."""
    group, _, chunk = key.rpartition("/c/")
    above, loose, name = group.rpartition(f"/{layout.LOOSE}/")
    variable = layout.PER_TOKEN.get(name)
    if not loose or not chunk or variable is None:
        return None
    try:
        step, *rest = (int(number) for number in chunk.split("/"))
    except ValueError:
        return None
    n_seeds, size, number = 1 + variable.by_pair, layout.PACK_SEEDS, 0
    if len(rest) != len(variable.dims) - 1:
        return None
    for seed in rest[:n_seeds]:
        number = number * size + seed % size
    at = [step, *(seed // size for seed in rest[:n_seeds]), *rest[n_seeds:]]
    return PackedPlace(f"{above}/{name}/c.{'.'.join(map(str, at))}", number, size**n_seeds)
