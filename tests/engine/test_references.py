"""KL to a reference model and to the end of training, held against a float64 pass."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from store import open_study
from store.schema import REFERENCES, TO_END, TO_END_MEAN, TO_MODEL
from tests.support.reference import reference_log_probs
from tests.support.tiny_models import make_model, make_runs, write_study

STEPS, END = (0, 5, 10), 10


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds, and a model of another architecture with the same tokenizer."""
    folder = tmp_path_factory.mktemp("made")
    make_runs(folder, steps=STEPS)
    config = json.loads((folder / "runs/seed1/step0/config.json").read_text(encoding="utf-8"))
    make_model("llama", config["vocab_size"], seed=77).save_pretrained(folder / "teacher")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "made"))


def log_probs(folder: Path, store: str, seed: str, step: int) -> NDArray[np.float64]:
    """What is compared, in float64: what is stored where that was rounded, else an own pass."""
    study = open_study(folder / store)
    if (seed, step) in study.ledger("m").stored:
        stored = study.log_probs("m", seed, step)
        if stored.output_layer is None:
            return np.asarray(stored[:], np.float64)
    return reference_log_probs(folder, folder / f"runs/seed{seed}/step{step}", stream=True)[0]


def expect_exact(folder: Path, store: str, seeds: str, steps: tuple[int, ...]) -> None:
    """Compare everything that is kept of references with float64."""
    study = open_study(folder / store)
    teacher = reference_log_probs(folder, folder / "teacher", stream=True)[0]
    has_end = TO_END.name in study.divergences
    ends = [log_probs(folder, store, seed, END) for seed in seeds] if has_end else []
    summary = study.summary("m")
    for step in steps:
        for place, seed in enumerate(seeds):
            log_p = log_probs(folder, store, seed, step)
            to = {TO_MODEL.name: teacher}
            if has_end:
                mean = np.logaddexp.reduce(ends) - np.log(len(seeds))
                to |= {TO_END.name: ends[place], TO_END_MEAN.name: mean}
            for name, log_q in to.items():
                expected = (np.exp(log_p) * (log_p - log_q)).sum(-1)
                found = study.values("m", name, seed, step)
                assert (np.abs(found - expected) <= 2e-6 + 1e-4 * expected).all()
                at = summary.steps.tolist().index(step), summary.seeds.index(seed), 0
                assert summary.to_reference[name][at] == pytest.approx(
                    expected.mean(), rel=1e-5, abs=1e-9
                )
    assert run(["verify", str(folder / store)]) == 0


@pytest.mark.parametrize("representation", ["dense", "factored", "none"])
def test_a_late_seed_is_compared_with_them_too(folder: Path, representation: str) -> None:
    def write(seeds: list[str]) -> Path:
        end = {} if representation == "none" else {"reference__end": END}
        return write_study(
            folder,
            log_probs__representation=representation,
            models__seeds=seeds,
            models__steps=[0, END],
            reference__model="teacher",
            **end,
        )

    assert run(["run", str(write(["1", "2"]))]) == 0
    expect_exact(folder, "study.zarr", "12", (0, END))
    assert run(["run", str(write(["1", "2", "3"]))]) == 0
    expect_exact(folder, "study.zarr", "123", (0, END))


