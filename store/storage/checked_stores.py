"""Zarr stores that check what they read: all is there, and is what was committed."""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype
from zarr.storage import LocalStore

from store.errors import DamagedError
from store.schema.packed import CHECKSUM_BYTES
from store.schema.packs import PackedPlace, place_of
from store.storage.direct_chunks import ChunkGrid, GetChunk, is_sound
from store.storage.links import (
    MOST_METADATA,
    open_plain,
    refuse_link,
    refuse_longer,
    refuse_other_than_file,
)
from store.storage.pack_files import HeldPack, PackReader

_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs")
_KEYS = {"name": "default", "configuration": {"separator": "/"}}
_BIG = {"endian": "big"}
_MOST_CHUNK = 2**31 - 1  # bytes, unpacked: Blosc makes none larger
_MOST_OPENED = 2**12  # arrays that are held
_PACKED_MORE = 2**16  # bytes by which a packed chunk may be longer, when nothing can be saved


class ChunkSizes:
    """The sizes of opened arrays' chunks, and conditions on a chunk before it is unpacked.

    A few bytes of blosc can stand for gigabytes.
    """

    def __init__(self) -> None:
        self._bytes: dict[str, int] = {}  # by array: of a chunk, once unpacked

    def know(self, grid: ChunkGrid, where: object) -> None:
        """Take in an array. Raise DamagedError for chunks larger than Blosc can make."""
        n_bytes = math.prod(grid.chunks) * grid.dtype.itemsize
        if n_bytes > _MOST_CHUNK:
            raise DamagedError(f"{where}: chunks in its zarr.json are too large")
        self._bytes[grid.path] = n_bytes

    def know_written(self, path: str, document: Mapping[str, Any]) -> None:
        """Take in what was written as the `zarr.json` of a node, which may be a new array."""
        self._bytes.pop(path, None)
        if document.get("node_type") == "array":
            chunks = document["chunk_grid"]["configuration"]["chunk_shape"]
            self._bytes[path] = math.prod(chunks) * np.dtype(document["data_type"]).itemsize

    def most_bytes(self, key: str) -> int:
        """Return how long the object `key` may be, packed as it lies there."""
        if key.endswith(_METADATA):
            return MOST_METADATA
        return self._bytes.get(key.rpartition("/c/")[0], _MOST_CHUNK) + _PACKED_MORE

    def expect(self, key: str, where: object, value: NDArray[Any]) -> None:
        """Raise DamagedError for a chunk, (byte,), that does not unpack to what its array has."""
        n_bytes = self._bytes.get(key.rpartition("/c/")[0])
        if n_bytes is not None and not key.endswith(_METADATA):
            header = value[4:16].tobytes()  # see Blosc's README_CHUNK_FORMAT
            if int.from_bytes(header[:4], "little") != n_bytes:
                raise DamagedError(f"{where}: unpacks to another size than its array's chunks have")
            # What is not packed, Blosc copies from beyond the end of too short a chunk.
            if int.from_bytes(header[8:], "little") != len(value) - CHECKSUM_BYTES:
                raise DamagedError(f"{where}: is of another length than it says")


ChecksumOf = Callable[[str], str | None]  # key of a chunk -> its checksum in hex digits, if known


def checksum_of(value: NDArray[Any]) -> str:
    """Return what a chunk, (byte,), ends with, in hex digits: the `crc32c` of the rest."""
    return bytes(value[-CHECKSUM_BYTES:]).hex()


class CheckedStore(Store):
    """A store that checks what it reads: a chunk has its length, and is the one committed.

    `expected` gives the checksum that a chunk must have, in hex digits, where that is known: a
    sound chunk of elsewhere is damage.
    """

    sizes: ChunkSizes
    expected: ChecksumOf = staticmethod(lambda key: None)

    def expect(self, key: str, value: NDArray[Any], file: str = "") -> None:
        """Raise DamagedError for a chunk, (byte,), that is not the one that was committed.

        `file` names the pack in which it lies, if it does.
        """
        where = f"{self.root if isinstance(self, LocalStore) else self}/{file or key}"
        self.sizes.expect(key, where, value)
        wanted = None if key.endswith(".json") else self.expected(key)
        if wanted is not None and checksum_of(value) != wanted:
            raise DamagedError(
                f"{where}: is not what was committed: altered, or a copy of another chunk"
            )


