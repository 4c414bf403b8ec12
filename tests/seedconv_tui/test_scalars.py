"""Scalars for TensorBoard, W&B and trackio: read back by their own readers."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from seedconv_tui.listeners.follow import Follower
from seedconv_tui.listeners.scalars import StepScalars, phase_index
from seedconv_tui.listeners.tensorboard import EventFiles
from seedconv_tui.listeners.trackers import Sent, Trackio, Wandb, sent_file
from store import open_study
from store.schema import UNDECIDED, Phase
from tests.support.deadline import DEADLINE
from tests.support.made_store import fill, open_writer, reduce, score, summarise_step
from tests.support.terminal import make_engine
from tests.support.tiny_models import write_study

HOSTILE = "../m\x1b[2J"


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard finds in a folder, by tag: (step, value) in its order."""
    found = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    found.Reload()
    return {
        tag: [(event.step, event.value) for event in found.Scalars(tag)]
        for tag in found.Tags()["scalars"]
    }


def test_exported_event_files_hold_what_the_study_holds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, root = tmp_path / "study.zarr", tmp_path / "tb"
    folder = root / "attacked"  # the study's name
    writer = open_writer(store)
    fill(writer, HOSTILE, "123", [20, 0, 10])
    fill(writer, "m", "12", [5])
    writer.set_phases(HOSTILE, (Phase("uniform", 0), Phase("sharp divergence", 10)))
    command = ["export", str(store), "--tensorboard", str(root), "--category", "third"]
    for _ in range(2):  # the second replaces the first
        assert run(command) == 0
    assert "wrote 4 steps" in capsys.readouterr().err
    places = sorted(path.name for path in folder.iterdir())
    assert places == [".._m␛[2J", "m"]
    assert len(list((folder / "m").iterdir())) == 1

    told, study = read(folder / places[0]), open_study(store)
    whole, parted = study.summary(HOSTILE), study.summary(HOSTILE, "third")
    expected = {
        "expected_kl/mean": whole.expected_kl[:, 0],
        "expected_kl/low": whole.kl_low[:, 0],
        "expected_kl/high": whole.kl_high[:, 0],
        "cross_entropy/mean": whole.cross_entropy[..., 0].mean(axis=1),
        **{f"cross_entropy/seed {n + 1}": whole.cross_entropy[:, n, 0] for n in range(3)},
        "kl_third/a": parted.expected_kl[:, 0],
        "kl_third/␛[2J": parted.expected_kl[:, 1],
        "phase/index": np.array([1, 3, 3]),
    }
    assert told.keys() == expected.keys()  # nothing of the level without tokens
    for tag, values in expected.items():
        assert [step for step, _ in told[tag]] == [0, 10, 20]
        np.testing.assert_allclose([value for _, value in told[tag]], values, rtol=1e-6)
    assert "expected_kl/low" not in read(folder / "m")  # two seeds have no interval

    for option in (["--steps", "0"], ["--what", "levels"], ["-o", "x.csv"]):
        assert run([*command, *option]) == 2
    assert run([*command, "--model", "x"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_phases_have_numbers() -> None:
    phases = (Phase("uniform", 0), Phase("sharp convergence", 8), Phase(UNDECIDED, 64))
    assert [phase_index(phases, step) for step in (0, 7, 8, 63, 64, 100)] == [1, 1, 2, 2, 0, 0]
    assert phase_index((), 5) == 0


class Seen:
    """A sink that says when it has seen a number of steps."""

    name = "seen"

    def __init__(self) -> None:
        self.steps: list[int] = []
        self._changed = threading.Condition()

    def take(self, model: str, rows: Sequence[StepScalars]) -> None:
        with self._changed:
            self.steps = [row.step for row in rows]
            self._changed.notify()

    def wait_for(self, steps: list[int]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.steps == steps, DEADLINE), self.steps

    def close(self) -> None:
        pass


class Broken(Seen):
    """One that always fails."""

    name = "broken"

    def take(self, model: str, rows: Sequence[StepScalars]) -> None:
        raise RuntimeError("no connection")


def test_live_scalars_come_out_in_order_and_once(tmp_path: Path) -> None:
    store, folder = tmp_path / "study.zarr", tmp_path / "tb" / "s"
    writer, warned = open_writer(store), list[str]()

    def follow(seen: Seen, *others: Broken) -> Follower:
        # Sinks get values in their order: what `seen` has seen, TensorBoard's files have.
        sinks = [EventFiles(tmp_path / "tb", "s"), *others, seen]
        return Follower(store, ["third"], sinks, warned.append, seconds=0.01)

    def steps(tag: str = "expected_kl/mean") -> list[int]:
        return [step for step, _ in read(folder / "m")[tag]]

    with follow(seen := Seen(), Broken()) as follower:
        fill(writer, "m", "12", [100])
        assert not folder.exists()  # no engine has said that the store is its own
        follower.on_status(make_engine())
        seen.wait_for([100])
        fill(writer, "m", "12", [200])
        seen.wait_for([100, 200])
        assert steps() == [100, 200]
        fill(writer, "m", "12", [0, 50])
        seen.wait_for([0, 50, 100, 200])
        assert steps() == [0, 50, 100, 200]
        fill(writer, "m", "12", [300])  # passed on when it ends
    assert steps() == [0, 50, 100, 200, 300]
    assert warned == ["broken: RuntimeError: no connection; the work continues"]

    with follow(seen := Seen()) as follower:  # an engine is started again
        follower.on_status(make_engine())
        seen.wait_for([0, 50, 100, 200, 300])
        before = read(folder / "m")["expected_kl/mean"]
        writer.plan("m", [("3", 50)], {})  # a third seed comes
        score(writer, "m", "3", 50)
        reduce(writer, "m", 50, "123")
        summarise_step(writer, "m", 50)
    after = read(folder / "m")["expected_kl/mean"]
    assert [step for step, _ in after] == [0, 50, 100, 200, 300]
    assert [old == new for old, new in zip(before, after, strict=True)] == [
        True, False, True, True, True
    ]  # fmt: skip
    assert steps("expected_kl/low") == [50]
    assert len(list((folder / "m").iterdir())) == 1


def rows(*steps: int, n_seeds: int = 2) -> list[StepScalars]:
    return [
        StepScalars(step, n_seeds, {"expected_kl/mean": step / 10, "kl_pos/a+": 1.0})
        for step in steps
    ]


def test_what_a_tracker_was_given_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "study.sent.jsonl"
    sent = Sent(path, "wandb:p")
    for row in rows(10, 0):
        sent.add("m", row)
    with path.open("a") as file:
        file.write('{"to": "wandb:p", "mo')  # a power cut
    again = Sent(path, "wandb:p")
    assert again.new("m", rows(0, 5, 10)) == rows(5)
    assert again.new("m", rows(0, n_seeds=3)) == rows(0, n_seeds=3)  # another seed joined
    assert again.new("n", rows(0)) == Sent(path, "trackio:p").new("m", rows(0)) == rows(0)
    assert (again.count("m"), again.count("n")) == (2, 0)


def test_trackio_has_each_step_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    for given in (rows(100, 200), rows(0, 100, 200)):  # the second by an engine started again
        sink = Trackio("project", "study", tmp_path / "study.zarr")
        sink.take("m", given)
        sink.close()
    (database,) = (tmp_path / "trackio").rglob("project.db")
    with sqlite3.connect(database) as connection:
        found = connection.execute("SELECT step, run_name, metrics FROM metrics").fetchall()
    assert sorted((step, name) for step, name, _ in found) == [(0, "m"), (100, "m"), (200, "m")]
    assert {json.loads(values)["expected_kl/mean"] for _, _, values in found} == {0.0, 10.0, 20.0}


def test_wandb_has_a_step_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    for given in (rows(100), rows(0, 100)):
        sink = Wandb("project", "study", tmp_path / "study.zarr")
        sink.take("m", given)
        sink.close()
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 1  # of one run
    first, second = (file.read_bytes() for file in files)
    assert b"training_step" in first
    assert b"training_step" in second
    assert len(sent_file(tmp_path / "study.zarr").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("library", "ours", "extra"),
    [
        ("wandb", None, "wandb"),
        ("trackio", None, "trackio"),
        ("tensorboardX.event_file_writer", "seedconv_tui.listeners.tensorboard", "tensorboard"),
        ("prometheus_client", "seedconv_tui.listeners.prometheus", "metrics"),
    ],
)
def test_what_is_not_installed_is_named(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    library: str,
    ours: str | None,
    extra: str,
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    if ours is not None:
        monkeypatch.delitem(sys.modules, ours, raising=False)
    study, options = write_study(tmp_path), list[str]()
    if extra == "metrics":
        options = ["--metrics-port", "0"]
    else:
        with study.open("a") as file:
            file.write(f'\n[scalars]\n{extra} = "project"\n')
        assert getattr(load_study_file(study).scalars, extra) == "project"
    assert run(["run", str(study), *options]) == 2
    assert f"pip install 'seedconv-tui[{extra}]'" in capsys.readouterr().err
