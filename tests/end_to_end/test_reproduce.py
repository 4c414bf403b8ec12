"""`make reproduce` at a scale at which nothing is learned, and its verdicts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from seedconv_tui.demo.reproduce import main, reproduce
from store import open_study
from store.analysis import verdict
from store.statistics import between_levels

pytestmark = pytest.mark.long


def test_it_trains_scores_and_reports_whatever_comes_of_it(tmp_path: Path) -> None:
    assert reproduce(tmp_path, seeds=3, n_steps=1, held_out_tokens=600) == 0
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| training goes through four phases | tiny |" in text
    study = open_study(tmp_path / "study.zarr")
    row = re.search(r"late in training \| step 1: .*? \| ([+-][0-9.]+) nats", text)
    assert row is not None
    tiny, small = (study.model_snapshot(name).expected_kl[-1] for name in ("tiny", "small"))
    assert float(row[1]) == pytest.approx(tiny - small, abs=6e-5)
    for claim in ("mean cross-entropy = cross-entropy of the ensemble + ambiguity", "ambiguity"):
        assert text.count(claim) >= 2, "of each size"
    assert "| runs of one initialisation are closer than runs of one data order |" in text
    known = study.ledger("tiny-decoupled")
    assert {len(seeds) for seeds in known.groups.values()} == {3}
    shared = [study.values("tiny-decoupled", "surprisal", f"order{n}", 0) for n in (1, 2)]
    np.testing.assert_array_equal(*shared)  # one initialisation
    content = study.summary("small", "word_class")
    kl = dict(zip(content.labels, content.expected_kl[-1], strict=True))
    row = re.search(r"small, step 1: KL of content .*? \| ([+-][0-9.]+) nats", text)
    assert row is not None
    assert float(row[1]) == pytest.approx(kl["content"] - kl["function"], abs=6e-5)


def test_too_little_to_tell_anything_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dir", str(tmp_path / "new"), "--seeds", "2"]) == 2
    assert "at least 3 seeds" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.1, 0.2, "holds"), (-0.1, 0.2, "not sure"), (-0.2, -0.1, "does not hold")],
)
def test_verdicts(low: float, high: float, said: str) -> None:
    assert verdict(low, high) == said


def test_intervals_between_levels_cover_what_is_true() -> None:
    """Seeds and documents drawn again 400 times: 95 % intervals cover in about 95 %."""
    rng = np.random.default_rng(5)
    covered, seeds, documents, draws = 0, 8, 30, 400
    for _ in range(draws):
        skill = rng.normal(0, 0.1, (seeds, 2))
        text = rng.normal(0, 0.3, (documents, 2)) + rng.normal(0, 0.3, (documents, 1))
        n = rng.integers(5, 40, (documents, 2))
        weights = n / n.sum(axis=0)
        base = np.array([1.5, 1.2]) + (weights * text).sum(axis=0)
        kl = base + (skill[:, None] + skill[None])
        total = n * (pair := np.array([1.5, 1.2]) + text + 2 * skill.mean(axis=0))
        assert pair.shape == (documents, 2)
        found = between_levels(kl, total, n, 0, 1)
        covered += bool(found.low[0] <= 0.3 <= found.high[0])
    assert 0.92 <= covered / draws <= 0.985
