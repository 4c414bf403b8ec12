"""A store that is replaced at its path: readers begin again and count it, and never mix the two."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from seedconv_tui.monitor.data.live import StoreSource
from store import NotAStudyError, ReplacedError, Study, StudyProgress, open_study
from tests.support.made_store import committed, fill, open_writer, score


def make(path: Path, steps: Iterable[int], seeds: tuple[str, ...] = ("1", "2")) -> None:
    writer = open_writer(path)
    fill(writer, "m", seeds, steps)
    writer.close("finished")


def add(path: Path, step: int) -> None:
    writer = open_writer(path)
    fill(writer, "m", ("1", "2"), [step])
    writer.close("finished")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of two sessions, and what it was after the first next to it."""
    folder = tmp_path_factory.mktemp("template")
    make(folder / "study.zarr", (0, 8))
    shutil.copytree(folder / "study.zarr", folder / "older")
    add(folder / "study.zarr", 16)
    return folder


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path / "study.zarr"


def removed_and_made_anew(study: Path) -> None:
    shutil.rmtree(study)
    make(study, (0, 8, 24))


def made_anew_with_the_same_steps(study: Path) -> None:
    """A log of the same length, if process and time have as many digits."""
    shutil.rmtree(study)
    make(study, (0, 8))
    add(study, 16)


def a_link_turned(study: Path) -> None:
    make(study.with_name("other"), (1, 2, 3), ("a", "b", "c"))
    study.rename(study.with_name("first"))
    study.symlink_to(study.with_name("other"))


def an_older_copy_restored(study: Path) -> None:
    shutil.rmtree(study)
    shutil.copytree(study.with_name("older"), study)


def an_older_copy_restored_in_place(study: Path) -> None:
    """As `rsync --delete` does: what did not change keeps its inode."""
    older = study.with_name("older")
    for file in [found for found in study.rglob("*") if found.is_file()]:
        kept = older / file.relative_to(study)
        if not kept.exists():
            file.unlink()
        elif kept.read_bytes() != file.read_bytes():
            file.unlink()
            shutil.copy2(kept, file)


def an_older_copy_that_went_on(study: Path) -> None:
    an_older_copy_restored(study)
    add(study, 32)


Replace = Callable[[Path], None]
WAYS: tuple[Replace, ...] = (
    removed_and_made_anew,
    made_anew_with_the_same_steps,
    a_link_turned,
    an_older_copy_restored,
    an_older_copy_restored_in_place,
    an_older_copy_that_went_on,
)


@pytest.mark.parametrize("replace", WAYS)
def test_readers_begin_again(study: Path, replace: Replace) -> None:
    reader, progress, source = Study(study), StudyProgress(study), StoreSource(study)
    before = reader.snapshot()
    assert source.snapshot().replaced == 0
    source.study()
    replace(study)
    with pytest.raises(ReplacedError, match="was put in its place"):
        reader.values("m", "surprisal", "1", 0)
    fresh = open_study(study)
    assert reader.refresh()
    assert progress.refresh()
    after = reader.snapshot()
    assert (after.replaced, progress.snapshot().replaced, source.snapshot().replaced) == (1, 1, 1)
    assert after.generation > before.generation
    assert committed(reader) == committed(fresh) == committed(source.study())
    assert np.array_equal(after.models[0].kl, fresh.snapshot().models[0].kl, equal_nan=True)
    assert not reader.refresh()
    assert reader.snapshot().replaced == 1


def test_what_was_opened_before_is_not_read_from_the_other(study: Path) -> None:
    pytest.importorskip("xarray")
    reader = Study(study)
    dataset, log_probs = reader.dataset("m"), reader.log_probs("m", "1", 0)
    made_anew_with_the_same_steps(study)
    reader.refresh()
    for read in (lambda: dataset["kl"].load(), lambda: log_probs[0:10]):
        with pytest.raises(ReplacedError):
            read()


def test_the_same_put_back_is_the_same(study: Path) -> None:
    reader = Study(study)
    before = committed(reader)
    shutil.copytree(study, study.with_name("copy"))
    shutil.rmtree(study)
    with pytest.raises(NotAStudyError, match="does not exist"):
        reader.refresh()
    shutil.copytree(study.with_name("copy"), study)
    assert committed(reader) == before
    assert not reader.refresh()
    add(study, 24)
    assert reader.refresh()
    assert reader.replaced == 0


@pytest.mark.parametrize("replace", [removed_and_made_anew, an_older_copy_restored])
def test_an_engine_commits_nothing_to_another_study(study: Path, replace: Replace) -> None:
    writer = open_writer(study)  # its third session
    writer.plan("m", [("3", 8)], {})
    replace(study)
    for step in (48, 56):
        add(study, step)
    assert (study / "commits/3.log").exists()
    before = committed(open_study(study))
    with pytest.raises(ReplacedError, match="was put in its place"):
        score(writer, "m", "3", 8)
    with pytest.raises(ReplacedError, match="was put in its place"):
        writer.plan("m", [("3", 16)], {})
    assert committed(open_study(study)) == before
