"""`seedconv prune`: what goes, what stays, and when it is refused."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from seedconv_tui.cli.main import run
from store import open_study
from store.schema import log_probs_path
from tests.support.made_store import committed, files, fill, open_writer, score

SEEDS, STEPS = ("1", "2"), (0, 8, 64)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All reduced but step 70, at which a planned seed is not scored, and step 80 of one seed."""
    path = tmp_path_factory.mktemp("template") / "study.zarr"
    writer = open_writer(path)
    fill(writer, "m", SEEDS, STEPS)
    fill(writer, "n", SEEDS, (0,))
    fill(writer, "m", SEEDS, (70,))
    writer.plan("m", [("late", 70), ("1", 80)], {})
    score(writer, "m", "1", 80)
    writer.close("finished")
    return path


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "study.zarr"))


def stored(path: Path) -> dict[str, set[int]]:
    opened = open_study(path)
    return {name: {step for _, step in opened.ledger(name).stored} for name in opened.models}


def n_bytes(path: Path, model: str, step: int) -> int:
    folders = [path / log_probs_path(model, seed, step) for seed in SEEDS]
    return sum(f.stat().st_size for folder in folders for f in folder.rglob("*") if f.is_file())


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ([], {"m": {70, 80}, "n": set()}),
        (["--model", "m"], {"m": {70, 80}, "n": {0}}),
        (["--steps", "0:8"], {"m": {64, 70, 80}, "n": set()}),
        (["--steps", "8:"], {"m": {0, 70, 80}, "n": {0}}),
        (["--steps", "64,70,1000"], {"m": {0, 8, 70, 80}, "n": {0}}),
        (["--keep-last", "3"], {"m": {64, 70, 80}, "n": {0}}),
    ],
)
def test_log_probs_of_reduced_steps_go_and_results_stay(
    study: Path, options: list[str], left: dict[str, set[int]], capsys: pytest.CaptureFixture[str]
) -> None:
    before = stored(study)
    results = {k: v for k, v in committed(open_study(study)).items() if k[1] != "log_probs"}
    gone = {(model, step) for model in before for step in before[model] - left[model]}
    sizes = {name: sum(n_bytes(study, *at) for at in gone if at[0] == name) for name in before}
    assert run(["prune", str(study), "--json", *options]) == 0
    report = json.loads(capsys.readouterr().out)
    assert stored(study) == left
    assert report["bytes"] == sum(sizes.values()) > 0
    assert {m["model"]: m["bytes"] for m in report["models"]} == {
        k: v for k, v in sizes.items() if v
    }
    assert all((study / log_probs_path(m, "1", s)).exists() for m in left for s in left[m])
    assert not any((study / log_probs_path(m, "1", s)).exists() for m, s in gone)
    after = {k: v for k, v in committed(open_study(study)).items() if k[1] != "log_probs"}
    assert after == results
    assert run(["verify", str(study)]) == 0
    capsys.readouterr()
    assert run(["prune", str(study), *options]) == 0
    assert "nothing to delete" in capsys.readouterr().out


def test_a_dry_run_writes_nothing(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(study)
    assert run(["prune", str(study), "--dry-run"]) == 0
    first, second, total = capsys.readouterr().out.splitlines()
    assert first.startswith("m: would free ")
    assert first.endswith("log-probs of 6 checkpoints at 3 steps")
    assert second.startswith("n: would free ")
    assert total.endswith("in all; every result stays")
    assert files(study) == before


def test_refused_while_an_engine_works_unless_nothing_would_change(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writer = open_writer(study, time.time)
    before = stored(study)
    assert run(["prune", str(study)]) == 1
    assert "is working on this study" in capsys.readouterr().err
    assert stored(study) == before
    assert run(["prune", str(study), "--steps", "80"]) == 0
    assert run(["prune", str(study), "--dry-run"]) == 0
    writer.close("stopped")
    assert run(["prune", str(study)]) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--steps", "a:b"], "should be A:B or a list of steps, found 'a:b'"),
        (["--steps", "8:0"], "found '8:0'"),
        (["--steps", ""], "found ''"),
        (["--steps", "1:2:3"], "found '1:2:3'"),
        (["--keep-last", "-1"], "must be at least 0"),
        (["--keep-last", "x"], "invalid int value: 'x'"),
        (["--model", "../x"], "no model '../x'; it has: m, n"),
    ],
)
def test_wrong_options(
    study: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(study)
    try:
        code = run(["prune", str(study), *options])
    except SystemExit as end:
        code = end.code  # type: ignore[assignment]
    assert code == 2
    assert message in capsys.readouterr().err
    assert files(study) == before
