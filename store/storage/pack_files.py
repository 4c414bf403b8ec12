"""Chunks that lie in packs: see `store.schema.packs`."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from pathlib import Path

import google_crc32c

from store.errors import DamagedError
from store.schema.packed import CHECKSUM_BYTES
from store.schema.packs import PackedPlace
from store.storage.links import open_plain, refuse_link, refuse_longer

_ENTRY = struct.Struct("<QQ")
_NOT_THERE = 2**64 - 1


def packed_chunk(root: Path, place: PackedPlace, most_bytes: int) -> bytes | None:
    """Return a chunk that is packed; None: there is no pack, or it is not in it.

    Raise DamagedError for a pack that cannot be understood, and OSError.
    """
    path = f"{root}/{place.key}"
    refuse_link(root, path)
    try:
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(max(0, size - place.index_bytes))
            part = part_of(place, file.read(place.index_bytes), size)
            if part is None:
                return None
            refuse_longer(path, part[1] - part[0], most_bytes)
            file.seek(part[0])
            return file.read(part[1] - part[0])
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DamagedError(f"{path}: {error}") from None


def part_of(place: PackedPlace, index: bytes, n_bytes: int) -> tuple[int, int] | None:
    """Return where in its pack a chunk begins and ends; None: it is not there.

    `index` are the last bytes of the pack, which has `n_bytes`. Raise ValueError for an index that
    was altered.
    """
    entries, stored = index[:-CHECKSUM_BYTES], index[-CHECKSUM_BYTES:]
    if len(index) != place.index_bytes or _checksum(entries) != stored:
        raise ValueError("its index was altered")
    start, length = _ENTRY.unpack_from(entries, place.number * _ENTRY.size)
    if start == length == _NOT_THERE:
        return None
    if start + length > n_bytes - len(index):
        raise ValueError("its index was altered")
    return start, start + length


def make_pack(chunks: Mapping[int, bytes], n_chunks: int) -> bytes:
    """Return the pack of these chunks, by number."""
    entries = bytearray(_ENTRY.pack(_NOT_THERE, _NOT_THERE) * n_chunks)
    at = 0
    for number, chunk in sorted(chunks.items()):
        _ENTRY.pack_into(entries, number * _ENTRY.size, at, len(chunk))
        at += len(chunk)
    return b"".join((*(chunks[n] for n in sorted(chunks)), entries, _checksum(bytes(entries))))


def _checksum(data: bytes) -> bytes:
    return bytes(google_crc32c.value(data).to_bytes(CHECKSUM_BYTES, "little"))
