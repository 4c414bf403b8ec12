"""Study files of the benchmarks, over the checkpoints that `benchmarks.checkpoints` makes.

Imports nothing heavy: a process that measures memory or start-up must stay small itself.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

VOCAB, WINDOW, OVERLAP = 50_304, 2048, 1024
SEEDS, STEPS = (1, 2, 3, 4, 5), (10, 20, 30, 40)
MODEL = "neox-14m"
REPRESENTATIONS = ("dense", "factored", "none")


def prepare(folder: Path) -> None:
    """Make the checkpoints in `folder`, unless they are there; in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.checkpoints", str(folder)]
    subprocess.run(command, check=True, stdout=sys.stderr)


@dataclass(frozen=True)
class Study:
    """A study to be run over a folder of checkpoints."""

    folder: Path  # holds runs/, tokenizer/ and text.txt
    tokens: int
    representation: str = "dense"
    device: str = "cpu"
    seeds: tuple[int, ...] = SEEDS
    steps: tuple[int, ...] = STEPS
    window: int = WINDOW
    overlap: int = OVERLAP
    dtype: str = "float32"  # of the forward passes
    divergences: tuple[str, ...] = ("kl", "js")

    @property
    def name(self) -> str:
        """What is kept and compared: no two studies in a folder share a store."""
        return "-".join((self.representation, *self.divergences))

    @property
    def store(self) -> Path:
        """Where `seedconv run` puts the results."""
        return self.folder / f"{self.name}.zarr"

    def write(self) -> Path:
        """Write the study file next to the checkpoints and return it."""
        sections = {
            "[study]": {"name": self.name, "store": self.store.name},
            "[corpus]": {"files": ["text.txt"], "max_tokens": self.tokens},
            "[tokenizer]": {"source": "tokenizer"},
            "[[models]]": {
                "name": MODEL,
                "source": "runs/seed{seed}/step{step}",
                "seeds": self.seeds,
                "steps": self.steps,
            },
            "[scoring]": {
                "window": self.window,
                "overlap": self.overlap,
                "device": self.device,
                "dtype": self.dtype,
                "divergences": self.divergences,
            },
            "[log_probs]": {"representation": self.representation},
            "[categories]": {"include": []},
        }
        lines: list[str] = []
        for section, fields in sections.items():
            lines += [section, *(f"{name} = {json.dumps(fields[name])}" for name in fields)]
        file = self.folder / f"{self.name}.toml"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file
