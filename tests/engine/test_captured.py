"""Models that are captured in training: what an engine makes of what was handed over."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.scoring import captured_seed
from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from seedconv_tui.training.windows import plan_windows
from store import open_study
from store.schema import ModelSnapshot, State, metrics_of
from tests.support.handovers import described, hand_over, ordered, write_letter
from tests.support.loose import loosen
from tests.support.pair_formulas import FORMULAS
from tests.support.probe_studies import write_probes
from tests.support.tiny_models import make_model, make_runs, make_tokenizer, write_study

VOCAB = 304  # of the models: the tokenizer's and padding


def a_study(folder: Path, **changes: Any) -> Path:
    """A study whose one model is captured, and its work order; no checkpoint."""
    make_runs(folder, seeds=())
    study = write_study(folder, **{"models__source": "captured", **changes})
    assert run(["order", str(study)]) == 0
    return study


def compared(folder: Path, **changes: Any) -> Path:
    """Such a study with step 0 of seeds 1 and 2, after a run."""
    study = a_study(folder, **changes)
    hand_over_two(study)
    assert run(["run", str(study)]) == 0
    return study


def hand_over_two(study: Path, **options: Any) -> None:
    for seed in "12":
        hand_over(study, model_of(seed, 0), seed, 0, **options)


def model_of(seed: str, step: int) -> Any:
    return make_model("gpt2", VOCAB, seed=1000 * int(seed) + step)


def snapshot(study: Path) -> ModelSnapshot:
    (model,) = open_study(study.with_name("study.zarr")).snapshot().models
    return model


def journal(study: Path, event: str) -> list[str]:
    entries = open_study(study.with_name("study.zarr")).snapshot().journal
    return [entry.text for entry in entries if entry.event == event]


def spooled(study: Path) -> list[str]:
    """What waits in the folder of announcements, but for the order and empty folders."""
    folder = study.with_name("study-announced")
    files = [file.relative_to(folder) for file in folder.rglob("*") if not file.is_dir()]
    return sorted(str(file) for file in files if file.name != "work-order.npz")


def reference(study: Path, model: Any) -> NDArray[np.float64]:
    """(token, vocab) float64 log-probs from the weights, in float64 throughout."""
    model, order, rows = model.double().eval(), ordered(study), []
    parts = list(order.text.split())
    for window in plan_windows(order.text.lengths.tolist(), order.window, order.overlap):
        ids, predicts = parts[window.sequence]
        with torch.no_grad():
            inputs = torch.from_numpy(ids[window.start : window.stop].astype(np.int64))[None]
            logits = model(inputs).logits[0, window.first - window.start :, : order.vocab]
        rows.append(
            logits[torch.tensor(predicts[window.first : window.last])].log_softmax(-1).numpy()
        )
    return np.concatenate(rows)


@pytest.mark.parametrize(
    ("dense", "ranks", "most"), [((False, False), (1, 3), 1e-6), ((True, False), (2, 1), 2e-5)]
)
def test_the_kl_is_that_of_the_weights(
    tmp_path: Path, dense: tuple[bool, bool], ranks: tuple[int, int], most: float
) -> None:
    study = a_study(tmp_path, scoring__divergences=["tv", "kl", "hellinger", "js"])
    for seed, as_dense, n in zip("12", dense, ranks, strict=True):
        hand_over(study, model_of(seed, 0), seed, 0, ranks=n, dense=as_dense)
    assert run(["run", str(study)]) == 0
    log_p, log_q = (reference(study, model_of(seed, 0)) for seed in "12")
    kl = np.einsum("tv,tv->", np.exp(log_p), log_p - log_q) / len(log_p)
    found = snapshot(study)
    assert found.kl[0, 0, 1] == pytest.approx(kl, abs=most)
    store = open_study(tmp_path / "study.zarr")
    for metric in metrics_of(store.divergences):
        if metric.is_divergence:
            mean = store.pair_means("m", metric.array, 0)[0, 1]
            expected = FORMULAS[metric.name](log_p, log_q).mean()
            assert mean == pytest.approx(expected, abs=5 * most), metric.name
    targets = store.corpus.token_id
    surprisal = -np.take_along_axis(log_p, targets[:, None], 1)[:, 0]
    assert store.values("m", "surprisal", "1", 0) == pytest.approx(
        surprisal, abs=2e-2 if dense[0] else 1e-4
    )
    records = store.ledger("m").scored
    for seed, as_dense in zip("12", dense, strict=True):
        record = records[seed, 0]
        assert record["captured"] is True
        assert record["log_probs"] == ("dense" if as_dense else "factored")
        assert (record["dtype"], record["tf32"]) == ("float32", False)
        assert record["order"] == ordered(study).digest
        assert record["model_vocab"] == VOCAB
        assert (record["storage_floor"] > 0) == as_dense
    assert spooled(study) == []
    assert (found.state == State.DONE).all()
    assert run(["verify", str(tmp_path / "study.zarr")]) == 0


def test_what_was_captured_says_what_its_checkpoint_says(tmp_path: Path) -> None:
    """Results and answers to probes, of a study with folders and of one without."""
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(0,), padding=4)
    read = write_study(tmp_path, log_probs__representation="factored")
    write_probes(tmp_path, read)
    assert run(["run", str(read)]) == 0
    study = a_study(tmp_path / "captured", log_probs__representation="factored")
    write_probes(study.parent, study)
    assert run(["order", str(study)]) == 0
    hand_over_two(study, ranks=2)
    assert run(["run", str(study)]) == 0
    one, other = open_study(tmp_path / "study.zarr"), open_study(study.with_name("study.zarr"))
    for name in ("surprisal", "entropy", "kl_unigram", "top_log_prob"):
        for seed in "12":
            values = [np.array(store.values("m", name, seed, 0)) for store in (one, other)]
            np.testing.assert_allclose(*values, atol=2e-4)
    for probe in one.probes():
        for seed in "12":
            values = [store.probe_values("m", probe, seed, 0) for store in (one, other)]
            np.testing.assert_allclose(*values, atol=2e-4)
    assert one.snapshot().models[0].kl == pytest.approx(
        other.snapshot().models[0].kl, abs=1e-5, nan_ok=True
    )
    assert len(journal(study, "probed")) == 2


def test_rows_of_very_many_ranks_are_read_without_as_many_open_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = a_study(tmp_path)
    for seed, ranks in zip("12", (1, 80), strict=True):
        hand_over(study, model_of("1", 0), seed, 0, ranks=ranks)
    hand_over(study, model_of("1", 0), "3", 0, ranks=2)
    assert run(["run", str(study)]) == 0
    assert np.nanmax(snapshot(study).kl) < 1e-6  # the same model
    shutil.rmtree(tmp_path / "study.zarr")
    monkeypatch.setattr(captured_seed, "_MOST_OPEN", 1)
    monkeypatch.setattr(captured_seed, "_PIECE_BYTES", 1000)  # several reads of a window
    for seed, ranks in zip("12", (1, 3), strict=True):
        hand_over(study, model_of("1", 0), seed, 0, ranks=ranks)
    assert run(["run", str(study)]) == 0
    assert np.nanmax(snapshot(study).kl) < 1e-6


# -- what cannot be adopted ----------------------------------------------------------------------


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-3] ^= 1
    file.write_bytes(data)


def _replace(file: Path, values: Any, **options: Any) -> None:
    """Put another array in the place of one, and describe it as if it had been handed over."""
    np.save(file, values, **options)
    _describe(file.parent)


def _header(folder: Path) -> None:
    """What numpy's reader asks Python's tokenizer about, which has errors of its own."""
    header = b"{'descr': '<f4', ((((".ljust(117) + b"\n"
    (folder / "rows-0.npy").write_bytes(b"\x93NUMPY\x01\x00\x76\x00" + header)
    _describe(folder)


def _describe(folder: Path, **fields: Any) -> None:
    about = json.loads((folder / "capture.json").read_text())
    about["files"] = {name: vars(file) for name, file in described(folder).items()}
    (folder / "capture.json").write_text(json.dumps(about | fields))


def _rows(folder: Path) -> NDArray[np.float32]:
    return np.load(folder / "rows-0.npy").copy()


def _nan(folder: Path) -> None:
    rows = _rows(folder)
    rows[70] = np.nan
    _replace(folder / "rows-0.npy", rows)


def _linked(folder: Path) -> None:
    (folder / "rows-0.npy").rename(folder.parent / "elsewhere.npy")
    (folder / "rows-0.npy").symlink_to(folder.parent / "elsewhere.npy")


def _pipe(folder: Path, name: str = "rows-0.npy") -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)


WRONG = {
    "altered": (lambda it: _flip(it / "rows-0.npy"), "rows-0.npy: is not what was handed over"),
    "altered layer": (lambda it: _flip(it / "weight.npy"), "weight.npy: is not what was handed"),
    "order": (lambda it: _describe(it, order="0" * 32), "another work order"),
    "nan": (_nan, "log-probs are NaN or infinite at token 70"),
    "few rows": (lambda it: _replace(it / "rows-0.npy", _rows(it)[:-1]), "has 149 rows"),
    "narrow": (lambda it: _replace(it / "rows-0.npy", _rows(it)[:, :-1].copy()), "rows of 31"),
    "float64": (lambda it: _replace(it / "rows-0.npy", _rows(it).astype(float)), "float64"),
    "objects": (
        lambda it: _replace(it / "rows-0.npy", np.array([[{}]], object), allow_pickle=True),
        "object",
    ),
    "short layer": (
        lambda it: _replace(it / "weight.npy", np.load(it / "weight.npy")[:-1]), "has 299 rows",
    ),
    "truncated": (lambda it: os.truncate(it / "rows-0.npy", 5000), "rows-0.npy is not the"),
    "a link": (_linked, "rows-0.npy is not the"),
    "a pipe": (_pipe, "rows-0.npy is not the"),
    "no file": (lambda it: (it / "rows-0.npy").unlink(), "rows-0.npy cannot be read"),
    "header": (_header, "no header of .npy"),
    "pipe": (lambda it: _pipe(it, "capture.json"), "capture.json is no plain file"),
    "too large": (lambda it: _describe(it, scale=10**400), "holds what it should not"),
    "no json": (lambda it: (it / "capture.json").write_text("{"), "not valid JSON"),
    "window": (lambda it: _describe(it, window=64), "windows of 64 tokens"),
    "of another": (lambda it: _describe(it, seed="77"), "is of m, seed 77, step 0"),
    "noise": (lambda it: _describe(it, noise_floor=float("nan")), "noise_floor"),
}  # fmt: skip


def test_what_is_wrong_fails_alone_and_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = a_study(tmp_path)
    for seed, (spoil, _) in enumerate(WRONG.values(), 10):
        spoil(hand_over(study, model_of("1", 0), str(seed), 0))
    hand_over(study, model_of("1", 0), "1", 0)
    hand_over(study, model_of("2", 0), "2", 0)
    capsys.readouterr()
    assert run(["run", str(study)]) == 1
    model = snapshot(study)
    for seed, (name, (_, text)) in enumerate(WRONG.items(), 10):
        assert text in model.errors[str(seed), 0], name
        assert "its model" not in model.errors[str(seed), 0]
        assert "\n" not in model.errors[str(seed), 0]
        assert model.state[0, model.seeds.index(str(seed))] == State.FAILED, name
    assert model.n_pairs.tolist() == [2]  # of the two that are right
    assert "Traceback" not in capsys.readouterr().err
    for folder in (tmp_path / "study-announced" / "captured").iterdir():
        shutil.rmtree(folder)
    for seed in ("10", "11"):  # captured again, as it should be
        hand_over(study, model_of(seed, 0), seed, 0)
    run(["run", str(study)])
    assert snapshot(study).n_pairs.tolist() == [12]


# -- letters --------------------------------------------------------------------------------------


def test_a_step_that_training_gave_up_is_missing_for_that_reason(tmp_path: Path) -> None:
    study = a_study(tmp_path, models__seeds=["1", "2"], models__steps=[0, 10])
    for seed in "12":
        hand_over(study, model_of(seed, 10), seed, 10)
    write_letter(study, "1", 0, lost="NaN at step 0")
    hand_over(study, model_of("2", 0), "2", 0)
    for _ in range(2):  # and the reason stays
        assert run(["run", str(study)]) == 0
        model = snapshot(study)
        assert model.errors["1", 0] == "m, seed 1, step 0 was not captured: NaN at step 0"
        order = [model.seeds.index(seed) for seed in "12"]
        states = [[State.MISSING, State.SCORED], [State.DONE, State.DONE]]
        assert model.state[:, order].tolist() == states
        assert spooled(study) == []
    assert run(["watch", str(study), "--until-complete"]) == 0  # it is not waited for
    assert snapshot(study).state[:, order].tolist() == states
    hand_over(study, model_of("1", 0), "1", 0)  # the run was resumed
    assert run(["run", str(study)]) == 0
    assert (snapshot(study).state == State.DONE).all()


def test_a_step_that_training_passed_over_is_not_waited_for(tmp_path: Path) -> None:
    study = a_study(tmp_path, models__seeds=["1", "2"], models__steps=[0, 10])
    for seed, step in (("1", 0), ("1", 10), ("2", 10)):
        hand_over(study, model_of(seed, step), seed, step)
    assert run(["watch", str(study), "--until-complete"]) == 0
    model = snapshot(study)
    assert "though later steps of its seed have been" in model.errors["2", 0]
    order = [model.seeds.index(seed) for seed in "12"]
    states = [[State.SCORED, State.MISSING], [State.DONE, State.DONE]]
    assert model.state[:, order].tolist() == states


def test_a_step_that_is_captured_again_keeps_its_first_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = compared(tmp_path)
    before = snapshot(study)
    hand_over(study, model_of("1", 0), "1", 0)  # the same
    different = hand_over(study, model_of("3", 0), "2", 0)
    capsys.readouterr()
    assert run(["run", str(study)]) == 0
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if " warning " in line]
    assert "seed 2, step 0 was captured again and differs" in warning
    assert "The first one is kept" in warning
    assert str(different) in warning
    assert ".json" in warning
    assert spooled(study) == []
    np.testing.assert_array_equal(snapshot(study).kl, before.kl)


def test_an_engine_that_died_before_it_tidied_up_scores_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = a_study(tmp_path)
    hand_over_two(study)
    shutil.copytree(tmp_path / "study-announced", tmp_path / "before")
    assert run(["run", str(study)]) == 0
    shutil.rmtree(tmp_path / "study-announced")
    (tmp_path / "before").rename(tmp_path / "study-announced")
    capsys.readouterr()
    assert run(["run", str(study)]) == 0
    told = capsys.readouterr().err
    assert " scored m" not in told
    assert " warning " not in told
    assert spooled(study) == []


def test_precision_of_training_is_recorded_and_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = a_study(tmp_path)
    hand_over_two(study, dtype="bfloat16", tf32=True, noise_floor=2e-4)
    capsys.readouterr()
    assert run(["run", str(study)]) == 0
    assert capsys.readouterr().err.count("captured in bfloat16 with TF32") == 1
    record = open_study(tmp_path / "study.zarr").ledger("m").scored["1", 0]
    assert (record["dtype"], record["tf32"], record["noise_floor"]) == ("bfloat16", True, 2e-4)
    assert snapshot(study).noise_floor.tolist() == pytest.approx([2e-4])


def test_what_makes_numbers_that_nobody_wants_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = a_study(tmp_path)
    odd = {"window": 16, "overlap": 8, "model_vocab": 5000, "noise_floor": 0.5}
    for step in (0, 1):
        hand_over(study, model_of("1", step), "1", step)
        hand_over(study, model_of("2", step), "2", step, **odd)
    capsys.readouterr()
    assert run(["run", str(study)]) == 0
    told = capsys.readouterr().err
    assert told.count("seed 2, step 0 was read in windows of 16 tokens") == 1
    assert told.count("was read in windows") == 1
    assert told.count("of the 5,000 logits that were captured are taken as padding") == 1
    assert told.count("captured with more noise than rounding makes") == 1


def test_what_a_training_that_died_had_begun_is_removed(tmp_path: Path) -> None:
    study = a_study(tmp_path)
    run_of_1 = hand_over(study, model_of("1", 0), "1", 0).parent
    hand_over(study, model_of("2", 0), "2", 0)
    for name in ("old", "new"):
        partial = run_of_1 / f".{name}.partial"
        partial.mkdir()
        (partial / "rows-0.npy").write_bytes(b"as far as it came")
        if name == "old":
            for path in (partial / "rows-0.npy", partial):
                os.utime(path, (1, 1))
    assert run(["run", str(study)]) == 0
    (left,) = spooled(study)
    assert left.endswith(".new.partial/rows-0.npy")


def test_what_cannot_be_removed_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = a_study(tmp_path)
    hand_over_two(study)
    captured = tmp_path / "study-announced" / "captured"
    captured.rename(tmp_path / "on another disk")
    captured.symlink_to(tmp_path / "on another disk")  # what is behind it is not for us to delete
    capsys.readouterr()
    assert run(["run", str(study)]) == 0
    assert capsys.readouterr().err.count("is done with and cannot be removed") == 1
    assert len(list((tmp_path / "on another disk").rglob("capture.json"))) == 2


def test_letters_that_do_not_fit_their_model_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(0,))
    study = write_study(tmp_path)
    text = study.read_text()
    study.write_text(text + '\n[[models]]\nname = "c"\nsource = "captured"\nseeds = [1, 2]\n')
    assert run(["order", str(study)]) == 0
    for seed in "12":
        hand_over(study, model_of(seed, 5), seed, 5, name="c")
    stays = write_letter(study, "1", 7)  # of the model whose checkpoints are in folders
    write_letter(study, "9", 5, name="c")  # a seed that is not listed
    bad = write_letter(study, "1", 9, name="c", format=1)
    capsys.readouterr()
    assert run(["run", str(study)]) == 0
    told = capsys.readouterr().err
    assert "model m was captured, but its source is folders" in told
    assert "model c: seed 9 was captured, but is none of those that are listed" in told
    assert "has format 1" in told
    assert spooled(study) == sorted([stays.name, bad.name])
    found = {model.name: model for model in open_study(tmp_path / "study.zarr").snapshot().models}
    assert (found["m"].state == State.DONE).all()
    assert (found["c"].state == State.DONE).all()
    assert found["c"].captured == {("1", 5), ("2", 5)}
    assert found["m"].captured == set()


# -- what is kept --------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["representation", "retention"])
def test_log_probs_stay_until_all_listed_seeds_are_compared(tmp_path: Path, field: str) -> None:
    kept = {f"log_probs__{field}": "none" if field == "representation" else "until_reduced"}
    study = compared(tmp_path, models__seeds=["1", "2", "3"], models__steps=[0], **kept)
    assert snapshot(study).n_pairs.tolist() == [2]
    assert len(open_study(tmp_path / "study.zarr").ledger("m").stored) == 2
    hand_over(study, model_of("3", 0), "3", 0)  # training was slower
    assert run(["run", str(study)]) == 0
    model = snapshot(study)
    assert model.n_pairs.tolist() == [6]
    assert (model.state == State.PRUNED).all()
    assert model.kl[0, 0, 2] == pytest.approx(_kl(study, "1", "3"), abs=1e-6)


def _kl(study: Path, one: str, other: str) -> float:
    log_p, log_q = (reference(study, model_of(seed, 0)) for seed in (one, other))
    return float(np.einsum("tv,tv->", np.exp(log_p), log_p - log_q) / len(log_p))


def test_log_probs_of_discovered_seeds_stay_and_that_is_said(tmp_path: Path) -> None:
    study = compared(tmp_path, log_probs__representation="none")
    assert len(open_study(tmp_path / "study.zarr").ledger("m").stored) == 2
    (said,) = journal(study, "kept")
    assert "its seeds are discovered" in said
    hand_over(study, model_of("3", 0), "3", 0)
    assert run(["run", str(study)]) == 0
    assert snapshot(study).n_pairs.tolist() == [6]


def test_pruning_says_what_cannot_be_had_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = compared(tmp_path)
    capsys.readouterr()
    assert run(["prune", str(tmp_path / "study.zarr")]) == 0
    assert (
        "cannot be scored again for a seed that comes later: 2 of them" in capsys.readouterr().out
    )
    hand_over(study, model_of("3", 0), "3", 0)
    assert run(["run", str(study)]) == 1
    assert "what was captured in training cannot be scored again" in capsys.readouterr().err


def test_probes_that_the_work_order_did_not_have_are_excused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = a_study(tmp_path)
    write_probes(tmp_path, study)
    assert run(["order", str(study)]) == 0
    for seed in "12":
        hand_over(study, model_of(seed, 0), seed, 0, probes=seed == "1")
    capsys.readouterr()
    assert run(["run", str(study)]) == 0
    told = capsys.readouterr().err
    assert "seed 2, step 0 was captured without probe pairs, and cannot be asked" in told
    assert spooled(study) == []
    model = snapshot(study)
    assert model.probed == {"pairs": 1, "long": 1}
    assert not model.probe_failures
    assert run(["watch", str(study), "--until-complete"]) == 2  # steps are discovered


# -- damage --------------------------------------------------------------------------------------


def _damage(store: Path, what: str) -> Iterator[Path]:
    """Alter chunks of results or of log-probs of seed 1; yield what was altered."""
    folder = store / "models" / "m"
    for file in folder.rglob("*"):
        place = file.relative_to(folder).as_posix()
        if file.is_file() and "/c/" in f"/{place}" and place.startswith(what):
            data = file.read_bytes()
            file.write_bytes(data[: len(data) // 2])
            yield file


@pytest.mark.parametrize("lost", [False, True])
def test_damage_of_what_cannot_be_scored_again(
    tmp_path: Path, lost: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    study = compared(tmp_path)
    store = tmp_path / "study.zarr"
    before = np.array(open_study(store).values("m", "surprisal", "1", 0))
    assert list(_damage(loosen(store), "loose/surprisal/c/0/0"))
    if lost:
        assert list(_damage(store, "log_probs"))
    capsys.readouterr()
    assert run(["verify", str(store)]) == 1
    advice = [line for line in capsys.readouterr().out.splitlines() if line.startswith("to repair")]
    gives_up = f"seedconv verify {store} --mend gives it up"
    assert [gives_up in line for line in advice] == [lost]
    assert run(["verify", str(store), "--mend"]) == 0
    told = capsys.readouterr().out
    if not lost:  # it follows from what is stored
        assert "lost:" not in told
        values = open_study(store).values("m", "surprisal", "1", 0)
        np.testing.assert_allclose(values, before, atol=1e-5)
        return
    assert "lost: m, seed 1, step 0: " in told
    for command in ("run", "status"):
        run([command, str(study if command == "run" else store)])
        model = snapshot(study)
        assert model.state[0, 0] == State.MISSING
        assert model.errors["1", 0].endswith("captured in training, cannot be scored again")
    assert " queued" not in capsys.readouterr().out


def test_log_probs_that_were_damaged_are_named_where_a_pair_lacks_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = compared(tmp_path)
    store = tmp_path / "study.zarr"
    assert list(_damage(store, "log_probs/1/"))
    capsys.readouterr()
    assert run(["verify", str(store), "--mend"]) == 0
    told = capsys.readouterr().out
    assert "lost: m, seed 1, step 0: its log-probs were damaged and are dropped" in told
    assert "seedconv run" not in told  # nothing that it could compute was forgotten
    hand_over(study, model_of("3", 0), "3", 0)
    hand_over(study, model_of("2", 0), "4", 0)
    assert run(["run", str(study)]) == 1
    told = capsys.readouterr().err
    assert "model m: seed 1, step 0: its log-probs were damaged and are dropped" in told
    assert (
        "log-probs of seed 1 were damaged, and what was captured in training cannot be scored "
        "again. To have them compared, restore the study from a copy made before the damage."
        in told
    )
    assert run(["status", str(store)]) == 0
    assert (
        "seed 4, step 0: says the same, to the last digit, as m, seed 2" in capsys.readouterr().out
    )


# -- the study file and the order ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"scoring__prediction": "visible"}, 'scoring.prediction: should be "causal"'),
        ({"models__allow_pickle": True}, "allow_pickle: is about reading checkpoints"),
        ({"models__trust_remote_code": True}, "trust_remote_code: is about reading"),
        ({"models__source": {"1": "captured"}}, "source.1"),
        ({"models__seeds": ["1", "a/b"]}, "seed should be a name without /, found 'a/b'"),
        ({"models__steps": [0, 2**53]}, "step should be a number from 0 to 2^53"),
    ],
)
def test_the_study_file_refuses_what_makes_no_sense(
    tmp_path: Path, changes: dict[str, Any], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = changes.pop("models__source", "captured")
    study = write_study(tmp_path, models__source="captured", **changes)
    if isinstance(source, dict):
        study.write_text(study.read_text().replace('"captured"', '{ 1 = "captured" }'))
    assert run(["order", str(study)]) == 2
    assert text in capsys.readouterr().err


def test_an_order_that_cannot_be_written_is_said_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = a_study(tmp_path, watch__announcements="spool")
    shutil.rmtree(tmp_path / "spool")
    (tmp_path / "spool").write_text("a file")
    capsys.readouterr()
    for command in ("order", "run"):
        assert run([command, str(study)]) == 2
        assert "spool: the work order cannot be written: " in capsys.readouterr().err


def test_the_order_is_written_again_only_when_it_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = a_study(tmp_path, models__seeds=[1, 2], models__steps=[0, 5])
    file = tmp_path / "study-announced" / "work-order.npz"
    assert f"wrote {file}" in capsys.readouterr().out
    order, version = ordered(study), file.stat()
    assert order.models["m"].seeds == ("1", "2")
    assert order.models["m"].steps == (0, 5)
    assert run(["order", str(study)]) == 0
    assert run(["run", str(study)]) == 1  # nothing was captured yet
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == (version.st_mtime_ns, version.st_ino)
    assert "150 predictions" in capsys.readouterr().out
    write_study(tmp_path, models__source="captured", corpus__max_tokens=100)
    for command in ("order", "run"):  # the store is of the other text
        assert run([command, str(study)]) == 2
        assert "corpus.digest is" in capsys.readouterr().err
        assert file.stat().st_ino == version.st_ino
    shutil.rmtree(tmp_path / "study.zarr")
    assert run(["order", str(study)]) == 0
    assert file.stat().st_ino != version.st_ino
    assert ordered(study).digest != order.digest
    write_study(tmp_path)
    assert run(["order", str(study)]) == 2
    assert "none is captured in training" in capsys.readouterr().err


def test_the_template_of_init_names_it(tmp_path: Path) -> None:
    assert run(["init", str(tmp_path / "study.toml"), "--full"]) == 0
    text = (tmp_path / "study.toml").read_text()
    assert '# source = "captured"' in text
    (tmp_path / "text").mkdir()
    (tmp_path / "study.toml").write_text(
        text.replace('source = "runs/{model}', '# source = "runs/{model}', 1).replace(
            '# source = "captured"', 'source = "captured"'
        )
    )
    assert load_study_file(tmp_path / "study.toml").captured == ("my-model",)
    make_tokenizer(tmp_path / "runs" / "tokenizer")


# -- captured and read from disk -------------------------------------------------------------------


@pytest.mark.parametrize("same", [True, False])
def test_a_captured_checkpoint_that_is_read_from_disk_is_compared_by_its_results(
    tmp_path: Path, same: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where its log-probs were dropped, a late seed comes, and a checkpoint was saved, too."""
    study = compared(tmp_path)
    assert run(["prune", str(tmp_path / "study.zarr")]) == 0
    for seed in "123":
        model = model_of(seed if same or seed != "1" else "5", 0)
        model.save_pretrained(tmp_path / "runs" / f"seed{seed}" / "step0")
    write_study(tmp_path)  # folders
    capsys.readouterr()
    assert run(["run", str(study)]) == (0 if same else 1)
    told = capsys.readouterr().err
    assert ("seed1/step0: is not the checkpoint that was captured" in told) == (not same)
    if same:
        model = snapshot(study)
        assert model.n_pairs.tolist() == [6]
        assert model.captured == set()  # all can be scored again now
