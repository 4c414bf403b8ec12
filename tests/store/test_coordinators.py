"""One coordinator at a time: who is refused, who takes over, and what is cleaned up after it."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import BusyError, StudyMismatchError, open_study
from store.commits.log import CommitReader, CommitWriter
from store.schema import EngineStatus, Failure, JournalEntry, Phase, log_probs_path
from store.writing import Header, PairsResult, StudyWriter
from tests.support.deadline import DEADLINE
from tests.support.made_store import (
    N_TOKENS,
    Clock,
    beat,
    checkpoint,
    committed,
    expect_nothing_changed,
    files,
    fill,
    make_corpus,
    make_vocabulary,
    open_writer,
    pair_block,
    patient,
    reduce,
    score,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.zarr"


# -- one coordinator -------------------------------------------------------------------------------


def test_a_second_coordinator_is_told_of_the_first(path: Path) -> None:
    clock = Clock()
    first = open_writer(path, clock)
    beat(first, clock.now)
    for seconds in (0, 12, 29.5):
        clock.now = 1_700_000_000.0 + seconds
        text = rf"process {os.getpid()} on {first.host} is working .*heartbeat {seconds:.0f} s ago"
        before = files(path)
        with pytest.raises(BusyError, match=text):
            open_writer(path, clock)
        assert files(path) == before
    clock.now += 10
    beat(first, clock.now)  # alive after all
    with pytest.raises(BusyError, match="heartbeat 0 s ago"):
        open_writer(path, clock)
    clock.now += 30
    open_writer(path, clock).close("finished")
    open_writer(path, clock).close("finished")  # a session that ended leaves the study free


def test_a_coordinator_that_never_beat_counts_from_its_start(path: Path) -> None:
    clock = Clock()
    open_writer(path, clock)
    clock.now += 29
    with pytest.raises(BusyError, match="heartbeat 29 s ago"):
        open_writer(path, clock)
    clock.now += 1
    open_writer(path, clock).close("finished")


@pytest.mark.parametrize("skew", [-86_400, -40, 1, 3600, 86_400])
def test_a_living_engine_is_known_by_its_beat_whatever_its_clock_says(
    path: Path, skew: float
) -> None:
    clock = Clock()
    first = open_writer(path, clock)
    beat(first, clock.now + skew)

    def live(passed: float) -> None:
        if passed >= 25:  # as late as a slow file system shows it
            beat(first, clock.now + skew + passed)

    before = {name for name in files(path) if "commits" in name}
    with pytest.raises(BusyError, match="heartbeat 0 s ago"):
        open_writer(path, clock, watching=patient(live))
    assert {name for name in files(path) if "commits" in name} == before


@pytest.mark.parametrize("skew", [-86_400, 86_400])
def test_a_dead_engine_whose_clock_was_wrong_is_watched_for_half_a_minute(
    path: Path, skew: float
) -> None:
    clock, waited = Clock(), list[float]()
    said = list[str]()
    beat(open_writer(path, clock), clock.now + skew)
    watching = replace(patient(waited.append), say=said.append)
    open_writer(path, clock, watching=watching).close("finished")
    assert waited[-1] == 30
    (line,) = said
    assert line.endswith("did not end; waiting 30 s to see whether it is alive")


def test_an_engine_that_ends_while_it_is_watched_leaves_the_study_free(path: Path) -> None:
    clock = Clock()
    first = open_writer(path, clock)
    beat(first, clock.now + 3600)
    ended = EngineStatus(first.writer, first.host, first.pid, 1.0, 1.0, "stopped")
    open_writer(path, clock, watching=patient(lambda _: first.beat(ended))).close("finished")


def test_a_dead_process_of_this_machine_is_replaced_at_once(path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from tests.support.made_store import *\n"
        "writer = open_writer(Path(sys.argv[1])); beat(writer, Clock().now); os._exit(9)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert ended.returncode == 9
    open_writer(path).close("finished")  # at the very moment of its last heartbeat


def test_a_dead_process_elsewhere_is_waited_for(path: Path) -> None:
    clock = Clock()
    open_writer(path, clock).close("finished")
    reader = CommitReader(path / "commits")
    reader.refresh()
    elsewhere = {"writer": "w", "host": "elsewhere", "pid": 2**22 - 1, "time": clock.now}
    CommitWriter(path / "commits", reader, elsewhere)
    with pytest.raises(BusyError, match=f"process {2**22 - 1} on elsewhere"):
        open_writer(path, clock)
    clock.now += 30
    open_writer(path, clock).close("finished")


def start(path: Path, barrier: Any, results: Any) -> None:
    barrier.wait()
    try:
        open_writer(path)
        results.put("owner")
    except BusyError as error:
        results.put(str(error))
    barrier.wait()  # alive until all have tried


@pytest.mark.parametrize("made", [False, True])
def test_of_many_that_start_together_one_coordinates(path: Path, *, made: bool) -> None:
    """Also when none of them finds a study and each makes one."""
    if made:
        open_writer(path).close("finished")
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(6), context.Queue()
    processes = [context.Process(target=start, args=(path, barrier, results)) for _ in range(6)]
    for process in processes:
        process.start()
    told = sorted(results.get(timeout=DEADLINE) for _ in processes)
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert told.count("owner") == 1
    assert all("is working on this study" in text or "at this moment" in text for text in told[:-1])
    assert [entry.name for entry in path.parent.iterdir()] == ["study.zarr"]
    assert open_study(path).corpus.text == make_corpus().text


def test_the_loser_of_creation_is_checked_against_the_winner(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another study took the name between the look and the making."""
    open_writer(path).close("finished")
    exists = Path.exists
    looks = iter([False])
    monkeypatch.setattr(
        Path, "exists", lambda self: next(looks, True) if self == path else exists(self)
    )
    header = Header("attacked", {"scoring.window": 99})
    with pytest.raises(StudyMismatchError, match=r"scoring\.window is 32 there and 99"):
        StudyWriter.open(path, header, make_corpus(), make_vocabulary(), clock=Clock())


