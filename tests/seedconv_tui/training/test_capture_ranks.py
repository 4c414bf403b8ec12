"""Two ranks that train together and capture: with DDP, FSDP and tensor parallelism, over gloo."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seedconv_tui.training.handover import run_folder
from seedconv_tui.training.rank_meeting import Group, Meeting, NotAllCameError
from tests.support.captures import captured, make_gpt, make_order, reference

ROOT = Path(__file__).parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def train_together(case: str, folder: Path) -> tuple[list[dict[str, Any]], str]:
    """What both ranks print, and what they log."""
    ranks = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.support.capture_ranks", case, str(folder), str(rank)],
            cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    said = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], "\n".join(err for _, err in said)
    return [json.loads(out.splitlines()[-1]) for out, _ in said], "".join(err for _, err in said)


@pytest.mark.long
@pytest.mark.parametrize(
    ("case", "parts"),
    [
        ("ddp", 2),
        ("ddp-unshared", 1),
        ("ddp-alone", 1),
        ("fsdp1", 2),
        ("fsdp2", 2),
        ("fsdp2-untied", 2),
        ("fsdp2-half", 2),
        ("fsdp2-hybrid", 2),
        ("fsdp2-accumulated", 2),
        ("fsdp2-unshared", 1),
        ("tp-untied", 1),
        ("pipeline-unshared", 1),
    ],
)
def test_ranks_share_the_text_and_training_is_bit_equal(
    tmp_path: Path, case: str, parts: int
) -> None:
    order = make_order(tmp_path)
    words, log = train_together(case, tmp_path)
    assert "not captured" not in log
    for rank in words:
        assert rank["with"] == rank["without"]
        assert rank["failed"] == 0
    assert words[0]["last"] is True
    found, log_probs = captured(run_folder(tmp_path, "m", "1") / "99", order)
    assert (found.representation, found.ranks) == ("factored", parts)
    expected_dtype = "float32/bfloat16" if case == "fsdp2-half" else "float32"
    assert found.dtype == expected_dtype
    assert {entry.name for entry in run_folder(tmp_path, "m", "1").iterdir()} >= {"0", "1", "2"}
    if case == "fsdp1":
        return
    model = make_gpt(tied="untied" not in case)
    model.load_state_dict(torch.load(tmp_path / "weights.pt"))
    for name, text in {"text": order.text, **order.probes}.items():
        worst = np.abs(log_probs[name] - reference(model, text)).max()
        assert worst < (0.3 if case == "fsdp2-half" else 1e-5)


@pytest.mark.long
def test_a_rank_that_comes_alone_to_a_sharded_model_skips(tmp_path: Path) -> None:
    """Its collectives would pair with those of the other's training."""
    make_order(tmp_path)
    words, log = train_together("fsdp2-alone", tmp_path)
    assert [rank["with"] == rank["without"] for rank in words] == [True, True]
    assert [rank["failed"] for rank in words] == [6, 0]
    assert words[0]["last"] is False
    assert log.count("not every rank called capture within 3 s") == 1
    assert not run_folder(tmp_path, "m", "1").exists()


@pytest.mark.long
@pytest.mark.parametrize("case", ["ddp-raises", "fsdp1-raises", "fsdp2-raises"])
def test_training_goes_on_after_a_model_that_fails(tmp_path: Path, case: str) -> None:
    make_order(tmp_path)
    words, log = train_together(case, tmp_path)
    assert all(rank["with"] == rank["without"] for rank in words)
    assert log.count("ZeroDivisionError: a model that fails when it is evaluated") == 2
    assert not run_folder(tmp_path, "m", "1").exists()


@pytest.mark.long
def test_nan_on_all_ranks_is_a_letter(tmp_path: Path) -> None:
    make_order(tmp_path)
    words, log = train_together("fsdp2-nan", tmp_path)
    assert [rank["failed"] for rank in words] == [1, 1]
    assert "NaN or infinite" in log
    letter = json.loads(next(tmp_path.glob("50-*.json")).read_text())
    assert (letter["path"], letter["lost"]) == (None, "logits are NaN or infinite")


def test_a_meeting_ends_the_same_for_all(tmp_path: Path) -> None:
    store = torch.distributed.HashStore()
    first, second = (Meeting(Group(rank, 2, store), f"same/{rank}") for rank in (0, 1))
    first._key = second._key = "one"
    with pytest.raises(NotAllCameError) as raised:
        second.gather("begin", "b", 0.0)
    assert raised.value.first == 1
    with pytest.raises(NotAllCameError) as raised:
        first.gather("begin", "a", 10.0)  # which comes late
    assert raised.value.first == 1
