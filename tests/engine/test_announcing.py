"""Training scripts that announce checkpoints, and what the engine makes of what it finds there."""

from __future__ import annotations

import errno
import itertools
import json
import logging
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainingArguments

from engine.coordination.build import build_coordinator
from engine.sources.announcements import Announcements
from engine.sources.local import ANNOUNCED_SECONDS, LocalSource
from engine.sources.settling import SETTLE_SECONDS
from engine.study_file.file import load_study_file
from engine.study_file.models_section import ModelSection
from seedconv_tui.cli.main import run
from seedconv_tui.training import SeedconvCallback, announce
from seedconv_tui.training.announcing import HELD, announcements_folder
from store import open_study
from store.schema import State
from tests.support.deadline import DEADLINE
from tests.support.forked_engine import Engines
from tests.support.listening import Script
from tests.support.tiny_models import make_model, make_runs, write_study

ROOT = Path(__file__).parents[2]


# -- a real training run -----------------------------------------------------------------------


def train(folder: Path, seed: int, **settings: Any) -> None:
    """Ten steps of Trainer, of which it keeps one checkpoint in the end."""
    tokenizer = json.loads((folder / "tokenizer/tokenizer.json").read_text())
    model = make_model("llama", len(tokenizer["model"]["vocab"]) + 4, seed)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 250, (40, 16), generator=generator)
    arguments = TrainingArguments(
        output_dir=str(folder / f"out/{seed}"), seed=seed, max_steps=10, save_steps=2,
        per_device_train_batch_size=4, learning_rate=1e-2, save_total_limit=1,
        report_to="none", disable_tqdm=True, use_cpu=True,
    )  # fmt: skip
    callback = SeedconvCallback(folder / "study.toml", "m", **settings)
    data = [{"input_ids": row, "labels": row} for row in ids]
    Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()  # type: ignore[arg-type]


def test_three_seeds_that_trainer_trains_are_scored_meanwhile(
    tmp_path: Path, engines: Engines
) -> None:
    make_runs(tmp_path, seeds=())  # tokenizer and text
    file = write_study(
        tmp_path, models__source="nowhere/{seed}/{step}",  # only announcements name them
        models__seeds=["1", "2", "3"], models__steps=[2, 4, 6, 8, 10],
        watch__poll_seconds=0.1, categories__include=["frequency"],
    )  # fmt: skip
    watch = {"command_line": True, "command": "watch", "arguments": ("--until-complete",)}
    with ThreadPoolExecutor(1) as waiting:
        engine = waiting.submit(engines.run, file, kill_after=DEADLINE, **watch)
        for seed in (1, 2, 3):
            train(tmp_path, seed, hold=True, hold_at_most=5)
    ended = engine.result()
    assert ended.code == 0, ended.stderr
    assert " warning " not in ended.stderr
    (model,) = open_study(tmp_path / "study.zarr").snapshot().models
    assert model.state.shape == (5, 3)
    assert (model.state == State.DONE).all()
    assert list((tmp_path / "study-announced").iterdir()) == []
    for seed in "123":  # as Trainer leaves it, and nothing besides
        assert [entry.name for entry in (tmp_path / "out" / seed).iterdir()] == ["checkpoint-10"]

    # The same numbers as from the checkpoint itself, where that is left.
    there = tmp_path / "there"
    there.mkdir()
    shutil.copytree(tmp_path / "tokenizer", there / "tokenizer")
    shutil.copy(tmp_path / "text.txt", there)
    source = f"{tmp_path}/out/{{seed}}/checkpoint-{{step}}"
    assert run(["run", str(write_study(there, models__source=source))]) == 0
    (direct,) = open_study(there / "study.zarr").snapshot().models
    np.testing.assert_allclose(model.kl[-1], direct.kl[0], rtol=1e-5)
    assert model.kl[-1, 0, 1] > 1e-3


