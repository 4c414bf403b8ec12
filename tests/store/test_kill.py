"""Engines are killed and disks fill up; what was committed stays, and the rest is done again."""

from __future__ import annotations

import os
import random
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from store import NotAStudyError, open_study
from tests.support.forked_engine import Ended, Engines
from tests.support.made_store import committed, expect_nothing_changed
from tests.support.small_disk import SmallDisk
from tests.support.tiny_models import make_runs, write_study

pytestmark = pytest.mark.long

SOAK = bool(os.environ.get("SEEDCONV_SOAK"))
KILLS = 100 if SOAK else 50
SPAN = 0.6  # of an undisturbed run: kills reach its end because each run starts where one died


@dataclass
class Undisturbed:
    """A study that an engine finished in peace, and what that took."""

    folder: Path
    committed: dict[tuple[Any, ...], bytes]
    results: dict[str, bytes]
    ended: Ended


def results(store: Path) -> dict[str, bytes]:
    """Every file of the corpus and of the models, byte by byte."""
    return {
        str(file.relative_to(store)): file.read_bytes()
        for part in ("corpus", "models")
        for file in (store / part).rglob("*")
        if file.is_file()
    }


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, engines: Engines) -> Undisturbed:
    """Three seeds by three steps, 100 tokens of a vocabulary of 300, scored and reduced."""
    folder = tmp_path_factory.mktemp("undisturbed")
    make_runs(folder, steps=(0, 10, 20))
    file = write_same_study(folder, folder, folder / "study.zarr")
    engines.run(file)
    shutil.rmtree(folder / "study.zarr")
    ended = engines.run(file)  # the second is not slowed by imports and cold files
    assert (ended.code, ended.stderr) == (0, "")
    store = folder / "study.zarr"
    found = committed(open_study(store))
    # 9 x (5 per-token results, 2 means, log-probs), 3 x (6 pairs x (2 results, 1 mean), 1 mean),
    # 3 x (KL by token, 7 summaries by each of 6 categories)
    assert len(found) == 9 * 8 + 3 * 19 + 3 * (1 + 6 * 7)
    return Undisturbed(folder, found, results(store), ended)


def write_same_study(runs: Path, folder: Path, store: Path, **settings: Any) -> Path:
    """A study file in `folder` for what `make_runs` made in `runs`."""
    return write_study(
        folder,
        study__store=str(store),
        corpus__files=[str(runs / "text.txt")],
        corpus__max_tokens=100,
        tokenizer__source=str(runs / "tokenizer"),
        models__source=f"{runs}/runs/seed{{seed}}/step{{step}}",
        **settings,
    )


@pytest.fixture
def study(tmp_path: Path, reference: Undisturbed) -> Path:
    """The study file of the reference in a folder of its own, with no store yet."""
    return write_same_study(reference.folder, tmp_path, tmp_path / "study.zarr")


def expect_part_of(store: Path, reference: Undisturbed) -> int:
    """Read everything that a store shows and compare it; return how much of it will last."""
    study = open_study(store)
    study.snapshot()
    found = committed(study)
    # Halfway, surprisals are taken at an earlier step: those levels are others at the end, and when
    # they move on, earlier steps lack their summaries by them for a while.
    lasting = {key: value for key, value in found.items() if "surprisal" not in str(key[2])}
    expect_nothing_changed(lasting, reference.committed)
    return len(lasting)


def expect_equal(store: Path, reference: Undisturbed) -> None:
    """The same results, and not a file more or less."""
    study = open_study(store)
    assert committed(study) == reference.committed
    assert not study.ledger("m").failed
    assert results(store) == reference.results
    assert not list(store.parent.rglob("*.partial"))


def test_killed_at_many_moments(engines: Engines, study: Path, reference: Undisturbed) -> None:
    """Half of them at any time, half right before a file is made, renamed or removed."""
    rng, store = random.Random(20251124), study.parent / "study.zarr"
    kills, finished, sizes, shown = 0, 0, set(), 0
    while kills < KILLS:
        if rng.random() < 0.5:
            ended = engines.run(study, kill_after=rng.uniform(0, SPAN * reference.ended.seconds))
        else:
            moment = rng.randint(1, int(SPAN * reference.ended.changes))
            ended = engines.run(study, kill_at_change=moment)
        assert ended.code in (0, -9), ended.stderr
        if ended.killed:
            kills += 1
            before, shown = shown, expect_part_of(store, reference) if store.exists() else 0
            assert shown >= before  # nothing that was committed is ever lost
            sizes.add(shown)
        else:
            expect_equal(store, reference)
            finished += 1
            shown = 0
            shutil.rmtree(store)
    assert engines.run(study).code == 0
    expect_equal(store, reference)
    undisturbed = open_study(reference.folder / "study.zarr")
    assert open_study(store).dataset("m").load().equals(undisturbed.dataset("m").load())
    assert finished > 2  # the moments reach the end of a run ...
    assert len(sizes) > 8  # ... and most commits of the twelve are once the last


