"""A store as a reader sees it: what was committed, exactly that, nothing else."""

from __future__ import annotations

import itertools
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from store import DamagedError, NotAStudyError, StoreError, StudyMismatchError, open_study
from store.schema import Failure, Phase, State, log_probs_path, safe_name
from store.writing import Header, StudyWriter
from tests.support.loose import loosen
from tests.support.made_store import (
    N_TOKENS,
    PER_TOKEN,
    VOCAB,
    Clock,
    checkpoint,
    files,
    fill,
    floors,
    is_mean_or_coordinate,
    kl,
    make_corpus,
    make_vocabulary,
    open_writer,
    pair_block,
    reduce,
    score,
)

SEEDS, STEPS = ("1", "2", "x y/z"), (64, 0, 8)  # steps in the order in which they arrive


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.zarr"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("template") / "study.zarr"
    writer = open_writer(made)
    fill(writer, "m", SEEDS, STEPS)
    writer.close("finished")
    return made


@pytest.fixture
def study(template: Path, path: Path) -> Path:
    """A finished study of one model, all of it reduced."""
    return Path(shutil.copytree(template, path))


# -- what was written is what is read ------------------------------------------------------------


def test_values_are_those_written(study: Path) -> None:
    opened = open_study(study)
    for seed, step in itertools.product(SEEDS, STEPS):
        written = checkpoint("m", seed, step)
        for name in PER_TOKEN:
            np.testing.assert_array_equal(opened.values("m", name, seed, step), written[name])
    for i, j in itertools.permutations(SEEDS, 2):
        np.testing.assert_array_equal(opened.values("m", "kl", i, 8, j), kl("m", i, j, 8))


def test_log_probs_are_renormalised(study: Path) -> None:
    log_probs = open_study(study).log_probs("m", "2", 64)
    stored = checkpoint("m", "2", 64)["log_probs"].astype(np.float64)
    exact = stored - np.log(np.exp(stored).sum(1, keepdims=True))
    assert np.abs(stored - exact).max() > 1e-4  # float16 alone does not sum to one
    np.testing.assert_allclose(log_probs[3:250], exact[3:250], atol=2e-6)
    np.testing.assert_allclose(np.exp(log_probs[:]).sum(1, dtype=float), 1, atol=1e-6)
    blocks = list(log_probs.blocks())
    assert [start for start, _ in blocks] == list(range(0, N_TOKENS, log_probs.block_rows))
    np.testing.assert_array_equal(np.concatenate([block for _, block in blocks]), log_probs[:])


def test_dataset_is_ordered_and_labelled(study: Path) -> None:
    data = open_study(study).dataset("m")
    assert data.step.values.tolist() == sorted(STEPS)
    assert tuple(data.seed.values) == SEEDS
    for seed, step in itertools.product(SEEDS, STEPS):
        cell, written = data.sel(seed=seed, step=step), checkpoint("m", seed, step)
        for name in PER_TOKEN:
            np.testing.assert_array_equal(cell[name], written[name])
        mean = written["surprisal"].mean(dtype=np.float64)
        assert float(cell.cross_entropy) == pytest.approx(mean, rel=1e-12)
        assert {name: float(cell[name]) for name in floors(step)} == floors(step)
        assert np.isnan(cell.kl.sel(other_seed=seed)).all()  # a seed has no pair with itself
        for other in set(SEEDS) - {seed}:
            np.testing.assert_array_equal(cell.kl.sel(other_seed=other), kl("m", seed, other, step))
    picked = data.surprisal.isel(step=slice(0, 3, 2), seed=[2, 0], token=slice(290, None, 3))
    np.testing.assert_array_equal(picked[1, 0], checkpoint("m", "x y/z", 64)["surprisal"][290::3])


def test_snapshot_is_the_mean_of_the_values(study: Path) -> None:
    (model,) = open_study(study).snapshot().models
    assert model.steps.tolist() == sorted(STEPS)
    for row, step in enumerate(sorted(STEPS)):
        pairs = [kl("m", i, j, step).mean(dtype=float) for i, j in itertools.permutations(SEEDS, 2)]
        assert model.expected_kl[row] == pytest.approx(np.mean(pairs), rel=1e-9)
        assert model.pair_std[row] == pytest.approx(np.std(pairs), rel=1e-6)
    assert (model.state == State.DONE).all()
    assert model.n_seeds.tolist() == [3, 3, 3]
    assert model.n_pairs.tolist() == [6, 6, 6]


