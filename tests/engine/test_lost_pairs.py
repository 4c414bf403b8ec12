"""Seeds that come late: their pairs are computed, or it is said which cannot be, everywhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from engine.coordination.build import build_coordinator
from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from seedconv_tui.health import troubled
from store import open_study
from tests.support.listening import Script
from tests.support.tiny_models import finish, make_runs, write_study

PUT_BACK = "is not there. Put it back and run again; to prevent this, "
FACTORED = 'set log_probs.representation to "factored" or "dense".'


def outcome(
    folder: Path, capsys: pytest.CaptureFixture[str], **settings: object
) -> tuple[int, list[str]]:
    """Exit code of `run` and what it says is wrong; `status` must say the same."""
    file, store = write_study(folder, **settings), str(folder / "study.zarr")
    capsys.readouterr()
    code = run(["run", str(file)])
    lines = capsys.readouterr().err.splitlines()
    wrong = [line.removeprefix("next: ") for line in lines if line.startswith("next: ")]
    assert bool(wrong) == bool(code)
    if not Path(store).exists():
        return code, wrong
    assert run(["status", store, "--check"]) == code
    assert {f"next: {line}" for line in wrong} <= set(capsys.readouterr().out.splitlines())
    assert run(["status", store, "--check", "--json"]) == code
    assert json.loads(capsys.readouterr().out)["amiss"] == wrong
    return code, wrong


def kl(folder: Path, store: str = "study.zarr") -> np.ndarray:
    return open_study(folder / store).dataset("m").load().sortby("seed").mean_kl.to_numpy()


def test_a_late_seed_is_compared_or_it_is_said_why_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = {"log_probs__representation": "none"}
    make_runs(tmp_path, seeds=("1", "2"))
    assert outcome(tmp_path, capsys, **none) == (0, [])
    (tmp_path / "runs/seed1").rename(tmp_path / "away")
    make_runs(tmp_path, seeds=("3",))
    said = (
        "model m: seed 3 cannot be compared with seeds 1, 2 at steps 0, 10: log-probs of seed 1 "
        f"are not kept and its checkpoint {PUT_BACK}{FACTORED}"
    )
    for _ in range(2):  # it stays so
        assert outcome(tmp_path, capsys, **none) == (1, [said])
    assert [it.text for it in open_study(tmp_path / "study.zarr").snapshot().journal].count(said)
    (tmp_path / "away").rename(tmp_path / "runs/seed1")
    assert outcome(tmp_path, capsys, **none) == (0, [])
    late = kl(tmp_path)
    assert run(["run", str(write_study(tmp_path, **none, study__store="once.zarr"))]) == 0
    np.testing.assert_allclose(late, kl(tmp_path, "once.zarr"), rtol=1e-6, atol=1e-9)


def test_pairs_that_can_be_computed_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of seeds trained one after another, each compared with those that are still there."""
    none = {"log_probs__representation": "none"}
    make_runs(tmp_path, seeds=("1",), steps=(5,))
    line = "model m: only one seed found; comparing needs two. "
    line += "Check its source and seeds in the study file"
    assert outcome(tmp_path, capsys, **none) == (1, [line])
    shutil.rmtree(tmp_path / "runs/seed1")
    why = "at step 5: log-probs of seed 1 are not kept and its checkpoint"
    make_runs(tmp_path, seeds=("2",), steps=(5,))
    code, (line,) = outcome(tmp_path, capsys, **none)
    assert code == 1
    assert line.startswith(f"model m: seeds 1, 2 cannot be compared with each other {why} is not")
    make_runs(tmp_path, seeds=("3",), steps=(5,))
    code, (line,) = outcome(tmp_path, capsys, **none)
    assert code == 1
    assert line.startswith(f"model m: seed 1 cannot be compared with seeds 2, 3 {why} is not there")
    assert open_study(tmp_path / "study.zarr").ledger("m").reduced == {5: {"2", "3"}}
    # Seeds that the study does not ask for any more are no reason to complain.
    assert outcome(tmp_path, capsys, **none, models__seeds=["2", "3"]) == (0, [])


def test_log_probs_are_kept_until_all_seeds_are_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keep = {"log_probs__retention": "until_reduced"}
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    seeds = {"models__seeds": ["1", "2", "3"]}
    assert outcome(tmp_path, capsys, **keep, **seeds) == (0, [])
    shutil.rmtree(tmp_path / "runs")
    make_runs(tmp_path, seeds=("3",), steps=(5,))
    assert outcome(tmp_path, capsys, **keep, **seeds) == (0, [])
    known = open_study(tmp_path / "study.zarr").ledger("m")
    assert (known.reduced, known.stored) == ({5: {"1", "2", "3"}}, set())
    # A fourth seed, which nobody has announced, comes too late.
    make_runs(tmp_path, seeds=("4",), steps=(5,))
    code, (line,) = outcome(tmp_path, capsys, **keep, models__seeds="discover")
    assert code == 1
    assert "seed 4 cannot be compared with seeds 1, 2, 3 at step 5: log-probs of seeds 1, 2" in line
    assert line.endswith(
        "their checkpoints are not there. Put them back and run again; to prevent this, list the "
        "seeds in the study file."
    )


