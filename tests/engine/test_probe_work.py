"""Probes at work: what comes first, what is reported of failures, what cannot be asked any more."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants, scan_cache_dir
from numpy.typing import NDArray
from transformers import GPT2LMHeadModel

import engine.probes.answers
from engine.coordination.build import build_coordinator
from engine.errors import Interrupted
from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from seedconv_tui.training import announce
from store import StoreError, Study, open_study
from tests.support.hub_server import HubServer, push_runs
from tests.support.listening import Script
from tests.support.probe_studies import probed, results, write_probes
from tests.support.tiny_models import finish, make_runs, write_study

Values = NDArray[np.float32]


class Asked:
    """Stands before what asks a model a probe, and may act or fail before it does."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, act: Callable[[int], object] = lambda n: None
    ) -> None:
        self.n, ask = 0, engine.probes.answers.ask

        def asked(*arguments: Any) -> Values:
            self.n += 1
            act(self.n)
            return ask(*arguments)

        monkeypatch.setattr(engine.probes.answers, "ask", asked)


# -- what comes first ----------------------------------------------------------------------------


def expect_divergences_first(script: Script) -> None:
    """Of two steps of two seeds."""
    order = [it.event for it in script.events if it.event in ("scored", "reduced", "probed")]
    assert order[-5:] == ["reduced", *["probed"] * 4]
    assert script.said("plan")[-1].endswith("asking scored checkpoints the probes pairs, long")


@pytest.mark.parametrize("representation", ["factored", "none"])
def test_no_divergence_waits_for_a_probe(tmp_path: Path, representation: str) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(5, 10))
    study = write_study(tmp_path, log_probs__representation=representation)
    write_probes(tmp_path, study)
    script = Script()
    totals = build_coordinator(load_study_file(study), script).run()
    assert (totals.scored, totals.reduced, totals.probed, totals.failed) == (4, 2, 4, 0)
    expect_divergences_first(script)


def test_several_devices_say_the_same(tmp_path: Path) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(5, 10))
    alone = probed(tmp_path)
    study = write_study(tmp_path, study__store="two.zarr", scoring__device="cpu,cpu")
    write_probes(tmp_path, study)
    script = Script()
    totals = build_coordinator(load_study_file(study), script).run()
    assert (totals.scored, totals.reduced, totals.probed, totals.failed) == (4, 2, 4, 0)
    expect_divergences_first(script)
    expect_same(open_study(tmp_path / "two.zarr"), alone, 5, 10)


def test_what_arrives_while_probes_are_asked_goes_ahead_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(5, 10))
    finish(tmp_path)
    for seed in "12":
        (tmp_path / f"runs/seed{seed}/step10").rename(tmp_path / f"later{seed}")
    study = write_study(
        tmp_path, models__seeds=["1", "2"], models__steps=[5, 10], watch__poll_seconds=0.01
    )
    write_probes(tmp_path, study)
    seen: list[dict[int, frozenset[str]]] = []

    def act(n: int) -> None:
        seen.append(dict(open_study(tmp_path / "study.zarr").ledger("m").reduced))
        if n == 1:
            for seed in "12":
                (tmp_path / f"later{seed}").rename(tmp_path / f"runs/seed{seed}/step10")

    Asked(monkeypatch, act)
    script = Script()
    totals = build_coordinator(load_study_file(study), script).watch(until_complete=True)
    assert (totals.scored, totals.reduced, totals.probed, totals.failed) == (4, 2, 4, 0)
    assert seen[0] == {5: {"1", "2"}}  # what a reader sees when the first probe is asked
    order = [(it.event, it.fields["step"]) for it in script.events if "seed" in it.fields]
    asked = [step for event, step in order if event == "probed"]
    assert order[:3] == [("scored", 5), ("scored", 5), ("probed", 5)]
    assert order[3:5] == [("scored", 10), ("scored", 10)]
    assert sorted(asked) == [5, 5, 10, 10]


def test_downloads_are_dropped_once_asked_and_fetched_once(tmp_path: Path, hub: HubServer) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(5, 10, 15))
    push_runs(hub, tmp_path)
    study = write_study(
        tmp_path, models__source="lab/m-seed{seed}@step{step}", models__cache="drop"
    )
    write_probes(tmp_path, study)
    script = Script()
    assert build_coordinator(load_study_file(study), script).run().probed == 6
    assert hub.downloads().count("model.safetensors") == 6
    cache = scan_cache_dir(constants.HF_HUB_CACHE)
    assert not [revision for repo in cache.repos for revision in repo.revisions]
    order = [it.event for it in script.events if it.event in ("reduced", "probed")]
    # Two steps at most wait on disk: one whose probes' turn it is, one that was begun before.
    assert order == ["reduced", "reduced", *["probed"] * 4, "reduced", *["probed"] * 2]


