"""A zarr store whose files survive a power cut."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterable
from pathlib import Path

from zarr.core.buffer import Buffer

from store.schema.packed import CHECKSUM_BYTES
from store.storage.checked_stores import CheckedFolder
from store.storage.durable import sync_folders, write_file
from store.storage.links import refuse_link


class DurableStore(CheckedFolder):
    """A `LocalStore` that flushes what it writes; zarr's own replaces atomically but never syncs.

    `flush` makes everything written so far permanent. `check` is called before anything changes
    and raises when this process may no longer write. The checksums of the chunks that were written
    are kept until they are taken: records of what is committed hold them. What is read is checked
    as in `CommittedStore`, but that chunks may be missing: another engine may have written it.
    """

    def __init__(self, root: Path, check: Callable[[], None] = lambda: None) -> None:
        super().__init__(root, read_only=False)
        self._is_open = True  # opening it would make the folder of a study that has gone
        self._check = check
        self._folders: set[Path] = set()
        self._written: dict[str, str] = {}
        self._lock = threading.Lock()

    def take_checksums(self, keys: Iterable[str]) -> str:
        """Return the checksums of chunks that were written, one after the other, and forget them.

        Empty when not all of them were written since they were last taken.
        """
        with self._lock:
            found = [self._written.pop(key, "") for key in keys]
        return "".join(found) if all(found) else ""

    async def set(self, key: str, value: Buffer) -> None:
        """Write one object durably."""
        self._check_writable()
        await asyncio.to_thread(self.put, key, value.to_bytes())

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write one object durably, without zarr's event loop."""
        self._check_writable()
        self.put(key, value.to_bytes())

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Write one object durably where there is none: zarr does that for the groups above."""
        if not (self.root / key).exists():
            await self.set(key, value)

    async def delete(self, key: str) -> None:
        """Remove one object."""
        self._check()
        refuse_link(self.root, self.root / key)
        await super().delete(key)

    def put(self, key: str, value: bytes) -> None:
        """Write one object durably, without Zarr."""
        path = self.root / key
        refuse_link(self.root, path.parent)
        try:
            folders = self._write(path, value)
        except FileNotFoundError:
            if not self.root.exists():
                raise
            folders = self._write(path, value)  # the folder was empty, and packing removed it
        if path.name == "zarr.json":
            self.sizes.know_written(key.rpartition("/")[0], json.loads(value))
        with self._lock:
            self._folders.update(folders)
            if not key.endswith(".json"):
                self._written[key] = value[-CHECKSUM_BYTES:].hex()

    def _write(self, path: Path, value: bytes) -> list[Path]:
        """Write a file with the folders above it; return those with new entries."""
        made = []
        folder = path.parent
        while folder != self.root and not folder.exists():
            made.append(folder)
            folder = folder.parent
        for missing in reversed(made):  # the study's own is there, or has gone for good
            missing.mkdir(exist_ok=True)
        write_file(path, value, check=self._check)
        return [path.parent, folder, *made]

    def flush(self) -> None:
        """Make every entry written since the last call permanent."""
        with self._lock:
            folders, self._folders = self._folders, set()
        try:
            sync_folders(folder for folder in folders if folder.exists())
        except OSError:
            with self._lock:
                self._folders |= folders
            raise
