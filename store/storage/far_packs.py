"""Packs of results in a store in which every question takes long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from store.errors import DamagedError
from store.schema.packed import CHECKSUM_BYTES
from store.schema.packs import PackedPlace
from store.storage.pack_files import part_of

_WHOLE_BYTES, _HELD_BYTES = 2**22, 2**25  # of a pack that is held whole, and of all of those

AskWhole = Callable[[str, int | None], Awaitable[bytes | int | None]]
AskPart = Callable[[str, int, int], Awaitable[bytes]]


class FarPacks:
    """Packs of results: small ones are held whole, because readers of one chunk read the others."""

    def __init__(self, where: object, whole: AskWhole, part: AskPart) -> None:
        """Take what asks for an object, or for a part of it; `where` is shown."""
        self._where, self._whole, self._part = where, whole, part
        self._held: dict[str, bytes | _Index | None] = {}  # by key; the oldest first
        self._asking = asyncio.Lock()  # so that no pack is asked for twice at once

    async def result(self, key: str, place: PackedPlace, wanted: str | None) -> bytes | None:
        """Return a chunk of results per token, packed or else loose; None: it is not there.

        It is the one with the checksum `wanted`, in hex digits, if there is one with it.
        """
        packed = None
        for held in (True, False):  # what was asked for before may be of another time
            packed = await self.chunk(place, held=held)
            if packed is not None and wanted in (None, packed[-CHECKSUM_BYTES:].hex()):
                break
            if held and isinstance(loose := await self._whole(key, None), bytes):
                return loose
        return packed

    async def chunk(self, place: PackedPlace, *, held: bool) -> bytes | None:
        """Return a packed chunk; None: it is in no pack. `held`: a pack asked for before will do.

        Raise DamagedError for a pack that cannot be understood.
        """
        async with self._asking:
            if not held or place.key not in self._held:
                self._hold(place.key, await self._fetch(place))
            pack = self._held[place.key]
        if pack is None:
            return None
        end = _Index(pack[-place.index_bytes :], len(pack)) if isinstance(pack, bytes) else pack
        try:
            part = part_of(place, end.entries, end.n_bytes)
        except ValueError as error:
            raise DamagedError(f"{self._where}/{place.key}: {error}") from None
        if part is None:
            return None
        if isinstance(pack, bytes):
            return pack[slice(*part)]
        return await self._part(place.key, *part)

    async def _fetch(self, place: PackedPlace) -> bytes | _Index | None:
        found = await self._whole(place.key, _WHOLE_BYTES)
        if not isinstance(found, int):
            return found
        start = max(0, found - place.index_bytes)
        return _Index(await self._part(place.key, start, found), found)

    def _hold(self, key: str, pack: bytes | _Index | None) -> None:
        self._held.pop(key, None)
        self._held[key] = pack
        sizes = {key: len(pack) for key, pack in self._held.items() if isinstance(pack, bytes)}
        while sum(sizes.values()) > _HELD_BYTES:
            oldest = next(iter(sizes))
            del sizes[oldest], self._held[oldest]


@dataclass(frozen=True)
class _Index:
    """The held part of a pack that is too large: its end, and how long it is."""

    entries: bytes
    n_bytes: int
