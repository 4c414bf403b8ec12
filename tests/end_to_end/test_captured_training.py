"""Two training runs that hand over what their models say to an engine that is killed meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from seedconv_tui.cli.main import run
from seedconv_tui.training import Capture
from store import open_study
from store.schema import State
from tests.support.gated_engine import Gate, records
from tests.support.probe_studies import write_probes
from tests.support.tiny_models import make_model, make_runs, write_study

pytestmark = pytest.mark.long

STEPS = [0, 2, 4]


def train(study: Path, seed: int) -> None:
    """Four steps; `capture` knows at which of them the study asks for something."""
    model: Any = make_model("gpt2", 304, seed)
    capture = Capture(study, model="m", seed=seed, wait=120)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    data = torch.Generator().manual_seed(seed)
    for step in range(5):
        assert capture(model, step) == capture.due(step) == (step in STEPS)
        ids = torch.randint(0, 300, (2, 16), generator=data)
        model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert capture.failed == 0


def test_a_killed_engine_adopts_what_training_handed_over_meanwhile(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=())
    study = write_study(
        tmp_path, models__source="captured", models__seeds=[1, 2], models__steps=STEPS,
        log_probs__representation="none",
    )  # fmt: skip
    write_probes(tmp_path, study)
    store = tmp_path / "study.zarr"
    gate = Gate(tmp_path, store, after=2)
    with subprocess.Popen(
        [*gate.command, "watch", str(study)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "OMP_NUM_THREADS": "1", **gate.environ},
        stderr=subprocess.DEVNULL,
    ) as engine:
        train(study, 1)  # which waits for the order
        train(study, 2)
        with gate.reached(engine):
            engine.send_signal(signal.SIGKILL)
            engine.wait()
    assert records(store, "scored") == 2
    assert run(["run", str(study)]) == 0
    (model,) = open_study(store).snapshot().models
    assert model.steps.tolist() == STEPS
    assert (model.state == State.PRUNED).all()  # compared, and nothing is kept
    assert model.captured == {(seed, step) for seed in "12" for step in STEPS}
    assert model.probed == {"pairs": 6, "long": 6}
    assert records(store, "scored") == 6
    left = [file.name for file in (tmp_path / "study-announced").rglob("*") if file.is_file()]
    assert left == ["work-order.npz"]
    assert run(["verify", str(store)]) == 0