def test_a_probe_that_comes_later_touches_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, architecture="gpt2", steps=(5,))
    study, store = write_study(tmp_path), tmp_path / "study.zarr"
    assert run(["run", str(study)]) == 0
    before = results(store)
    write_probes(tmp_path, study)
    capsys.readouterr()
    assert run(["run", str(study)]) == 0
    assert "0 checkpoints scored, 0 steps compared, 3 checkpoints probed" in capsys.readouterr().err
    both = results(store)
    assert {name: both[name] for name in before} == before
    assert run(["run", str(study)]) == 0
    assert results(store) == both
    # Other items: those of this probe are asked again, of everything that is there.
    opened = open_study(store)
    old = opened.probe("pairs").digest
    study = write_study(tmp_path)
    write_probes(tmp_path, study, per_task=1)
    assert run(["run", str(study)]) == 0
    after = results(store)
    assert {k: v for k, v in after.items() if "pairs" not in k} == {
        k: v for k, v in both.items() if "pairs" not in k
    }
    assert opened.refresh()
    assert opened.probe("pairs").digest != old
    assert opened.probe_values("m", "pairs", "2", 5).shape == (2, 2)
    assert run(["verify", str(store)]) == 0
    # A step that comes later is asked when it is scored.
    make_runs(tmp_path, architecture="gpt2", steps=(10,))
    capsys.readouterr()
    assert run(["run", str(study)]) == 0
    err = capsys.readouterr().err
    assert "3 checkpoints scored, 1 step compared, 3 checkpoints probed" in err
    opened.refresh()
    assert opened.ledger("m").probed["long"] == set(itertools.product("123", (5, 10)))
    # Without it in the study file, it stays.
    study = write_study(tmp_path)
    assert run(["run", str(study)]) == 0
    opened.refresh()
    assert opened.probes() == ("long", "pairs")
    with pytest.raises(StoreError, match="no such result"):
        opened.probe_values("m", "pairs", "1", 7)
    with pytest.raises(StoreError, match="no probe 'other'; it has: long, pairs"):
        opened.probe("other")


def expect_same(ours: Study, theirs: Study, *steps: int) -> None:
    """The same probes, and of seeds 1 and 2 the same values to rounding."""
    for name, seed, step in itertools.product(("pairs", "long"), ("1", "2"), steps):
        assert ours.probe(name).digest == theirs.probe(name).digest
        found = ours.probe_values("m", name, seed, step)
        np.testing.assert_allclose(found, theirs.probe_values("m", name, seed, step), rtol=1e-5)


# -- what fails ----------------------------------------------------------------------------------