def test_without_a_hold_what_trainer_deletes_is_gone_and_only_rank_zero_speaks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=())
    file = write_study(
        tmp_path, models__source="out/{seed}/checkpoint-{step}",
        models__seeds=["1", "2"], models__steps=[2, 4, 6, 8, 10], watch__poll_seconds=0.01,
    )  # fmt: skip
    for seed in (1, 2):
        train(tmp_path, seed)
    other = SeedconvCallback(file, "m")
    state = type("State", (), {"is_world_process_zero": False, "global_step": 99})()
    other.on_save(TrainingArguments(output_dir=str(tmp_path)), state, None)  # type: ignore[arg-type]
    assert len(list((tmp_path / "study-announced").iterdir())) == 10
    assert run(["run", str(file)]) == 0
    assert "2 checkpoints scored, 1 step compared, 8 missing" in capsys.readouterr().err
    (model,) = open_study(tmp_path / "study.zarr").snapshot().models
    assert (model.state[:-1] == State.MISSING).all()
    assert (model.state[-1] == State.DONE).all()
    assert len(list((tmp_path / "study-announced").iterdir())) == 8  # NFS may show them yet

    clock, script = itertools.count(0, 10), Script()
    engine = build_coordinator(load_study_file(file), script, clock=lambda: float(next(clock)))
    assert engine.watch(until_complete=True).missing == 8
    (told,) = script.said("gone")
    assert "checkpoint-2 is gone: deleted before it was scored (and 7 more)" in told
    assert list((tmp_path / "study-announced").iterdir()) == []


# -- holds -------------------------------------------------------------------------------------