# -- coordinators that come back -------------------------------------------------------------------


class Takeover:
    """A study whose first coordinator fell silent and was replaced while it held two seeds."""

    def __init__(self, path: Path) -> None:
        self.path, clock = path, Clock()
        self.old = open_writer(path, clock)
        fill(self.old, "m", "12", (0,))
        self.old.plan("m", [("1", 5), ("2", 5), ("1", 9)], {})
        score(self.old, "m", "1", 5)
        self.pending = self.old.results.begin_checkpoint("m", "2", 5, "dense")
        self.pairs = self.old.results.begin_pairs("m", 0, ("1", "2"))
        clock.now += 31
        self.new = open_writer(path, clock)


@pytest.fixture
def takeover(path: Path) -> Takeover:
    return Takeover(path)


def test_a_replaced_coordinator_can_change_nothing(takeover: Takeover) -> None:
    old, new = takeover.old, takeover.new
    new.plan("m", [("3", 5)], {})
    score(new, "m", "2", 5)
    reduce(new, "m", 5, "12")
    before, seen = files(takeover.path / "models"), committed(open_study(takeover.path))
    blocks = checkpoint("m", "2", 5)

    def finish() -> None:
        takeover.pending.append({name: value[:N_TOKENS] for name, value in blocks.items()})
        old.commit("m", 5, [takeover.pending.finish({}, {})])

    attempts: list[Callable[[], object]] = [
        finish,
        lambda: old.results.begin_checkpoint("m", "2", 5, "dense"),
        lambda: old.commit("m", 0, pairs=PairsResult(("1", "2"), ())),
        lambda: old.results.discard("m", 5, "2"),
        lambda: old.plan("m", [("1", 77)], {}),
        lambda: old.plan("other", [("1", 77)], {}),
        lambda: old.fail("m", "1", 9, Failure("late")),
        lambda: old.set_phases("m", (Phase("uniform", 0),)),
        lambda: old.drop_log_probs("m", 0, "12"),
        lambda: old.drop_log_probs("m", 5, "12"),
    ]
    for attempt in attempts:
        with pytest.raises(BusyError, match="another engine has taken this study over"):
            attempt()
    takeover.pending.abandon()
    with pytest.raises(BusyError):
        old.close("failed")
    assert files(takeover.path / "models") == before
    assert committed(open_study(takeover.path)) == seen
    fill(new, "m", "12", (11,))
    expect_nothing_changed(seen, committed(open_study(takeover.path)))
    new.close("finished")


def test_what_a_replaced_coordinator_left_goes(takeover: Takeover) -> None:
    assert not (takeover.path / log_probs_path("m", "2", 5)).exists()
    assert (takeover.path / log_probs_path("m", "1", 5)).exists()


def test_a_reader_forgets_pictures_of_void_results(path: Path) -> None:
    clock = Clock()
    first = open_writer(path, clock)
    fill(first, "m", "12", (0,))
    late = CommitReader(path / "commits")
    late.refresh()
    score_late = [("1", 5), ("2", 5)]
    first.plan("m", score_late, {})
    for seed, step in score_late:
        score(first, "m", seed, step)
    study = open_study(path)
    assert study.snapshot().models[0].steps.tolist() == [0, 5]
    CommitWriter(path / "commits", late, {"writer": "w", "host": "h", "pid": 1, "time": 0})
    snapshot = study.snapshot()
    assert snapshot.models[0].steps.tolist() == [0]
    assert snapshot.generation > 0
    assert np.isfinite(snapshot.models[0].kl).sum() == 2


# -- leftovers -------------------------------------------------------------------------------------


