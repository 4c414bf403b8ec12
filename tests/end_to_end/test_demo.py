"""The demo's set-up, and the demo with captures at a scale at which nothing is learned.

The demo itself is run by hand, and by `make demo`: it takes a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path
from threading import Event

import numpy as np
import pytest

from engine.demo_training import SMALL, TINY, TrainingPlan, prepare
from engine.sources.hub_client import HubClient
from engine.study_file.file import load_study_file
from engine.text.evaluation_text import build_text
from engine.text.tokenizer import load_tokenizer
from seedconv_tui.chart import Glyphs
from seedconv_tui.cli.main import run
from seedconv_tui.demo.run_demo import run_demo
from seedconv_tui.demo.what_you_saw import of_training
from store import open_study


def test_prepare_holds_out_the_end_of_the_text_and_writes_a_valid_study(tmp_path: Path) -> None:
    plan = TrainingPlan(sizes=(TINY, SMALL))
    study = load_study_file(prepare(tmp_path, plan))
    assert [model.listed for model in study.models] == [
        {(str(seed), step) for seed in plan.seeds for step in plan.steps}
    ] * len(plan.sizes)
    tokenizer = load_tokenizer(study, HubClient(Event()))
    assert tokenizer.size == 2048
    text = build_text(study, tokenizer)
    assert len(text.corpus) == plan.held_out_tokens
    held_out = (tmp_path / "held_out.txt").read_text(encoding="utf-8")
    trained_on = (tmp_path / "train.txt").read_text(encoding="utf-8")
    assert len(trained_on) > 400_000
    assert held_out.split("\f")[-1][-200:] not in trained_on
    before = (tmp_path / "tokenizer/tokenizer.json").stat().st_mtime_ns
    prepare(tmp_path, TrainingPlan())
    assert (tmp_path / "tokenizer/tokenizer.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("kl", "said"),
    [
        ([0.2, 0.1, 0.4, 0.3],
         "began 0.2000 nats apart (expected KL, step 0). They came closer while they learned the "
         "same, to 0.1000 nats at step 1. Then each learned something of its own, up to 0.4000 "
         "nats at step 2; at the end they are nearer again: 0.3000 nats at step 3."),
        ([0.2, 0.1, 0.3],
         "Then each learned something of its own, and they are furthest at the end: 0.3000 nats"),
        ([0.1, 0.3, 0.2], "They were never closer than at their beginning. Then each"),
        ([0.3, 0.2, 0.1], "That is the last step that is compared: nothing has driven them apart"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_curve_is_true_of_it(kl: list[float], said: str) -> None:
    sentences = list(of_training("tiny", 3, np.arange(len(kl)), np.array(kl)))
    assert len(sentences) == 3
    assert said in " ".join(sentences)


def demo(folder: Path, *, capture: bool, keep: bool = False) -> int:
    """Run the demo with two steps of training, without a terminal."""
    return run_demo(
        folder,
        headless=True,
        second_size=False,
        capture=capture,
        keep=keep,
        glyphs=Glyphs.BRAILLE,
        show=lambda store: pytest.fail(f"showed {store} without a terminal"),
        n_steps=2,
    )


@pytest.mark.long
def test_the_demo_says_what_it_does_and_what_it_showed_and_leaves_little(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo(tmp_path, capture=False, keep=True) == 0
    assert len(list(tmp_path.glob("runs/tiny/seed*/checkpoint-*"))) == 9
    assert len(open_study(tmp_path / "study.zarr").ledger("tiny").stored) == 9
    capsys.readouterr()
    trained = (tmp_path / "trainer.log").read_text(encoding="utf-8")
    assert demo(tmp_path, capture=False) == 0  # and continues where it was
    assert (tmp_path / "trainer.log").read_text(encoding="utf-8") == trained
    said = capsys.readouterr()
    assert said.err.startswith("Trains 3 tiny models that differ in their seed only for 2 steps")
    assert "which an engine scores on 2,000 held-out tokens" in said.err
    kept = sorted(it.parent.name for it in tmp_path.glob("runs/tiny/*/checkpoint-2"))
    assert kept == ["seed1", "seed2", "seed3"]
    assert len(list(tmp_path.glob("runs/tiny/seed*/checkpoint-*"))) == 3
    study = open_study(tmp_path / "study.zarr")
    assert {step for _, step in study.ledger("tiny").stored} == {0, 2}
    kl = study.model_snapshot("tiny").expected_kl
    told = said.out.partition("What you saw:\n")[2].splitlines()
    assert len(told) == 4
    assert f"began {kl[0]:.4f} nats apart" in told[0]
    assert f"{kl[-1]:.4f} nats at step 2" in told[2]
    assert "Of 2,000 tokens that none was trained on, the seeds agree most on" in told[3]
    # What is left is whole: the same study runs, and is without complaint.
    assert run(["run", str(tmp_path / "study.toml")]) == 0
    assert run(["status", str(tmp_path / "study.zarr"), "--check"]) == 0
    assert demo(tmp_path, capture=False) == 0


def test_without_its_packages_it_only_names_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert run(["demo", "--headless"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "needs tokenizers, which is not installed: pip install 'seedconv-tui[engine]'"
    )


@pytest.mark.long
def test_the_demo_with_captures_writes_no_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert demo(tmp_path, capture=True) == 0
    said = capsys.readouterr()
    assert "done. Open the results again" in said.err
    assert "step 2, function or content word" in said.out
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list((tmp_path / "study-announced" / "captured").rglob("*.npy"))  # all were taken
    study = open_study(tmp_path / "study.zarr")
    assert (study.model_snapshot("tiny").expected_kl > 0).all()
    trained = (tmp_path / "trainer.log").read_text(encoding="utf-8")
    assert demo(tmp_path, capture=True) == 0  # and continues where it was: nothing is trained again
    assert (tmp_path / "trainer.log").read_text(encoding="utf-8") == trained