class CheckedFolder(CheckedStore, LocalStore):
    """A folder whose objects are neither links nor longer than they can be, and checked."""

    def __init__(self, root: Path, *, read_only: bool) -> None:
        super().__init__(root, read_only=read_only)
        self.sizes = ChunkSizes()
        self._packs = PackReader(root)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read one object. Raise DamagedError for a link, what is no file, and another chunk."""
        self._refuse_unusual(key)
        return self._checked(key, await super().get(key, prototype, byte_range))

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read one object without zarr's event loop. Raise DamagedError like `get`."""
        self._refuse_unusual(key)
        return self._checked(key, super().get_sync(key, prototype=prototype, byte_range=byte_range))

    def _refuse_unusual(self, key: str) -> None:
        path = self.root / key
        refuse_link(self.root, path)
        refuse_other_than_file(path, self.sizes.most_bytes(key))

    def _checked(self, key: str, value: Buffer | None) -> Buffer | None:
        if value is not None:
            self.expect(key, value.as_numpy_array())
            return value
        packed = self._packed(key)
        return None if packed is None else default_buffer_prototype().buffer.from_bytes(packed)

    def _packed(self, key: str) -> bytes | None:
        """Return a chunk that is not loose; None: it is in no pack either."""
        place = place_of(key)
        if place is None:
            return None
        value = self._packs.chunk(place, self.sizes.most_bytes(key))
        if value is not None:
            self.expect(key, np.frombuffer(value, np.uint8), place.key)
        return value


def _no_check() -> None: ...


@dataclass(frozen=True)
class Opened:
    """An array that Zarr has opened, with what its properties give slowly."""

    array: zarr.Array[Any]
    grid: ChunkGrid
    document: Mapping[str, Any]  # its metadata
    plain: bool  # whether numbers and keys of its chunks are as `read_directly` has them

    @classmethod
    def of(cls, array: zarr.Array[Any]) -> Opened:
        """Ask the array for them."""
        grid = ChunkGrid(array.path, array.shape, array.chunks, array.dtype)
        document = array.metadata.to_dict()
        codecs: Any = document["codecs"]
        plain = array.dtype.kind in "iuf" and document.get("chunk_key_encoding") == _KEYS
        plain &= all(codec.get("configuration") != _BIG for codec in codecs)
        return cls(array, grid, document, plain)


