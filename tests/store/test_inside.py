"""Nothing leads out of a study: neither links placed in it nor the names a user chooses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import zarr

from seedconv_tui.cli.main import run
from store import DamagedError, StoreError, open_study
from store.commits.log import encode
from store.schema import log_probs_path, model_path
from store.storage.durable_store import DurableStore
from tests.support.loose import loosen
from tests.support.made_store import Clock, committed, files, fill, open_writer, score
from tests.support.tiny_models import make_runs, write_study

NASTY = (
    "..",
    ".",
    "a/b",
    "../../out",
    "con",
    "x\0y",
    ".hidden",
    "a\\b",
    "zarr.json",
    "c",
    "~",
    " ",
)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "study.zarr"
    writer = open_writer(path)
    fill(writer, "m", ("1", "2"), (0, 8))
    writer.close("finished")
    return path


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    return loosen(Path(shutil.copytree(template, tmp_path / "study.zarr")))


def lead_out(path: Path, name: str) -> Path:
    """Move a file or folder out of the study and leave a link to it."""
    outside = path.parent / "outside"
    outside.mkdir(exist_ok=True)
    target = outside / Path(name).name
    (path / name).rename(target)
    (path / name).symlink_to(target)
    return outside


@pytest.mark.parametrize(
    "name",
    [
        "zarr.json", "corpus", "corpus/zarr.json", "corpus/text/c/0", "commits", "commits/1.log",
        "models", "models/m", "models/m/loose/surprisal", "models/m/loose/surprisal/c/0/0",
        "models/m/loose/surprisal/c/0/0/0", "models/m/loose/kl/zarr.json", "models/m/mean_kl/c",
        "models/m/log_probs", "models/m/log_probs/1/0", "models/m/log_probs/1/0/c/0",
    ],
)  # fmt: skip
def test_links_are_refused_by_every_reader(study: Path, name: str) -> None:
    outside = lead_out(study, name)
    before = files(outside)

    def read() -> None:
        opened = open_study(study)
        committed(opened)
        assert opened.corpus.text

    with pytest.raises(DamagedError, match="is a symbolic link"):
        read()
    assert run(["verify", str(study)]) == 1
    run(["verify", str(study), "--mend"])
    run(["prune", str(study)])
    assert files(outside) == before


@pytest.mark.parametrize(
    "name",
    ["models/m/log_probs", "models/m/log_probs/2", "models/m/loose/kl/c", "models", "models/m"],
)
def test_nothing_is_removed_or_written_through_a_link(study: Path, name: str) -> None:
    """Not by dropping log-probs, and not by what follows a coordinator that died."""
    writer = open_writer(study, clock := Clock())
    writer.plan("m", [("3", 8), ("2", 16)], {})
    score(writer, "m", "3", 8, commit=False)
    score(writer, "m", "2", 16, commit=False)
    loosen(study)  # opening it has packed what was complete
    outside = lead_out(study, name)
    before = files(outside)
    attempts: list[Callable[[], object]] = [
        lambda: writer.drop_log_probs("m", 8, ("1", "2")),
        lambda: writer.forget("m", 0, ["2"]),
        lambda: score(writer, "m", "2", 8),
    ]
    for attempt in attempts:
        try:
            attempt()
        except StoreError as error:
            assert "is a symbolic link" in str(error)  # noqa: PT017  some have nothing to do there
    assert files(outside) == before
    clock.now += 60
    with pytest.raises(DamagedError, match="is a symbolic link"):
        open_writer(study, clock)
    assert files(outside) == before


def test_a_link_in_place_of_what_is_dropped_goes_alone(study: Path) -> None:
    outside = lead_out(study, log_probs_path("m", "1", 0))
    before = files(outside)
    writer = open_writer(study)
    writer.drop_log_probs("m", 0, ("1",))
    writer.close("finished")
    assert files(outside) == before
    assert not (study / log_probs_path("m", "1", 0)).is_symlink()


@pytest.mark.parametrize("folder", ["status", "journal"])
def test_status_and_journal_do_not_lead_out(study: Path, folder: str) -> None:
    outside = lead_out(study, folder)
    before = files(outside)
    assert not open_study(study).snapshot().journal
    if folder == "journal":
        with pytest.raises(DamagedError, match="is a symbolic link"):
            open_writer(study)
    assert files(outside) == before


@pytest.mark.parametrize("writer", ["../../secret", "x\0y", "/etc/passwd"])
def test_a_forged_log_does_not_lead_out(study: Path, writer: str) -> None:
    (study.parent / "secret.jsonl").write_text(
        json.dumps({"time": 1.0, "level": "info", "event": "x", "text": "secret"}) + "\n"
    )
    size = (study / "commits/1.log").stat().st_size
    forged = {"kind": "session", "follows_bytes": size, "writer": writer, "host": "x", "pid": 1,
              "time": 0.0}  # fmt: skip
    (study / "commits/2.log").write_bytes(encode(forged))
    snapshot = open_study(study).snapshot()
    assert not [entry for entry in snapshot.journal if entry.text == "secret"]


# One of each kind always; in test_contract.py all of them are names in one study.
@pytest.mark.parametrize(
    "name",
    [
        name
        if name in ("../../out", "x\0y", "zarr.json")
        else pytest.param(name, marks=pytest.mark.long)
        for name in (*NASTY, "é" * 33)
    ],
)
def test_names_stay_inside(tmp_path: Path, name: str) -> None:
    path = tmp_path / "in" / "study.zarr"
    writer = open_writer(path)
    fill(writer, name, (name, "2"), (8,))
    writer.close("finished")
    assert [entry.name for entry in tmp_path.iterdir()] == ["in"]
    assert [entry.name for entry in path.parent.iterdir()] == ["study.zarr"]
    assert (path / model_path(name)).parent == path / "models"
    assert {entry.name for entry in (path / model_path(name)).iterdir()} >= {"kl", "zarr.json"}
    opened = open_study(path)
    assert opened.models == (name,)
    assert len(committed(opened)) == 2 * 8 + 7 + 15
    assert run(["verify", str(path)]) == 0
    assert run(["prune", str(path)]) == 0
    assert run(["verify", str(path)]) == 0


@pytest.mark.parametrize("name", ["", "x" * 201, "é" * 34, "\ud800"])
def test_names_that_cannot_be_folders_are_refused(tmp_path: Path, name: str) -> None:
    writer = open_writer(tmp_path / "study.zarr")
    before = {f for f in files(tmp_path) if "commits" not in f}
    with pytest.raises(ValueError, match="cannot name a folder"):
        writer.plan(name, [("1", 0)], {})
    assert {f for f in files(tmp_path) if "commits" not in f} == before
    writer.close("failed")


@pytest.mark.parametrize("name", ["..", "../../out", "con", ".x", "zarr.json"])
def test_names_from_a_study_file_stay_inside(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    make_runs(folder, seeds=("1", "2"), steps=(0,))
    shutil.copytree(folder / "runs", tmp_path / "kept")
    assert run(["run", str(write_study(folder, models__name=name))]) == 0
    assert {entry.name for entry in tmp_path.iterdir()} == {"work", "kept"}
    assert open_study(folder / "study.zarr").models == (name,)
    assert {f.name for f in (folder / "study.zarr/models").iterdir() if f.is_dir()} == {
        Path(model_path(name)).name
    }


def test_a_store_that_has_gone_is_not_made_anew(tmp_path: Path) -> None:
    """Nor the groups above what is written, which zarr makes of itself."""
    store = DurableStore(tmp_path / "study.zarr")
    with pytest.raises(FileNotFoundError):
        zarr.create_group(store, path="models/m/log_probs")
    with pytest.raises(FileNotFoundError):
        zarr.create_array(store, name="models/m/kl", shape=(1,), dtype="int8")
    assert not list(tmp_path.iterdir())
