"""What it takes to start: `python -m benchmarks.startup`.

CPU time of `seedconv run` on a study of 4,660 tokens with all its results, so that nothing is left
to do: with what an earlier start kept of its text, and without. Next to them, as ratios in the same
run: Python with numpy and Zarr alone, and with the libraries that a pass takes.

Modules are compiled beforehand, as after an installation.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.run import SEEDCONV, add_options, add_save, checkpoints, measure, report
from benchmarks.study import Study

ROUNDS = 5
TAKEN = {
    "zarr": "import numpy, zarr",
    "libraries": "import spacy, torch, transformers",
}


def cpu_seconds(command: list[str], *, before: Path | None = None) -> float:
    """CPU time of a command, after one time that does not count; `before` each a folder goes."""
    taken = []
    for _ in range(ROUNDS + 1):
        if before is not None:
            shutil.rmtree(before, ignore_errors=True)
        taken.append(measure(command).processor_seconds)
    return median(taken[1:])


def all_categories(study: Study) -> Path:
    """Write the study file with the categories that a new one has, parts of speech among them."""
    file = study.write()
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("[categories]\ninclude = []\n", ""), encoding="utf-8")
    return file


def run(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make the study's results, then start again and again."""
    with tempfile.TemporaryDirectory() as own:
        cache = Path(own) / "cache"
        os.environ |= {"XDG_CACHE_HOME": str(cache), "PYTHONPYCACHEPREFIX": f"{own}/compiled"}
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        study = Study(folder, options.tokens, "none", options.device, seeds=(1, 2), steps=(10,))
        shutil.rmtree(study.store, ignore_errors=True)
        command = [*SEEDCONV, "run", "--json", str(all_categories(study))]
        measure(command)
        found = {
            "kept": cpu_seconds(command),
            "not_kept": cpu_seconds(command, before=cache / "seedconv"),
        } | {name: cpu_seconds([sys.executable, "-c", code]) for name, code in TAKEN.items()}
    result: dict[str, Any] = {f"{name}_cpu_seconds": round(s, 2) for name, s in found.items()}
    for name in ("not_kept", *TAKEN):
        result[f"over_{name}"] = round(found["kept"] / found[name], 2)
    return {"tokens": options.tokens} | result


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_options(parser, tokens=4660)
    add_save(parser)
    options = parser.parse_args()
    with checkpoints(options) as folder:
        report("startup", run(folder, options), options)


if __name__ == "__main__":
    main()