class OpenedArrays:
    """Arrays of a folder that were opened before, each as long as its `zarr.json` is the same."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, tuple[tuple[int, ...], Opened]] = {}  # the oldest first

    def get(self, path: str, open_it: Callable[[str], Opened]) -> Opened:
        """Return what `open_it` has returned for an array, or returns now.

        Raise what it raises, and DamagedError for a link.
        """
        file = f"{self._root}/{path}/zarr.json"
        try:
            found = os.lstat(file)
        except OSError:
            refuse_link(self._root, file)
            return open_it(path)  # it knows what to say
        stamp = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            refuse_link(self._root, file)
            known = stamp, open_it(path)
            self._known.pop(path, None)
            self._known[path] = known
            if len(self._known) > _MOST_OPENED:  # each checkpoint's log-probs are arrays
                self._known.pop(next(iter(self._known)), None)
        return known[1]

    def known(self, array: zarr.Array[Any]) -> Opened | None:
        """Return what is known of an array that was opened here; None: it was opened once more."""
        _, known = self._known.get(array.path, ((), None))
        return known if known is not None and known.array is array else None


class CommittedStore(CheckedFolder):
    """A read-only folder in which every chunk that is asked for must exist.

    Readers ask only for what is committed, so a missing chunk is damage, not a fill value.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root, read_only=True)
        self.check: Callable[[], None] = _no_check  # after each reading; raises if it is void
        self.opened = OpenedArrays(root)

    def document(self, key: str) -> dict[str, Any]:
        """Read a JSON object. Raise DamagedError like `get`, ValueError for what is none."""
        found = self.get_sync(key)
        if found is None:
            raise ValueError("there is none")
        return dict(json.loads(found.to_bytes()))

    def get_bytes(self, key: str) -> NDArray[np.uint8]:
        """Read one chunk without Zarr, (byte,). Raise DamagedError like `get`, and OSError."""
        known = self._packed_as_committed(key)
        if known is not None:
            self.check()
            return known
        path = f"{self.root}/{key}"
        try:
            with open_plain(path) as file:
                refuse_link(self.root, path)  # whose target may be there; else it is as not there
                size = os.fstat(file.fileno()).st_size
                refuse_longer(path, size, self.sizes.most_bytes(key))
                value = np.fromfile(file, np.uint8, size)
        except FileNotFoundError:
            packed = self._packed(key)
            self.check()
            if packed is None:
                raise self._missing(key) from None
            return np.frombuffer(packed, np.uint8)
        except OSError:
            refuse_link(self.root, path)
            raise
        self.check()
        self.expect(key, value)
        return value

    def _packed_as_committed(self, key: str) -> NDArray[np.uint8] | None:
        """Return a chunk out of a pack that was read before, if it is the one that was committed.

        Then it does not matter whether there is a loose one, which would be the same bytes. One
        that was altered is not: its sound copy may be loose.
        """
        place = place_of(key)
        if place is None or not self._packs.holds(place):
            return None
        return self._as_committed(key, place, self._packs)

    def _as_committed(
        self, key: str, place: PackedPlace, packs: PackReader | HeldPack
    ) -> NDArray[np.uint8] | None:
        found = packs.chunk(place, self.sizes.most_bytes(key))
        if (
            found is None
            or not is_sound(found)
            or found[-CHECKSUM_BYTES:].hex() != self.expected(key)
        ):
            return None
        value = np.frombuffer(found, np.uint8)
        self.sizes.expect(key, f"{self.root}/{place.key}", value)
        return value

    @contextlib.contextmanager
    def in_a_row(self) -> Iterator[GetChunk]:
        """Give what does as `get_bytes` for many chunks, and opens their pack once.

        What it gave holds after the end only: there, `check` is asked for all of it.
        """
        with contextlib.closing(HeldPack(self._packs)) as held:

            def get(key: str) -> NDArray[np.uint8]:
                place = place_of(key)
                found = None if place is None else self._as_committed(key, place, held)
                return self.get_bytes(key) if found is None else found

            yield get
        self.check()

    def _checked(self, key: str, value: Buffer | None) -> Buffer | None:
        value = super()._checked(key, value)
        self.check()
        if value is None and not key.endswith(_METADATA):
            raise self._missing(key)
        return value

    def _missing(self, key: str) -> DamagedError:
        refuse_link(self.root, self.root / key)
        return DamagedError(f"{self.root}/{self.file_of(key)}: missing, though it was committed")

    def file_of(self, key: str) -> str:
        """Return the file in which a chunk is, or should be: its own, or a pack.

        What is in no pack was not packed yet, if its step has a pack or others of it are loose.
        """
        place = place_of(key)
        if place is None or (self.root / key).exists():
            return key
        try:
            if self._packs.chunk(place, self.sizes.most_bytes(key)) is not None:
                return place.key
        except DamagedError:
            return place.key
        array, _, chunk = key.rpartition("/c/")
        of_step = self.root / array / "c" / chunk.partition("/")[0]
        return key if of_step.exists() or (self.root / place.key).exists() else place.key


@runtime_checkable
class FarStore(Protocol):
    """A store in which every question takes long: what it holds is known without, or asked at once.

    See `store.storage.committed_objects.CommittedObjects`.
    """

    expected: ChecksumOf

    def open_as(
        self,
        path: str,
        shape: tuple[int, ...],
        document: Callable[[], bytes],
        open_it: Callable[[], zarr.Array[Any]],
    ) -> Opened: ...
    def known(self, array: zarr.Array[Any]) -> Opened | None: ...
    def get_bytes(self, key: str) -> NDArray[np.uint8]: ...
    def fetch(self, keys: Iterable[str]) -> None: ...
