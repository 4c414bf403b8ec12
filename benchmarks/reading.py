"""What reading costs on one core: `python -m benchmarks.reading`.

A study of 8 steps x 6 seeds x 300 tokens, made for it: CPU time of one chunk of results, of one
part that `verify` checks, and of 1,000 rows of tokens that `export` writes. Prints JSON.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.run import least_cpu_seconds, machine
from seedconv_tui.cli.main import run
from store import open_study
from store.maintenance import verify
from tests.support.made_store import fill, open_writer

SEEDS, STEPS = tuple("abcdef"), range(8)
ROUNDS = 3


def cpu_ms(work: Callable[[], object]) -> float:
    """Return the least CPU time of some rounds, after one that does not count."""
    return 1e3 * least_cpu_seconds(work, ROUNDS)


def measure(path: Path) -> dict[str, float]:
    """Make the study in a folder and read it in every way."""
    writer = open_writer(path)
    fill(writer, "m", SEEDS, STEPS)
    writer.close("finished")
    study = open_study(path)
    cells = [(i, step, j) for step in STEPS for i in SEEDS for j in SEEDS if i != j]

    def read() -> None:
        for i, step, j in cells:
            study.values("m", "kl", i, step, j)

    def export() -> None:
        output = str(path.parent / "tokens.csv")
        with contextlib.redirect_stderr(io.StringIO()):
            command = ["export", str(path), "--what", "tokens", "--steps", "0:8", "-o", output]
            if run(command) != 0:
                raise RuntimeError("the export failed")

    n_parts = len(list(verify(path)))
    return {
        "chunk_cpu_ms": round(cpu_ms(read) / len(cells), 3),
        "verify_part_cpu_ms": round(cpu_ms(lambda: list(verify(path))) / n_parts, 3),
        "export_1000_rows_cpu_ms": round(cpu_ms(export) / (len(STEPS) * study.n_tokens) * 1e3, 2),
    }


def main() -> None:
    """Measure in a folder of its own and print."""
    with tempfile.TemporaryDirectory() as folder:
        found = {"reading": measure(Path(folder) / "study.zarr"), "machine": machine("cpu")}
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
