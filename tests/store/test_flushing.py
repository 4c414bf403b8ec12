"""What a power cut leaves: what a record names is on disk, with its name, before the record."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedconv_tui.cli.main import run
from store import open_study
from store.analysis import summarise
from store.storage.side_by_side import side_by_side
from store.writing import StepSummary
from tests.support.deadline import DEADLINE
from tests.support.made_store import fill, make_categories, open_writer, reduce, score

SEEDS, STEPS = ("1", "2", "3"), (0, 4, 8)
LONG = "store.storage.side_by_side._LONG"


@pytest.fixture(autouse=True)
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything counts as slow, so that threads do it."""
    monkeypatch.setattr(LONG, -1.0)


class Disk:
    """Follows what is flushed below a folder, and when."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root, self._lock = str(root), threading.Lock()
        self._files: set[tuple[int, int]] = set()  # that are on disk
        self._entries: set[str] = set()  # folders with names that are not
        self.nameless: list[str] = []  # what had its name before it was on disk
        self.early: list[tuple[str, set[str]]] = []  # logs that ran ahead of names
        self.records = 0
        self._fsync, self._replace, self._mkdir = os.fsync, os.replace, os.mkdir
        for name in ("fsync", "replace", "mkdir"):
            monkeypatch.setattr(os, name, getattr(self, name))

    def _counts(self, path: str) -> bool:
        """Whether it is of what is committed: a heartbeat may be lost."""
        parts = Path(path).relative_to(self._root).parts if path.startswith(self._root) else ()
        return bool(parts) and parts[0] not in ("status", "journal")

    def fsync(self, descriptor: int) -> None:
        found, path = os.fstat(descriptor), str(Path(f"/proc/self/fd/{descriptor}").readlink())
        if path.endswith(".log"):
            with self._lock:
                left = {folder for folder in self._entries if Path(folder).exists()}
                self.records += 1
                if left:
                    self.early.append((path, left))
        self._fsync(descriptor)
        with self._lock:
            if stat.S_ISDIR(found.st_mode):
                self._entries.discard(path)
            else:
                self._files.add((found.st_dev, found.st_ino))

    def replace(self, source: Any, target: Any, **options: Any) -> None:
        found = Path(source).stat()
        self._replace(source, target, **options)
        with self._lock:
            if self._counts(str(target)):
                self._entries.add(str(Path(target).parent))
                if (found.st_dev, found.st_ino) not in self._files:
                    self.nameless.append(str(target))
            self._files.discard((found.st_dev, found.st_ino))

    def mkdir(self, path: Any, *arguments: Any, **options: Any) -> None:
        self._mkdir(path, *arguments, **options)
        with self._lock:
            if self._counts(str(path)):
                self._entries.add(str(Path(path).parent))


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors have no names here")
def test_all_is_on_disk_with_its_name_before_the_record_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though files and folders are flushed side by side: plans, results, pairs and summaries."""
    path = tmp_path / "study.zarr"
    open_writer(path).close("finished")
    disk = Disk(path, monkeypatch)
    writer = open_writer(path)
    fill(writer, "m", SEEDS, STEPS)
    writer.plan("m", [("late", step) for step in STEPS], {})
    for step in STEPS:
        score(writer, "m", "late", step)
        reduce(writer, "m", step, (*SEEDS, "late"))
    summarise_all(writer, (*SEEDS, "late"))
    writer.close("finished")
    assert disk.records > 20
    assert not disk.nameless
    assert not disk.early
    assert run(["verify", str(path)]) == 0


def summarise_all(writer: Any, seeds: tuple[str, ...]) -> None:
    study = writer.study()
    made = [
        StepSummary(step, seeds, *summarise(study, "m", step, seeds, make_categories()))
        for step in STEPS
    ]
    writer.summaries.summarise_steps("m", made)


def test_steps_that_are_summarised_at_once_are_as_one_by_one(tmp_path: Path) -> None:
    """In one commit, also where a late seed takes the place of what was there."""
    late = (*SEEDS, "late")
    values = []
    for how in ("one", "all"):
        writer = open_writer(tmp_path / how)
        fill(writer, "m", SEEDS, STEPS)
        writer.plan("m", [("late", step) for step in STEPS], {})
        for step in STEPS:
            score(writer, "m", "late", step)
            reduce(writer, "m", step, late)
        before = len((writer.path / "commits/1.log").read_bytes().splitlines())
        if how == "all":
            summarise_all(writer, late)
        for step in STEPS if how == "one" else ():
            made = summarise(writer.study(), "m", step, late, make_categories())
            writer.summaries.summarise("m", step, late, *made)
        after = len((writer.path / "commits/1.log").read_bytes().splitlines())
        assert after - before == 2 * len(STEPS)  # forgotten first, as their numbers change
        writer.close("finished")
        assert run(["verify", str(writer.path)]) == 0
        values.append(open_study(writer.path).summary("m", "third"))
    one, every = values
    assert every.n_seeds.tolist() == [4, 4, 4]
    for name in ("expected_kl", "kl_low", "kl_percentile", "cross_entropy", "kl_unigram"):
        np.testing.assert_array_equal(getattr(every, name), getattr(one, name))


@pytest.mark.parametrize("long", [-1.0, DEADLINE])
def test_of_what_is_done_side_by_side_nothing_goes_on_after_an_error(
    long: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LONG, long)
    begun, ended = set[int](), set[int]()

    def do(item: int) -> None:
        begun.add(item)
        try:
            if item in (3, 5):
                raise OSError(28, f"item {item}")
        finally:
            ended.add(item)

    with pytest.raises(OSError, match="item 3"):
        side_by_side(do, range(1000))
    assert begun == ended
    done: list[int] = []
    side_by_side(done.append, range(100))
    assert sorted(done) == list(range(100))


@pytest.mark.parametrize("long", [-1.0, DEADLINE])
def test_what_is_done_side_by_side_may_do_so_itself(
    long: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more of it at a time than there are threads, and after an interruption."""
    monkeypatch.setattr(LONG, long)
    done: list[tuple[int, int]] = []

    def each(outer: int) -> None:
        side_by_side(lambda inner: done.append((outer, inner)), range(20))

    side_by_side(each, range(20))
    assert sorted(done) == [(outer, inner) for outer in range(20) for inner in range(20)]

    def interrupted(item: int) -> None:
        if item == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        side_by_side(interrupted, range(20))
    done.clear()
    side_by_side(each, range(20))
    assert len(done) == 400
