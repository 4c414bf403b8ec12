"""Results that are infinite or NaN make nothing unreadable, and are left out of means and said."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from store import DamagedError, open_study
from store.analysis import blimp_summary, regression
from store.maintenance import mend, verify
from store.schema import layout
from store.storage.arrays import open_array
from store.storage.durable_store import DurableStore
from tests.support.made_store import forget_checksums, kl
from tests.support.not_finite import LAST, MODELS, SEEDS, make_not_finite

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_not_finite(tmp_path_factory.mktemp("made") / "study.zarr")


@pytest.fixture(params=["checksums", "no checksums"])
def study(request: pytest.FixtureRequest, made: Path, tmp_path: Path) -> Path:
    """Return the study as this version writes it, or as earlier ones did."""
    path = Path(shutil.copytree(made, tmp_path / "study.zarr"))
    if request.param == "no checksums":
        forget_checksums(path)
    return path


def put(study: Path, model: str, name: str, cell: tuple[int, ...], value: float) -> None:
    """Write one cell of an array of means, as a damaged copy might have it."""
    store = DurableStore(study)
    array = open_array(store, f"{layout.model_path(model)}/{name}")
    array[cell] = value
    store.flush()


def test_one_value_makes_nothing_unreadable_and_means_are_without_it(study: Path) -> None:
    models = {model.name: model for model in open_study(study).snapshot().models}
    few, every, scores = (models[name] for name in MODELS)
    assert few.n_left_out.tolist() == [0, 1, 1]
    assert few.n_pairs.tolist() == [6, 5, 5]
    assert np.isnan(few.kl[1, 2, 1])
    assert np.isinf(few.kl[2, 0, 1])
    others = [(i, j) for i in SEEDS for j in SEEDS if i != j and (i, j) != ("1", "2")]
    means = [kl("few", i, j, LAST).mean(dtype=np.float64) for i, j in others]
    assert few.expected_kl[2] == pytest.approx(np.mean(means), rel=1e-6)
    assert every.n_left_out.tolist() == [0, 6, 6]
    assert np.isnan(every.expected_kl).tolist() == [False, True, True]
    assert np.isfinite(scores.cross_entropy[2]).tolist() == [False, True, False]
    assert np.isfinite(scores.entropy[2]).tolist() == [True, False, False]
    assert scores.n_left_out.sum() == 0
    data = open_study(study).dataset("few")
    np.testing.assert_array_equal(data["expected_kl"].values, few.expected_kl)
    np.testing.assert_array_equal(data["mean_kl"].values, few.kl)


def test_summaries_are_read_and_have_no_number_for_it(study: Path) -> None:
    opened = open_study(study)
    few = opened.summary("few", "third")
    assert np.isfinite(few.expected_kl[:, :2]).tolist() == [[1, 1], [0, 1], [0, 1]]
    assert np.isnan(few.kl_low[1:, 0]).all()
    assert np.isfinite(few.kl_low[1:, 1]).all()
    assert np.isfinite(opened.summary("scores").cross_entropy[2, :, 0]).tolist() == [0, 1, 0]
    change = opened.difference(("few", LAST), ("few", 0), "third")
    assert np.isfinite(change.low).tolist() == [False, True, False]
    twice = opened.difference(("few", LAST), ("all", LAST))
    assert not np.isfinite(twice.value).any()


def test_what_is_read_back_is_sound(study: Path) -> None:
    assert not [damage for checked in verify(study) for damage in checked.damage]


def test_a_number_that_is_gone_is_damage_and_mended(made: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(made, tmp_path / "study.zarr"))
    before = open_study(study).means("few", "mean_kl")
    put(study, "few", "mean_kl", (2, 1, 2), np.nan)
    with pytest.raises(DamagedError, match="lacks values that were committed"):
        open_study(study).snapshot()
    with pytest.raises(DamagedError, match="lacks values that were committed"):
        open_study(study).pair_means("few", "mean_kl", LAST)
    damage = [damage for checked in verify(study) for damage in checked.damage]
    assert ("2", LAST, "3") in [(d.seed, d.step, d.other_seed) for d in damage]
    mend(study, damage)
    np.testing.assert_allclose(open_study(study).means("few", "mean_kl"), before, rtol=1e-12)
    assert not [damage for checked in verify(study) for damage in checked.damage]


def test_a_number_in_the_place_of_an_infinite_mean_is_damage(made: Path, tmp_path: Path) -> None:
    study = Path(shutil.copytree(made, tmp_path / "study.zarr"))
    put(study, "few", "mean_kl", (2, 0, 1), 0.3)
    damage = [damage for checked in verify(study) for damage in checked.damage]
    assert ("1", LAST, "2") in [(d.seed, d.step, d.other_seed) for d in damage]
    mend(study, damage)
    assert np.isinf(open_study(study).means("few", "mean_kl")[2, 0, 1])


def test_a_regression_leaves_such_tokens_out(made: Path) -> None:
    opened = open_study(made)
    found = regression(opened, LAST, models=["few"], category="third")
    assert found.left_out == 1
    assert np.isfinite(found.coefficient).all()
    assert regression(opened, LAST, models=["scores"], category="third").left_out == 0


def test_answers_to_a_probe(made: Path) -> None:
    """One of six items is infinite for both sentences, and one NaN: there is no mean of these."""
    found = blimp_summary(open_study(made), "scores", "p", LAST)
    assert np.isnan(found.accuracy).all()
    assert np.isnan([found.mean_of_kl.value, found.kl_of_means.value]).all()
    well = blimp_summary(open_study(made), "few", "p", LAST)
    assert np.isfinite([well.accuracy, well.probability]).all()
