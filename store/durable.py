"""Files that survive a power cut: every file is complete and on disk before it has its name."""

from __future__ import annotations

import asyncio
import os
import threading
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from store.links import refuse_link

PARTIAL = ".partial"


def write_file(
    path: Path,
    data: bytes | bytearray | memoryview,
    *,
    durable: bool = True,
    check: Callable[[], None] | None = None,
) -> None:
    """Replace `path` by `data` in one step; readers see the old file or the new one.

    With `durable`, the data are on disk before the name changes. The folder entry is not: call
    `sync_folders` before anything is declared committed. `check` may raise to keep the old file.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        if check is not None:
            check()
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def sync_folders(folders: Iterable[Path]) -> None:
    """Flush folder entries to disk, so that the files in them are still there after a power cut."""
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class DurableStore(LocalStore):
    """A `LocalStore` that flushes what it writes; zarr's own replaces atomically but never syncs.

    `flush` makes everything written so far permanent. `check` is called before anything changes
    and raises when this process may no longer write.
    """

    def __init__(self, root: Path, check: Callable[[], None] = lambda: None) -> None:
        super().__init__(root)
        self._check = check
        self._folders: set[Path] = set()
        self._lock = threading.Lock()

    async def set(self, key: str, value: Buffer) -> None:
        """Write one object durably."""
        self._check_writable()
        await asyncio.to_thread(self._put, key, value)

    def set_sync(self, key: str, value: Buffer) -> None:
        """Write one object durably, without zarr's event loop."""
        self._check_writable()
        self._put(key, value)

    async def delete(self, key: str) -> None:
        """Remove one object."""
        self._check()
        refuse_link(self.root, self.root / key)
        await super().delete(key)

    def _put(self, key: str, value: Buffer) -> None:
        path = self.root / key
        refuse_link(self.root, path.parent)
        made = []
        folder = path.parent
        while not folder.exists():
            made.append(folder)
            folder = folder.parent
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, value.to_bytes(), check=self._check)
        with self._lock:
            self._folders.update((path.parent, folder, *made))

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
