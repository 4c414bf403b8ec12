"""What starts quickly: what commands import that have nothing to compute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from seedconv_tui.cli.main import run
from store import open_study
from tests.support.probe_studies import write_probes
from tests.support.tiny_models import TEXT, make_runs, write_study

HEAVY = ("torch", "transformers", "tokenizers", "spacy", "safetensors", "scipy", "pandas")
LATER = {*HEAVY, "engine.scoring", "engine.models.weights", "engine.workers.worker"}
RUN = (
    "import json, sys\n"
    "from seedconv_tui.cli.main import run\n"
    "try:\n"
    "    code = run(sys.argv[1:])\n"
    "except SystemExit as end:\n"
    "    code = end.code\n"
    "assert not code, code\n"
    "print('\\n' + json.dumps(sorted(sys.modules)))"
)


def imported(*arguments: str, folder: Path) -> set[str]:
    """What a process of its own has imported when a command has ended well."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study with everything that takes long at a start, which has nothing left to do."""
    folder = tmp_path_factory.mktemp("finished")
    make_runs(folder, seeds=("1", "2"), steps=(10,))
    (folder / "counted.txt").write_text(TEXT)
    study = write_study(
        folder,
        corpus__counts=["counted.txt"],
        models__seeds=[1, 2],
        models__steps=[10],
        categories__include=["frequency", "pos", "word_class", "word_position", "surprisal"],
        categories__tagger="rules",
        scoring__device="auto",
    )
    write_probes(folder, study)
    assert run(["run", str(study)]) == 0
    return folder


@pytest.mark.parametrize("command", [["run"], ["watch", "--until-complete"]], ids=" ".join)
def test_an_engine_with_nothing_to_do_imports_nothing_that_computes(
    finished: Path, command: list[str]
) -> None:
    found = imported(*command, "study.toml", folder=finished)
    assert found & LATER == set()
    snapshot = open_study(finished / "study.zarr").snapshot()
    assert snapshot.engine is not None
    assert (snapshot.engine.state, snapshot.engine.device) == ("finished", "CPU")


def test_it_imports_what_a_pass_needs_when_there_is_one(finished: Path, tmp_path: Path) -> None:
    study = (finished / "study.toml").read_text().replace("study.zarr", "other.zarr")
    (finished / "other.toml").write_text(study)
    found = imported("run", "other.toml", folder=finished)
    assert {"torch", "transformers", "engine.workers.worker"} <= found
    assert "spacy" not in found  # the same text was tagged before
    one, other = (
        {
            file.relative_to(finished / store): file.read_bytes()
            for file in (finished / store / "corpus").rglob("*")
            if file.is_file()
        }
        for store in ("study.zarr", "other.zarr")
    )
    assert one == other
    engine = open_study(finished / "other.zarr").snapshot().engine
    assert engine is not None
    assert engine.device.startswith("CPU, ")  # threads are known now


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["run", "--help"],
        ["status", "study.zarr"],
        ["status", "study.zarr", "--json"],
        ["verify", "study.zarr"],
        ["export", "study.zarr"],
        pytest.param(["report", "study.zarr", "-o", "report"], marks=pytest.mark.long),
    ],
    ids=" ".join,
)
def test_commands_that_only_read_import_no_engine(finished: Path, command: list[str]) -> None:
    allowed = {"scipy", "pandas"} if command[0] == "report" else set()
    found = imported(*command, folder=finished)
    assert found & LATER <= allowed
    assert "engine.coordination" not in found


def test_the_help_imports_what_it_prints_and_no_more(tmp_path: Path) -> None:
    found = imported("--help", folder=tmp_path)
    assert found & {"numpy", "zarr", "rich", "textual", "asyncio", "pydantic"} == set()
