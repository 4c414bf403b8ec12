"""Files that survive a power cut: every file is complete and on disk before it has its name."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

from store.storage.side_by_side import side_by_side

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
    """Flush folder entries to disk, so that the files in them are still there after a power cut.

    Side by side: a disk needs hardly longer for many than for one.
    """
    side_by_side(_sync_folder, folders)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
