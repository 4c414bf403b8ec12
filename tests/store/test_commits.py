"""The commit log under attack: torn and damaged records, full disks, two sessions at once."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from store import BusyError, DamagedError
from store.commits.log import CommitReader, CommitWriter, encode


def failure(seed: str, step: int = 0) -> dict[str, Any]:
    return {"kind": "failed", "model": "m", "seed": seed, "step": step, "error": "x"}


class Log:
    """A commit log alone, and what readers take from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self, reader: CommitReader | None = None) -> CommitWriter:
        reader = reader or self.read()
        return CommitWriter(self.folder, reader, {"writer": "w", "host": "h", "pid": 1, "time": 0})

    def read(self) -> CommitReader:
        reader = CommitReader(self.folder)
        reader.refresh()
        return reader

    def seeds(self) -> list[str]:
        """Seeds whose failure is committed."""
        return failed(self.read())

    def file(self, number: int) -> Path:
        return self.folder / f"{number}.log"


def failed(reader: CommitReader) -> list[str]:
    return [seed for seed, _ in reader.ledger.model("m").failed]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_an_empty_folder_is_an_empty_log(log: Log) -> None:
    reader = CommitReader(log.folder)
    assert not reader.refresh()
    assert reader.ledger.models == {}


# -- damage ----------------------------------------------------------------------------------------


def test_a_torn_last_record_was_never_committed(log: Log) -> None:
    writer = log.start()
    for seed in "abc":
        writer.append(failure(seed))
    whole = log.file(1).read_bytes()
    last = len(encode(failure("c")))
    for cut in range(1, last + 1):
        log.file(1).write_bytes(whole[:-cut])
        follower = log.read()
        assert failed(follower) == ["a", "b"]
        log.file(1).write_bytes(whole)  # the rest arrives
        assert follower.refresh()
        assert failed(follower) == ["a", "b", "c"]


def test_the_next_session_cuts_a_torn_record_off(log: Log) -> None:
    log.start().append(failure("a"))
    with log.file(1).open("ab") as file:
        file.write(encode(failure("b"))[:-3])
    follower = log.read()
    log.start().append(failure("c"))
    assert log.seeds() == ["a", "c"]
    follower.refresh()
    assert failed(follower) == ["a", "c"]


def test_any_flipped_bit_before_the_last_record_is_damage(log: Log) -> None:
    writer = log.start()
    for seed in "ab":
        writer.append(failure(seed))
    whole = log.file(1).read_bytes()
    for position in range(len(whole) - len(encode(failure("b")))):
        for bit in (0, 3, 7):
            damaged = bytearray(whole)
            damaged[position] ^= 1 << bit
            log.file(1).write_bytes(damaged)
            with pytest.raises(DamagedError, match=r"1\.log"):
                log.read()


@pytest.mark.parametrize("cut", [1, 30, len(encode(failure("b")))])
def test_a_closed_session_must_be_whole(log: Log, cut: int) -> None:
    writer = log.start()
    for seed in "ab":
        writer.append(failure(seed))
    log.start().append(failure("c"))
    log.file(1).write_bytes(log.file(1).read_bytes()[:-cut])
    with pytest.raises(DamagedError, match=r"1\.log"):
        log.read()


@pytest.mark.parametrize("gone", [1, 2])
def test_a_missing_session_is_damage_not_an_empty_study(log: Log, gone: int) -> None:
    for seed in "abc":
        log.start().append(failure(seed))
    log.file(gone).unlink()
    with pytest.raises(DamagedError, match=rf"{gone}\.log: missing"):
        log.read()


def test_a_session_record_half_written_is_not_there_yet(log: Log) -> None:
    """Where there are no hard links, the file has its name before it has its contents."""
    log.start().append(failure("a"))
    follower, other = log.read(), log.start()
    other.append(failure("b"))
    whole = log.file(2).read_bytes()
    for size in (0, 10, whole.index(b"\n")):
        log.file(2).write_bytes(whole[:size])
        assert not follower.refresh()
        assert log.seeds() == ["a"]
    log.file(2).write_bytes(whole)
    assert follower.refresh()
    assert failed(follower) == ["a", "b"]


def test_records_of_a_later_version_change_nothing(log: Log) -> None:
    writer = log.start()
    writer.append(failure("a"), {"kind": "news", "model": "m", "x": 1}, {"no": "kind"})
    assert log.seeds() == ["a"]


# -- writing fails ---------------------------------------------------------------------------------


def test_a_failed_commit_ends_the_session(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader may have taken in what did not reach the disk; the next session makes it forget."""
    writer = log.start()
    writer.append(failure("a"))
    follower = log.read()

    def full(_: int) -> None:
        follower.refresh()  # between write and fsync
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            writer.append(failure("b"))
    assert failed(follower) == ["a", "b"]
    with pytest.raises(OSError, match="No space left"):
        writer.append(failure("c"))  # same length: it would sit where "b" was
    assert log.seeds() == ["a"]
    log.start().append(failure("d"))
    follower.refresh()
    assert failed(follower) == failed(log.read()) == ["a", "d"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP])
def test_file_systems_without_hard_links(
    log: Log, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def no_links(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", no_links)
    readers = [log.read(), log.read()]
    log.start(readers[0]).append(failure("a"))
    with pytest.raises(BusyError, match="another engine started at this moment"):
        log.start(readers[1])
    assert [file.name for file in log.folder.iterdir()] == ["1.log"]
    assert log.seeds() == ["a"]


# -- two sessions ----------------------------------------------------------------------------------


def test_two_that_claim_one_session(log: Log) -> None:
    readers = [log.read(), log.read()]
    first = log.start(readers[0])
    with pytest.raises(BusyError, match="another engine started at this moment"):
        log.start(readers[1])
    first.append(failure("a"))
    assert log.seeds() == ["a"]
    assert [file.name for file in log.folder.iterdir()] == ["1.log"]


def test_a_record_that_lost_the_race_is_void(log: Log) -> None:
    """Written after the other engine read the log, before it had its own file: told, not lost."""
    old = log.start()
    old.append(failure("a"))
    late = log.read()
    followers = [log.read(), log.read()]
    old.append(failure("b"))
    old.append(failure("c"))
    followers[0].refresh()
    assert failed(followers[0]) == ["a", "b", "c"]
    changes = followers[0].ledger.changes
    new = log.start(late)
    with pytest.raises(BusyError):
        old.append(failure("d"))
    new.append(failure("e"))
    for follower in (*followers, log.read()):
        follower.refresh()
        assert failed(follower) == ["a", "e"]
    assert followers[0].ledger.changes > changes  # never back, or an old picture would be kept


def test_a_commit_during_the_takeover_is_reported_as_lost(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, late, real = log.start(), log.read(), os.fsync

    def other_starts(descriptor: int) -> None:
        real(descriptor)
        monkeypatch.setattr(os, "fsync", real)
        log.start(late)

    monkeypatch.setattr(os, "fsync", other_starts)
    with pytest.raises(BusyError, match="another engine has taken this study over"):
        old.append(failure("a"))
    assert log.seeds() == []