def test_corpus_is_that_written(study: Path) -> None:
    found, written = open_study(study).corpus, make_corpus()
    for name in ("token_id", "context_id", "document", "char_start", "char_end", "document_start"):
        np.testing.assert_array_equal(getattr(found, name), getattr(written, name))
    assert (found.text, found.document_name) == (written.text, written.document_name)
    assert found.token_text(2) == "\U0001f600"


# -- growth --------------------------------------------------------------------------------------


def test_a_late_seed_adds_only_its_own_pairs(study: Path) -> None:
    before = files(study)
    writer = open_writer(study)
    writer.plan("m", [("late", step) for step in STEPS], {})
    score(writer, "m", "late", 8)
    reduce(writer, "m", 8, (*SEEDS, "late"))
    fill(writer, "another", SEEDS[:2], (5,))
    fill(writer, "m", SEEDS, (3,))
    writer.close("finished")
    after = files(study)
    kept = {
        name: content
        for name, content in before.items()
        if not is_mean_or_coordinate(name) and Path(name).name != "zarr.json"
        if not Path(name).name.startswith("c.2.")  # step 8 came third: it is packed again
    }
    assert len(kept) > 30
    assert {name: after.get(name) for name in kept} == kept
    assert not [name for name in after if name.startswith("models/m/loose/") and "/c/" in name]
    opened = open_study(study)
    assert opened.models == ("m", "another")
    data = opened.dataset("m")
    assert data.step.values.tolist() == [0, 3, 8, 64]
    for other in SEEDS:
        np.testing.assert_array_equal(
            data.kl.sel(step=8, seed="late", other_seed=other), kl("m", "late", other, 8)
        )
    pairs = itertools.permutations((*SEEDS, "late"), 2)
    mean = np.mean([kl("m", i, j, 8).mean(dtype=float) for i, j in pairs])
    assert float(data.expected_kl.sel(step=8)) == pytest.approx(mean, rel=1e-9)
    assert np.isnan(data.kl.sel(step=64, seed="late")).all()
    assert np.isnan(data.kl.sel(step=3, other_seed="late")).all()


def test_a_seed_that_joins_elsewhere_changes_no_digit(study: Path) -> None:
    """Sums over the axes with gaps would round otherwise as the axes grow."""

    def expected() -> list[bytes]:
        opened = open_study(study)
        snapshot, data = opened.model_snapshot("m"), opened.dataset("m")
        on_disk = np.asarray(opened.array("m", "expected_kl"))[[1, 2, 0]]  # steps came as 64, 0, 8
        everywhere = snapshot.expected_kl, snapshot.pair_std, data.expected_kl.values, on_disk
        return [values[:3].tobytes() for values in everywhere]

    before = expected()
    assert before[0] == before[2] == before[3]
    for n in range(1, 6):
        writer = open_writer(study)
        writer.plan("m", [(f"new{n}", 999)], {})
        writer.close("stopped")
        assert expected() == before


def test_axes_longer_than_a_chunk_of_means(path: Path) -> None:
    """Chunks of the means that nobody wrote yet are not damage: nothing in them is committed."""
    seeds, steps = [f"s{n}" for n in range(20)], list(range(150))
    writer = open_writer(path)
    writer.plan("m", itertools.product(seeds, steps), {})
    for seed in ("s1", "s19"):
        score(writer, "m", seed, 70, keep=False)
    opened = open_study(path)
    (model,) = opened.snapshot().models
    assert np.argwhere(np.isfinite(model.cross_entropy)).tolist() == [[70, 1], [70, 19]]
    reduce(writer, "m", 70, ("s1", "s19"))
    (model,) = opened.snapshot().models
    assert np.argwhere(np.isfinite(model.kl)).tolist() == [[70, 1, 19], [70, 19, 1]]
    data = opened.dataset("m")
    expected = (kl("m", "s1", "s19", 70).mean() + kl("m", "s19", "s1", 70).mean()) / 2
    assert float(data.expected_kl.sel(step=70)) == pytest.approx(float(expected), rel=1e-5)
    assert np.isfinite(data.mean_kl).sum() == 2
    writer.close("stopped")


