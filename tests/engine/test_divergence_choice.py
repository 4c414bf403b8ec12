"""`scoring.divergences`: what is computed is what was asked for, and everything follows it."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from seedconv_tui.cli.main import run
from store import DamagedError, StoreError, StudyMismatchError, open_study
from store.schema import DIVERGENCES, USUAL, metrics_of
from store.schema.checksums import checksum
from tests.support.made_store import files, fill, js, open_writer
from tests.support.pair_formulas import FORMULAS
from tests.support.reference import reference_log_probs
from tests.support.tiny_models import make_runs, write_study

EVERY = ["tv", "hellinger", "kl", "js"]  # in no order


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds whose models have rows past the tokenizer's vocabulary."""
    folder = tmp_path_factory.mktemp("made")
    make_runs(folder, steps=(5,), padding=4)
    return folder


@pytest.fixture(scope="module")
def only_kl(made: Path) -> Path:
    """A finished study that has KL and no other divergence."""
    file = write_study(made, study__store="kl.zarr", scoring__divergences=["kl"])
    assert run(["run", str(file)]) == 0
    return made / "kl.zarr"


@pytest.mark.parametrize("representation", ["dense", "factored", "none"])
def test_each_is_that_of_a_float64_sum(made: Path, representation: str) -> None:
    store = f"{representation}.zarr"
    file = write_study(
        made,
        study__store=store,
        scoring__divergences=EVERY,
        log_probs__representation=representation,
    )
    assert run(["run", str(file)]) == 0
    study = open_study(made / store)
    assert study.divergences == DIVERGENCES
    data = study.dataset("m").sel(step=5).load()
    exact = {
        s: reference_log_probs(made, made / f"runs/seed{s}/step5", stream=True)[0] for s in "123"
    }
    if representation == "dense":  # what is compared is what is stored
        exact = {s: study.log_probs("m", s, 5)[:].astype(np.float64) for s in "123"}
    for metric in metrics_of(study.divergences):
        if not metric.is_divergence:
            continue
        for i, j in itertools.permutations("123", 2):
            expected = FORMULAS[metric.name](exact[i], exact[j])
            assert expected.mean() > 1e-4  # else nothing is compared
            found = data[metric.name].sel(seed=i, other_seed=j).to_numpy()
            assert (np.abs(found - expected) <= 2e-6 + 1e-4 * expected).all(), metric.name
            mean = float(data[metric.array].sel(seed=i, other_seed=j))
            assert mean == pytest.approx(found.mean(dtype=np.float64), rel=1e-6)
        if metric.symmetric:
            values = data[metric.name].to_numpy()
            np.testing.assert_array_equal(values, values.transpose(1, 0, 2))
    assert run(["verify", str(made / store)]) == 0


