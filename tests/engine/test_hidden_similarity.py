"""CKA of hidden states while seeds are compared, against Gram matrices in float64."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engine.errors import ConfigError
from engine.scoring import hidden_similarity, passes
from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from store import open_study
from store.schema import CKA, ESTIMATES
from store.statistics import CrossMoments
from tests.support.gram_alignment import Floats, kept, plain_cka
from tests.support.tiny_models import make_runs, write_study

CHOSEN = ["kl", "cka"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of three seeds at one step, and a study that keeps their hidden states."""
    folder = tmp_path_factory.mktemp("made")
    make_runs(folder, steps=(5,))
    score(folder, "factored.zarr", log_probs__representation="factored")
    return folder


def score(folder: Path, store: str, **settings: Any) -> Path:
    settings = {"scoring__divergences": CHOSEN, "categories__include": ["pos"]} | settings
    assert run(["run", str(write_study(folder, study__store=store, **settings))]) == 0
    return folder / store


def expect_exact(store: Path, states: dict[str, Floats]) -> None:
    """Compare all pairs of these seeds; and the store with itself."""
    study = open_study(store)
    for seed, other in itertools.permutations(states, 2):
        wanted = plain_cka(states[seed], states[other])
        for name, value in zip(ESTIMATES[CKA], wanted, strict=True):
            row = study.dataset("m").load().sel(step=5, seed=seed, other_seed=other)
            assert float(row[name]) == pytest.approx(value, rel=1e-6)
            assert np.nanmax(study.means("m", name, recorded=True)[0]) >= value - 1e-6
    assert run(["verify", str(store)]) == 0


@pytest.mark.parametrize("representation", ["factored", "none"])
def test_every_plan_gives_the_same_and_late_seeds_are_added(
    made: Path, representation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden_similarity, "_ROWS", 37)  # several times over this text
    monkeypatch.setitem(passes._BLOCK_BYTES, "cpu", 2**15)  # 16 tokens
    states = {seed: kept(made / "factored.zarr", seed, 5) for seed in "123"}
    name, settings = f"late-{representation}.zarr", {"log_probs__representation": representation}
    store = score(made, name, models__seeds=["1", "2"], **settings)
    expect_exact(store, {seed: states[seed] for seed in "12"})
    before = open_study(store).pair_means("m", "cka", 5)[0, 1]
    score(made, name, models__seeds=["1", "2", "3"], **settings)
    expect_exact(store, states)
    assert open_study(store).pair_means("m", "cka", 5)[0, 1] == before


def test_asking_for_it_changes_nothing_else(made: Path) -> None:
    plain = score(made, "plain.zarr", log_probs__representation="none", scoring__divergences=["kl"])
    more = score(made, "more.zarr", log_probs__representation="none")
    one, other = (open_study(store).dataset("m").load() for store in (plain, more))
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name], other[name], err_msg=str(name))
    assert {*other.data_vars} - {*one.data_vars} == {*ESTIMATES[CKA]}


def test_memory_that_runs_out_adds_no_token_twice(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hidden_similarity, "_ROWS", 16)
    monkeypatch.setitem(passes._BLOCK_BYTES, "cpu", 2**15)  # 16 tokens
    failures = iter([False, True, False, True])
    add = CrossMoments.add

    def sometimes(self: CrossMoments, states: torch.Tensor) -> None:
        if next(failures, False):
            raise torch.OutOfMemoryError
        add(self, states)

    monkeypatch.setattr(CrossMoments, "add", sometimes)
    store = score(made, "short.zarr", log_probs__representation="none")
    assert not any(failures)  # they came
    expect_exact(store, {seed: kept(made / "factored.zarr", seed, 5) for seed in "123"})


def test_the_study_file_says_that_dense_keeps_no_hidden_states(made: Path) -> None:
    file = write_study(made, scoring__divergences=CHOSEN, log_probs__representation="dense")
    with pytest.raises(ConfigError, match=r'scoring.divergences: "cka" compares hidden states'):
        load_study_file(file)


def test_damage_is_found_and_repaired_from_the_log(made: Path, tmp_path: Path) -> None:
    store = tmp_path / "damaged.zarr"
    shutil.copytree(made / "factored.zarr", store)
    shutil.rmtree(store / "models/m/cka/c")
    shutil.rmtree(store / "models/m/kl/c", ignore_errors=True)
    assert run(["verify", str(store)]) == 1
    assert run(["verify", str(store), "--mend"]) == 0
    expect_exact(store, {seed: kept(store, seed, 5) for seed in "123"})
