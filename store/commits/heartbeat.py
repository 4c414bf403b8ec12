"""Heartbeat and journal: how an engine process reports what it does. Never part of the results.

One `status/<writer>.json` and one `journal/<writer>.jsonl` per process, so nobody shares a file.
"""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from store.errors import DamagedError, StoreError, lacks_room
from store.schema.from_json import from_json, loads
from store.schema.layout import JOURNAL, STATUS
from store.schema.snapshot import EngineStatus, JournalEntry
from store.storage.durable import write_file
from store.storage.links import refuse_link
from store.storage.places import Files, LocalFiles

_BLOCK_BYTES = 4096  # what file systems give a file at least
_MOST_STATUS = 2**20  # bytes: a longer one is cut off, and so is none of ours
_TAIL_BYTES = 64 * 1024
_JOURNAL_BYTES = 4 * 1024 * 1024  # about 35,000 events


def _file(root: Path, folder: str, name: str) -> Path:
    """Return a file of one of the two folders. Raise DamagedError if `name` leads elsewhere."""
    path = root / folder / name
    if path.name != name:
        raise DamagedError(f"{root / folder}: {name!r} names no file in it")
    refuse_link(root, path)
    return path


def write_status(root: Path, status: EngineStatus) -> None:
    """Replace the process's heartbeat. On a full disk, it is written into the room it has.

    Raise OSError when it cannot be written.
    """
    text = json.dumps(asdict(status), separators=(",", ":")).encode()
    text += b" " * (-len(text) % _BLOCK_BYTES)
    refuse_link(root, root / STATUS)
    path = root / STATUS / f"{status.writer}.json"
    try:
        write_file(path, text, durable=False)
    except OSError as error:
        if not lacks_room(error) or path.stat().st_size < len(text):
            raise
        _overwrite(path, text)


def _overwrite(path: Path, text: bytes) -> None:
    """Write over a file that is as long or longer: no new blocks, which a full disk has not.

    In one call, so that hardly a reader sees half of it; one that does waits for the next beat.
    """
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(descriptor, text.ljust(os.fstat(descriptor).st_size), 0)
    finally:
        os.close(descriptor)


def read_status(root: Path | Files, writer: str) -> EngineStatus | None:
    """Return the process's last heartbeat; None when it never had one that can be read."""
    files = LocalFiles(root) if isinstance(root, Path) else root
    try:
        return from_json(
            EngineStatus, loads(files.read(f"{STATUS}/{writer}.json", 0, _MOST_STATUS))
        )
    except (OSError, StoreError, ValueError):
        return None


class JournalWriter:
    """Appends lines to one process's journal; once it is too long, its older half goes."""

    def __init__(self, root: Path, writer: str, most_bytes: int = _JOURNAL_BYTES) -> None:
        self._path, self._most = _file(root, JOURNAL, f"{writer}.jsonl"), most_bytes
        self._file = self._path.open("ab", buffering=0)
        self._torn = False  # the last line was cut off, by a full disk
        self._lock = threading.Lock()  # weights are fetched in a thread that has things to say

    def append(self, entry: JournalEntry) -> None:
        """Add one entry; it is visible to readers when this returns."""
        line = json.dumps(asdict(entry), separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._file.closed:  # a thread of an earlier session had something to say
                return
            data = b"\n" + line if self._torn else line
            self._torn = True
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), self._file.name)
            self._torn = False
            if self._file.tell() > self._most:
                self._drop_older_half()

    def _drop_older_half(self) -> None:
        lines = self._path.read_bytes()[-self._most // 2 :]
        write_file(self._path, lines.partition(b"\n")[2], durable=False)
        self._file.close()
        self._file = self._path.open("ab", buffering=0)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


def read_journal(files: Files, writers: Iterable[str], limit: int = 300) -> list[JournalEntry]:
    """Return the last entries of these processes' journals, oldest first, without damaged lines."""
    entries: list[JournalEntry] = []
    files, writers = files.below(JOURNAL), tuple(writers)
    try:
        if len(writers) > 1:
            files.look()
    except (OSError, StoreError):
        return []
    for writer in writers:
        try:
            tail = files.read(f"{writer}.jsonl", -_TAIL_BYTES)
        except (OSError, StoreError, ValueError):
            continue
        lines = tail.split(b"\n")
        for line in lines[1:-1] if len(tail) >= _TAIL_BYTES else lines[:-1]:
            try:
                entries.append(from_json(JournalEntry, loads(line)))
            except ValueError:
                continue
    entries.sort(key=lambda entry: entry.time)
    return entries[-limit:]