def test_what_a_study_lacks_is_nowhere(
    only_kl: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = open_study(only_kl)
    assert study.divergences == study.snapshot().divergences == ("kl",)
    data = study.dataset("m")
    lacking = {"js", "mean_js", "tv", "mean_tv", "hellinger", "mean_hellinger"}
    assert not lacking & {*data.data_vars}
    assert not lacking & {path.name for path in (only_kl / "models/m").iterdir()}
    for ask in (
        lambda: study.values("m", "js", "1", 5, "2"),
        lambda: study.pair_means("m", "mean_js", 5),
        lambda: study.means("m", "mean_js"),
    ):
        with pytest.raises(StoreError, match=r"has no (mean_)?js; its divergences are: kl$"):
            ask()
    assert run(["export", str(only_kl), "--what", "pairs"]) == 0
    header, first, *_ = capsys.readouterr().out.splitlines()
    assert header.endswith(",kl,top1_agreement,target_rms")
    assert first.count(",") == header.count(",")
    for command in ("status", "plot", "verify"):
        assert run([command, str(only_kl)]) == 0
    assert run(["report", str(only_kl), "--out", str(tmp_path / "report"), "--format", "png"]) == 0
    page = (tmp_path / "report/summary.md").read_text(encoding="utf-8")
    assert "Mean    KLD" in page
    assert "Same top token" in page
    assert "JSD" not in page


def test_what_a_study_has_more_is_exported_and_reported(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(
        made, study__store="more.zarr", scoring__divergences=["kl", "tv", "hellinger"]
    )
    assert run(["run", str(file)]) == 0
    store = made / "more.zarr"
    capsys.readouterr()
    assert run(["export", str(store), "--what", "pairs"]) == 0
    rows = [line.split(",") for line in capsys.readouterr().out.splitlines()]
    assert rows[0][-5:] == ["kl", "hellinger", "tv", "top1_agreement", "target_rms"]
    study = open_study(store)
    one = dict(zip(rows[0], rows[1], strict=True))
    for name in ("hellinger", "tv"):
        values = study.values("m", name, one["seed"], 5, one["other_seed"])
        assert float(one[name]) == pytest.approx(values.mean(dtype=np.float64))
    assert run(["report", str(store), "--out", str(tmp_path / "report"), "--format", "png"]) == 0
    page = (tmp_path / "report/summary.md").read_text(encoding="utf-8")
    means = study.pair_means("m", "mean_tv", 5)
    (line,) = (line for line in page.splitlines() if line.startswith("Mean TV"))
    assert f"{np.nanmean(means):.6f}" in line
    assert "%" not in line
    assert "Mean Hellinger" in page


@pytest.mark.parametrize("asked", [["kl", "js"], ["kl", "tv"]])
def test_another_choice_for_a_store_is_refused_in_one_line(
    only_kl: Path, asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(only_kl)
    file = write_study(only_kl.parent, study__store="kl.zarr", scoring__divergences=asked)
    capsys.readouterr()
    assert run(["run", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f'kl.zarr: scoring.divergences is ["kl"] there and {json.dumps(asked)} in the' in line
    assert 'set divergences = ["kl"]' in line
    assert files(only_kl) == before


def test_the_order_in_the_study_file_does_not_matter(made: Path) -> None:
    for asked in (["js", "kl"], ["kl", "js"]):
        file = write_study(made, study__store="order.zarr", scoring__divergences=asked)
        assert run(["run", str(file)]) == 0
    assert run(["run", str(write_study(made, study__store="order.zarr"))]) == 0  # the usual ones


def test_a_store_of_an_earlier_version_has_the_usual_ones(tmp_path: Path) -> None:
    path = tmp_path / "study.zarr"
    open_writer(path).close("finished")
    for file in (path / "commits").iterdir():  # nothing was done yet
        file.unlink()
    document = json.loads((path / "zarr.json").read_bytes())
    root = document["attributes"]["seedconv"]
    assert root.pop("divergences") == list(USUAL)
    root["crc32"] = checksum(root)
    (path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(StudyMismatchError, match=r'is \["kl", "js"\] there and \["kl"\] in'):
        open_writer(path, divergences=["kl"])
    writer = open_writer(path)
    fill(writer, "m", ("a", "b"), (0,))
    writer.close("finished")
    study = open_study(path)
    assert study.divergences == USUAL
    np.testing.assert_array_equal(study.values("m", "js", "a", 0, "b"), js("m", "a", "b", 0))


@pytest.mark.parametrize("odd", [["js"], "kl", [1, "kl"], {}])
def test_a_store_whose_list_is_none_is_refused(tmp_path: Path, odd: object) -> None:
    path = tmp_path / "study.zarr"
    open_writer(path).close("finished")
    document = json.loads((path / "zarr.json").read_bytes())
    root = document["attributes"]["seedconv"]
    root["divergences"] = odd
    root["crc32"] = checksum(root)
    (path / "zarr.json").write_text(json.dumps(document))
    with pytest.raises(DamagedError, match="restore it from a copy"):
        open_study(path)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ([], 'should have "kl", from which curves and categories come'),
        (["js"], 'should have "kl", from which curves and categories come'),
        (["kl", "kl"], "should name each divergence once"),
        (["kl", "jsd"], "'jsd'"),
        ("kl", "should be a valid list"),
    ],
)
def test_what_cannot_be_chosen_is_refused(
    tmp_path: Path, asked: object, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, scoring__divergences=asked)
    assert run(["run", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "scoring.divergences" in line
    assert said in line


def test_damage_of_each_is_found_and_computed_again(made: Path, tmp_path: Path) -> None:
    file = write_study(made, study__store="whole.zarr", scoring__divergences=EVERY)
    assert run(["run", str(file)]) == 0
    store = tmp_path / "study.zarr"
    shutil.copytree(made / "whole.zarr", store)
    study = open_study(store)
    before = {name: study.values("m", name, "1", 5, "2") for name in DIVERGENCES}
    for name in DIVERGENCES:
        for pack in (store / f"models/m/{name}").glob("c.*"):
            pack.unlink()
        (store / f"models/m/mean_{name}/c/0/0/0").write_bytes(b"damaged")
    assert run(["verify", str(store)]) == 1
    assert run(["verify", str(store), "--mend"]) == 0
    assert run(["verify", str(store)]) == 0
    study = open_study(store)
    for name, values in before.items():
        again = study.values("m", name, "1", 5, "2")
        np.testing.assert_allclose(again, values, rtol=1e-4, atol=2e-6, err_msg=name)
