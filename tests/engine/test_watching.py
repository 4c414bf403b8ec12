"""Watching: what is taken first, what vanishes while it is looked at, and what others wrote."""

from __future__ import annotations

import itertools
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from engine.coordination.build import build_coordinator
from engine.errors import Interrupted
from engine.sources.local import STUCK_SECONDS, LocalSource
from engine.sources.settling import SETTLE_SECONDS
from engine.study_file.file import load_study_file
from engine.study_file.models_section import ModelSection
from seedconv_tui.cli.main import run
from store import open_study
from store.schema import ModelSnapshot, State
from tests.support.hub_server import HubServer
from tests.support.listening import Script
from tests.support.tiny_models import finish, make_runs, write_study


def model_of(folder: Path) -> ModelSnapshot:
    return open_study(folder / "study.zarr").snapshot().models[0]


@pytest.mark.parametrize(
    ("order", "expected"), [("newest", [20, 30, 10, 0]), ("oldest", [0, 10, 20, 30])]
)
def test_a_new_step_goes_ahead_of_the_backlog(
    tmp_path: Path, order: str, expected: list[int]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0, 10, 20, 30))
    finish(tmp_path)
    for seed in "12":
        (tmp_path / f"runs/seed{seed}/step30").rename(tmp_path / f"later{seed}")
    changes = {"models__seeds": ["1", "2"], "models__steps": [0, 10, 20, 30]}
    file = write_study(tmp_path, **changes, watch__order=order, watch__poll_seconds=0.01)

    def arrive() -> None:
        for seed in "12":
            (tmp_path / f"later{seed}").rename(tmp_path / f"runs/seed{seed}/step30")

    script = Script(reduced=arrive)
    totals = build_coordinator(load_study_file(file), script).watch(until_complete=True)
    assert (totals.scored, totals.reduced, totals.failed) == (8, 4, 0)
    steps = [event.fields["step"] for event in script.events if event.event == "reduced"]
    assert steps == expected
    kl = model_of(tmp_path).kl
    shutil.rmtree(tmp_path / "study.zarr")
    assert run(["run", str(file)]) == 0
    np.testing.assert_array_equal(model_of(tmp_path).kl, kl)


def test_what_vanishes_is_gone_and_scored_if_it_comes_back(tmp_path: Path) -> None:
    make_runs(tmp_path)
    finish(tmp_path)
    changes = {"models__seeds": ["1", "2", "3"], "models__steps": [0, 10]}
    file = write_study(tmp_path, **changes, watch__poll_seconds=0.01)
    whole, cut = tmp_path / "runs/seed2/step10", tmp_path / "runs/seed3/step10"
    copies = tmp_path / "copies"

    def vanish() -> None:  # once it is planned and before it is read
        shutil.copytree(tmp_path / "runs", copies)
        shutil.rmtree(whole)
        (cut / "model.safetensors").unlink()

    between: list[ModelSnapshot] = []

    def come_back() -> None:
        between.append(model_of(tmp_path))
        shutil.copytree(copies / "seed2/step10", whole)
        shutil.copytree(copies / "seed3/step10", cut, dirs_exist_ok=True)

    script = Script(plan=vanish, reduced=come_back)
    totals = build_coordinator(load_study_file(file), script).watch(until_complete=True)
    assert (totals.scored, totals.reduced, totals.failed, totals.missing) == (6, 2, 0, 0)
    assert script.said("failed") == []
    assert sorted(script.said("gone")) == [
        f"model m: {folder} is gone: deleted before it was scored" for folder in (whole, cut)
    ]
    (then,) = between
    row = then.steps.tolist().index(10)
    assert then.state[row].tolist() == [State.SCORED, State.MISSING, State.MISSING]
    assert "is gone" in then.errors["2", 10]
    assert (model_of(tmp_path).state == State.DONE).all()