# -- names ---------------------------------------------------------------------------------------

NASTY = [
    *("..", ".", "...", "a/b", "/etc", "a\\b", "zarr.json", "ZARR.JSON", "__x", "_x", "c", "0"),
    *("é", "e\u0301", "\U0001f600", " a", "a ", "~", "~root", "%2E%2E", "..%2F", "a\0b", "a\nb"),
    *("x.partial", "-rf", "*", "con", "a:b", "%", "%%", "\u202e", "K", "k", "\u212a"),
    *(".hidden", " ", "é" * 33),
]


def test_names_never_escape_and_never_meet() -> None:
    rng = random.Random(0)
    alphabet = "ab./\\_%~ 25EF\0é\U0001f600"
    labels = {"".join(rng.choices(alphabet, k=rng.randint(1, 6))) for _ in range(20_000)}
    labels |= set(NASTY)
    names = {safe_name(label) for label in labels}
    assert len(names) == len(labels)
    for name in names:
        assert Path(name).parts == (name,)
        assert name.isascii()
        assert name.isprintable()
        assert not name.startswith((".", "__", "~", " "))
        assert name != "zarr.json"


@pytest.mark.parametrize("label", ["", "x" * 300, "é" * 40, "\ud800"])
def test_labels_that_cannot_be_names_are_refused(label: str) -> None:
    with pytest.raises(ValueError, match="cannot name a folder"):
        safe_name(label)


def test_nasty_labels_make_studies_like_others(path: Path) -> None:
    writer = open_writer(path)
    for label in NASTY:
        writer.plan(label, [(label, 0)], {})
        score(writer, label, label, 0)
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["study.zarr"]
    clock = Clock()
    clock.now += 60
    open_writer(path, clock).close("finished")  # a takeover looks through all the folders
    opened = open_study(path)
    assert opened.models == tuple(NASTY)
    for label in NASTY:
        np.testing.assert_array_equal(
            opened.values(label, "surprisal", label, 0), checkpoint(label, label, 0)["surprisal"]
        )
        assert opened.log_probs(label, label, 0).shape == (N_TOKENS, VOCAB)


# -- what is not ours ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"), [("tokenizer.vocabulary", "other"), ("scoring.window", 64)]
)
def test_another_identity_is_refused_and_nothing_touched(
    study: Path, field: str, value: str | int
) -> None:
    before = files(study)
    identity: dict[str, str | int] = {"tokenizer.vocabulary": "abc", "scoring.window": 32}
    header = Header("attacked", {**identity, field: value})
    with pytest.raises(StudyMismatchError, match=rf"{field} is .* there and {value!r}"):
        StudyWriter.open(study, header, make_corpus(), make_vocabulary(), clock=Clock())
    assert files(study) == before


@pytest.mark.parametrize(
    "root",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"zarr_format": 3, "node_type": "group", "attributes": {}}',
        b'{"attributes": {"seedconv": null}}',
        b'{"attributes": {"seedconv": {"format": 5}}}',
    ],
)
def test_what_is_no_study_is_refused_and_not_touched(tmp_path: Path, root: bytes) -> None:
    (tmp_path / "zarr.json").write_bytes(root)
    for attempt in (open_study, open_writer):
        with pytest.raises(NotAStudyError, match="not a seedconv study"):
            attempt(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["zarr.json"]


def test_paths_without_a_study_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotAStudyError, match="does not exist"):
        open_study(tmp_path / "nothing")
    with pytest.raises(NotAStudyError, match="is not a study"):
        open_writer(tmp_path)
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(NotAStudyError, match="not a seedconv study"):
        open_study(tmp_path / "file")


# -- damage --------------------------------------------------------------------------------------

