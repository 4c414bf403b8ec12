"""The header of a safetensors file, checked: anybody may have written it.

8 bytes with its length, little endian; JSON, by name of each tensor its dtype, shape and where its
bytes lie; then the bytes of all tensors, without gaps.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from engine.errors import CheckpointError, reading

_MOST_BYTES = 100 * 2**20  # of a header
_MOST_DIMENSIONS = 32


def check_safetensors(file: Path) -> None:
    """Compare a file's size, and where its tensors lie, with what its header promises.

    Raise CheckpointError, in one line.
    """
    try:
        with reading(file), file.open("rb") as stream:
            size = file.stat().st_size
            (length,) = struct.unpack("<Q", stream.read(8).ljust(8, b"\0"))
            if not 2 <= length <= min(size - 8, _MOST_BYTES):
                raise CheckpointError(f"{file}: has no valid safetensors header")
            header = json.loads(stream.read(length))
    except (ValueError, RecursionError):
        raise CheckpointError(f"{file}: has no valid safetensors header") from None
    if not isinstance(header, dict):
        raise CheckpointError(f"{file}: has no valid safetensors header")
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    if not entries:
        raise CheckpointError(f"{file}: holds no weights")
    places = sorted((*_place(file, name, entry), name) for name, entry in entries.items())
    expected = 8 + length + max(end for _, end, _ in places)
    if size != expected:
        raise CheckpointError(f"{file}: is {size:,} bytes long, its header says {expected:,}")
    before = 0
    for start, end, name in places:
        if start != before:
            what = "overlaps another" if start < before else "leaves a gap before it"
            raise CheckpointError(f"{file}: has no valid safetensors header: {name} {what}")
        before = end


def _place(file: Path, name: str, entry: Any) -> tuple[int, int]:
    """Return where a tensor's bytes lie, (first, one after the last). Raise CheckpointError."""
    where = f"{file}: has no valid safetensors header: {name[:80]}"
    entry = entry if isinstance(entry, dict) else {}
    offsets, shape, dtype = (entry.get(field) for field in ("data_offsets", "shape", "dtype"))
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise CheckpointError(f"{where} has data_offsets {str(offsets)[:40]}")
    if not _are_counts(shape) or len(shape) > _MOST_DIMENSIONS:
        raise CheckpointError(f"{where} has shape {str(shape)[:40]}")
    if not isinstance(dtype, str):
        raise CheckpointError(f"{where} has dtype {str(dtype)[:40]}")
    start, end = offsets
    if not end - start and math.prod(shape):
        raise CheckpointError(f"{where} has shape {str(shape)[:40]} and no bytes")
    return start, end


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(value, int) and not isinstance(value, bool) and value >= 0 for value in values
    )
