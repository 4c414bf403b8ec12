"""Studies of another format, older, newer or nonsense: told in one line, and never touched."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from seedconv_tui.cli.main import run
from store import NotAStudyError, open_study
from store.schema import FORMAT
from store.schema.layout import MIGRATED
from tests.support.made_store import files, open_writer
from tests.support.tiny_models import make_runs, write_study

OTHERS = [FORMAT - 2, FORMAT - 1, FORMAT + 1, -1, 10**30]
NONSENSE = [str(FORMAT), float(FORMAT), True, None, [FORMAT], {}, "\x1b[2J"]
COMMANDS = [["run"], ["watch"], ["status"], ["status", "--json"], ["plot"]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs, a study file and the study it made."""
    folder = tmp_path_factory.mktemp("finished")
    make_runs(folder, seeds=("1", "2"), steps=(0,))
    assert run(["run", str(write_study(folder))]) == 0
    return folder


@pytest.fixture
def folder(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


def set_format(study: Path, value: Any) -> None:
    root = json.loads((study / "zarr.json").read_bytes())
    root["attributes"]["seedconv"]["format"] = value
    (study / "zarr.json").write_text(json.dumps(root))


def message(value: Any) -> str:
    """What must be said of a study whose format is `value`."""
    if type(value) is not int:
        return "study.zarr: is not a seedconv study"
    if value in MIGRATED:
        return f"study.zarr: has store format {value}; bring it to format {FORMAT} by "
    return (
        f"study.zarr: has store format {value}, this seedconv reads format {FORMAT}; "
        "use the version that made it"
    )


def said_of(value: Any) -> str:
    """The same as the end of a line, with the path that it may name once more."""
    return re.escape(message(value)) + ("`seedconv migrate .*`$" if value in MIGRATED else "$")


@pytest.mark.parametrize("value", [*OTHERS, *NONSENSE])
def test_readers_and_writers_refuse(folder: Path, value: Any) -> None:
    study = folder / "study.zarr"
    opened = open_study(study)
    set_format(study, value)
    before = files(folder)
    for attempt in (open_study, open_writer):
        with pytest.raises(NotAStudyError, match=said_of(value)):
            attempt(study)
        assert files(folder) == before
    with pytest.raises(NotAStudyError, match=said_of(value)):
        opened.refresh()  # open before: another study lies there now
    assert opened.models == ("m",)
    assert files(folder) == before


@pytest.mark.parametrize("value", [FORMAT - 1, FORMAT + 1, "\x1b[2J"])
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_commands_refuse(
    folder: Path, command: list[str], value: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    set_format(folder / "study.zarr", value)
    before = files(folder)
    target = "study.toml" if command[0] in {"run", "watch"} else "study.zarr"
    assert run([command[0], str(folder / target), *command[1:]]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert re.search(said_of(value), said.err.splitlines()[-1])
    assert "Traceback" not in said.err
    assert files(folder) == before


def test_an_unknown_study_is_not_touched_even_when_it_looks_unfinished(folder: Path) -> None:
    """Leftovers of an engine of another version are that version's business."""
    study = folder / "study.zarr"
    (study / "models" / "m" / "kl" / "zarr.json.0.partial").touch()
    log = study / "commits" / "1.log"
    log.write_bytes(log.read_bytes()[:-5])
    set_format(study, FORMAT + 1)
    before = files(folder)
    with pytest.raises(NotAStudyError):
        open_writer(study)
    assert run(["run", str(folder / "study.toml")]) == 2
    assert files(folder) == before
