"""Arrays of a study in an object store or behind a web server; needs the extra `remote`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import obstore
import zarr
from numpy.typing import NDArray
from zarr.core.sync import sync
from zarr.storage import ObjectStore

from store.errors import DamagedError
from store.schema.packs import PackedPlace, place_of
from store.storage.checked_stores import CheckedStore, ChunkSizes, Opened
from store.storage.far_packs import FarPacks
from store.storage.kept_objects import KeptChunks
from store.storage.links import refuse_longer

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Protocol

    from zarr.abc.store import ByteRequest
    from zarr.core.buffer import Buffer, BufferPrototype

    class Shown(Protocol):
        """Names the objects in messages, and turns the client's errors into ours."""

        def translated(self, key: str) -> AbstractContextManager[None]:
            """See `store.storage.remote.RemoteFiles`."""
            ...


_AT_ONCE = 32  # requests for chunks


def wait(request: Callable[..., Awaitable[Any]], *arguments: Any, **options: Any) -> Any:
    """Return the request's result. Waiting as the client does would not end at Ctrl-C."""

    async def result() -> Any:
        return await request(*arguments, **options)

    return sync(result())


class CommittedObjects(CheckedStore, ObjectStore[Any]):
    """Read-only objects in which every requested chunk must exist, like CommittedStore."""

    def __init__(self, store: Any, files: Shown) -> None:
        super().__init__(store, read_only=True)
        self._files = files
        self._packs = FarPacks(files, self._whole, self._part)
        self.sizes = ChunkSizes()
        self._documents: dict[str, bytes] = {}  # `zarr.json` that are known without asking
        self._opened: dict[str, Opened] = {}
        self._chunks = KeptChunks()

    def __str__(self) -> str:
        return str(self._files)

    async def get(
        self,
        key: str,
        prototype: BufferPrototype,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Read one object. Raise DamagedError for a missing chunk, RemoteError."""
        if key in self._documents:
            return prototype.buffer.from_bytes(self._documents[key])
        place = None if byte_range else place_of(key)
        if place is not None:
            found = await self._result(key, place)
            self.expect(key, found, place.key)
            return prototype.buffer.from_bytes(found.tobytes())
        with self._files.translated(key):
            value = await super().get(key, prototype, byte_range)
        if value is None and not key.endswith("zarr.json"):
            raise self._missing(key)
        if value is not None:
            self.expect(key, value.as_numpy_array())
        return value

    async def _result(self, key: str, place: PackedPlace) -> NDArray[np.uint8]:
        found = await self._packs.result(key, place, self.expected(key))
        if found is None:
            raise self._missing(place.key)
        return np.frombuffer(found, np.uint8)

    async def _whole(self, key: str, most: int | None) -> bytes | int | None:
        """Return an object, or its length where that is more than `most`; None: it is not there."""
        try:
            with self._files.translated(key):
                found = await obstore.get_async(self.store, key)
                if most is not None and found.meta["size"] > most:
                    return int(found.meta["size"])
                return bytes(await found.bytes_async())
        except FileNotFoundError:
            return None

    async def _part(self, key: str, start: int, end: int) -> bytes:
        with self._files.translated(key):
            return bytes(await obstore.get_range_async(self.store, key, start=start, end=end))

    def _missing(self, key: str) -> DamagedError:
        return DamagedError(
            f"{self}/{key}: missing, though it was committed; a copy that is still growing "
            "takes in `commits` last"
        )

    def open_as(
        self,
        path: str,
        shape: tuple[int, ...],
        document: Callable[[], bytes],
        open_it: Callable[[], zarr.Array[Any]],
    ) -> Opened:
        """Return the array at `path`, whose metadata can be but these: they are not asked for.

        Numbers cannot be wrong for that: each chunk is checked against its size and the log.
        """
        known = self._opened.get(path)
        if known is None or known.grid.shape != shape:
            self._documents[f"{path}/zarr.json"] = document()
            known = self._opened[path] = Opened.of(open_it())
        return known

    def known(self, array: Any) -> Opened | None:
        """Return what is known of an array that was opened here with `open_as`."""
        found = self._opened.get(array.path)
        return found if found is not None and found.array is array else None

    def get_bytes(self, key: str) -> NDArray[np.uint8]:
        """Read one chunk without Zarr, (byte,). Raise DamagedError like `get`, RemoteError."""
        value = self._chunks.take(key, self.expected(key))
        if value is None:
            value = wait(self._chunk, key)
        self.expect(key, value)
        self._chunks.keep(key, value)
        return value

    def fetch(self, keys: Iterable[str]) -> None:
        """Ask for all these chunks at once; what is wrong with one is said when it is read."""
        new = (key for key in keys if not self._chunks.has(key, self.expected(key)))
        missing = list(dict.fromkeys(new))
        if len(missing) < 2:
            return

        async def fetch_all() -> list[Any]:
            slots = asyncio.Semaphore(_AT_ONCE)

            async def fetch_one(key: str) -> NDArray[np.uint8]:
                async with slots:
                    return await self._chunk(key)

            return await asyncio.gather(*map(fetch_one, missing), return_exceptions=True)

        found = zip(missing, sync(fetch_all()), strict=True)
        self._chunks.add({k: v for k, v in found if isinstance(v, np.ndarray)}, self.expected)

    async def _chunk(self, key: str) -> NDArray[np.uint8]:
        if (place := place_of(key)) is not None:
            return await self._result(key, place)
        try:
            with self._files.translated(key):
                found = await obstore.get_async(self.store, key)
                refuse_longer(f"{self}/{key}", found.meta["size"], self.sizes.most_bytes(key))
                return np.frombuffer(bytes(await found.bytes_async()), np.uint8)
        except FileNotFoundError:
            raise self._missing(key) from None
