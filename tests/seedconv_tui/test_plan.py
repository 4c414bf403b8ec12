"""`seedconv plan` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from seedconv_tui.cli.main import run
from seedconv_tui.text import nats
from store import open_study
from store.analysis import read_pilots
from store.statistics import documents_needed, seeds_needed
from tests.support.made_store import fill, open_writer

Capture = pytest.CaptureFixture[str]
MODEL = ["--model", "m"]


def test_a_plan(compared: Path, capsys: Capture) -> None:
    store = str(compared / "dense.zarr")
    study = open_study(store)
    (pilot,) = read_pilots(study, "m", 10, "all")
    documents = len(np.unique(study.corpus.document))
    wide = float(pilot.of.widths(4, np.ones(1))[0])
    asked = ["plan", store, *MODEL, "--width", str(wide / 2), "--seeds", "3", "40"]
    assert run([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    (level,) = found["levels"]
    assert (found["study"], level["model"], level["step"], level["level"]) == (
        "test",
        "m",
        10,
        "all",
    )
    assert level["pilot"]["width"] == wide
    summary = study.summary("m")
    assert level["pilot"]["expected_kl"] == pytest.approx(summary.expected_kl[-1, 0])
    parts = ("variance_seeds", "variance_documents", "variance_both")
    of = pilot.of
    total = of.of_seeds + of.of_pairs + of.of_documents
    assert sum(level["pilot"][part] for part in parts) == pytest.approx(total)
    assert [plan["seeds"] for plan in level["plans"]] == [3, 40]
    for plan in level["plans"]:
        needed, least = documents_needed(of, wide / 2, plan["seeds"], documents)
        assert (plan["documents"], plan["least_width"]) == (needed, least)
        expected = None if needed is None else round(needed * study.n_tokens / documents)
        assert plan["tokens"] == expected
    assert level["seeds_with_this_text"] == seeds_needed(of, wide / 2)
    assert run(asked) == 0
    shown = capsys.readouterr().out
    assert f"what a 95 % interval of {nats(wide / 2)} nats needs" in shown
    assert f"interval {nats(wide)} wide, of 4 seeds, {documents} documents, 400 tokens" in shown
    assert "4 seeds are few for a pilot" in shown
    for plan in level["plans"]:
        if plan["documents"] is None:
            assert f"{plan['seeds']} seeds: no text is enough, the seeds alone make it" in shown


def test_of_a_share_by_level(compared: Path, capsys: Capture) -> None:
    store = str(compared / "dense.zarr")
    options = ["--category", "pos", "--level", "NOUN", "--level", "VERB", "--width", "5%"]
    assert run(["plan", store, *MODEL, *options, "--json"]) == 0
    levels = json.loads(capsys.readouterr().out)["levels"]
    assert [level["level"] for level in levels] == ["NOUN", "VERB"]
    for level in levels:
        assert level["width"] == pytest.approx(0.05 * level["pilot"]["expected_kl"])
    assert run(["plan", store, *MODEL, *options]) == 0
    shown = capsys.readouterr().out
    assert "m, step 10, pos NOUN: what a 95 % interval of" in shown
    assert " nats (5%) needs\n" in shown


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--step", "7"], "step 7 is not summarised; those that are: 0, 10"),
        (["--model", "x"], "no model 'x'; it has: m, b"),
        (["--level", "x"], "no level 'x'; there are: "),
        (["--category", "document"], "only one document has tokens of it. A plan needs two"),
    ],
)
def test_a_wrong_choice_is_one_line(
    compared: Path, capsys: Capture, options: list[str], said: str
) -> None:
    assert run(["plan", str(compared / "dense.zarr"), "--width", "0.1", *MODEL, *options]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("seedconv: ")
    assert said in line


@pytest.mark.parametrize("width", ["0", "-1", "x", "nan", "inf", "%", "0%"])
def test_a_width_is_above_zero(width: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(["plan", "s.zarr", f"--width={width}"])
    said = capsys.readouterr().err
    assert "should be nats, such as 0.02, or a share of expected KL, such as 5%" in said


def test_of_too_little(compared: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run(["plan", str(compared / "factored.zarr"), "--width", "1"]) == 2
    assert "step 10: only 2 seeds are compared. A plan needs 3" in capsys.readouterr().err
    writer = open_writer(tmp_path / "s.zarr")
    fill(writer, "m", ["1"], [0])
    writer.close("finished")
    assert run(["plan", str(tmp_path / "s.zarr"), "--width", "1"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("nothing is summarised yet; a step needs two seeds that are scored")
