"""Learning-rate schedules: from the study file over the store to the report."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from store import StoreError, Study, open_study
from tests.support.tiny_models import make_runs, write_study

SECOND = '[[models]]\nname = "other"\nsource = "runs/seed{seed}/step{step}"\n'


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study of two models, which gives a schedule to both."""
    make_runs(tmp_path, seeds=("1", "2"), steps=(10,))
    (tmp_path / "rates.csv").write_text(
        "step,loss,learning_rate,model\n10,3,1e-3,m\n0,9,0,m\n5,4,0.5,\n"
    )
    file = write_study(tmp_path, study__learning_rate="rates.csv")
    file.write_text(file.read_text() + SECOND)
    return file


def known(study: Study) -> dict[str, list[tuple[int, float]]]:
    """By model, what the study says."""
    of = {model: study.learning_rate(model) for model in study.models}
    return {m: list(zip(s.steps, s.rates, strict=True)) for m, s in of.items() if s is not None}


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """By model, what the data next to the figure say."""
    table = pd.read_csv(folder / "learning_rate.csv")
    return {
        str(model): [
            (int(step), float(rate)) for step, rate in zip(of.step, of.learning_rate, strict=True)
        ]
        for model, of in table.groupby("model")
    }


def test_from_the_study_file_to_the_figure(study: Path, tmp_path: Path) -> None:
    folder, expected = tmp_path / "study.zarr", {"m": [(0, 0.0), (10, 1e-3)], "other": [(5, 0.5)]}
    assert run(["run", str(study)]) == 0
    read = open_study(folder)
    assert known(read) == expected
    with pytest.raises(StoreError, match="no model 'x'"):
        read.learning_rate("x")
    report = ["report", str(folder), "--category", "all", "--format", "pdf"]
    for family in ("levels", "tokens", "regression", "between"):
        report += ["--without", family]
    report.append("-o")
    assert run([*report, str(tmp_path / "out")]) == 0
    assert shown(tmp_path / "out") == expected
    assert (tmp_path / "out/learning_rate.pdf").is_file()

    # The file changes: the next start records it, and scores nothing again.
    identity = read.identity
    (tmp_path / "rates.csv").write_text("learning_rate,step\n0.25,7\n")
    assert run(["run", str(study)]) == 0
    assert read.refresh()
    assert known(read) == {"m": [(7, 0.25)], "other": [(7, 0.25)]}
    assert open_study(folder).identity == identity
    log = "".join(file.read_text() for file in sorted((folder / "commits").glob("*.log")))
    assert log.count('"kind": "scored"') + log.count('"kind":"scored"') == 4
    assert run(["run", str(study)]) == 0
    again = (folder / "commits/3.log").read_text()
    assert "learning_rate" not in again, "what is recorded is not recorded again"
    assert run(["verify", str(folder)]) == 0

    # The option stands in for it, and what the study no longer says goes.
    (tmp_path / "mine.csv").write_text("step,learning_rate,model\n3,2,other\n")
    given = [*report, str(tmp_path / "mine"), "--learning-rate", str(tmp_path / "mine.csv")]
    assert run(given) == 0
    assert shown(tmp_path / "mine") == {"other": [(3, 2.0)]}
    study.write_text(study.read_text().replace('learning_rate = "rates.csv"\n', ""))
    assert run(["run", str(study)]) == 0
    assert known(open_study(folder)) == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("step,rate\n1,2\n", "line 1: should name the columns step,learning_rate[,model]"),
        ("", "line 1: should name the columns"),
        ("step,learning_rate\n1,2\nx,3\n", "line 3: step should be a number from 0, found 'x'"),
        ("step,learning_rate\n1.5,2\n", "line 2: step should be a whole number, found 1.5"),
        ("step,learning_rate\n\n-1,2\n", "line 3: step should be a number from 0, found '-1'"),
        ("step,learning_rate\n1,inf\n", "line 2: learning_rate should be a number from 0"),
        ("step,learning_rate\n1\n", "line 2: learning_rate should be a number from 0, found ''"),
        ("step,learning_rate\n1,2\n1,2\n", "line 3: step 1 is there twice"),
        ("step,learning_rate,model\n1,2,you\n", "line 2: there is no model 'you'; there are: m"),
        ("step,learning_rate\n", "has no lines below its header"),
        ("step,learning_rate\n1," + "9" * 200_000 + "\n", "line 2: is not CSV"),
        ("step,learning_rate\n1,2\n\xe9", "is not UTF-8 text"),
        (None, "cannot be read: No such file or directory"),
    ],
)
def test_a_wrong_schedule_is_told_before_anything_starts(
    text: str | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, study__learning_rate="rates.csv")
    if text is not None:
        (tmp_path / "rates.csv").write_bytes(text.encode("latin-1"))
    assert run(["run", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"study.toml: study.learning_rate: {tmp_path / 'rates.csv'}: {told}" in line


def test_too_many_steps_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_study(tmp_path, study__learning_rate="rates.csv")
    rates = "".join(f"{step},1\n" for step in range(20_001))
    (tmp_path / "rates.csv").write_text("step,learning_rate\n" + rates)
    assert run(["run", str(file)]) == 2
    assert "line 20002: are more than 20,000 steps; leave some out" in capsys.readouterr().err


def test_a_wrong_option_is_told(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", str(study)]) == 0
    (tmp_path / "mine.csv").write_text("step,learning_rate,model\n3,2,you\n")
    given = ["--learning-rate", str(tmp_path / "mine.csv")]
    capsys.readouterr()
    assert run(["report", str(tmp_path / "study.zarr"), "-o", str(tmp_path / "out"), *given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--learning-rate: " in line
    assert "mine.csv: line 2: there is no model 'you'; there are: m, other" in line
    assert not (tmp_path / "out").exists()


def test_pythia_s_schedule_is_that_of_its_trainer() -> None:
    """As GPT-NeoX computed it then: a cosine over all steps, never below a tenth of the peak."""
    study = load_study_file(Path(__file__).parents[2] / "examples/pythia.toml")
    rates = study.learning_rates()
    assert list(rates) == [model.name for model in study.models]
    for model, peak in zip(study.models, (1e-3, 1e-3, 1e-3, 6e-4, 3e-4), strict=True):
        of = rates[model.name]
        assert {step for _, step in model.listed or ()} <= set(of.steps)
        assert (of.steps[0], of.rates[0]) == (0, 0.0)
        assert (max(of.rates), min(of.rates[-20:])) == (peak, pytest.approx(peak / 10))
        for step, rate in zip(of.steps, of.rates, strict=True):
            warm, cosine = step / 1430, (1 + math.cos(math.pi * (step - 1430) / 143_000)) / 2
            expected = warm if step <= 1430 else max(cosine, 0.1)
            assert rate == pytest.approx(peak * expected, rel=1e-5)
