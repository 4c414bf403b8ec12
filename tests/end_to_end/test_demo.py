"""The demo's set-up. The demo itself is run by hand, and by `make demo`: it takes a minute."""

from __future__ import annotations

from pathlib import Path
from threading import Event

from engine.demo_training import SMALL, TINY, TrainingPlan, prepare
from engine.sources.hub_client import HubClient
from engine.study_file.file import load_study_file
from engine.text.evaluation_text import build_text
from engine.text.tokenizer import load_tokenizer


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
