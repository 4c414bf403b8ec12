"""The store's contract: what is committed is read back exactly, what is not is never seen."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

from store import (
    BusyError,
    Corpus,
    DamagedError,
    Header,
    NotAStudyError,
    StoreError,
    StudyMismatchError,
    StudyWriter,
    open_study,
)
from store.commits import CommitReader, decode, encode
from store.layout import safe_name
from store.snapshot import EngineStatus, Phase, State

TOKENS, VOCAB = 120, 64
TEXT = "a\ud7ff\U0001f600b" * 30


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def corpus() -> Corpus:
    index = np.arange(TOKENS)
    return Corpus(
        token_id=index.astype(np.int32),
        context_id=(index - 1).astype(np.int32),
        document=np.zeros(TOKENS, np.int32),
        char_start=index,
        char_end=index + 1,
        text=TEXT,
        document_start=np.zeros(1, np.int64),
        document_name=("a.txt",),
    )


def open_writer(path: Path, clock: Clock | None = None, **identity: Any) -> StudyWriter:
    header = Header("test", VOCAB, identity or {"scoring.window": 32})
    return StudyWriter.open(path, header, corpus(), clock=clock or Clock())


def block(seed: str, step: int) -> dict[str, Any]:
    rng = np.random.default_rng([ord(seed), step])
    logits = rng.normal(0, 3, (TOKENS, VOCAB))
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return {
        "log_probs": log_p.astype(np.float16),
        "surprisal": -log_p[:, 0].astype(np.float32),
        "entropy": -(np.exp(log_p) * log_p).sum(1).astype(np.float32),
        "top_id": np.argsort(-log_p, axis=1)[:, :10].astype(np.int32),
        "top_log_prob": -np.sort(-log_p, axis=1)[:, :10].astype(np.float32),
    }


def write(writer: StudyWriter, seed: str, step: int, *, commit: bool = True) -> None:
    pending = writer.begin_checkpoint("m", seed, step, keep_log_probs=True)
    values = block(seed, step)
    for start in range(0, TOKENS, 50):
        pending.append({name: value[start : start + 50] for name, value in values.items()})
    if commit:
        writer.commit_checkpoint("m", seed, step, pending, storage_floor=1e-6, details={})
    else:
        pending.finish()


def kl(i: str, j: str, step: int) -> np.ndarray[Any, Any]:
    p, q = (block(seed, step)["log_probs"].astype(np.float64) for seed in (i, j))
    values: np.ndarray[Any, Any] = (np.exp(p) * (p - q)).sum(1).astype(np.float32)
    return values


def reduce(writer: StudyWriter, seeds: str, step: int) -> None:
    pending = writer.begin_pairs("m", step, tuple(seeds))
    pending.append(np.array([[kl(i, j, step) for j in seeds] for i in seeds]).transpose(2, 0, 1))
    writer.commit_pairs("m", step, tuple(seeds), pending)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Two seeds at steps 20 and 5, in that order; step 20 reduced; a third checkpoint missing."""
    path = tmp_path / "s.zarr"
    writer = open_writer(path)
    writer.plan("m", [("a", 20), ("b", 20)], {})
    write(writer, "a", 20)
    write(writer, "b", 20)
    reduce(writer, "ab", 20)
    writer.plan("m", [("a", 5), ("b", 5)], {("b", 7): "no folder"})
    write(writer, "a", 5)
    write(writer, "b", 5)
    writer.close("finished")
    return path


def chunks(path: Path) -> dict[str, tuple[bytes, int]]:
    """Every data file of per-token results and log-probs, with its time."""
    names = ("surprisal", "entropy", "top_id", "top_log_prob", "kl", "log_probs")
    return {
        str(file): (file.read_bytes(), file.stat().st_mtime_ns)
        for name in names
        for file in (path / "models" / "m" / name).rglob("*")
        if file.is_file() and file.name != "zarr.json"
    }


def test_what_was_committed_is_read_back(study: Path) -> None:
    opened = open_study(study)
    data = opened.dataset("m")
    assert list(data.step.values) == [5, 7, 20]
    for seed in "ab":
        for step in (5, 20):
            expected = block(seed, step)
            for name in ("surprisal", "entropy", "top_id", "top_log_prob"):
                found = data[name].sel(seed=seed, step=step).values
                np.testing.assert_array_equal(found, expected[name])
                np.testing.assert_array_equal(opened.values("m", name, seed, step), expected[name])
            log_probs = opened.log_probs("m", seed, step)
            stored = expected["log_probs"].astype(np.float64)
            exact = stored - np.log(np.exp(stored).sum(1, keepdims=True))
            np.testing.assert_allclose(log_probs[10:90], exact[10:90], atol=1e-5)
            joined = np.concatenate([part for _, part in log_probs.blocks()])
            np.testing.assert_array_equal(joined, log_probs[:])
    np.testing.assert_array_equal(data.kl.sel(step=20, seed="a", other_seed="b"), kl("a", "b", 20))
    assert np.isnan(data.kl.sel(step=5).values).all()
    assert np.isnan(data.surprisal.sel(step=7).values).all()
    assert (data.top_id.sel(step=7).values == -1).all()
    expected_kl = (kl("a", "b", 20).mean(dtype=float) + kl("b", "a", 20).mean(dtype=float)) / 2
    assert float(data.expected_kl.sel(step=20)) == pytest.approx(expected_kl)
    assert opened.corpus.text == TEXT
    assert opened.corpus.token_text(2) == "\U0001f600"


