"""Linear CKA of hidden states, against Gram matrices of tokens times tokens in float64."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ortho_group

from seedconv_tui.cli.main import run
from seedconv_tui.report.families import FAMILIES
from store import StoreError, open_study
from store.analysis import hidden_alignment, hidden_seeds, hidden_states
from store.statistics import Alignment, CrossMoments
from tests.support.gram_alignment import Floats, kept, plain_cka
from tests.support.tiny_models import make_runs, write_study

RTOL, ATOL = 1e-9, 1e-12


def aligned(
    *states: Floats, block: int = 64, of: Callable[[Floats], Any] = np.asarray
) -> Alignment:
    """What blocks of tokens come to."""
    moments, joined = CrossMoments([x.shape[1] for x in states]), np.concatenate(states, axis=1)
    for start in range(0, len(joined), block):
        moments.add(of(joined[start : start + block]))
    return moments.alignment()


@pytest.fixture
def states() -> list[Floats]:
    """Three representations of 90 tokens with far means; the second shares units with the first."""
    rng = np.random.default_rng(5)
    one, two = rng.normal(4, 2, (90, 24)), rng.normal(-3, 1, (90, 17))
    two[:, :9] += one[:, :9]
    return [one, two, rng.normal(size=(90, 30))]


@pytest.mark.parametrize("block", [1, 7, 90])
@pytest.mark.parametrize("of", [np.asarray, torch.from_numpy])
def test_numbers_are_those_of_gram_matrices(
    states: list[Floats], block: int, of: Callable[[Floats], Any]
) -> None:
    found = aligned(*states, block=block, of=of)
    for (i, one), (j, other) in itertools.combinations_with_replacement(enumerate(states), 2):
        for values, wanted in zip(found, plain_cka(one, other), strict=True):
            np.testing.assert_allclose([values[i, j], values[j, i]], wanted, rtol=RTOL, atol=ATOL)


def test_neither_rotation_nor_scale_nor_order_of_units_counts(states: list[Floats]) -> None:
    one, two, _ = states
    rng = np.random.default_rng(6)
    rotated = one @ ortho_group.rvs(one.shape[1], random_state=rng)
    shuffled = one[:, rng.permutation(one.shape[1])]
    for values in aligned(one, rotated, 3 * shuffled + 5, two):
        np.testing.assert_allclose(values[:3, :3], 1, rtol=RTOL, atol=ATOL)
        np.testing.assert_allclose(values[:3, 3], values[0, 3], rtol=RTOL, atol=ATOL)
    skewed = one * np.geomspace(1, 30, one.shape[1])  # no rotation: that counts
    assert aligned(one, skewed).cka[0, 1] < 0.9


def test_only_the_debiased_estimate_is_near_zero_for_few_tokens() -> None:
    rng = np.random.default_rng(7)
    found = aligned(rng.normal(size=(60, 200)), rng.normal(size=(60, 200)))
    assert found.cka[0, 1] > 0.7
    assert abs(found.debiased[0, 1]) < 0.1


def test_states_that_do_not_vary_have_none() -> None:
    rng = np.random.default_rng(8)
    found = aligned(rng.normal(size=(30, 4)), np.full((30, 4), 2.5))
    for values in found:
        assert np.isnan(values).tolist() == [[False, True], [True, True]]
    assert np.isnan(aligned(rng.normal(size=(3, 4))).debiased).all()


# -- from a study --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of seeds 1 to 3 at two steps, where seed 3 has at step 0 the weights of seed 1."""
    folder = tmp_path_factory.mktemp("hidden")
    make_runs(folder, seeds=("1", "2", "3"), steps=(0, 10))
    shutil.rmtree(folder / "runs/seed3/step0")
    shutil.copytree(folder / "runs/seed1/step0", folder / "runs/seed3/step0")
    file = write_study(
        folder,
        corpus__max_tokens=120,
        categories__include=["pos"],
        log_probs__representation="factored",
    )
    assert run(["run", str(file)]) == 0
    return folder


@pytest.mark.parametrize("held", [hidden_states._HELD, 1])
def test_a_study_keeps_what_it_takes(
    folder: Path, held: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden_states, "_HELD", held)  # 1: two checkpoints at a time
    study = open_study(folder / "study.zarr")
    assert hidden_seeds(study, "m") == {0: ("1", "2", "3"), 10: ("1", "2", "3")}
    checkpoints = [("m", seed, step) for step in (0, 10) for seed in "123"][:5]
    shares: list[float] = []
    found = hidden_alignment(study, checkpoints, shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    of = [kept(folder / "study.zarr", seed, step) for _, seed, step in checkpoints]
    for i, j in itertools.product(range(len(of)), repeat=2):
        for values, wanted in zip(found, plain_cka(of[i], of[j]), strict=True):
            np.testing.assert_allclose(values[i, j], wanted, rtol=1e-7)
    assert found.cka[0, 2] == pytest.approx(1, abs=1e-12)  # the same weights
    assert found.cka[0, 1] < 0.8  # other random ones


def test_tables_and_figure_have_them(folder: Path, tmp_path: Path) -> None:
    out, store = tmp_path / "report", str(folder / "study.zarr")
    for kind in ("csv", "jsonl", "parquet"):
        assert run(["export", store, "--what", "cka", "-o", str(tmp_path / f"cka.{kind}")]) == 0
    others = [part for name in FAMILIES for part in ("--without", name)]
    options = ["-o", str(out), "--format", "png", *others]
    assert run(["report", store, *options]) == 0
    assert not (out / "hidden_states.png").exists()
    assert run(["report", store, *options, "--with", "hidden"]) == 0
    for file in (tmp_path / "cka.csv", out / "hidden_states.csv"):
        with file.open(encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        assert len(rows) == 6
        for row in rows:
            step = int(row["step"])
            wanted = plain_cka(
                kept(folder / "study.zarr", row["seed"], step),
                kept(folder / "study.zarr", row["other_seed"], step),
            )
            found = [float(row["cka"]), float(row["cka_debiased"])]
            np.testing.assert_allclose(found, wanted, rtol=1e-7)
    assert (out / "hidden_states.png").stat().st_size > 10_000
    of_csv = pd.read_csv(tmp_path / "cka.csv", dtype={"seed": str, "other_seed": str})
    of_json = [json.loads(line) for line in (tmp_path / "cka.jsonl").read_text().splitlines()]
    pd.testing.assert_frame_equal(of_csv, pd.read_parquet(tmp_path / "cka.parquet"))
    pd.testing.assert_frame_equal(of_csv, pd.DataFrame(of_json))


def test_where_they_are_not_kept_that_is_said(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = compared / "dense.zarr"
    with pytest.raises(
        StoreError, match=r"hidden states of m, seed 1, step 0 are not kept; .*fact"
    ):
        hidden_alignment(open_study(store), [("m", "1", 0), ("m", "2", 0)])
    assert run(["export", str(store), "--what", "cka"]) == 0
    out, err = capsys.readouterr()
    assert out == "model,step,seed,other_seed,n,units,cka,cka_debiased\n"
    assert "hidden states of two seeds are kept at no step" in err
    others = [part for name in FAMILIES for part in ("--without", name)]
    options = ["-o", str(tmp_path / "report"), "--with", "hidden", *others]
    assert run(["report", str(store), *options]) == 0
    assert "left out hidden_states: hidden states of two seeds" in capsys.readouterr().err