def test_killed_at_every_other_change_to_one_checkpoint(
    engines: Engines,
    study: Path,
    reference: Undisturbed,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Around the last commits, where most can be lost: each moment from the same start."""
    store, rng = study.parent / "study.zarr", random.Random(1)
    assert engines.run(study, kill_at_change=reference.ended.changes * 3 // 4).killed
    start = tmp_path_factory.mktemp("start") / "study.zarr"
    store.rename(start)
    for change in rng.sample(range(5, reference.ended.changes // 4), 20 if SOAK else 10):
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(start, store)
        assert engines.run(study, kill_at_change=change).killed
        expect_part_of(store, reference)
        assert engines.run(study).code == 0
        expect_equal(store, reference)


@pytest.mark.parametrize("divergences", [["kl", "js"], ["kl", "kl_to_mean", "cka"]])
@pytest.mark.parametrize("representation", ["factored", "none"])
def test_killed_however_log_probs_are_kept_and_compared(
    engines: Engines,
    tmp_path: Path,
    reference: Undisturbed,
    representation: str,
    divergences: list[str],
) -> None:
    """As above, more briefly: until the work is done in spite of the kills."""
    settings = {
        "log_probs__representation": representation,
        "scoring__divergences": divergences,
    }
    peaceful, rng = tmp_path / "peaceful.zarr", random.Random(4)
    study = write_same_study(reference.folder, tmp_path, peaceful, **settings)
    undisturbed = engines.run(study)
    store, kills = tmp_path / "study.zarr", 0
    study = write_same_study(reference.folder, tmp_path, store, **settings)
    while (ended := engines.run(study, kill_at_change=rng.randint(60, 150 + 30 * kills))).killed:
        kills += 1
    assert (ended.code, undisturbed.code) == (0, 0), ended.stderr
    assert kills > 2
    assert committed(open_study(store)) == committed(open_study(peaceful))
    assert results(store) == results(peaceful)


def test_killed_while_the_study_is_made(
    engines: Engines, study: Path, reference: Undisturbed
) -> None:
    store, rng = study.parent / "study.zarr", random.Random(2)
    last = reference.ended.opened_at - 1  # by then the study has its name
    moments = [*sorted(rng.sample(range(1, last), 19)), last]
    absent = 0
    for change in moments:
        assert engines.run(study, kill_at_change=change).killed
        if store.exists():
            study_made = open_study(store)
            assert study_made.models == ()
            assert len(study_made.corpus) == 100
            assert engines.run(study).code == 0
            expect_equal(store, reference)
            shutil.rmtree(store)
        else:
            absent += 1
            with pytest.raises(NotAStudyError, match="does not exist"):
                open_study(store)
    assert 0 < absent < len(moments)
    assert engines.run(study).code == 0
    expect_equal(store, reference)


# -- a full disk ---------------------------------------------------------------------------------


def test_a_full_disk_stops_the_engine_and_loses_nothing(
    engines: Engines, tmp_path: Path, disk: SmallDisk, reference: Undisturbed
) -> None:
    """At many sizes, so that it is full at many moments: also when nothing can be made at all.

    The engine's own projection counts log-probs only, so it starts; small files fill the rest.
    """
    needed = 4 * sum((len(data) + 4095) // 4096 for data in reference.results.values())
    rng = random.Random(3)
    store, shown = disk.folder / "study.zarr", []
    for size in (64, *sorted(rng.sample(range(760, needed, 4), 9))):
        disk.mount(size)
        study = write_same_study(reference.folder, tmp_path, store)
        ended = engines.run(study, command_line=True)
        last = ended.stderr.splitlines()[-1]
        assert ended.code == 1, (size, ended)
        assert last.startswith("seedconv: "), ended.stderr
        assert "no space left on the device" in last
        assert "run the same command again" in last
        for sign in ("Traceback", "Exception", "internal error"):
            assert sign not in ended.stderr
        shown.append(expect_part_of(store, reference) if store.exists() else 0)
        assert not list(disk.folder.rglob("*.partial"))
        disk.resize(8 * needed)
        ended = engines.run(study, command_line=True)
        assert ended.code == 0, ended.stderr
        expect_equal(store, reference)
        disk.unmount()
    assert shown[0] == 0
    assert shown[-1] > len(reference.committed) // 2
    assert len(set(shown)) > 3
