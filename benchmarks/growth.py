"""What a study costs as it grows: `python -m benchmarks.growth`.

Two studies take turns, so that both meet the same machine: small ones that get their 6th to 15th
checkpoint, and one that gets its 1,000th (`--late`), in time and in CPU time of all threads. Then
that one is filled to a whole model of 154 steps x 10 seeds x 5,000 tokens (`--late`, if fewer),
reduced pair by pair, and its files are counted. Other models of the same size are the same files
again; log-probs are counted for Pythia's vocabulary.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from store import open_study
from store.schema import Vocabulary, log_prob_rows
from store.writing import Header, StudyWriter
from tests.support.made_store import make_corpus

MODELS, STEPS, SEEDS, TOKENS = 5, 154, 10, 5_000
VOCAB = 32  # of the log-probs that are written: small, so that what surrounds them is measured
VOCAB_COUNTED = 50_304  # of those that are counted
ROUNDS, ADDED = 6, 10
LABELS = tuple(str(seed) for seed in range(SEEDS))

Seconds = dict[str, list[tuple[float, float]]]  # by what was done: time and CPU time


def block() -> dict[str, Any]:
    """One checkpoint's results; random, so that they compress no better than real ones."""
    rng = np.random.default_rng(0)
    return {
        "log_probs": rng.normal(-5, 2, (TOKENS, VOCAB)).astype(np.float16),
        "surprisal": rng.exponential(3, TOKENS).astype(np.float32),
        "entropy": rng.exponential(3, TOKENS).astype(np.float32),
        "kl_unigram": rng.exponential(3, TOKENS).astype(np.float32),
        "top_id": rng.integers(0, VOCAB_COUNTED, (TOKENS, 10), dtype=np.int32),
        "top_log_prob": -rng.exponential(3, (TOKENS, 10)).astype(np.float32),
    }


class Growing:
    """A study of one model that gets one checkpoint after the other, a step at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        vocabulary = Vocabulary(("x",) * VOCAB, np.ones(VOCAB, np.int64), "none")
        header = Header("growth", {})
        self.writer = StudyWriter.open(path, header, make_corpus(TOKENS), vocabulary)
        self.block = block()
        self.kl = np.random.default_rng(1).exponential(1, (TOKENS, SEEDS, SEEDS)).astype("float32")
        self.n = 0

    def plan(self) -> None:
        """Make the next step known."""
        self.writer.plan("m", [(seed, self.n // SEEDS) for seed in LABELS], {})

    def add(self) -> None:
        """Write and commit one checkpoint."""
        step, seed = divmod(self.n, SEEDS)
        pending = self.writer.results.begin_checkpoint("m", LABELS[seed], step, "dense")
        pending.append(self.block)
        floors = {"storage_floor": 0.0, "noise_floor": 0.0}
        self.writer.commit("m", step, [pending.finish(floors, {})])
        self.n += 1

    def reduce(self) -> None:
        """Write and commit all pairs of the step that is complete."""
        step = self.n // SEEDS - 1
        pending = self.writer.results.begin_pairs("m", step, LABELS)
        pending.append({"kl": self.kl, "js": self.kl / 4})
        self.writer.commit("m", step, pairs=pending.finish())

    def next(self, seconds: Seconds) -> None:
        """Add a checkpoint, with what its step needs before and after."""
        if self.n % SEEDS == 0:
            timed(seconds, "plan", self.plan)
        timed(seconds, "add", self.add)
        if self.n % SEEDS == 0:
            timed(seconds, "reduce", self.reduce)

    def grow_to(self, n: int) -> None:
        """Add checkpoints until there are `n`."""
        while self.n < n:
            self.next({})


def timed(seconds: Seconds, name: str, do: Callable[[], None]) -> None:
    """Do something, and note the time and the CPU time that it took."""
    start = time.perf_counter(), time.process_time()
    do()
    found = time.perf_counter() - start[0], time.process_time() - start[1]
    seconds.setdefault(name, []).append(found)


def measure(folder: Path, late_at: int, rounds: int) -> dict[str, Any]:
    """Cost of a checkpoint, of a step's plan and of its reduction, early and late."""
    early: Seconds = {}
    late: Seconds = {}
    large = Growing(folder / "large")
    large.grow_to(late_at - rounds * ADDED // 2)
    for number in range(rounds):
        small = Growing(folder / f"small{number}")
        small.grow_to(5)
        for _ in range(ADDED):
            small.next(early)
            large.next(late)
        small.writer.close("finished")
    result: dict[str, Any] = {"late_at": late_at}
    for name in early:
        for axis, of in enumerate(("", "_cpu")):
            ms = [median(pair[axis] for pair in each[name]) * 1000 for each in (early, late)]
            result[f"{name}{of}_ms_at_10"], result[f"{name}{of}_ms_late"] = (
                round(value, 2) for value in ms
            )
            result[f"{name}{of}_ratio"] = round(ms[1] / ms[0], 3)
    if late_at >= 1000:
        large.grow_to(STEPS * SEEDS)
    large.writer.close("finished")
    start = time.perf_counter()
    open_study(large.path).snapshot()
    result["open_and_snapshot_ms"] = round((time.perf_counter() - start) * 1000, 1)
    return result | ({"files": count(large.path)} if late_at >= 1000 else {})


def count(path: Path) -> dict[str, Any]:
    """Number and size of files of the study with all its models, from the one that was written."""
    files, sizes, folders = Counter[str](), Counter[str](), Counter[str]()
    for entry in path.rglob("*"):
        parts = entry.relative_to(path).parts
        kind = parts[2] if parts[0] == "models" and len(parts) > 3 else "rest"
        times = 1 if parts[0] != "models" or len(parts) < 3 else MODELS
        if entry.is_file():
            files[kind] += times
            sizes[kind] += times * entry.stat().st_size
        else:
            folders[kind] += times
    for kinds in (files, sizes, folders):
        del kinds["log_probs"]
    chunks = math.ceil(TOKENS / log_prob_rows(VOCAB_COUNTED))
    checkpoints = MODELS * STEPS * SEEDS
    return {
        "study": f"{MODELS} models x {STEPS} steps x {SEEDS} seeds x {TOKENS} tokens",
        "how": "one model written and counted, times five; log-probs from their chunk shape",
        "number": dict(files.most_common()),
        "number_without_log_probs": files.total(),
        "folders_without_log_probs": folders.total(),
        "number_of_log_probs": checkpoints * (chunks + 1) + MODELS * (SEEDS + 1),
        "megabytes": {name: round(size / 1e6, 1) for name, size in sizes.most_common()},
        "gigabytes_without_log_probs": round(sizes.total() / 1e9, 2),
        "gigabytes_of_log_probs_uncompressed": checkpoints * TOKENS * VOCAB_COUNTED * 2 // 10**9,
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--late", type=int, default=1000, help="the checkpoint that is late")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.late, options.rounds)
    machine = f"{os.cpu_count()} cores {platform.machine()}"
    versions = {"python": sys.version.split()[0], "zarr": version("zarr")}
    print(json.dumps({"growth": result, "machine": machine, "versions": versions}, indent=2))


if __name__ == "__main__":
    main()
