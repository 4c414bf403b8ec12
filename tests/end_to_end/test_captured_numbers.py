"""KL in the store of what was captured, against float64 from the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seedconv_tui.cli.main import run
from seedconv_tui.training import Capture
from store import open_study
from tests.support.nano import make_nano
from tests.support.reference import windowed_log_probs
from tests.support.tiny_models import TEXT, make_tokenizer, write_study

STEPS = (0, 3)
TOKENS = 1000  # float16 errs by chance, so that its mean over tokens depends on how many there are


def train_a_little(model: Any, vocab: int) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        ids = torch.randint(vocab, (4, 33))
        logits = model(ids[:, :-1])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize(
    ("keep", "windowing", "most"),
    [
        ("factored", "stream", 1e-6),
        pytest.param("dense", "document", 1e-5, marks=pytest.mark.long),
    ],
)
def test_kl_agrees_with_float64_from_the_same_weights(
    tmp_path: Path, keep: str, windowing: str, most: float
) -> None:
    vocab = make_tokenizer(tmp_path / "tokenizer").get_vocab_size()
    (tmp_path / "text.txt").write_text(TEXT * 8, encoding="utf-8")
    study_file = write_study(
        tmp_path,
        models__source="captured",
        models__steps=list(STEPS),
        corpus__max_tokens=TOKENS,
        scoring__windowing=windowing,
        log_probs__representation=keep,
    )
    assert run(["order", str(study_file)]) == 0
    exact = {}
    for seed in "123":
        model = make_nano(vocab + 12, int(seed))
        capture = Capture(study_file, model="m", seed=seed)
        for step in STEPS:
            assert capture(model, step)
            weights = make_nano(vocab + 12, int(seed)).double().eval()
            weights.load_state_dict(model.state_dict())
            exact[seed, step], targets = windowed_log_probs(
                tmp_path, weights, stream=windowing == "stream", n_tokens=TOKENS
            )
            train_a_little(model, vocab)
    assert run(["run", str(study_file)]) == 0
    study = open_study(tmp_path / "study.zarr")
    assert (study.corpus.token_id == targets).all()
    for step in STEPS:
        data = study.dataset("m").sel(step=step)
        for i in "123":
            for j in set("123") - {i}:
                p, q = exact[i, step], exact[j, step]
                kl = (np.exp(p) * (p - q)).sum(1)
                assert kl.mean() > 0.05
                found = data.sel(seed=i, other_seed=j)
                assert float(found.mean_kl) == pytest.approx(kl.mean(), abs=most)
                if keep == "factored":  # every token, too; a rounded one errs by 1e-4
                    np.testing.assert_allclose(found.kl, kl, rtol=0, atol=2 * most)
