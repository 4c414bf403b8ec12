"""What a step took is free when it ends, whenever Python looks for garbage."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch

from seedconv_tui.cli.main import run
from tests.support.tiny_models import make_runs, write_study

DEEP = ["kl", "kl_to_mean", "cka"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds at two steps."""
    folder = tmp_path_factory.mktemp("made")
    make_runs(folder)
    return folder


@pytest.mark.parametrize(
    "settings",
    [
        {"log_probs__representation": "none"},
        {"log_probs__representation": "dense"},
        {"scoring__divergences": DEEP, "log_probs__representation": "factored"},
        {"scoring__divergences": ["kl", "cka_after_0"], "log_probs__representation": "none"},
        {"reference__end": 0, "log_probs__representation": "factored"},
    ],
    ids=["none", "dense", "states", "inner-states", "reference"],
)
def test_nothing_of_a_step_waits_for_the_garbage_collector(
    tmp_path: Path, made: Path, settings: dict[str, Any]
) -> None:
    """What holds itself would be there until it comes: gigabytes of models, at real sizes."""
    left = []
    for steps in ([0], [0], [0, 10]):  # the first makes what stays for good
        store = str(tmp_path / f"{len(left)}.zarr")
        file = write_study(made, study__store=store, models__steps=steps, **settings)
        gc.collect()
        gc.disable()
        try:
            before = tensors()
            assert run(["run", str(file)]) == 0
            left.append(tensors() - before)
        finally:
            gc.enable()
    _, one, two = left
    assert two == one


def tensors() -> int:
    """How many there are whose memory was not freed."""
    return sum(isinstance(thing, torch.Tensor) for thing in gc.get_objects())