def test_the_snapshot_says_where_everything_stands(study: Path) -> None:
    (model,) = open_study(study).snapshot().models
    S = State  # noqa: N806
    assert model.state.tolist() == [[S.SCORED, S.SCORED], [S.ABSENT, S.MISSING], [S.DONE, S.DONE]]
    assert model.errors == {("b", 7): "no folder"}
    assert model.n_pairs.tolist() == [0, 0, 2]


def test_any_zarr_client_sees_the_same(study: Path) -> None:
    plain = xarray.open_zarr(study, group="models/m", consolidated=False)
    ours = open_study(study).dataset("m")
    assert plain.seed.attrs["labels"] == ["a", "b"]
    at = int(np.flatnonzero(plain.step.values == 20)[0])
    np.testing.assert_array_equal(plain.kl.isel(step=at), ours.kl.sel(step=20))
    assert plain.kl.dims == ("step", "seed", "other_seed", "token")
    assert plain.kl.attrs["units"] == "nats"


def test_growth_rewrites_nothing(study: Path) -> None:
    before = chunks(study)
    writer = open_writer(study)
    writer.plan("m", [("c", 20), ("a", 3)], {})
    write(writer, "c", 20)
    write(writer, "a", 3)
    reduce(writer, "abc", 20)
    writer.plan("n", [("a", 0)], {})
    writer.close("finished")
    after = chunks(study)
    assert {name: after[name] for name in before} == before
    opened = open_study(study)
    assert opened.models == ("m", "n")
    data = opened.dataset("m")
    np.testing.assert_array_equal(data.kl.sel(step=20, seed="c", other_seed="a"), kl("c", "a", 20))
    assert list(data.step.values) == [3, 5, 7, 20]


def test_uncommitted_results_are_never_seen_and_go_with_the_next_coordinator(study: Path) -> None:
    writer = open_writer(study)
    writer.plan("m", [("c", 20)], {})
    write(writer, "c", 20, commit=False)
    left = study / "models" / "m" / "log_probs" / "c" / "20"
    stray = study / "models" / "m" / "kl" / "zarr.json.1.partial"
    stray.touch()
    opened = open_study(study)
    assert np.isnan(opened.dataset("m").surprisal.sel(seed="c").values).all()
    with pytest.raises(StoreError, match="not stored"):
        opened.log_probs("m", "c", 20)
    with pytest.raises(StoreError, match="no such result"):
        opened.values("m", "surprisal", "c", 20)
    assert left.exists()
    assert stray.exists()
    late = Clock()
    late.now += 31  # the process is ours and alive, but its heart has stopped
    open_writer(study, late).close("finished")
    assert not left.exists()
    assert not stray.exists()
    assert open_study(study).log_probs("m", "a", 20).shape == (TOKENS, VOCAB)


def test_one_coordinator_at_a_time(study: Path) -> None:
    clock = Clock()
    first = open_writer(study, clock)
    first.beat(
        EngineStatus(first.writer, first.host, first.pid, heartbeat=clock(), started=0, state="")
    )
    clock.now += 12
    with pytest.raises(BusyError, match=rf"process {os.getpid()} on .*heartbeat 12 s ago"):
        open_writer(study, clock)
    follower = open_study(study)
    clock.now += 20
    second = open_writer(study, clock)
    with pytest.raises(BusyError, match="another engine has taken this study over"):
        first.fail("m", "a", 99, "too late")
    # Even a record that slipped in after the takeover counts for nobody.
    log = study / "commits" / f"{int(first.writer.rpartition('-')[2])}.log"
    with log.open("ab") as file:
        file.write(encode({"kind": "failed", "model": "m", "seed": "a", "step": 5, "error": "x"}))
    second.fail("m", "a", 20, "in time")
    for reader in (follower, open_study(study)):
        reader.refresh()
        assert reader.ledger("m").failed == {("a", 20): "in time"}


