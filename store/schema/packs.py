"""Packs: the files that hold what all seeds, or all pairs, have per token or item at one step.

A pack is a shard of Zarr: chunks one after the other, then an index of 16 bytes for each chunk that
may be there (where it begins and how long it is, little endian; all ones: it is not there), and the
`crc32c` of the index. Its chunks are those that were loose, byte by byte, so that what records say
of them stays true. Loose chunks count before packed ones.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from store.schema import layout
from store.schema.packed import CHECKSUM_BYTES
from store.schema.variable import PACK_SEEDS

ENTRY_BYTES = 16  # of the index, for each chunk: where it begins, and how long it is


class PackedPlace(NamedTuple):
    """The place of a packed chunk of results per token, or of answers to a probe."""

    key: str  # of the pack
    number: int  # of the chunk in it
    n_chunks: int  # that may be in it

    @property
    def index_bytes(self) -> int:
        """Return how long the index at the end of the pack is."""
        return self.n_chunks * ENTRY_BYTES + CHECKSUM_BYTES


def place_of(key: str) -> PackedPlace | None:
    """Return where the loose chunk of this key is packed; None: it is the key of something else."""
    group, _, chunk = key.rpartition("/c/")
    found = _packed_array(group)
    if found is None or not chunk:
        return None
    array, n_seeds, n_axes = found
    try:
        at = [int(number) for number in chunk.split("/")]
    except ValueError:
        return None
    if len(at) != n_axes:
        return None
    size, number = PACK_SEEDS, 0
    for axis in range(1, 1 + n_seeds):
        at[axis], within = divmod(at[axis], size)
        number = number * size + within
    return PackedPlace(f"{array}/c.{'.'.join(map(str, at))}", number, size**n_seeds)


@lru_cache(maxsize=1024)
def _packed_array(loose: str) -> tuple[str, int, int] | None:
    """Return the path of an array that is packed, and how many axes of seeds and in all it has.

    Given that of its loose chunks; None: nothing of it is packed.
    """
    above, separator, name = loose.rpartition(f"/{layout.LOOSE}/")
    if not separator:
        return None
    if name.startswith(f"{layout.PROBE}/"):
        return f"{above}/{name}", 1, 4  # (step, seed, item, variant)
    variable = layout.PER_TOKEN.get(name)
    if variable is None:
        return None
    return f"{above}/{name}", variable.n_seed_axes, len(variable.dims)