def test_a_seed_that_lags_behind_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seeds are discovered; one is known from an earlier step."""
    keep = {"log_probs__retention": "until_reduced"}
    make_runs(tmp_path, seeds=("1", "2"), steps=(0, 10))
    make_runs(tmp_path, seeds=("3",), steps=(0,))
    assert outcome(tmp_path, capsys, **keep) == (0, [])
    assert open_study(tmp_path / "study.zarr").ledger("m").stored == {("1", 10), ("2", 10)}
    shutil.rmtree(tmp_path / "runs")
    make_runs(tmp_path, seeds=("3",), steps=(10,))
    assert outcome(tmp_path, capsys, **keep) == (0, [])
    assert open_study(tmp_path / "study.zarr").ledger("m").stored == set()


def test_log_probs_that_were_pruned_by_hand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    assert outcome(tmp_path, capsys) == (0, [])
    assert run(["prune", str(tmp_path / "study.zarr")]) == 0
    shutil.rmtree(tmp_path / "runs/seed2")
    make_runs(tmp_path, seeds=("3",), steps=(5,))
    code, (line,) = outcome(tmp_path, capsys)
    assert code == 1
    assert line.endswith(PUT_BACK + "prune only when all seeds are compared.")


def test_what_cannot_be_scored_again_has_failed_everywhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    none = {"log_probs__representation": "none"}
    make_runs(tmp_path, seeds=("1", "2"), steps=(5,))
    assert outcome(tmp_path, capsys, **none) == (0, [])
    weights = tmp_path / "runs/seed1/step5/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    make_runs(tmp_path, seeds=("3",), steps=(5,))
    said = (
        "model m: seed 3 cannot be compared with seeds 1, 2 at step 5: log-probs of seed 1 are "
        "not kept and its checkpoint could not be read again. Repair it and run again; to prevent "
        f"this, {FACTORED}"
    )
    for _ in range(2):
        code, lines = outcome(tmp_path, capsys, **none)
        assert (code, lines[0]) == (1, said)
        assert lines[1].startswith("1 checkpoint failed; no retry until a change")
    run(["status", str(tmp_path / "study.zarr")])
    assert "  seed 1, step 5: " in capsys.readouterr().out
    weights.write_bytes(whole)
    assert outcome(tmp_path, capsys, **none) == (0, [])


def test_watch_says_it_too(tmp_path: Path) -> None:
    make_runs(tmp_path, steps=(5,))
    finish(tmp_path)
    (tmp_path / "runs/seed3").rename(tmp_path / "later")
    file = write_study(
        tmp_path, models__seeds=["1", "2", "3"], models__steps=[5],
        log_probs__representation="none", watch__poll_seconds=0.01,
    )  # fmt: skip

    def replaced() -> None:
        shutil.rmtree(tmp_path / "runs/seed1")
        (tmp_path / "later").rename(tmp_path / "runs/seed3")

    script = Script(reduced=replaced)
    totals = build_coordinator(load_study_file(file), script).watch(until_complete=True)
    assert (totals.scored, totals.reduced, totals.uncompared) == (3, 1, 1)
    (line,) = script.said("uncompared")
    assert line.startswith("model m: seed 3 cannot be compared with seeds 1, 2 at step 5")
    snapshot = open_study(tmp_path / "study.zarr").snapshot()
    assert snapshot.engine is not None
    assert snapshot.engine.amiss == (line,)
    assert troubled(snapshot, snapshot.engine.heartbeat)


def test_exit_codes_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of `run`, `status --check` and `status --json --check`, for the same reasons."""
    make_runs(tmp_path / "nothing", seeds=("1",), steps=(0,))
    shutil.rmtree(tmp_path / "nothing/runs")
    code, (line,) = outcome(tmp_path / "nothing", capsys)
    assert code == 1
    assert "no folder fits runs/seed{seed}/step{step}" in line

    make_runs(tmp_path / "apart", seeds=("1",), steps=(0,))
    make_runs(tmp_path / "apart", seeds=("2",), steps=(10,))
    code, (line,) = outcome(tmp_path / "apart", capsys)
    assert code == 1
    assert line.startswith("model m: no two seeds share a step, so there is nothing to compare")

    make_runs(tmp_path / "some", seeds=("1", "2"), steps=(0,))
    listed = {"models__seeds": ["1", "2"], "models__steps": [0, 10]}
    assert outcome(tmp_path / "some", capsys, **listed) == (0, [])  # missing, and may come

    folder = tmp_path / "broken"
    make_runs(folder, steps=(0, 10))
    (folder / "runs/seed2/step10/model.safetensors").write_bytes(b"half")
    code, (line,) = outcome(folder, capsys)
    assert code == 1
    assert line.startswith("1 checkpoint failed; no retry")
    assert outcome(folder, capsys, models__steps=[0]) == (0, [])  # it is not asked for any more
    assert outcome(folder, capsys, models__steps=[0, 10])[0] == 1
    shutil.rmtree(folder / "runs/seed2/step10")
    assert outcome(folder, capsys, models__steps=[0, 10]) == (0, [])
    make_runs(folder, seeds=("2",), steps=(10,))
    assert outcome(folder, capsys) == (0, [])
    assert open_study(folder / "study.zarr").ledger("m").reduced.keys() == {0, 10}