def test_the_oldest_hold_gives_way_and_a_hold_takes_no_optimizer(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1",), steps=(0, 10, 20))
    folder = tmp_path / "runs/seed1"
    for n, step in enumerate((0, 10, 20)):
        (folder / f"step{step}/optimizer.pt").write_text("large")
        announce(
            tmp_path / "a", model="m", seed=1, step=step, path=folder / f"step{step}",
            hold=True, hold_at_most=2,
        )  # fmt: skip
        (held,) = (folder / HELD).iterdir()
        os.utime(held / f"step{step}", (n, n))
    assert sorted(entry.name for entry in held.iterdir()) == ["step10", "step20"]
    kept = held / "step20/model.safetensors"
    assert kept.samefile(folder / "step20/model.safetensors")
    assert not (held / "step20/optimizer.pt").exists()
    path = folder / "step0"  # another run that saves into the same folder has holds of its own
    announce(tmp_path / "a", model="m", seed=2, step=0, path=path, hold=True, hold_at_most=1)
    assert len(list((folder / HELD).glob("*/*"))) == 3


def test_where_files_cannot_be_linked_nothing_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    make_runs(tmp_path, seeds=("1",), steps=(0,))

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    folder = tmp_path / "runs/seed1/step0"
    with caplog.at_level(logging.WARNING, "seedconv"):
        announce(tmp_path / "a", model="m", seed="1", step=0, path=folder, hold=True)
    assert "cannot be held" in caplog.text
    (letter,) = (tmp_path / "a").iterdir()
    assert json.loads(letter.read_text())["held"] is None
    caplog.clear()
    (tmp_path / "file").touch()
    announce(tmp_path / "file", model="m", seed="1", step=0, path=folder)  # trains on
    assert "could not be announced" in caplog.text


def test_a_hold_lasts_until_seeds_that_come_later_need_it_no_more(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    file = write_study(
        tmp_path, models__seeds=["1", "2"], models__steps=[0], log_probs__representation="none"
    )
    (tmp_path / "runs/seed2").rename(tmp_path / "later")
    first = tmp_path / "runs/seed1/step0"
    announce(file, model="m", seed=1, step=0, path=first, hold=True)
    assert run(["run", str(file)]) == 1  # scored, with nothing to compare it with
    shutil.rmtree(first)  # as Trainer would
    assert len(list((tmp_path / "study-announced").iterdir())) == 1
    (tmp_path / "later").rename(tmp_path / "runs/seed2")
    assert run(["run", str(file)]) == 0
    assert open_study(tmp_path / "study.zarr").snapshot().models[0].n_pairs.tolist() == [2]
    assert list((tmp_path / "study-announced").iterdir()) == []
    assert list((tmp_path / "runs/seed1").iterdir()) == []


# -- what else may lie there -------------------------------------------------------------------


def test_wrong_announcements_are_explained_and_obeyed_in_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    folder = tmp_path / "study-announced"
    folder.mkdir()
    valuable = tmp_path / "valuable"
    valuable.mkdir()
    (valuable / "thesis.tex").write_text("years of work")
    good = {
        "format": 1, "model": "m", "seed": "7", "step": 0, "held": None,
        "path": str(tmp_path / "runs/seed1/step0"),
    }  # fmt: skip
    wrong: dict[str, tuple[object, str]] = {
        "half": ('{"format": 1, "mod', "is not valid JSON; was it written whole?"),
        "list": ([], "should hold an object"),
        "bare": ({"format": 1}, "should hold an object with model, seed"),
        "deep": ("[" * 10_000, "is not valid JSON"),
        "large": (" " * 20_000, "is too large"),
        "next": ({**good, "format": 2}, "has format 2, this seedconv reads 1"),
        "other": ({**good, "model": "n"}, "its model 'n' is not one of the study's (m)"),
        "step": ({**good, "step": 10**30}, "step should be a number from 0 to 2^53"),
        "truth": ({**good, "step": True}, "step should be a number"),
        "control": ({**good, "path": "/a\x1b[2J"}, "printable characters"),
        "relative": ({**good, "path": "runs"}, "path should be absolute"),
        "climb": ({**good, "seed": "../.."}, "seed should be a name without /"),
        "held": ({**good, "held": "../../valuable"}, "held should be a short name"),
    }
    for name, (content, _) in wrong.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / f"{name}.json").write_text(text)
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    # Well-formed, and about what is no checkpoint; its hold leads elsewhere.
    held = tmp_path / HELD
    (held / "abcd1234").mkdir(parents=True)
    (held / "abcd1234/valuable").symlink_to(valuable)
    letter = {**good, "path": str(valuable), "held": "abcd1234"}
    (folder / "ok.json").write_text(json.dumps(letter))
    # Names that the system does not even look up, and a checkpoint that would never end.
    endless = tmp_path / "endless"
    endless.mkdir()
    os.mkfifo(endless / "config.json")
    for seed, path in (("8", f"/{'x' * 300}/c"), ("9", str(endless))):
        letter = {**good, "seed": seed, "path": path, "held": "abcd1234"}
        (folder / f"ok{seed}.json").write_text(json.dumps(letter))
    file = write_study(tmp_path)
    assert run(["run", str(file)]) == 1
    lines = capsys.readouterr().err.splitlines()
    warnings = [line for line in lines if " warning " in line]
    for name, (_, said) in wrong.items():
        assert sum(f"{name}.json is ignored: " in line and said in line for line in warnings) == 1
    assert sum("is ignored: is no plain file" in line for line in warnings) == 2
    assert not any("\x1b" in line for line in lines)
    errors = [line for line in lines if " error " in line]
    assert sorted(error.partition("error ")[2].split(";")[0].strip() for error in errors) == sorted(
        [
            f"{valuable}/config.json: is missing",
            f"{endless}/config.json: is neither file nor folder",
        ]
    )
    assert open_study(tmp_path / "study.zarr").snapshot().models[0].n_pairs.tolist() == [2]
    # Asked for by nobody: answered, which must not follow the link.
    assert run(["run", str(write_study(tmp_path, models__seeds=["1", "2"]))]) == 0
    assert "seed 7 was announced, but is none of those" in capsys.readouterr().err
    assert not list(folder.glob("ok*.json"))
    assert (valuable / "thesis.tex").read_text() == "years of work"


def test_a_hold_that_is_let_go_of_while_it_is_read_leaves_the_checkpoint(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1",), steps=(0,))
    announced = Announcements(tmp_path / "a", {"m": None}, lambda: 0.0)
    model = ModelSection.model_validate({"name": "m", "source": "none/{seed}/{step}"})
    source = LocalSource(model, tmp_path, lambda: 0.0, announcements=announced)
    folder = tmp_path / "runs/seed1/step0"
    announce(tmp_path / "a", model="m", seed=1, step=0, path=folder, hold=True)
    assert list(announced.look()) == []
    assert source.find().there == {("1", 0)}
    assert source.checkpoint(("1", 0)).finished()
    assert HELD in source.checkpoint(("1", 0)).fetch().parts
    shutil.rmtree(folder.parent / HELD)
    assert source.checkpoint(("1", 0)).gone()
    assert source.find().there == {("1", 0)}
    assert source.checkpoint(("1", 0)).finished()
    assert source.checkpoint(("1", 0)).fetch() == folder
    assert source.checkpoint(("1", 0)).where() == str(folder)


def test_an_announced_checkpoint_needs_no_rest_and_other_machines_get_time(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    now = [0.0]
    announced = Announcements(tmp_path / "a", {"m": None}, lambda: now[0])
    model = ModelSection.model_validate({"name": "m", "source": "runs/seed{seed}/step{step}"})
    source = LocalSource(model, tmp_path, lambda: now[0], announcements=announced)
    announce(tmp_path / "a", model="m", seed=1, step=0, path=tmp_path / "runs/seed1/step0")
    announce(tmp_path / "a", model="m", seed=3, step=5, path=tmp_path / "elsewhere")
    assert list(announced.look()) == []
    found = source.find()
    assert found.there == {("1", 0), ("2", 0)}
    assert found.announced == {("1", 0), ("3", 5)}
    assert source.checkpoint(("1", 0)).finished()
    assert not source.checkpoint(("2", 0)).finished()
    assert not source.checkpoint(("3", 5)).gone()  # NFS may show it later
    now[0] += SETTLE_SECONDS
    assert source.checkpoint(("2", 0)).finished()
    now[0] += ANNOUNCED_SECONDS
    assert source.checkpoint(("3", 5)).gone()
    (tmp_path / "elsewhere").mkdir()
    assert ("3", 5) in source.find().there
    assert source.checkpoint(("3", 5)).refused(waiting=True) is None
    now[0] += ANNOUNCED_SECONDS
    why = source.checkpoint(("3", 5)).refused(waiting=True)
    assert why is not None
    assert why.startswith(f"announced as finished, but {tmp_path}/elsewhere/config.json")


def test_a_study_that_cannot_be_read_is_told_before_training(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"study\.toml: is no study file that can be read"):
        SeedconvCallback(tmp_path / "study.toml", "m")
    with pytest.raises(ValueError, match="hold_at_most must be at least 1"):
        SeedconvCallback(tmp_path, "m", hold=True, hold_at_most=0)
    with pytest.raises(ValueError, match="seed should be a name without /"):
        SeedconvCallback(tmp_path, "m", "a/b")
    file = tmp_path / "study.toml"
    file.write_text('[study]\nstore = "s.zarr"\n[watch]\nannouncements = "letters"\n')
    assert announcements_folder(file) == tmp_path / "letters"


def test_script_and_engine_agree_on_where_announcements_go(tmp_path: Path) -> None:
    example = ROOT / "examples/train_three_seeds.toml"
    assert load_study_file(example).announcements == announcements_folder(example)
    for settings in ({}, {"watch__announcements": "letters"}, {"study__store": "deep/er/my.zarr"}):
        file = write_study(tmp_path, **settings)
        assert load_study_file(file).announcements == announcements_folder(file)


def test_one_that_cannot_be_read_now_is_read_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a network mount that is away for a while: told once, and not forgotten."""
    announce(tmp_path, model="m", seed=1, step=0, path=tmp_path / "c")
    announced = Announcements(tmp_path, {"m": None}, lambda: 0.0)
    with monkeypatch.context() as broken:

        def stale(self: Path, *options: object) -> None:
            raise OSError(errno.ESTALE, "Stale file handle")

        broken.setattr(Path, "open", stale)
        told = [*announced.look(), *announced.look()]
    assert len(told) == 1
    assert told[0].endswith("cannot be read yet: Stale file handle")
    assert not announced.of("m")
    assert not list(announced.look())
    assert list(announced.of("m")) == [("1", 0)]