def test_the_end_comes_when_all_else_is_compared(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(folder, reference__end=END, log_probs__representation="factored")
    ends = [folder / f"runs/seed{seed}/step{END}" for seed in "123"]
    for place in ends:
        place.rename(folder / f"{place.parent.name}-end")
    assert run(["run", str(file)]) == 0
    missing = f"model m: reference.end: there is no checkpoint of step {END}"
    assert capsys.readouterr().err.count(missing) == 1
    study = open_study(folder / "study.zarr")
    before = {step: study.values("m", "kl", "1", step, "2") for step in STEPS[:-1]}
    assert not study.ledger("m").sets
    assert np.isnan(study.summary("m").mean_to_reference[TO_END.name]).all()
    for place in ends:
        (folder / f"{place.parent.name}-end").rename(place)
    assert run(["run", str(file)]) == 0
    assert missing not in capsys.readouterr().err
    study = open_study(folder / "study.zarr")
    for step, values in before.items():
        np.testing.assert_array_equal(study.values("m", "kl", "1", step, "2"), values)
    found = study.summary("m").mean_to_reference[TO_END.name][:, 0, 0]
    assert (found[:2] > 1e-4).all()
    assert found[2] == 0
    for step in STEPS:
        log_p, log_q = (log_probs(folder, "study.zarr", "2", at) for at in (step, END))
        expected = (np.exp(log_p) * (log_p - log_q)).sum(-1)
        found = study.values("m", TO_END.name, "2", step)
        assert (np.abs(found - expected) <= 2e-6 + 1e-4 * expected).all()
    changes = study.ledger("m").changes
    assert run(["run", str(file)]) == 0
    assert open_study(folder / "study.zarr").ledger("m").changes <= changes + 2  # nothing is left


def test_steps_without_log_probs_stay_without_the_end(folder: Path) -> None:
    file = write_study(folder, reference__end=END)
    shutil.move(folder / f"runs/seed1/step{END}", folder / "later")
    assert run(["run", str(file)]) == 0
    assert run(["prune", str(folder / "study.zarr"), "--steps", "0"]) == 0
    shutil.move(folder / "later", folder / f"runs/seed1/step{END}")
    assert run(["run", str(file)]) == 0
    known = open_study(folder / "study.zarr").ledger("m")
    assert known.set_with(0, TO_END.name) is None
    assert known.set_with(5, TO_END.name) is not None
    assert run(["verify", str(folder / "study.zarr")]) == 0


def test_asking_for_it_changes_nothing_else(folder: Path) -> None:
    found = []
    for name, asked in {"plain": {}, "more": {"reference__model": "teacher"}}.items():
        file = write_study(folder, study__store=f"{name}.zarr", models__steps=[0], **asked)
        assert run(["run", str(file)]) == 0
        found.append(open_study(folder / f"{name}.zarr").dataset("m").load())
    plain, more = found
    for name in plain.data_vars:
        np.testing.assert_array_equal(plain[name], more[name], err_msg=str(name))
    new = {TO_MODEL.name, f"level_{TO_MODEL.name}", f"level_{TO_MODEL.mean}"}
    assert {*more.data_vars} - {*plain.data_vars} == new


def _remove(teacher: Path) -> None:
    shutil.rmtree(teacher)


def _damage_weights(teacher: Path) -> None:
    (teacher / "model.safetensors").write_bytes(b"damaged")


def _make_weights_nan(teacher: Path) -> None:
    file = teacher / "model.safetensors"
    weights = {name: torch.full_like(value, np.nan) for name, value in load_file(file).items()}
    save_file(weights, file, metadata={"format": "pt"})


def _give_another_tokenizer(teacher: Path) -> None:
    tokenizer = json.loads((teacher.parent / "tokenizer/tokenizer.json").read_bytes())
    vocab = tokenizer["model"]["vocab"]
    first, second = list(vocab)[5:7]
    vocab[first], vocab[second] = vocab[second], vocab[first]
    (teacher / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (_damage_weights, "model.safetensors"),
        (_make_weights_nan, "NaN"),
        (_give_another_tokenizer, "token"),
        (_remove, "there is no such folder"),
    ],
)
def test_one_that_cannot_be_used_stops_at_once(
    folder: Path, damage: Callable[[Path], None], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(folder / "teacher")
    file = write_study(folder, reference__model="teacher")
    assert run(["run", str(file)]) != 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "reference.model" in line]
    assert len(lines) == 1
    assert says in lines[0]
    store = folder / "study.zarr"
    assert not store.exists() or not open_study(store).ledger("m").scored


def test_another_model_under_its_name_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(folder, reference__model="teacher", models__steps=[0])
    assert run(["run", str(file)]) == 0
    shutil.rmtree(folder / "teacher")
    shutil.copytree(folder / "runs/seed1/step5", folder / "teacher")
    assert run(["run", str(file)]) == 0  # nothing is left to compare
    file = write_study(folder, reference__model="teacher", models__steps=[0, 5])
    assert run(["run", str(file)]) != 0
    assert "its weights are not those of the reference" in capsys.readouterr().err
    assert {*open_study(folder / "study.zarr").ledger("m").reduced} == {0}


def test_a_store_keeps_the_references_that_it_was_made_with(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", str(write_study(folder, models__steps=[0]))]) == 0
    for asked in ({"reference__model": "teacher"}, {"reference__end": 0}):
        capsys.readouterr()
        assert run(["run", str(write_study(folder, models__steps=[0], **asked))]) != 0
        assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"reference__end": 7, "models__steps": [0, 5]}, "has no step 7"),
        ({"reference__end": 5, "log_probs__representation": "none"}, "that are kept"),
        ({"reference__end": 5, "log_probs__retention": "until_reduced"}, "that are kept"),
        ({"reference__model": "runs/{seed}"}, "without {...}"),
        ({"reference__allow_pickle": True}, "reference.model, which is not given"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    folder: Path, fields: dict[str, object], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", str(write_study(folder, **fields))]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "reference" in line
    assert says in line


def test_what_is_missing_is_named_as_the_section_has_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", str(write_study(folder, reference__model="tokenizer"))]) == 1
    said = capsys.readouterr().err
    assert "config.json: is missing; put the config.json of the model there, or name it" in said
    assert "reference.config in the study file" in said
    assert "models.config" not in said


def test_each_is_named_by_what_the_section_has(folder: Path) -> None:
    def names(**fields: object) -> tuple[str, ...]:
        return load_study_file(write_study(folder, **fields)).reference.names

    assert names() == ()
    assert names(reference__model="x") == (TO_MODEL.name,)
    assert names(reference__model="x", reference__end=5) == REFERENCES
