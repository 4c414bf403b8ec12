"""Checksums and numbers of many cells in one text, as records of the commit log hold them.

The checksum of a chunk is the four bytes that its object ends with, the `crc32c` of what stands
before them, in eight hex digits; those of many chunks stand one after the other. Numbers are
float64, little endian, in base64.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

CHECKSUM_BYTES = 4
_DIGITS = 2 * CHECKSUM_BYTES
NOT_KNOWN = "-" * _DIGITS  # in the place of a checksum


def checksum_at(packed: Any, position: int) -> str | None:
    """Return one of many checksums; None when there is none, whatever `packed` is."""
    if not isinstance(packed, str):
        return None
    found = packed[_DIGITS * position : _DIGITS * (position + 1)]
    return found if len(found) == _DIGITS and found != NOT_KNOWN else None


def all_known(packed: Any) -> bool:
    """Return whether there are checksums, and none of them is unknown."""
    n = n_checksums(packed)
    return n > 0 and all(checksum_at(packed, position) is not None for position in range(n))


def n_checksums(packed: Any) -> int:
    """Return how many checksums there are."""
    return len(packed) // _DIGITS if isinstance(packed, str) else 0


def pack_numbers(values: Iterable[float]) -> str:
    """Return numbers as one text."""
    return base64.b64encode(np.array(list(values), "<f8").tobytes()).decode()


def unpack_numbers(packed: Any, size: int) -> NDArray[np.float64]:
    """Return `size` numbers; all NaN when `packed` holds fewer."""
    try:
        found = np.frombuffer(base64.b64decode(packed), "<f8")
    except (TypeError, ValueError):
        found = np.empty(0)
    return found.astype(np.float64) if len(found) == size else np.full(size, np.nan)


def chunk_keys(
    path: str, shape: tuple[int, ...], chunks: tuple[int, ...], index: tuple[int, ...] = ()
) -> list[str]:
    """Return the keys of an array's chunks, the last axis fastest.

    Given `index`, only those at these places on the first axes, along which a chunk has length 1.
    """
    counts = [-(-n // size) for n, size in zip(shape, chunks, strict=True)][len(index) :]
    within = itertools.product(*map(range, counts))
    return ["/".join((path, "c", *map(str, (*index, *chunk)))) for chunk in within]