CHUNKS = [
    *(f"models/m/loose/{name}/c/0/0/0" for name in ("surprisal", "entropy")),
    *(f"models/m/loose/{name}/c/0/0/0/0" for name in ("top_id", "top_log_prob")),
    *(f"models/m/loose/{name}/c/0/0/1/0" for name in ("kl", "js")),
    *(f"models/m/{name}/c.0.0.0" for name in ("surprisal", "entropy")),
    *(f"models/m/{name}/c.0.0.0.0" for name in ("top_id", "top_log_prob", "kl", "js")),
    *(
        f"models/m/{name}/c/0/0/0"
        for name in ("mean_kl", "mean_js", "top1_agreement", "target_rms")
    ),
    "models/m/cross_entropy/c/0/0",
    "models/m/mean_entropy/c/0/0",
    *(f"models/m/{name}/c/0/0" for name in ("storage_floor", "noise_floor")),
]


@pytest.mark.parametrize("chunk", CHUNKS)
def test_damage_is_an_error_never_a_number(study: Path, chunk: str) -> None:
    if "/loose/" in chunk:
        loosen(study)
    file = study / chunk
    good, name = file.read_bytes(), Path(chunk.replace("loose/", "")).parts[2]
    rng = random.Random(chunk)
    flipped = bytearray(good)
    flipped[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
    for bad in (None, bytes(flipped), good[: len(good) // 2], b"", bytes(len(good))):
        file.unlink(missing_ok=True)
        if bad is not None:
            file.write_bytes(bad)
        opened = open_study(study)
        with pytest.raises(DamagedError, match=name):
            opened.dataset("m")[name].load()
        if name in ("mean_kl", "cross_entropy", "mean_entropy", "storage_floor", "noise_floor"):
            with pytest.raises(DamagedError, match=name):
                opened.snapshot()


def test_damaged_log_probs_are_an_error(study: Path) -> None:
    folder = study / log_probs_path("m", "1", 0)
    (file,) = (file for file in folder.rglob("*") if file.is_file() and file.name != "zarr.json")
    good = bytearray(file.read_bytes())
    rng = random.Random(1)
    for _ in range(20):
        bad = bytearray(good)
        bad[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
        file.write_bytes(bad)
        with pytest.raises(DamagedError):
            open_study(study).log_probs("m", "1", 0)[0:5]
    file.unlink()
    with pytest.raises(DamagedError, match="missing, though it was committed"):
        open_study(study).log_probs("m", "1", 0)[0:5]
    (folder / "zarr.json").unlink()
    with pytest.raises(DamagedError, match="no readable array"):
        open_study(study).log_probs("m", "1", 0)


# -- what is not committed -----------------------------------------------------------------------


def test_what_is_not_committed_is_not_there(study: Path) -> None:
    writer = open_writer(study)
    writer.plan("m", [("late", 8)], {})
    score(writer, "m", "late", 8, commit=False)
    pending = writer.results.begin_pairs("m", 8, ("1", "late"))
    pending.append(pair_block(writer, "m", 8, ("1", "late")))
    pending.finish()
    opened = open_study(study)
    data = opened.dataset("m")
    for name in ("surprisal", "entropy", "top_log_prob", "cross_entropy"):
        assert np.isnan(data[name].sel(seed="late")).all()
    assert (data.top_id.sel(seed="late") == -1).all()
    assert np.isnan(data.kl.sel(seed="late")).all()
    (model,) = opened.snapshot().models
    assert np.isnan(model.cross_entropy[:, 3]).all()
    for attempt in (
        lambda: opened.values("m", "surprisal", "late", 8),
        lambda: opened.values("m", "kl", "1", 8, "late"),
        lambda: opened.values("m", "kl", "1", 8, "1"),
        lambda: opened.log_probs("m", "late", 8),
        lambda: opened.dataset("other"),
    ):
        with pytest.raises(StoreError):
            attempt()
    writer.close("stopped")


def test_too_few_tokens_cannot_be_committed(path: Path) -> None:
    writer = open_writer(path)
    writer.plan("m", [("1", 0)], {})
    pending = writer.results.begin_checkpoint("m", "1", 0, "none")
    pending.append({name: value[:10] for name, value in checkpoint("m", "1", 0).items()})
    with pytest.raises(ValueError, match="10 tokens were scored, the corpus has 300"):
        writer.commit("m", 0, [pending.finish(floors(0), {})])
    assert not open_study(path).ledger("m").scored


# -- the life of a checkpoint --------------------------------------------------------------------


def states(path: Path) -> dict[tuple[str, int], State]:
    (model,) = open_study(path).snapshot().models
    return {
        (seed, int(step)): State(model.state[row, column])
        for row, step in enumerate(model.steps)
        for column, seed in enumerate(model.seeds)
    }


def test_failed_missing_and_tried_again(path: Path) -> None:
    writer = open_writer(path)
    writer.plan("m", [("1", 0), ("2", 0)], {("3", 5): "no folder"})
    writer.fail("m", "1", 0, Failure("weights are all zero"))
    score(writer, "m", "2", 0)
    found = states(path)
    assert found == {
        **{(seed, step): State.ABSENT for seed in "123" for step in (0, 5)},
        ("1", 0): State.FAILED,
        ("2", 0): State.SCORED,
        ("3", 5): State.MISSING,
    }
    (model,) = open_study(path).snapshot().models
    assert model.errors == {("1", 0): "weights are all zero", ("3", 5): "no folder"}
    records = writer.ledger.changes
    writer.plan("m", [("2", 0)], {("3", 5): "no folder"})
    assert writer.ledger.changes == records  # nothing new was said
    writer.plan("m", [("1", 0), ("3", 5)], {})
    assert states(path)["1", 0] == states(path)["3", 5] == State.QUEUED
    score(writer, "m", "1", 0)
    reduce(writer, "m", 0, "12")
    assert states(path)["1", 0] == State.DONE
    assert not open_study(path).snapshot().models[0].errors
    writer.close("finished")


def test_dropping_log_probs_keeps_every_result(study: Path) -> None:
    before, opened = open_study(study).dataset("m").load(), open_study(study)
    writer = open_writer(study)
    writer.drop_log_probs("m", 8, SEEDS)
    assert opened.dataset("m").load().equals(before)
    opened.refresh()
    assert opened.dataset("m").load().equals(before)
    with pytest.raises(StoreError, match="not stored"):
        opened.log_probs("m", "1", 8)
    assert {key for key, state in states(study).items() if state == State.PRUNED} == {
        (seed, 8) for seed in SEEDS
    }
    assert not any((study / log_probs_path("m", seed, 8)).exists() for seed in SEEDS)
    results = {n: f for n, f in files(study / "models").items() if "log_probs" not in n}
    writer.plan("m", [], {})
    score(writer, "m", "1", 8)  # scored again: its log-probs are back, its results untouched
    after = files(study / "models")
    assert {name: after[name] for name in results} == results
    assert open_study(study).log_probs("m", "1", 8).shape == (N_TOKENS, VOCAB)
    writer.close("finished")


def test_scoring_what_is_stored_never_leaves_a_promise_unkept(study: Path) -> None:
    """Replacing log-probs withdraws them first: a kill in between must not look like damage."""
    writer = open_writer(study)
    writer.plan("m", [], {})
    score(writer, "m", "1", 8, commit=False)
    opened = open_study(study)
    assert ("1", 8) not in opened.ledger("m").stored
    np.testing.assert_array_equal(
        opened.values("m", "surprisal", "1", 8), checkpoint("m", "1", 8)["surprisal"]
    )
    writer.close("stopped")


def test_phases_are_kept_and_told_once(study: Path) -> None:
    phases = (Phase("uniform", 0), Phase("sharp convergence", 8))
    writer = open_writer(study)
    writer.set_phases("m", phases)
    records = writer.ledger.changes
    writer.set_phases("m", phases)
    assert writer.ledger.changes == records
    writer.close("finished")
    assert open_study(study).snapshot().models[0].phases == phases


def test_both_ways_into_zarr_keep_the_contract(study: Path) -> None:
    """Zarr may read and write without its event loop; damage and durability are checked, too."""
    opened: Any = open_study(study)
    with pytest.raises(DamagedError, match="missing, though it was committed"):
        opened._store.get_sync("models/m/loose/kl/c/9/9/9/9")