def test_leftovers_are_the_next_coordinators_business(path: Path) -> None:
    clock = Clock()
    writer = open_writer(path, clock)
    fill(writer, "m", "12", (0,))
    kept = committed(open_study(path))
    clean = files(path / "models")
    writer.plan("m", [("3", 0), ("1", 70)], {})
    planned = files(path / "models")
    score(writer, "m", "3", 0, commit=False)
    pairs = writer.results.begin_pairs("m", 0, ("1", "2", "3"))
    pairs.append(pair_block(writer, "m", 0, ("1", "2", "3")))
    pairs.finish()
    arrays = writer._arrays["m"]
    arrays["cross_entropy"][0, 2] = 5.0
    arrays["mean_kl"][0, 0, 2] = 5.0
    arrays["expected_kl"][0] = 5.0  # of three seeds, of which two are committed
    torn = path / log_probs_path("m", "1", 70)
    (torn / "c" / "0").mkdir(parents=True)
    (torn / "c" / "0" / "0").write_bytes(b"chunk of an array whose description is gone")
    (path / "models" / "unknown").mkdir()
    stray = [
        *(path / name / f"x.{n}.partial" for n, name in enumerate(("commits", "status", "models"))),
        path / "models" / "m" / "kl" / "zarr.json.0.partial",
    ]
    for file in stray:
        file.touch()
    half_made = path.with_name(f"{path.name}.0123.partial")
    shutil.copytree(path / "corpus", half_made / "corpus")
    theirs = path.with_name("other.zarr.0123.partial")
    theirs.mkdir()

    before = files(path)
    study = open_study(path)
    study.snapshot()
    assert committed(study) == kept
    assert float(study.dataset("m").expected_kl[0]) != 5.0
    assert files(path) == before  # readers change nothing
    assert half_made.exists()

    clock.now += 31
    open_writer(path, clock)
    assert committed(open_study(path)) == kept
    after = {name: data for name, (data, _) in files(path / "models").items()}
    expected = {name: data for name, (data, _) in planned.items()}
    assert after == expected
    assert {name for name in clean if "/c/" in name} == {n for n in after if "/c/" in n}
    assert not list(path.rglob("*.partial"))
    assert not half_made.exists()
    assert theirs.exists()


def test_a_kill_while_a_log_is_sealed_leaves_nothing(path: Path) -> None:
    """The session has ended well then, so nobody looks for what it left."""
    writer = open_writer(path)
    writer.close("finished")
    seal = path / "commits/1.end"
    seal.rename(seal.with_name("1.end.0c4d7d9bea964f10877aeadb2f6c593b.partial"))
    open_writer(path).close("finished")
    assert not list(path.rglob("*.partial"))


def test_a_plan_cut_short_does_not_spoil_the_next(path: Path) -> None:
    """Arrays grew for steps that were never recorded; another plan puts other steps there."""
    clock = Clock()
    writer = open_writer(path, clock)
    fill(writer, "m", "12", (0, 1))
    kept = committed(open_study(path))
    writer._arrays.grow("m", [0, 1, 2, 3, 4], ["1", "2", "3"])
    clock.now += 31
    fill(open_writer(path, clock), "m", "12", (7,))
    study = open_study(path)
    expect_nothing_changed(kept, committed(study))
    metadata = json.loads((path / "models" / "m" / "kl" / "zarr.json").read_bytes())
    assert metadata["shape"] == [3, 2, 2, N_TOKENS]
    assert np.asarray(study.array("m", "step")).tolist() == [0, 1, 7]


def test_what_was_given_up_leaves_nothing(path: Path) -> None:
    writer = open_writer(path)
    fill(writer, "m", "12", (0,))
    writer.plan("m", [("3", 0)], {})
    before = files(path / "models")
    pending = writer.results.begin_checkpoint("m", "3", 0, "dense")
    pending.append(checkpoint("m", "3", 0))
    pending.abandon()
    pairs = writer.results.begin_pairs("m", 0, ("1", "2", "3"))
    pairs.append(pair_block(writer, "m", 0, ("1", "2", "3")))
    pairs.abandon()
    assert files(path / "models") != before
    writer.results.discard("m", 0, ["3"], "123")
    assert files(path / "models") == before


def test_a_torn_journal_line_costs_one_line(path: Path) -> None:
    writer = open_writer(path)
    journal = path / "journal" / f"{writer.writer}.jsonl"
    writer.log(JournalEntry(1.0, "info", "scored", "first"))
    with journal.open("ab") as file:
        file.write(b'{"time": 2.0, "lev\n')
    writer.log(JournalEntry(3.0, "info", "scored", "third"))
    assert [entry.text for entry in open_study(path).snapshot().journal] == ["first", "third"]


def test_a_failed_first_start_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("store.storage.durable.os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        open_writer(path)
    assert list(path.parent.iterdir()) == []
