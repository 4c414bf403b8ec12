"""A finished study of two models and several steps, dense and factored, for what compares them."""

from __future__ import annotations

from pathlib import Path

from seedconv_tui.cli.main import run
from tests.support.tiny_models import make_runs, write_study

STEPS = {"m": {0: "123", 10: "1234"}, "b": {10: "123", 20: "123"}}  # model -> step -> seeds


def make_compared(folder: Path) -> Path:
    """Write `dense.zarr` of both models, and `factored.zarr` of two seeds of one."""
    make_runs(folder, seeds=("1", "2", "3"), steps=(0, 10))
    make_runs(folder, seeds=("4",), steps=(10,))
    make_runs(folder / "b", architecture="gpt2", steps=(10, 20))
    include = ["frequency", "pos", "surprisal", "document"]
    study = write_study(
        folder, study__store="dense.zarr", corpus__max_tokens=400, categories__include=include
    )
    second = '[[models]]\nname = "b"\nsource = "b/runs/seed{seed}/step{step}"\n'
    study.write_text(study.read_text(encoding="utf-8") + second, encoding="utf-8")
    assert run(["run", str(study)]) == 0
    study = write_study(
        folder,
        study__store="factored.zarr",
        corpus__max_tokens=400,
        categories__include=["pos"],
        log_probs__representation="factored",
        models__seeds=[1, 2],
    )
    assert run(["run", str(study)]) == 0
    return folder
