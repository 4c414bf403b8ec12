"""Callbacks of trainers that capture: Trainer of transformers, and Lightning."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from seedconv_tui.training.handover import run_folder
from tests.support.captures import CONTEXT, ROWS, VOCAB, make_gpt, make_order


def spooled(folder: Path, seed: str = "1") -> list[int]:
    run = run_folder(folder, "m", seed)
    return sorted(int(entry.name) for entry in run.iterdir()) if run.exists() else []


def trained(folder: Path, callbacks: list[Any], **options: Any) -> Any:
    """Weights after some steps of Trainer."""
    from transformers import Trainer, TrainingArguments

    from tests.support.tiny_models import make_model

    arguments = TrainingArguments(
        output_dir=str(folder / "out"), max_steps=4, report_to="none", disable_tqdm=True,
        use_cpu=True, gradient_accumulation_steps=2, per_device_train_batch_size=1,
        **({"save_strategy": "no", "seed": 1} | options),
    )  # fmt: skip
    rows = torch.randint(0, VOCAB, (16, CONTEXT), generator=torch.Generator().manual_seed(0))
    data: Any = [{"input_ids": row, "labels": row} for row in rows]
    model = make_model("gpt2", ROWS, 1)
    Trainer(model, arguments, train_dataset=data, callbacks=callbacks).train()
    return model.state_dict()


def test_trainer_captures_the_steps_of_the_study_and_saves_nothing(tmp_path: Path) -> None:
    from seedconv_tui.training import SeedconvCallback

    make_order(tmp_path, steps=(0, 1, 3))
    without = trained(tmp_path, [])
    made = trained(tmp_path, [SeedconvCallback(tmp_path, model="m", capture=True)])
    assert all(torch.equal(made[name], without[name]) for name in without)
    assert spooled(tmp_path) == [0, 1, 3]
    assert not list(tmp_path.glob("out/checkpoint-*"))


def test_trainer_captures_what_it_saves_where_the_study_lists_no_steps(tmp_path: Path) -> None:
    from seedconv_tui.training import SeedconvCallback

    make_order(tmp_path)
    callback = SeedconvCallback(tmp_path, model="m", seed=2, capture=True, keep="dense")
    trained(tmp_path, [callback], save_strategy="steps", save_steps=2)
    assert spooled(tmp_path, "2") == [2, 4]
    assert len(list(tmp_path.glob("*.json"))) == 2  # and no letters of checkpoints


def test_what_a_callback_cannot_do_is_refused_before_training(tmp_path: Path) -> None:
    from seedconv_tui.training import SeedconvCallback

    with pytest.raises(ValueError, match=r"work-order.npz: is not there"):
        SeedconvCallback(tmp_path, model="m", seed=1, capture=True)
    with pytest.raises(ValueError, match="context only go with capture=True"):
        SeedconvCallback(tmp_path, model="m", context=8)
    with pytest.raises(ValueError, match="hold keeps checkpoints"):
        SeedconvCallback(tmp_path, model="m", hold=True, capture=True)
    make_order(tmp_path)
    with pytest.raises(ValueError, match="seed '7' is not one"):
        trained(tmp_path, [SeedconvCallback(tmp_path, model="m", capture=True)], seed=7)


@pytest.fixture
def lightning(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Our callback for Lightning; where that is not installed, on an empty base class."""
    try:
        return importlib.import_module("seedconv_tui.training.lightning")
    except ImportError:
        fake: Any = ModuleType("pytorch_lightning")
        fake.Callback = object
        monkeypatch.setitem(sys.modules, "pytorch_lightning", fake)
        monkeypatch.delitem(sys.modules, "seedconv_tui.training.lightning", raising=False)
        return importlib.import_module("seedconv_tui.training.lightning")


def test_lightning_captures_each_step_once(tmp_path: Path, lightning: Any) -> None:
    """Lightning ends several batches at one step where gradients accumulate."""
    make_order(tmp_path, steps=(0, 2))
    module = SimpleNamespace(gpt=make_gpt())
    callback = lightning.LightningCapture(tmp_path, model="m", seed=1, part="gpt")
    callback.on_train_start(SimpleNamespace(global_step=0), module)
    for step in (0, 1, 1, 2, 2, 3):
        if step == 2 and spooled(tmp_path) == [0, 2]:
            for file in (run_folder(tmp_path, "m", "1") / "2").iterdir():
                file.unlink()  # captured again it would be there again
        callback.on_train_batch_end(SimpleNamespace(global_step=step), module, None, None, 0)
    assert spooled(tmp_path) == [0, 2]
    assert not list((run_folder(tmp_path, "m", "1") / "2").iterdir())
    make_order(tmp_path)
    with pytest.raises(ValueError, match="every=N"):
        lightning.LightningCapture(tmp_path, model="m", seed=1)
    callback = lightning.LightningCapture(tmp_path, model="m", seed=2, part="gpt", every=3)
    callback.on_train_start(SimpleNamespace(global_step=5), module)  # resumed
    for step in (5, 6, 7, 9):
        callback.on_train_batch_end(SimpleNamespace(global_step=step), module, None, None, 0)
    assert spooled(tmp_path, "2") == [6, 9]
