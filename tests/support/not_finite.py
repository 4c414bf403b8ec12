"""Stores with infinite and missing numbers, which no engine of ours writes but other tools may."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store.schema import Probe, ProbeValues
from store.writing import StudyWriter
from tests.support.made_store import checkpoint, floors, open_writer, pair_block, summarise_step

SEEDS = ("1", "2", "3")
STEPS = (0, 10, 20)  # all is well at the first one
LAST = STEPS[-1]
TOKEN = 7  # at which it is not finite


def _few(kl: NDArray[np.float32], step: int) -> None:
    """One pair is NaN at step 10, and another infinite at the last one."""
    if step == LAST:
        kl[TOKEN, 0, 1] = np.inf
    elif step:
        kl[TOKEN, 2, 1] = np.nan


def _all(kl: NDArray[np.float32], step: int) -> None:
    """All pairs are NaN at step 10, and infinite in both directions at the last one."""
    if step == LAST:
        kl[TOKEN], kl[TOKEN, 0, 1] = np.inf, -np.inf
    elif step:
        kl[TOKEN] = np.nan


_PAIRS: Mapping[str, Callable[[NDArray[np.float32], int], None]] = {"few": _few, "all": _all}

_SCORES = {  # of the last step, by seed
    "1": {"surprisal": np.inf, "top_log_prob": -np.inf},
    "2": {"entropy": np.nan, "top_log_prob": np.nan},
    "3": {"surprisal": np.nan, "entropy": -np.inf, "kl_unigram": np.inf},
}

MODELS = ("few", "all", "scores")  # what of pairs, or of checkpoints, is not finite


def make_not_finite(
    path: Path, models: Sequence[str] = MODELS, *, seeds: Sequence[str] = SEEDS
) -> Path:
    """Make a finished study of these models; of further seeds and models all is well."""
    writer = open_writer(path)
    for model in models:
        for step in STEPS:
            add_step(writer, model, step, seeds)
    for probe in (
        Probe("p", "blimp", ("good", "bad"), ("t",), np.zeros(6, np.int32), ("x",), "made"),
        Probe("q", "icl", ("50", "500"), ("d",), np.zeros(6, np.int32), ("",), "made"),
    ):
        writer.probes.set(probe)
        for model in models:
            for number, seed in enumerate(seeds):
                values = np.add.outer(np.arange(6.0), [2.0, 1.5]).astype(np.float32) + number
                if model == "scores":
                    values[0], values[1, 0], values[2, 1] = np.inf, -np.inf, np.nan
                answer = ProbeValues(probe.name, probe.digest, seed, values)
                writer.probes.commit(model, LAST, [answer])
    writer.close("finished")
    return path


@np.errstate(invalid="ignore")
def add_step(writer: StudyWriter, model: str, step: int, seeds: Sequence[str]) -> None:
    """Score, compare and summarise one step."""
    writer.plan(model, [(seed, step) for seed in seeds], {})
    for seed in seeds:
        block = {name: values.copy() for name, values in checkpoint(model, seed, step).items()}
        if model == "scores" and step == LAST:
            for name, value in _SCORES.get(seed, {}).items():
                block[name][TOKEN] = value
        pending = writer.results.begin_checkpoint(model, seed, step, "dense")
        pending.append(block)
        writer.commit(model, step, [pending.finish(floors(step), {})])
    pairs = writer.results.begin_pairs(model, step, seeds)
    divergences = pair_block(writer, model, step, tuple(seeds))
    if model in _PAIRS:
        _PAIRS[model](divergences["kl"], step)
    pairs.append(divergences)
    writer.commit(model, step, pairs=pairs.finish())
    summarise_step(writer, model, step)
