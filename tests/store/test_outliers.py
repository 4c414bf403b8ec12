"""Outliers as the engine announces them: by seeds really trained, and in whatever order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from seedconv_tui.cli.main import run
from store import open_study
from store.statistics import newly_outlying
from tests.support.tiny_models import END, TEXT, make_model, make_tokenizer, write_study

STEPS = (0, 5, 10, 20, 30, 40)


def steps_with(outlying: list[bool]) -> np.ndarray:
    """(step, seed, other_seed) of five seeds; the second is far from the others where it says."""
    kl = np.random.default_rng(0).normal(0.1, 0.002, (len(outlying), 5, 5))
    for step, far in enumerate(outlying):
        if far:
            kl[step, 1] += 0.2
            kl[step, :, 1] += 0.2
    kl[:, np.eye(5, dtype=bool)] = np.nan
    return kl


def test_an_outlier_is_new_at_its_second_step_whatever_the_order() -> None:
    def new(outlying: str, at: int) -> list[int]:
        kl = steps_with([letter == "x" for letter in outlying])
        return np.flatnonzero(newly_outlying(kl, at)).tolist()

    assert new("-x", 1) == new("x", 0) == new("-x-", 1) == []
    assert new("-xx", 2) == new("xx-", 0) == new("-xx", 1) == [1]
    assert new("xxx", 2) == new("xxx", 1) == new("xx-xxx", 5) == []
    assert new("xx-x", 3) == new("xx-", 2) == []
    assert new("xx-xx", 4) == [1]


def train(folder: Path, seed: int, rate: float) -> None:
    """Train a tiny model for a moment, leaving checkpoints."""
    tokenizer = make_tokenizer(folder / "tokenizer")
    ids = torch.tensor(tokenizer.encode(END + TEXT).ids)
    model: Any = make_model("gpt-neox", tokenizer.get_vocab_size(), seed=0)
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for step in range(STEPS[-1] + 1):
        if step in STEPS:
            model.save_pretrained(folder / "runs" / f"seed{seed}" / f"step{step}")
        starts = torch.randint(len(ids) - 32, (8,), generator=order)
        batch = torch.stack([ids[start : start + 32] for start in starts.tolist()])
        model(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def test_a_seed_trained_at_another_rate_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    for seed in range(1, 6):
        train(tmp_path, seed, rate=1e-3 if seed == 4 else 2e-4)
    file = write_study(tmp_path)
    assert run(["run", str(file)]) == 0
    journal = open_study(tmp_path / "study.zarr").snapshot().journal
    outliers = [entry for entry in journal if entry.event == "outlier"]
    assert len(outliers) == 1
    assert outliers[0].level == "warning"
    assert outliers[0].text.startswith("m, seed 4 is an outlier at step 10 ")
    assert "mean KL 0.03" in outliers[0].text  # at the second step of those that are not alike
