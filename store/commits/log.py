"""The commit log: what a study is known to hold. A thing is committed when its record is here.

Each coordinator writes one file, `commits/<n>.log`, n = 1, 2, ...; a record is one line, eight hex
digits of the CRC-32 of the rest, a space and a JSON object. The first record of a file names the
session and how many bytes of the file before it count. So a coordinator that lost the study to
another cannot commit afterwards. A line that is incomplete or fails its checksum at the
end of a live file is not there yet; anything after it is not read. Files are never removed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import uuid
import zlib
from pathlib import Path

from store.commits.ledger import Ledger, Record
from store.commits.record_types import refuse_odd
from store.errors import BusyError, DamagedError, ReplacedError, StoreError
from store.schema.from_json import loads
from store.storage.durable import PARTIAL, sync_folders, write_file
from store.storage.places import Files, LocalFiles

_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS}

_SESSION_BYTES = 64 * 1024  # more than any first record of a file takes
_BLOCK_BYTES = 2**24  # that are read at once; more than any record takes

_RECORD_START = re.compile(rb"[0-9a-f]{8} \{")


def encode(record: Record) -> bytes:
    """Return a record as one line of the log."""
    text = json.dumps(record, separators=(",", ":"), allow_nan=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def decode(line: bytes) -> Record | None:
    """Return the record of one line without its newline; None when the line is not whole."""
    checksum, _, text = line.partition(b" ")
    try:
        if int(checksum, 16) != zlib.crc32(text):
            return None
        record = loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _decode_all(lines: list[bytes]) -> list[Record] | None:
    """Return the records of lines, all at once: quicker. None when one of them is not whole."""
    parts = [line.partition(b" ") for line in lines]
    try:
        if any(int(checksum, 16) != zlib.crc32(text) for checksum, _, text in parts):
            return None
        records = loads(b"[%s]" % b",".join(text for _, _, text in parts))
    except ValueError:
        return None
    whole = len(records) == len(lines) and all(isinstance(record, dict) for record in records)
    return records if whole else None


def _holds_record(damaged: bytes) -> bool:
    """Return whether a whole record follows the start, so that what precedes it was whole once."""
    looked_at = 0
    for match in _RECORD_START.finditer(damaged, 1):
        end = damaged.find(b"\n", match.start())
        line = damaged[match.start() : end if end >= 0 else len(damaged)]
        if decode(line) is not None:
            return True
        looked_at += len(line)
        if looked_at > 8 * _BLOCK_BYTES:  # starts in starts: of nobody's log, and without an end
            return True
    return False


def log_file(folder: Path, number: int) -> Path:
    """Return the file of session `number`."""
    return folder / f"{number}.log"


def seal_file(folder: Path, number: int) -> Path:
    """Return the file that session `number` left at its end: how long its log is, in one record."""
    return folder / f"{number}.end"


def refuse_lost(folder: Path, number: int, there: os.stat_result | None = None) -> os.stat_result:
    """Raise BusyError when another has taken over from session `number`, or StoreError.

    What is written to a study that was removed, or whose file system is away, goes nowhere, or into
    the empty folder where that was mounted. Given `there`, which an earlier call returned, it must
    still be the same file: not one of another study that was put in its place.
    """
    if log_file(folder, number + 1).exists():
        raise BusyError(f"{folder.parent}: another engine has taken this study over")
    try:
        found = log_file(folder, number).stat()
    except FileNotFoundError:
        raise StoreError(
            f"{folder.parent}: is not there any more: was it removed, or is its file system not "
            "mounted? Once it is back, run the same command again: what is committed stays"
        ) from None
    if there is not None and not os.path.samestat(found, there):
        raise ReplacedError(
            f"{folder.parent}: another study, or an older copy of this one, was put in its place; "
            "run the same command again to continue with what is there"
        )
    return found


class CommitReader:
    """Follows a commit log as it grows, reading each byte once."""

    def __init__(self, folder: Path | Files, changes: int = 0) -> None:
        """Follow the log in a folder; `changes` is where to count from."""
        if isinstance(folder, Path):
            folder = LocalFiles(folder.parent).below(folder.name)
        self._files = folder
        self.replaced = 0  # how often an older copy was found in the place of what had been read
        self._restart(changes)

    def _restart(self, changes: int) -> None:
        self.ledger = Ledger(changes=changes)  # never back: equal counts mean equal contents
        self._open(0)

    def _open(self, number: int, first: Record | None = None) -> None:
        self.number = number  # the file being read
        self.offset = 0  # bytes of it that were taken in
        self._version: object = None  # of it, where that is known without asking for it
        self._first = first  # its first record, which no other session's file has
        self._tail = b""  # the last line that was taken in

    def refresh(self) -> bool:
        """Take in what is new; say whether anything was.

        Raise DamagedError when a record that must be there cannot be read.
        """
        before = self.ledger.changes
        self._files.look()
        if self._files.near and not self.agrees():
            self.start_again()
        newest = self._newest() if self.number == 0 else 0
        while True:
            following = self._first_record(self.number + 1)
            if following is None:
                if self.number + 1 < newest:
                    missing = f"{self._files}/{self.number + 1}.log"
                    raise DamagedError(f"{missing}: missing, though there are later ones")
                if self._read_newest():
                    return self.ledger.changes != before
                self.start_again()
                continue
            if self.number:
                limit = int(following["follows_bytes"])
                if limit < self.offset:  # records taken in were void: another coordinator took over
                    self._restart(self.ledger.changes)
                    continue
                self._read(limit=limit)
            self._open(self.number + 1, following)

    def start_again(self) -> None:
        """Forget everything: an older copy lies in the place of what had been read."""
        self.replaced += 1
        self._restart(self.ledger.changes + 1)

    def stamp(self) -> tuple[int, ...] | None:
        """Return what changes when the file being read is replaced or gets shorter, at no cost.

        None where that cannot be said.
        """
        found = self._files.stamp(f"{self.number}.log")
        return found and (*found[:2], int(found[2] >= self.offset))

    def agrees(self) -> bool:
        """Return whether what was taken in is still there: not so when an older copy was put back.

        A file that is gone though there are later ones is not replaced but lost: `refresh` says so.
        """
        if self.number == 0:
            return True
        start = self.offset - len(self._tail)
        try:
            if self._files.read(f"{self.number}.log", start, self.offset) != self._tail:
                return False
        except FileNotFoundError:
            logs = [name.removesuffix(".log") for name in self._files.names()]
            return not 0 < max((int(n) for n in logs if n.isdecimal()), default=0) < self.number
        return self._first_record(self.number) == self._first

    def _newest(self) -> int:
        """Return the newest file; one more when that session ended, as its file must be there."""
        names = [name.rpartition(".") for name in self._files.names()]
        known = [(int(stem), suffix) for stem, _, suffix in names if stem.isdecimal()]
        logs = [number for number, suffix in known if suffix == "log"]
        ends = [number + 1 for number, suffix in known if suffix == "end"]
        return max(logs + ends, default=0)

    def _first_record(self, number: int) -> Record | None:
        try:
            line, newline, _ = self._files.read(f"{number}.log", 0, _SESSION_BYTES).partition(b"\n")
        except FileNotFoundError:
            return None
        if not newline:  # being written, where there are no hard links
            return None
        record = decode(line)
        if record is None or type(record.get("follows_bytes")) is not int:
            raise DamagedError(f"{self._files}/{number}.log: the session record is damaged")
        if record.get("number", number) != number:
            raise DamagedError(f"{self._files}/{number}.log: is a copy of another session's log")
        return record

    def _read_newest(self) -> bool:
        """Read on in the last file, which may still grow, but not have lost its end.

        Return false where it was replaced by another, if that can be seen at no cost.
        """
        if self.number == 0:
            return True
        before, version = self.offset, self._files.version(f"{self.number}.log")
        sealed = self._sealed_bytes()  # before the file, which may grow past it
        self._read(limit=None)
        if sealed is not None and self.offset < sealed:
            name = f"{self._files}/{self.number}"
            raise DamagedError(
                f"{name}.log: {self.offset} of its {sealed} bytes can be read; restore it from a "
                f"copy, or remove {name}.end to have the rest done again"
            )
        if version != self._version and self.offset == before > 0 and not self.agrees():
            return False
        self._version = version
        return True

    def _sealed_bytes(self) -> int | None:
        """Return how long the file being read must be at least; None: its session has not ended.

        Raise DamagedError when that cannot be told.
        """
        name = f"{self.number}.end"
        try:
            record = decode(self._files.read(name, 0, _SESSION_BYTES).removesuffix(b"\n"))
        except FileNotFoundError:
            return None
        if record is None or type(record.get("bytes")) is not int:
            raise DamagedError(
                f"{self._files}/{name}: damaged; remove it, it only repeats how long the log is"
            )
        return int(record["bytes"])

    def _read(self, limit: int | None) -> None:
        while self._read_block(limit):
            pass
        if limit is not None and self.offset != limit:
            path = f"{self._files}/{self.number}.log"
            raise DamagedError(f"{path}: shorter than the {limit} bytes that were committed")

    def _read_block(self, limit: int | None) -> bool:
        """Take in the next records; return whether there may be more."""
        path, before = f"{self._files}/{self.number}.log", self.offset
        data = self._data(self.offset, limit)
        *lines, _ = data.split(b"\n")
        whole = _decode_all(lines) or map(decode, lines)  # one by one to find the damaged one
        for line, record in zip(lines, whole, strict=True):
            if record is None:
                if limit is not None or _holds_record(self._data(self.offset, None)):
                    raise DamagedError(f"{path}: byte {self.offset} starts a damaged record")
                return False
            try:
                refuse_odd(record, self.ledger)
            except ValueError as error:
                raise DamagedError(f"{path}: byte {self.offset}: {error}") from None
            self.ledger.apply(record)
            self.offset += len(line) + 1
            self._tail = line + b"\n"
        if len(data) < _BLOCK_BYTES:
            return False
        if self.offset == before:
            raise DamagedError(f"{path}: byte {before} starts a record that has no end")
        return True

    def _data(self, start: int, limit: int | None) -> bytes:
        stop = start + _BLOCK_BYTES
        name = f"{self.number}.log"
        try:
            return self._files.read(name, start, stop if limit is None else min(limit, stop))
        except FileNotFoundError:
            missing = f"{self._files}/{name}"
            raise DamagedError(f"{missing}: missing, though it was there") from None


class CommitWriter:
    """Appends to the commit log as its one coordinator."""

    def __init__(self, folder: Path, reader: CommitReader, session: Record) -> None:
        """Start session `reader.number + 1`. Raise BusyError when another process just did."""
        self._folder, self._reader = folder, reader
        self.number = reader.number + 1
        self._failed: OSError | None = None
        numbers = {"number": self.number, "follows_bytes": reader.offset}
        record = {"kind": "session", **numbers, **session}
        self._path = log_file(folder, self.number)
        partial = folder / f"{self.number}.{uuid.uuid4().hex}{PARTIAL}"
        try:
            _write_synced(partial, "wb", encode(record))
            _claim(partial, self._path)
        except FileExistsError:
            raise BusyError(
                f"{folder.parent}: another engine started at this moment and wrote {self._path}"
            ) from None
        finally:
            partial.unlink(missing_ok=True)
        # A session killed while it sealed its log has ended well: nobody else looks for this.
        for left in folder.glob(f"{seal_file(folder, self.number - 1).name}.*{PARTIAL}"):
            left.unlink(missing_ok=True)
        self._file = self._path.open("ab", buffering=0)
        sync_folders([folder])
        reader.refresh()

    def check(self) -> None:
        """Raise BusyError when another has taken the study over, StoreError when it was deleted."""
        refuse_lost(self._folder, self.number, os.fstat(self._file.fileno()))

    def append(self, *records: Record) -> None:
        """Commit: the records are on disk when this returns.

        Raise what `check` raises, and OSError when they could not be written. A session that
        failed to write can commit no more: readers may have taken in what had to be undone, and
        only a new session makes them forget it.
        """
        if self._failed is not None:
            raise OSError(self._failed.errno, self._failed.strerror, str(self._path))
        self.check()
        data = b"".join(map(encode, records))
        size = os.fstat(self._file.fileno()).st_size
        try:
            if self._file.write(data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))  # noqa: TRY301
            os.fsync(self._file.fileno())
        except OSError as error:
            self._failed = error
            with contextlib.suppress(OSError):
                os.ftruncate(self._file.fileno(), size)
            raise
        self._reader.refresh()
        if self._reader.number != self.number:  # taken over while this was being written
            self.check()

    def seal(self) -> None:
        """Keep the length of the file next to it, to distinguish a lost end from a live one."""
        size = os.fstat(self._file.fileno()).st_size
        path = seal_file(self._folder, self.number)
        with contextlib.suppress(OSError):  # the log is whole without it
            write_file(path, encode({"kind": "sealed", "bytes": size}))
            sync_folders([self._folder])

    def close(self) -> None:
        """Close the file; nothing more can be committed."""
        self._file.close()


def _write_synced(path: Path, mode: str, data: bytes) -> None:
    with path.open(mode) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _claim(source: Path, target: Path) -> None:
    """Give a file a second name in one step. Raise FileExistsError when the name is taken."""
    try:
        os.link(source, target)  # unlike a rename, fails when the name is taken
    except FileExistsError:
        if not target.samefile(source):  # NFS may say so of a link it made, when asked twice
            raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _write_synced(target, "xb", source.read_bytes())