def status(store: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str, int]:
    """Of the only model: as JSON, as text; and the exit code of `--check`."""
    capsys.readouterr()
    assert run(["status", str(store), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    code = run(["status", str(store), "--check"])
    return report["models"][0], capsys.readouterr().out, code


def test_a_probe_that_fails_is_told_apart_from_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(5,))
    study, store = write_study(tmp_path, log_probs__representation="none"), tmp_path / "study.zarr"
    write_probes(tmp_path, study)

    def fail(n: int) -> None:
        if n == 1:
            raise RuntimeError("of its own\nmore lines")

    with monkeypatch.context() as patch:
        Asked(patch, fail)
        assert run(["run", str(study)]) == 1
    err = capsys.readouterr().err
    where = f"{tmp_path}/runs/seed1/step5"
    assert f"probe pairs: {where}: of its own; tried once, parked until it changes" in err
    assert "2 checkpoints scored, 1 step compared, 2 checkpoints probed, 1 probe failed (1 p" in err
    known = open_study(store).ledger("m")
    assert known.probed == {"pairs": {("2", 5)}, "long": {("1", 5), ("2", 5)}}
    assert not known.failed

    model, text, code = status(store, capsys)
    assert (model["checkpoints"], model["errors"], code) == ({"done": 2}, [], 1)
    pairs, long = model["probes"]
    (error,) = pairs["errors"]
    assert (pairs["probe"], pairs["answered"], pairs["scored"]) == ("pairs", 1, 2)
    assert (error["seed"], error["step"], error["error"]) == ("1", 5, f"{where}: of its own")
    assert (error["attempts"], error["retry_at"]) == (1, None)
    assert (long["answered"], long["errors"]) == (2, [])
    assert "m: 2 seeds x 1 step: 2 done\n" in text
    assert "  probe pairs: 1 of 2 scored checkpoints, 1 failed\n" in text
    assert f"  probe pairs, seed 1, step 5: {where}: of its own (tried once, parked" in text
    assert "next: 1 probe of scored checkpoints failed; no retry until these change" in text

    # Another engine leaves it alone; what needs the checkpoint for another reason gets it.
    make_runs(tmp_path, architecture="gpt2", seeds=("3",), steps=(5,))
    assert run(["run", str(study)]) == 1
    err = capsys.readouterr().err
    assert f"model m: probe pairs of seed 1, step 5 is parked: {where}: of its own" in err
    known = open_study(store).ledger("m")
    assert known.reduced == {5: {"1", "2", "3"}}
    assert ("1", 5) not in known.probed["pairs"]
    assert run(["run", str(study), "--retry-failed"]) == 0
    model, text, code = status(store, capsys)
    assert (model["probes"][0]["answered"], model["probes"][0]["errors"], code) == (3, [], 0)
    assert "  probe pairs: 3 of 3 scored checkpoints\n" in text


def test_weights_that_cannot_be_read_again_fail_the_probes_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(5,))
    study, store = write_study(tmp_path), tmp_path / "study.zarr"
    assert run(["run", str(study)]) == 0
    write_probes(tmp_path, study)
    other = tmp_path / "runs/seed1/step5/model.safetensors"
    shutil.copy(tmp_path / "runs/seed2/step5/model.safetensors", other)
    assert run(["run", str(study)]) == 1
    err = capsys.readouterr().err
    assert err.count("its weights are not those that its results are of") == 2  # for each probe
    assert "1 checkpoint probed, 2 probes failed (2 parked" in err
    known = open_study(store).ledger("m")
    assert known.reduced == {5: {"1", "2"}}
    assert known.probe_failures.keys() == {"pairs", "long"}
    # Nobody asks for what is not in the study file.
    assert run(["run", str(write_study(tmp_path))]) == 0
    assert status(store, capsys)[2] == 0


def test_a_batch_of_a_probe_that_does_not_fit_is_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(5,))
    whole = probed(tmp_path, corpus__max_tokens=20)
    forward, softmax, refused = GPT2LMHeadModel.forward, torch.log_softmax, list[int]()

    def limited(module: Any, input_ids: torch.Tensor, **options: Any) -> Any:
        if input_ids.numel() > 100:  # not the longest sentences with another, nor the corpus
            refused.append(len(input_ids))
            raise torch.OutOfMemoryError("out of memory")
        return forward(module, input_ids, **options)

    def small(values: torch.Tensor, dim: int, *, out: torch.Tensor) -> torch.Tensor:
        if len(values) > 40:
            raise torch.OutOfMemoryError("out of memory")
        return softmax(values, dim, out=out)

    monkeypatch.setattr(GPT2LMHeadModel, "forward", limited)
    monkeypatch.setattr(torch, "log_softmax", small)
    capsys.readouterr()
    halved = probed(tmp_path, corpus__max_tokens=20, study__store="halved.zarr")
    err = capsys.readouterr().err
    assert "out of memory with 10 windows at once; going on with 5" in err
    assert "out of memory; going on with 2" in err
    assert refused == [10, 5]  # once: later batches, probes and seeds go by what fits
    expect_same(halved, whole, 5)
    # Where not even one sequence fits, the probe fails, and may be asked later.
    monkeypatch.setattr(
        "engine.coordination.coordinator.PATIENCE_SECONDS", 0.0
    )  # nothing changes by waiting
    study = write_study(tmp_path, corpus__max_tokens=20, study__store="none.zarr")
    write_probes(tmp_path, study)
    monkeypatch.setattr(GPT2LMHeadModel, "forward", forward)

    def none(values: torch.Tensor, dim: int, *, out: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    def starve(n: int) -> None:
        monkeypatch.setattr(torch, "log_softmax", none)

    Asked(monkeypatch, starve)
    assert run(["run", str(study)]) == 1
    err = capsys.readouterr().err
    assert "step5: out of memory with one sequence at a time; tried once, next try at" in err
    assert open_study(tmp_path / "none.zarr").ledger("m").reduced == {5: {"1", "2"}}


# -- what cannot be asked any more ---------------------------------------------------------------


def test_what_is_gone_when_a_probe_is_added_is_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(5, 10))
    study, store = write_study(tmp_path), tmp_path / "study.zarr"
    for seed, step in itertools.product((1, 2), (5, 10)):  # nowhere near the template
        path = tmp_path / f"out{seed}" / str(step)
        shutil.copytree(tmp_path / f"runs/seed{seed}/step{step}", path)
        announce(study, model="m", seed=seed, step=step, path=path, hold=True)
    shutil.rmtree(tmp_path / "runs")
    assert run(["run", str(study)]) == 0
    assert list((tmp_path / "study-announced").iterdir()) == []
    for step in ("out1/5", "out2/5", "out1/10"):
        shutil.rmtree(tmp_path / step)
    announce(study, model="m", seed=2, step=10, path=tmp_path / "out2/10")
    write_probes(tmp_path, study, icl=False)
    capsys.readouterr()
    assert run(["run", str(study)]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if " warning " in line]
    assert line.endswith(
        "model m: 3 scored checkpoints are not at the source any more and cannot be asked probe "
        "pairs: seed 1, step 5, and 2 more"
    )
    model, text, code = status(store, capsys)
    assert (model["checkpoints"], code) == ({"done": 4}, 0)
    assert "  probe pairs: 1 of 4 scored checkpoints\n" in text


