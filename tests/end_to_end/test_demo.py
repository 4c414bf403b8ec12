"""The demo's set-up, and the demo with captures at a scale at which nothing is learned.

The demo itself is run by hand, and by `make demo`: it takes a minute.
"""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from engine.demo_training import SMALL, TINY, TrainingPlan, prepare
from engine.sources.hub_client import HubClient
from engine.study_file.file import load_study_file
from engine.text.evaluation_text import build_text
from engine.text.tokenizer import load_tokenizer
from seedconv_tui.chart import Glyphs
from seedconv_tui.demo.run_demo import run_demo
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


@pytest.mark.long
def test_the_demo_with_captures_writes_no_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def demo() -> int:
        return run_demo(
            tmp_path,
            headless=True,
            second_size=False,
            capture=True,
            glyphs=Glyphs.BRAILLE,
            show=lambda store: pytest.fail(f"showed {store} without a terminal"),
            n_steps=2,
        )

    assert demo() == 0
    said = capsys.readouterr()
    assert "done; look at it again" in said.err
    assert "step 2, function or content word" in said.out
    assert not list(tmp_path.rglob("*.safetensors"))
    assert not list((tmp_path / "study-announced" / "captured").rglob("*.npy"))  # all were taken
    study = open_study(tmp_path / "study.zarr")
    assert (study.model_snapshot("tiny").expected_kl > 0).all()
    trained = (tmp_path / "trainer.log").read_text(encoding="utf-8")
    assert demo() == 0  # and goes on where it was: nothing is trained again
    assert (tmp_path / "trainer.log").read_text(encoding="utf-8") == trained