def test_what_stays_away_is_missing_and_holds_up_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"))
    finish(tmp_path)
    changes = {"models__seeds": ["1", "2"], "models__steps": [0, 10]}
    listed = write_study(tmp_path, **changes, watch__poll_seconds=0.01)
    script = Script(plan=lambda: shutil.rmtree(tmp_path / "runs/seed2/step10"))
    totals = build_coordinator(load_study_file(listed), script).watch(until_complete=True)
    assert (totals.scored, totals.failed, totals.missing) == (3, 0, 1)
    assert len(script.said("gone")) == 1

    # Deleted while no engine runs: what was discovered once is known to have been there.
    shutil.rmtree(tmp_path / "study.zarr")
    make_runs(tmp_path, seeds=("1", "2"))
    stop = threading.Event()
    file = write_study(tmp_path)
    with pytest.raises(Interrupted):
        build_coordinator(load_study_file(file), Script(plan=stop.set), stop=stop).watch()
    shutil.rmtree(tmp_path / "runs/seed1/step0")
    capsys.readouterr()
    assert run(["run", str(file)]) == 0
    error = capsys.readouterr().err
    assert error.count("seed1/step0 is gone: deleted before it was scored") == 1
    assert "1 missing" in error
    assert run(["status", "--json", str(tmp_path / "study.zarr")]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert model["checkpoints"]["missing"] == 1
    assert "is gone" in model["missing"][0]["error"]


def test_what_training_has_long_passed_is_not_waited_for(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(10,))
    finish(tmp_path)
    file = write_study(
        tmp_path, models__seeds=["1", "2"], models__steps=[0, 10], watch__poll_seconds=0.01
    )
    clock = itertools.count(0, 10)
    script = Script()
    engine = build_coordinator(load_study_file(file), script, clock=lambda: float(next(clock)))
    totals = engine.watch(until_complete=True)
    assert (totals.scored, totals.missing, totals.failed) == (2, 2, 0)
    assert next(clock) > STUCK_SECONDS
    why = f"{tmp_path}/runs/seed1/step0: there is no such folder, though later steps"
    assert model_of(tmp_path).errors["1", 0].startswith(why)


def test_a_disk_that_is_not_mounted_deletes_nothing(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1",), steps=(0,))
    source = local(tmp_path)
    assert source.checkpoint(("1", 0)).finished() is False
    (tmp_path / "runs").rename(tmp_path / "away")
    assert source.find().there == frozenset()
    assert not source.checkpoint(("1", 0)).gone()
    table = {"name": "m", "source": {"1": "runs/seed1/step{step}"}}
    shrunk = LocalSource(ModelSection.model_validate(table), tmp_path)
    assert not shrunk.checkpoint(("2", 0)).gone()  # planned once, of no source now
    (tmp_path / "runs").mkdir()
    assert source.checkpoint(("1", 0)).gone()


def local(
    folder: Path, template: str = "runs/seed{seed}/step{step}", now: list[float] | None = None
) -> LocalSource:
    now = now or [0.0]
    model = ModelSection.model_validate({"name": "m", "source": template})
    return LocalSource(model, folder, lambda: now[0])


def test_a_sharded_checkpoint_is_finished_when_every_shard_is_whole(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1",), steps=(0,), shard="20KB")
    finish(tmp_path)
    folder, now = tmp_path / "runs/seed1/step0", [0.0]
    source = local(tmp_path, now=now)
    source.find()
    shard = sorted(folder.glob("model-*.safetensors"))[-1]
    data = shard.read_bytes()
    for state in (None, b"", data[:-1]):  # the index is written before its last shard
        shard.unlink(missing_ok=True)
        if state is not None:
            shard.write_bytes(state)
        assert not source.checkpoint(("1", 0)).finished()
        now[0] += SETTLE_SECONDS
    assert source.checkpoint(("1", 0)).refused(waiting=True) is None
    now[0] += STUCK_SECONDS
    why = source.checkpoint(("1", 0)).refused(waiting=True)
    assert why is not None
    assert f"{shard}: is {len(data) - 1:,} bytes long" in why
    shard.write_bytes(data)
    assert source.checkpoint(("1", 0)).finished()


# -- other trainers ----------------------------------------------------------------------------

FOREIGN = {
    "torchtitan": (["seed1/step-10/.metadata", "seed1/step-10/__0_0.distcp"], "convert_to_hf.py"),
    "neox": (
        ["seed1/step-10/mp_rank_00_model_states.pt",
         "seed1/step-10/layer_00-model_00-model_states.pt"],
        "convert_neox_to_hf.py",
    ),
    "deepspeed": (["seed1/step-10/global_step10/mp_rank_00_model_states.pt"], "zero_to_fp32.py"),
    "megatron": (["seed1/step-10/mp_rank_00/model_optim_rng.pt"], "AutoBridge.export_ckpt"),
    "megatron-dist": (
        ["seed1/step-10/.metadata", "seed1/step-10/common.pt", "seed1/step-10/__0_0.distcp"],
        "AutoBridge.export_ckpt",
    ),
    "nanotron": (
        ["seed1/step-10/checkpoint_metadata.json", "seed1/step-10/model/x/w.safetensors"],
        "convert_nanotron_to_hf.py",
    ),
    "fsdp": (
        ["seed1/step-10/config.json", "seed1/step-10/pytorch_model_fsdp_0/__0_0.distcp"],
        "accelerate merge-weights",
    ),
    "lightning": (["seed1/step-10/last.ckpt"], "save_pretrained"),
    # Where nothing fits the template, because it cannot:
    "megatron-named": (
        ["seed1/latest_checkpointed_iteration.txt", "seed1/iter_0000010/mp_rank_00/x.pt"],
        "AutoBridge.export_ckpt",
    ),
    "neox-named": (
        ["seed1/latest", "seed1/global_step10/layer_00-model_00-model_states.pt"],
        "convert_neox_to_hf.py",
    ),
    "lightning-file": (["seed1/epoch=0-step=10.ckpt"], "save_pretrained"),
    "torchtitan-deeper": (["seed1/checkpoint/step-10/__0_0.distcp"], "convert_to_hf.py"),
}  # fmt: skip


@pytest.mark.parametrize("layout", FOREIGN)
def test_another_trainers_checkpoint_is_answered_with_its_converter(
    tmp_path: Path, layout: str
) -> None:
    files, converter = FOREIGN[layout]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    now = [0.0]
    source = local(tmp_path, "seed{seed}/step-{step}", now)
    if ("1", 10) not in source.find().there:
        assert converter in (source.hint() or "")
        return
    why = source.checkpoint(("1", 10)).refused(waiting=False)
    assert why is not None
    assert why.startswith(f"{tmp_path}/seed1/step-10 is a")
    assert converter in why
    assert source.checkpoint(("1", 10)).refused(waiting=True) is None  # more may come
    now[0] += SETTLE_SECONDS
    assert source.checkpoint(("1", 10)).refused(waiting=True) == why
    (tmp_path / "seed1/step-10/model.safetensors").touch()  # Trainer keeps both side by side
    beside = local(tmp_path, "seed{seed}/step-{step}").checkpoint(("1", 10))
    assert beside.refused(waiting=False) is None


def test_other_layouts_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    for step in (10, 20):
        folder = tmp_path / f"runs/seed1/step{step}"
        folder.mkdir()
        (folder / "__0_0.distcp").touch()
    file = write_study(tmp_path)
    assert run(["run", str(file)]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if " warning " in line]
    assert "step10 is a distributed checkpoint of PyTorch (DCP)" in line
    assert "(and 1 more)" in line
    assert model_of(tmp_path).errors.keys() == {("1", 10), ("1", 20)}

    shutil.rmtree(tmp_path / "study.zarr")
    for seed in "12":
        shutil.rmtree(tmp_path / f"runs/seed{seed}/step0")
    assert run(["run", str(file)]) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if " error " in line]
    assert "convert_to_hf.py" in line


# -- the Hub -----------------------------------------------------------------------------------


def test_branches_that_appear_while_watching_are_scored(tmp_path: Path, hub: HubServer) -> None:
    make_runs(tmp_path, seeds=("1", "2"))
    for seed in "12":
        hub.push(f"lab/m-seed{seed}", "step0", tmp_path / f"runs/seed{seed}/step0")
    file = write_study(
        tmp_path, models__source="lab/{model}-seed{seed}@step{step}",
        models__seeds=["1", "2"], models__steps=[0, 10],
        watch__poll_seconds=0.01, watch__hub_poll_seconds=0.01,
    )  # fmt: skip

    def push() -> None:
        for seed in "12":
            hub.push(f"lab/m-seed{seed}", "step10", tmp_path / f"runs/seed{seed}/step10")

    totals = build_coordinator(load_study_file(file), Script(reduced=push)).watch(
        until_complete=True
    )
    assert (totals.scored, totals.reduced, totals.failed) == (4, 2, 0)
