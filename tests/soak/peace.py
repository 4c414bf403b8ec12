"""The store that one undisturbed run makes of the same checkpoints; and verification of both."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.soak.compare import scored
from tests.soak.fire import COMMAND, SoakError, write_study_file
from tests.soak.trainer import checkpoint


def run_in_peace(folder: Path, store: Path) -> Path:
    """Score what a store has results of, from the archive, without disturbance."""
    peace = folder / "peace"
    peace.mkdir()
    for name in ("tokenizer", "text.txt"):
        (peace / name).symlink_to(folder / name)
    for model, keys in scored(store).items():
        for seed, step in keys:
            source = checkpoint(folder / "archive", model, seed, step)
            shutil.copytree(source, checkpoint(peace / "runs", model, seed, step))
    done = subprocess.run(
        [*COMMAND, "run", str(write_study_file(peace))], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SoakError(f"the run in peace ends with {done.returncode}: {done.stderr[-500:]}")
    return peace / "study.zarr"


def verified(store: Path) -> list[str]:
    """What `seedconv verify` finds damaged, in words."""
    done = subprocess.run(
        [*COMMAND, "verify", str(store)], capture_output=True, text=True, check=False
    )
    print(f"verify {store.parent.name}/{store.name}: exit code {done.returncode}")
    return [f"{store}: {done.stdout[-500:]}{done.stderr[-500:]}"] if done.returncode else []
