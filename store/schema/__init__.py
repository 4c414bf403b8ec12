"""What a study is, in memory: names of arrays, variables, snapshots, checksums. No I/O."""

from store.schema.array_types import Bools, Floats, Ints

__all__ = ["Bools", "Floats", "Ints"]
