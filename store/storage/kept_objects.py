"""Keep what was read of a remote store, so that it is not requested again."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.storage.checked_stores import checksum_of

MOST_WHOLE = 2**24
"""Bytes of a file up to which it is read whole when a part is asked for."""

_MOST_FILES = 2**25  # bytes of files, all together
_MOST_CHUNKS = 2**25  # bytes of chunks

Listing = Mapping[str, Any]
"""What the store says of each file of a folder, by name: `size`, `e_tag`, ..."""


def version_of(listed: Any) -> tuple[str, int] | None:
    """Return which version of a file a listing names; None: it does not say."""
    return (listed["e_tag"], listed["size"]) if listed is not None and listed["e_tag"] else None


@dataclass(frozen=True)
class KeptFile:
    """A file, or a part of it, as it was when it was read."""

    version: tuple[str, int] | None  # as the last listing before had it
    e_tag: str | None
    size: int  # of the whole file
    start: int
    data: bytes

    def is_version(self, listed: Any) -> bool:
        """Return whether a listing says that this is how the file is now."""
        return self.version is not None and self.version == version_of(listed)

    def part(self, start: int, stop: int | None) -> bytes | None:
        """Return these bytes of the file, see `Files.read`; None: they are not all here."""
        start = max(0, self.size + start) if start < 0 else start
        end = self.size if stop is None else min(stop, self.size)
        if start >= end:
            return b""
        if start < self.start or end > self.start + len(self.data):
            return None
        return self.data[start - self.start : end - self.start]


class KeptFiles:
    """The files of one address that were read last. Several threads may read at once."""

    def __init__(self) -> None:
        self.listings: dict[str, Listing] = {}  # by folder
        self._files: OrderedDict[str, KeptFile] = OrderedDict()
        self._absent: set[str] = set()
        self._rest_until = 0.0
        self._lock = Lock()

    @property
    def resting(self) -> bool:
        """Return whether everything that is known counts as unchanged."""
        return time.monotonic() < self._rest_until

    def rest(self, seconds: float) -> None:
        """Let everything that is known count as unchanged for so long."""
        self._rest_until = time.monotonic() + seconds

    def get(self, key: str) -> KeptFile | None:
        """Return the file, if it was read."""
        return self._files.get(key)

    def is_absent(self, key: str) -> bool:
        """Return whether there was no such file when it was last asked for."""
        return key in self._absent

    def say_absent(self, key: str) -> None:
        """Take in that there is no such file."""
        with self._lock:
            self._absent.add(key)
            self._files.pop(key, None)

    def keep(self, key: str, file: KeptFile) -> KeptFile:
        """Keep what was read, instead of others that were read long ago; return it."""
        with self._lock:
            self._absent.discard(key)
            self._files.pop(key, None)
            if len(file.data) <= MOST_WHOLE:
                self._files[key] = file
            while sum(len(each.data) for each in self._files.values()) > _MOST_FILES:
                self._files.popitem(last=False)
        return file


class KeptChunks:
    """Chunks of arrays, packed. Those whose checksum the log has are kept, others are read once."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, NDArray[np.uint8]] = OrderedDict()
        self._bytes = 0
        self._awaited: dict[str, NDArray[np.uint8]] = {}

    def has(self, key: str, checksum: str | None) -> bool:
        """Return whether the chunk that has this checksum, if that is known, is here."""
        if key in self._awaited:
            return True
        found = self._kept.get(key)
        return found is not None and checksum is not None and checksum_of(found) == checksum

    def take(self, key: str, checksum: str | None) -> NDArray[np.uint8] | None:
        """Return that chunk, (byte,), if it is here."""
        if (awaited := self._awaited.pop(key, None)) is not None:
            return awaited
        return self._kept[key] if self.has(key, checksum) else None

    def add(
        self, chunks: Mapping[str, NDArray[np.uint8]], checksum: Callable[[str], str | None]
    ) -> None:
        """Take in what was fetched; what has no checksum replaces others that were not read."""
        self._awaited = {}
        for key, chunk in chunks.items():
            if checksum(key) is None:
                self._awaited[key] = chunk
            else:
                self.keep(key, chunk)

    def keep(self, key: str, chunk: NDArray[np.uint8]) -> None:
        """Keep a chunk that was read, instead of others that were read long ago."""
        self._bytes += chunk.nbytes
        if (before := self._kept.pop(key, None)) is not None:
            self._bytes -= before.nbytes
        self._kept[key] = chunk
        while self._bytes > _MOST_CHUNKS:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
