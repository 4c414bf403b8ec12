"""Chunks that lie in packs: see `store.schema.packs`."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import google_crc32c

from store.errors import DamagedError
from store.schema.packed import CHECKSUM_BYTES
from store.schema.packs import PackedPlace
from store.storage.links import open_descriptor, refuse_link, refuse_longer

_ENTRY = struct.Struct("<QQ")
_NOT_THERE = 2**64 - 1
_HELD = 64  # indexes: a step has one for each array, and 4 kB are many


@dataclass(frozen=True)
class OpenPack:
    """A pack whose file is open until `close`."""

    path: str
    descriptor: int
    n_bytes: int
    index: bytes

    def chunk(self, place: PackedPlace, most_bytes: int) -> bytes | None:
        """Return one of its chunks; None: it is not in it. Raise as `PackReader.chunk`."""
        try:
            part = _part_at(place, self.index, self.n_bytes)
        except ValueError as error:
            raise DamagedError(f"{self.path}: {error}") from None
        if part is None:
            return None
        refuse_longer(self.path, part[1] - part[0], most_bytes)
        return os.pread(self.descriptor, part[1] - part[0], part[0])

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class PackReader:
    """Reads chunks out of packs below one folder, and holds the indexes of those it read last."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._indexes: dict[str, tuple[tuple[int, ...], bytes]] = {}  # by path; the oldest first

    def holds(self, place: PackedPlace) -> bool:
        """Return whether the index of this pack was read before."""
        return f"{self._root}/{place.key}" in self._indexes

    def chunk(self, place: PackedPlace, most_bytes: int) -> bytes | None:
        """Return a chunk that is packed; None: there is no pack, or it is not in it.

        Raise DamagedError for a pack that cannot be understood, or is reached through a link, and
        OSError.
        """
        pack = self.open(place)
        if pack is None:
            return None
        with contextlib.closing(pack):
            return pack.chunk(place, most_bytes)

    def open(self, place: PackedPlace) -> OpenPack | None:
        """Return the pack of this place, to be closed; None: there is none. Raise as `chunk`."""
        path = f"{self._root}/{place.key}"
        try:
            descriptor, found = open_descriptor(path)
        except OSError as error:
            refuse_link(self._root, path)
            if isinstance(error, FileNotFoundError):
                return None
            raise
        try:
            index = self._index(path, place, descriptor, found)
        except BaseException as error:
            os.close(descriptor)
            if isinstance(error, ValueError):
                raise DamagedError(f"{path}: {error}") from None
            raise
        return OpenPack(path, descriptor, found.st_size, index)

    def _index(
        self, path: str, place: PackedPlace, descriptor: int, found: os.stat_result
    ) -> bytes:
        """Return the index of a pack. One that is held is of the same file, so that is no link."""
        known = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        held = self._indexes.get(path)
        if held is not None and held[0] == known:
            return held[1]
        refuse_link(self._root, path)
        start = max(0, found.st_size - place.index_bytes)
        index = os.pread(descriptor, place.index_bytes, start)
        _expect_sound(place, index)
        self._indexes.pop(path, None)
        self._indexes[path] = known, index
        if len(self._indexes) > _HELD:
            self._indexes.pop(next(iter(self._indexes)), None)
        return index


class HeldPack:
    """The pack that was read last, which stays open for its other chunks."""

    def __init__(self, packs: PackReader) -> None:
        self._packs = packs
        self._key = ""
        self._pack: OpenPack | None = None

    def chunk(self, place: PackedPlace, most_bytes: int) -> bytes | None:
        """Do as `PackReader.chunk`; None also for a pack that cannot be opened."""
        if place.key != self._key:
            self.close()
            with contextlib.suppress(DamagedError, OSError):
                self._pack = self._packs.open(place)
            self._key = place.key
        return None if self._pack is None else self._pack.chunk(place, most_bytes)

    def close(self) -> None:
        """Close the file."""
        if self._pack is not None:
            self._pack.close()
        self._key, self._pack = "", None


def part_of(place: PackedPlace, index: bytes, n_bytes: int) -> tuple[int, int] | None:
    """Return where in its pack a chunk begins and ends; None: it is not there.

    `index` are the last bytes of the pack, which has `n_bytes`. Raise ValueError for an index that
    was altered.
    """
    _expect_sound(place, index)
    return _part_at(place, index, n_bytes)


def _expect_sound(place: PackedPlace, index: bytes) -> None:
    entries, stored = index[:-CHECKSUM_BYTES], index[-CHECKSUM_BYTES:]
    if len(index) != place.index_bytes or _checksum(entries) != stored:
        raise ValueError("its index was altered")


def _part_at(place: PackedPlace, index: bytes, n_bytes: int) -> tuple[int, int] | None:
    start, length = _ENTRY.unpack_from(index, place.number * _ENTRY.size)
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