def test_a_reader_that_took_in_void_records_drops_them(study: Path) -> None:
    clock = Clock()
    first = open_writer(study, clock)
    log = study / "commits" / f"{int(first.writer.rpartition('-')[2])}.log"
    follower = open_study(study)
    held = log.read_bytes()
    clock.now += 31
    second = open_writer(study, clock)
    newer = study / "commits" / f"{int(second.writer.rpartition('-')[2])}.log"
    newer.rename(newer.with_suffix(".hidden"))
    log.write_bytes(
        held + encode({"kind": "failed", "model": "m", "seed": "a", "step": 5, "error": "x"})
    )
    follower.refresh()
    assert follower.ledger("m").failed
    newer.with_suffix(".hidden").rename(newer)
    assert follower.refresh()
    assert not follower.ledger("m").failed


def test_a_torn_record_is_not_there_yet_and_a_damaged_one_is_an_error(study: Path) -> None:
    log = study / "commits" / "1.log"
    whole = log.read_bytes()
    log.write_bytes(whole[:-20])
    with pytest.raises(DamagedError, match="bytes can be read"):
        open_study(study)
    (study / "commits" / "1.end").unlink()  # as if the session had not ended
    assert open_study(study).ledger("m").scored
    for position in range(0, len(whole) - 200, 97):
        damaged = bytearray(whole)
        damaged[position] ^= 0x01
        log.write_bytes(damaged)
        with pytest.raises(DamagedError):
            open_study(study)
    line = encode({"kind": "end"})
    assert decode(line[:-1]) == {"kind": "end"}
    assert decode(line[:-2]) is None


def test_no_damage_is_served_as_a_number(study: Path) -> None:
    model = study / "models" / "m"
    for name in ("kl", "surprisal", "top_id"):
        for file in sorted((model / name).rglob("c/**/0"))[:2]:
            if file.is_dir():
                continue
            good = file.read_bytes()
            for bad in (good[:-3], bytes(len(good)), bytes([good[0] ^ 1]) + good[1:], None):
                file.unlink()
                if bad is not None:
                    file.write_bytes(bad)
                with pytest.raises(DamagedError):
                    open_study(study).dataset("m")[name].load()
            file.write_bytes(good)
    shutil.rmtree(model / "log_probs" / "a" / "20" / "c")
    with pytest.raises(DamagedError, match="missing, though it was committed"):
        open_study(study).log_probs("m", "a", 20)[0:1]


def test_log_probs_can_go_and_results_stay(study: Path) -> None:
    before = open_study(study).dataset("m").load()
    writer = open_writer(study)
    writer.plan("m", [], {})
    writer.drop_log_probs("m", 20, ["a", "b"])
    writer.set_phases("m", (Phase("uniform", 0),))
    writer.close("finished")
    opened = open_study(study)
    assert opened.dataset("m").equals(before)
    (model,) = opened.snapshot().models
    assert model.state[-1].tolist() == [State.PRUNED, State.PRUNED]
    assert model.phases == (Phase("uniform", 0),)
    assert not (study / "models" / "m" / "log_probs" / "a" / "20").exists()


def test_another_study_is_refused_and_untouched(study: Path, tmp_path: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in study.rglob("*")}
    with pytest.raises(StudyMismatchError, match=r"scoring.window is 32 there and 64"):
        open_writer(study, **{"scoring.window": 64})
    assert {file: file.stat().st_mtime_ns for file in study.rglob("*")} == before
    for text in ("{}", "", '{"attributes": {"seedconv": {"format": 99}}}'):
        (tmp_path / "zarr.json").write_text(text)
        with pytest.raises(NotAStudyError):
            open_study(tmp_path)


@pytest.mark.parametrize(
    "label", ["..", ".", "a/b", "zarr.json", "__x", "\0", "é", " a", "%2E", "a\\b"]
)
def test_labels_cannot_leave_their_folder(label: str, tmp_path: Path) -> None:
    name = safe_name(label)
    assert (tmp_path / name).parent == tmp_path
    assert Path(name).name == name
    assert name not in {"zarr.json", ".", ".."}
    assert not name.startswith(("__", "."))


def test_labels_that_differ_have_names_that_differ() -> None:
    labels = ["a", "A", "%61", ".", "%2E", "%252E", "a b", "a%20b", "_", "__x", "%5F_x"]
    assert len({safe_name(label) for label in labels}) == len(labels)
    for label in ("", "x" * 300):
        with pytest.raises(ValueError, match="cannot name a folder"):
            safe_name(label)


def test_a_failed_first_start_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("store.durable.os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        open_writer(tmp_path / "s.zarr")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_log_folder_is_an_empty_study(tmp_path: Path) -> None:
    reader = CommitReader(tmp_path)
    assert not reader.refresh()
    assert reader.ledger.models == {}
