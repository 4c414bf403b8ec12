"""Writing a captured checkpoint: whole or not at all, and not more than is allowed to wait."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from seedconv_tui.training.handover import (
    CAPTURED,
    DESCRIPTION,
    Handover,
    SpooledFile,
    remove_captured,
)
from seedconv_tui.training.plain_arrays import write_header
from seedconv_tui.training.work_order import sync_folder

_ABANDONED = 3600.0  # seconds after which a part of a capture is that of a process that died


class ArrayFile:
    """An .npy file that is written row by row."""

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str) -> None:
        self._dtype = dtype
        self._file = path.open("xb")
        self._digest = hashlib.blake2b(digest_size=16)
        self._bytes = 0
        write_header(self, shape, dtype)  # type: ignore[arg-type]

    def write(self, data: bytes | memoryview) -> int:
        """Write bytes, as a file does."""
        self._digest.update(data)
        self._bytes += len(data)
        return self._file.write(data)

    def add(self, rows: NDArray[np.generic]) -> None:
        """Write rows."""
        self.write(np.ascontiguousarray(rows, self._dtype).reshape(-1).view(np.uint8).data)

    def finish(self) -> SpooledFile:
        """Have it survive a loss of power, and return its size and digest."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return SpooledFile(self._bytes, self._digest.hexdigest())

    def close(self) -> None:
        """Close it, finished or not."""
        with contextlib.suppress(OSError):
            self._file.close()


class Parts:
    """The files that one rank writes; after an error it writes nothing more and says it at the end.

    A forward pass that other ranks take part in must go on whatever happens to files.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, ArrayFile] = {}
        self._error: OSError | None = None
        self._try(lambda: folder.mkdir(parents=True, exist_ok=True))

    def begin(self, name: str, shape: tuple[int, ...], dtype: str) -> None:
        """Begin a file of an array of this shape."""

        def open_file() -> None:
            self._open[name] = ArrayFile(self._folder / name, shape, dtype)

        self._try(open_file)

    def add(self, name: str, rows: NDArray[np.generic]) -> None:
        """Write further rows of a file."""
        self._try(lambda: self._open[name].add(rows))

    def _try(self, write: Callable[[], None]) -> None:
        if self._error is None:
            try:
                write()
            except OSError as error:
                self._error = error

    def finish(self) -> dict[str, SpooledFile]:
        """Return the files, which lie safe now. Raise OSError for the first thing that failed."""
        try:
            if self._error is not None:
                raise self._error
            return {name: file.finish() for name, file in self._open.items()}
        finally:
            for file in self._open.values():
                file.close()


def partial_folder(run: Path) -> Path:
    """Return a folder to write into, of a name that no reader takes for a capture."""
    return run / f".{uuid.uuid4().hex}.partial"


def complete(partial: Path, target: Path, handover: Handover) -> None:
    """Describe what was written and put it where the engine finds it. Raise OSError, ValueError."""
    for name, file in handover.files.items():
        if (partial / name).stat().st_size != file.bytes:
            raise ValueError(f"{name} is not whole")
    with (partial / DESCRIPTION).open("xb") as stream:
        stream.write(handover.to_json().encode())
        stream.flush()
        os.fsync(stream.fileno())
    sync_folder(partial)
    if target.exists():  # captured before, as by a run that was resumed
        remove_captured(target)
        target.parent.mkdir(parents=True, exist_ok=True)
    partial.rename(target)
    sync_folder(target.parent)


def too_many(run: Path, newest: Path, at_most: int) -> list[Path]:
    """Return captures of a run that have to go so that at most that many bytes wait, oldest first.

    `newest` stays. Also removes what a process that died had begun.
    """
    waiting: list[tuple[int, Path, int]] = []
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(run)):
            with contextlib.suppress(OSError):  # adopted meanwhile
                changed = entry.stat(follow_symlinks=False).st_mtime
                if entry.name.endswith(".partial"):
                    if time.time() - changed > _ABANDONED:
                        remove_captured(Path(entry.path))
                    continue
                size = sum(file.stat().st_size for file in os.scandir(entry.path))
                waiting.append((entry.stat().st_mtime_ns, Path(entry.path), size))
    waiting.sort(reverse=True)
    total, doomed = 0, []
    for _, folder, size in waiting:
        total += size
        if total > at_most and folder != newest:
            doomed.append(folder)
    return doomed[::-1]


def remove_abandoned(announcements: Path) -> None:
    """Remove what processes that died had begun to capture, of any run."""
    for partial in list((announcements / CAPTURED).glob("*/.*.partial")):
        with contextlib.suppress(OSError):  # removed meanwhile
            changed = [partial.lstat(), *(file.lstat() for file in partial.iterdir())]
            if time.time() - max(it.st_mtime for it in changed) > _ABANDONED:
                remove_captured(partial)


def room(folder: Path) -> int:
    """Return the bytes free where a folder is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free