def test_what_is_held_stays_until_it_was_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(5,))
    study = write_study(tmp_path, models__seeds=["1", "2"], models__steps=[5])
    write_probes(tmp_path, study)
    for seed in (1, 2):
        path = tmp_path / f"runs/seed{seed}/step5"
        announce(study, model="m", seed=seed, step=5, path=path, hold=True)

    def rotate(n: int) -> None:
        if n == 1:  # all are scored and compared
            for seed in (1, 2):
                shutil.rmtree(tmp_path / f"runs/seed{seed}/step5")

    Asked(monkeypatch, rotate)
    totals = build_coordinator(load_study_file(study), Script()).watch(until_complete=True)
    assert (totals.scored, totals.reduced, totals.probed, totals.probes_failed) == (2, 1, 2, 0)
    assert list((tmp_path / "study-announced").iterdir()) == []
    assert list((tmp_path / "runs").glob("*/.seedconv-held")) == []


def test_what_is_deleted_before_its_turn_is_told_and_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2", "3"), steps=(5,))
    finish(tmp_path)
    study = write_study(tmp_path, models__seeds=["1", "2", "3"], models__steps=[5])
    write_probes(tmp_path, study)
    monkeypatch.setattr("engine.workers.inline.InlineExecutor.capacity", 1)  # nothing is read ahead

    def rotate(n: int) -> None:
        if n == 1:
            for seed in (2, 3):
                shutil.rmtree(tmp_path / f"runs/seed{seed}/step5")

    Asked(monkeypatch, rotate)
    assert run(["run", str(study)]) == 0
    err = capsys.readouterr().err
    for seed in (2, 3):
        gone = f"runs/seed{seed}/step5 is gone: deleted before it was asked probe pairs, long"
        assert err.count(gone) == 1
    assert "3 checkpoints scored, 1 step compared, 1 checkpoint probed. Open the results" in err
    assert status(tmp_path / "study.zarr", capsys)[2] == 0


def test_what_is_left_to_ask_is_said_when_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs(tmp_path, architecture="gpt2", seeds=("1", "2"), steps=(5,))
    study = write_study(tmp_path)
    write_probes(tmp_path, study)
    stop = threading.Event()
    Asked(monkeypatch, lambda n: stop.set() if n == 2 else None)
    with pytest.raises(Interrupted, match=r"1 step compared, 0 .* and 2 checkpoints to probe are"):
        build_coordinator(load_study_file(study), Script(), stop=stop).run()
    assert not open_study(tmp_path / "study.zarr").ledger("m").probed.get("pairs")
    assert run(["run", str(study)]) == 0
    assert len(open_study(tmp_path / "study.zarr").ledger("m").probed["pairs"]) == 2
