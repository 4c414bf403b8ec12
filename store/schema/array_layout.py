"""What an array of a study is made with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_CHUNK = 2**18  # entries of a chunk of an array with one axis


@dataclass(frozen=True)
class ArrayLayout:
    """What the `zarr.json` of an array says, codecs and fill value apart: all arrays share those.

    With `shards`, so large parts of the array are one file each, whose name has no folders.
    """

    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    dims: tuple[str, ...]
    attributes: Mapping[str, Any]
    shards: tuple[int, ...] | None = None

    @classmethod
    def of_one_axis(
        cls, size: int, dtype: str, dim: str, attributes: Mapping[str, Any]
    ) -> ArrayLayout:
        """Return that of an array which is mostly read whole."""
        return cls((size,), (min(max(size, 1), _CHUNK),), dtype, (dim,), attributes)
