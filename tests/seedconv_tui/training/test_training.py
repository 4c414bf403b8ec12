"""What runs in training scripts: what it imports, and what may lie next to such a script."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seedconv_tui.training.work_order import (
    ORDER_FILE,
    ModelOrder,
    Sequences,
    WorkOrder,
    write_order,
)

ROOT = Path(__file__).parents[3]


PACKAGES = "seedconv_tui.training", "engine.{module}"  # of today, and what scripts used before


@pytest.mark.parametrize(
    ("module", "name", "allowed"),
    [("announcing", "announce", set()), ("callback", "SeedconvCallback", {"transformers"})],
)
def test_what_a_training_script_imports_is_light(module: str, name: str, allowed: set[str]) -> None:
    """Each package in a process that has imported what a script has anyway, and nothing else."""
    ours = "engine", "store", "seedconv_tui"
    packages = [package.format(module=module) for package in PACKAGES]
    code = f"""
import os, sys
{"import transformers" if allowed else ""}
{"from transformers import TrainerCallback" if allowed else ""}
before = set(sys.modules)
for package in {packages}:
    if child := os.fork():
        if os.waitpid(child, 0)[1]:
            sys.exit(1)
        continue
    exec(f"from {{package}} import {name}")
    new = {{name for name in set(sys.modules) - before}}
    print(*sorted(name for name in new if name.partition(".")[0] in {ours!r}))
    print(*sorted({{name.partition(".")[0] for name in new}} - set(sys.stdlib_module_names)))
    sys.exit()
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(packages)
    for package, modules, imported in zip(packages, lines[::2], lines[1::2], strict=True):
        training = {
            "seedconv_tui", "seedconv_tui.training", "seedconv_tui.training.announcing",
            "seedconv_tui.training.weight_files",
            f"seedconv_tui.training.{module}",
        }  # fmt: skip
        alias = {"engine", package} if package.startswith("engine") else set()
        assert set(modules.split()) == training | alias
        assert set(imported.split()) <= {"seedconv_tui", *allowed, *(alias & {"engine"})}


def test_capture_is_light_where_torch_is_there() -> None:
    code = """
import sys
import numpy, torch
before = set(sys.modules)
from seedconv_tui.training import Capture
new = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
print(*sorted(new))
print(*sorted({name for name in sys.modules if name.partition(".")[0] in ("engine", "store")}))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    packages, ours = done.stdout.split("\n")[:2]
    assert set(packages.split()) == {"numpy", "seedconv_tui"}  # numpy loads its parts when asked
    assert ours == ""


# A script as people have them, in a folder of theirs: what it imports is looked for there first.
TRAINING_SCRIPT = """
import sys
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

import engine
import store
from seedconv_tui.training import Capture, SeedconvCallback, announce

assert engine.IS_MINE and store.IS_MINE
folder = sys.argv[1]
announce(f"{folder}/letters", model="m", seed=7, step=0, path=f"{folder}/out")
model = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_embd=8, n_layer=1, n_head=1, n_positions=8))
arguments = TrainingArguments(
    output_dir=f"{folder}/out", seed=7, max_steps=2, save_steps=1, report_to="none",
    disable_tqdm=True, use_cpu=True,
)
data = [{"input_ids": row, "labels": row} for row in torch.randint(0, 16, (4, 8))]
callback = SeedconvCallback(f"{folder}/letters", model="m")
Trainer(model, arguments, train_dataset=data, callbacks=[callback]).train()
assert Capture(f"{folder}/captures", model="m", seed=1)(model, 2)
"""


def test_a_script_may_have_folders_of_its_own_named_engine_and_store(tmp_path: Path) -> None:
    for name in ("engine", "store"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("IS_MINE = True\n")
    text = Sequences.of([(np.arange(12), np.ones(12, bool))])
    order = WorkOrder(
        study="s", models={"m": ModelOrder()}, keep="factored", vocab=16, vocabulary="v", window=8,
        overlap=4, pad=0, dtype="float32", text=text,
    )  # fmt: skip
    write_order(tmp_path / "captures" / ORDER_FILE, order)
    script = tmp_path / "train.py"
    script.write_text(TRAINING_SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], cwd=tmp_path, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    letters = [json.loads(file.read_text()) for file in (tmp_path / "letters").iterdir()]
    told = sorted((letter["seed"], letter["step"], letter["path"]) for letter in letters)
    out = f"{tmp_path}/out"
    assert told == [("7", 0, out), ("7", 1, f"{out}/checkpoint-1"), ("7", 2, f"{out}/checkpoint-2")]
    (letter,) = (tmp_path / "captures").glob("*.json")
    assert (Path(json.loads(letter.read_text())["path"]) / "capture.json").exists()
