"""A study as large as the terminal has to carry: `python -m benchmarks.tui_store --dir FOLDER`.

5 models x 154 steps x 10 seeds x 5,000 tokens with all categories, which takes no GPU and about a
minute: a few moments of training are written as an engine would, and every step of every model is
one of them, its per-token files hard links. What is committed is consistent: `seedconv verify`
finds nothing wrong. The first model lacks its last steps; `Engine` commits them one by one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store import Study, open_study
from store.analysis import summarise
from store.commits.ledger import phases_record
from store.commits.log import CommitReader, CommitWriter
from store.schema import (
    COMMITS,
    FORMAT,
    SUMMARY,
    USUAL,
    VARIABLES,
    Category,
    Corpus,
    EngineStatus,
    JournalEntry,
    Phase,
    State,
    Vocabulary,
    Work,
    arrays_of,
    model_path,
    summaries_of,
)
from store.statistics import MEAN_OF
from store.storage.durable_store import DurableStore
from store.writing import CheckpointResult, Header, PairsResult, StudyWriter
from store.writing.model_arrays import ModelArrays

MODELS = tuple(f"pythia-{size}" for size in ("14m", "31m", "70m", "160m", "410m"))
STEPS = (0, *(2**n for n in range(10)), *range(1000, 144_000, 1000))
SEEDS = tuple(str(seed) for seed in range(10))
TOKENS, VOCAB, DOCUMENTS = 5_000, 50_277, 10
HELD_BACK = 60  # steps that the first model lacks
POS = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM"),
    *("PART", "PRON", "PROPN", "PUNCT", "SCONJ", "SYM", "VERB", "X"),
)
_MOMENTS = "moments"  # the model of the scratch study, whose steps are the moments
_KL = np.geomspace(0.008, 0.62, 20)  # expected KL of the moments, nats
_KNOTS, _CURVE = np.log10([1, 17, 257, 2001, 143_001]), (0.02, 0.3, 0.15, 0.6, 0.35)
_PHASES = (
    Phase("uniform", 0),
    Phase("sharp convergence", 16, 8, 32, 1.0),
    Phase("sharp divergence", 256, 128, 512, 1.0),
    Phase("slow reconvergence", 2000, 1000, 3000, 0.9),
)
_FLOORS = {"storage_floor": 1e-5, "noise_floor": 2e-6}
_SPLIT = tuple(  # arrays whose chunks hold one step alone, and are linked; others hold many
    name for name, variable in arrays_of(USUAL).items() if variable.chunks(TOKENS)[0] == 1
)


def made(folder: Path) -> Path:
    """The study in `folder`, made when there is none of the present format."""
    store = folder / f"tui-{FORMAT}.zarr"
    if not store.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in (scratch := folder / "moments.zarr", partial := folder / "making.zarr"):
            shutil.rmtree(leftover, ignore_errors=True)
        text, vocabulary = corpus()
        parts = tuple(categories(text))
        _write_moments(scratch, text, vocabulary, parts)
        _write_study(partial, open_study(scratch), text, vocabulary, parts)
        shutil.rmtree(scratch)
        partial.rename(store)
    return store


# -- text and categories -------------------------------------------------------------------------


def corpus() -> tuple[Corpus, Vocabulary]:
    """Made-up words by Zipf's law, a vocabulary of Pythia's size."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlu"))
    lengths = rng.integers(1, 9, VOCAB)
    drawn = "".join(rng.choice(letters, lengths.sum()))
    ends = np.cumsum(lengths)
    words = tuple(f" {drawn[end - n : end]}" for n, end in zip(lengths, ends, strict=True))
    token_id = np.minimum(rng.zipf(1.3, TOKENS) - 1, VOCAB - 1).astype(np.int32)
    pieces = [words[n] for n in token_id]
    char_end = np.cumsum([len(piece) for piece in pieces]).astype(np.int64)
    char_start = np.concatenate([[0], char_end[:-1]])
    document = (np.arange(TOKENS) * DOCUMENTS // TOKENS).astype(np.int32)
    text = Corpus(
        token_id=token_id,
        context_id=np.roll(token_id, 1),
        document=document,
        char_start=char_start,
        char_end=char_end,
        text="".join(pieces),
        document_start=char_start[np.searchsorted(document, np.arange(DOCUMENTS))],
        document_name=tuple(f"text-{n}.txt" for n in range(DOCUMENTS)),
    )
    counts = np.maximum(1, 10**7 // np.arange(1, VOCAB + 1)).astype(np.int64)
    return text, Vocabulary(words, counts, "made up")


def categories(text: Corpus) -> Iterator[Category]:
    """As many and as large as those of a study file with a tagger."""
    rng = np.random.default_rng(1)
    yield Category("all", ("all",), np.zeros(TOKENS, np.int32), "all tokens of the corpus")
    decades = ["0", "1-9", *(f"10^{n}-10^{n + 1}" for n in range(1, 6)), "10^6+"]
    sizes: dict[str, Sequence[str]] = {
        "frequency": decades,
        "pos": POS,
        "pos_fine": [f"{a}{b}" for a in POS[:15] for b in ("", "S", "Z")],
        "word_class": ("function", "content", "other"),
        "surprisal": ("0-1", "1-2", "2-4", "4-8", "8+"),
        "word_position": ("begin", "inside", "end", "whole"),
        "position": ["0", *(f"{2**n}-{2 ** (n + 1) - 1}" for n in range(11))],
    }
    for name, labels in sizes.items():
        share = rng.dirichlet(np.full(len(labels), 0.7))
        level = rng.choice(len(labels), TOKENS, p=share).astype(np.int32)
        yield Category(name, tuple(labels), level, f"{name} of the target, made up")
        yield Category(
            f"{name}_context", tuple(labels), np.roll(level, 1), f"{name} of the token before"
        )
    yield Category("document", text.document_name, text.document, "document of the target")


# -- the moments ---------------------------------------------------------------------------------


def _write_moments(
    path: Path, text: Corpus, vocabulary: Vocabulary, parts: Sequence[Category]
) -> None:
    """A study of one model, a step for each moment, as an engine writes it."""
    writer = StudyWriter.open(path, Header("moments", {}), text, vocabulary)
    for category in parts:
        writer.summaries.set_category(category)
    moments = range(len(_KL))
    writer.plan(_MOMENTS, [(seed, moment) for moment in moments for seed in SEEDS], {})
    for moment in moments:
        rng = np.random.default_rng(moment)
        results = []
        for seed in SEEDS:
            pending = writer.results.begin_checkpoint(_MOMENTS, seed, moment, "none")
            pending.append(_checkpoint(rng))
            results.append(pending.finish(_FLOORS, {}))
        pairs = writer.results.begin_pairs(_MOMENTS, moment, SEEDS)
        far = 1 + 0.1 * rng.standard_normal((len(SEEDS), len(SEEDS)))
        kl = rng.gamma(0.5, 2 * _KL[moment], (TOKENS, *far.shape)) * far
        pairs.append({"kl": kl.astype(np.float32), "js": (kl / 4).astype(np.float32)})
        writer.commit(_MOMENTS, moment, results, pairs.finish())
        writer.summaries.summarise(
            _MOMENTS, moment, SEEDS, *summarise(writer.study(), _MOMENTS, moment, SEEDS, parts)
        )
    writer.close("finished")


def _checkpoint(rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    """What scoring a checkpoint gives."""
    probability = np.sort(rng.dirichlet(np.ones(10), TOKENS), axis=1)[:, ::-1]
    return {
        "surprisal": rng.exponential(3.5, TOKENS).astype(np.float32),
        "entropy": rng.exponential(3, TOKENS).astype(np.float32),
        "kl_unigram": rng.exponential(3, TOKENS).astype(np.float32),
        "top_id": rng.integers(0, 200, (TOKENS, 10), dtype=np.int32),
        "top_log_prob": np.log(probability).astype(np.float32),
    }


def moment_of(number: int) -> NDArray[np.intp]:
    """Which moment each step of a model is, (step,)."""
    curve = np.interp(np.log10(np.array(STEPS) + 1.0), _KNOTS, _CURVE) * (1 - 0.15 * number)
    return np.asarray(np.abs(np.log(curve)[:, None] - np.log(_KL)).argmin(axis=1))


# -- the study -----------------------------------------------------------------------------------


def _write_study(
    path: Path, source: Study, text: Corpus, vocabulary: Vocabulary, parts: Sequence[Category]
) -> None:
    """Every step of every model, out of the moments."""
    writer = StudyWriter.open(path, Header("pythia", {}), text, vocabulary)
    for category in parts:
        writer.summaries.set_category(category)
    for model in MODELS:
        writer.plan(model, [(seed, step) for step in STEPS for seed in SEEDS], {})
    writer.close("finished")
    store, reader = DurableStore(path), CommitReader(path / COMMITS)
    reader.refresh()
    session = {"writer": "maker", "host": "here", "pid": 0, "pid_space": "", "time": time.time()}
    commits = CommitWriter(path / COMMITS, reader, session)
    for number, model in enumerate(MODELS):
        moments = moment_of(number)[: len(STEPS) - (HELD_BACK if number == 0 else 0)]
        for index, moment in enumerate(moments.tolist()):
            _link(source.folder, path, _MOMENTS, moment, model, index)
        arrays = ModelArrays(store, model, TOKENS, USUAL)
        arrays.grow(STEPS, SEEDS, reader.ledger.n_levels, {})
        for name in arrays_of(USUAL).keys() - set(_SPLIT):
            arrays[name][: len(moments)] = np.asarray(source.array(_MOMENTS, name)[:])[moments]
        phases = phases_record(model, _PHASES, settled=True)
        commits.append(*_records(source, model, moments), phases)
    commits.append({"kind": "end", "how": "finished"})
    store.flush()
    commits.seal()
    commits.close()


def _link(source: Path, target: Path, of: str, index: int, model: str, step: int) -> None:
    """Give the files of one step of `of` names as those of a step of `model`, both by index."""
    for name in _SPLIT:
        here = source / model_path(of) / name / "c" / str(index)
        there = target / model_path(model) / name / "c" / str(step)
        for folder, _, names in os.walk(here):
            inner = there / os.path.relpath(folder, here)
            inner.mkdir(parents=True, exist_ok=True)
            for file in names:
                if not (inner / file).exists():  # of a step that was taken back
                    (inner / file).hardlink_to(Path(folder, file))
        for pack in (source / model_path(of) / name).glob(f"c.{index}.*"):
            rest = pack.name.removeprefix(f"c.{index}.")
            named = target / model_path(model) / name / f"c.{step}.{rest}"
            if not named.exists():
                named.hardlink_to(pack)


def _records(source: Study, model: str, moments: NDArray[np.intp]) -> Iterator[dict[str, Any]]:
    known = source.ledger(_MOMENTS)
    for step, moment in zip(STEPS, moments.tolist(), strict=False):
        for seed in SEEDS:
            yield {**known.scored[seed, moment], "model": model, "step": step}
        of_step = {"model": model, "step": step, "seeds": SEEDS}
        for pairs in known.pair_sums[moment]:
            sums = {"cells": pairs.cells, "means": pairs.means, "once": sorted(pairs.once)}
            yield {"kind": "reduced", **of_step, **sums}
        found = known.summaries[moment]
        yield {
            "kind": "summarised",
            **of_step,
            "categories": found.categories,
            "cells": found.cells,
            "sums": found.sums,
        }


# -- one that grows ------------------------------------------------------------------------------


class Engine:
    """Commits what the first model lacks, a step at a time; each is like an earlier one."""

    def __init__(self, path: Path) -> None:
        self._writer, self._model = StudyWriter(path), MODELS[0]
        self._study, self._started = self._writer.study(), time.time()
        self._writer.plan(self._model, [(seed, step) for step in STEPS for seed in SEEDS], {})
        self._added: list[int] = []

    def next(self) -> tuple[int, float]:
        """Commit the next step: which it is, and when its results were (`time.monotonic`)."""
        writer, model, study = self._writer, self._model, self._study
        study.refresh()
        known = study.ledger(model)
        step = min(known.steps.keys() - known.reduced.keys())
        like = max(known.reduced) - 1000 * (step // 1000 % 20)  # so that the curve moves
        self._say("working", step, f"scoring step {step:,}")
        at = known.steps[like]
        _link(writer.path, writer.path, model, at, model, known.steps[step])
        kept = [name for name in (*MEAN_OF, *_FLOORS) if name in study.dataset(model)]
        mean = {name: np.asarray(study.array(model, name)[at]) for name in kept}
        results = [
            CheckpointResult(
                seed,
                {name: float(mean[name][s]) for name in mean if not VARIABLES[name].by_pair},
                None,
                0,
                {"n_tokens": TOKENS, **_FLOORS},
            )
            for s, seed in enumerate(SEEDS)
        ]
        pairs = PairsResult(
            SEEDS,
            tuple(
                (i, j, {name: float(mean[name][a, b]) for name in ("mean_kl", "mean_js")})
                for a, i in enumerate(SEEDS)
                for b, j in enumerate(SEEDS)
                if i != j
            ),
        )
        token_kl, levels = study.token_kl(model, like), self._levels(at)
        writer.commit(model, step, results, pairs)
        committed = time.monotonic()
        self._added.append(step)
        self._say("working", step, f"reduced step {step:,}")
        writer.summaries.summarise(model, step, SEEDS, token_kl, levels)
        return step, committed

    def _levels(self, at: int) -> Mapping[str, Mapping[str, NDArray[np.float64]]]:
        found: dict[str, dict[str, NDArray[np.float64]]] = {}
        for name, variable in summaries_of(USUAL).items():
            if "level" in variable.dims:
                row = np.asarray(self._study.array(self._model, f"{SUMMARY}/{name}")[at])
                for category in self._study.categories(self._model):
                    span = self._study.levels(category)
                    found.setdefault(category, {})[name] = row[..., span.start : span.stop]
        return found

    def _say(self, state: str, step: int, text: str) -> None:
        writer, now = self._writer, time.time()
        work = Work(self._model, SEEDS[0], step, State.SCORING, TOKENS // 2, TOKENS)
        writer.beat(
            EngineStatus(
                writer.writer,
                writer.host,
                writer.pid,
                now,
                self._started,
                state,
                device="cuda:0",
                works=(work,),
                tokens_per_second=12_345.0,
                queued=HELD_BACK,
                eta_seconds=600.0,
            )
        )
        writer.log(JournalEntry(now, "info", "reduced", text))

    def close(self) -> None:
        """Give the study back as it was."""
        for step in self._added:
            self._writer.forget(self._model, step, SEEDS)
        self._writer.close("finished")


def main() -> None:
    """Make the study; with `--engine`, commit a step for every line of stdin and report it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--dir", type=Path, required=True, help="folder for the study, kept")
    parser.add_argument(
        "--engine", action="store_true", help="commit a step for each line of stdin"
    )
    options = parser.parse_args()
    start = time.perf_counter()
    store = made(options.dir)
    if not options.engine:
        print(json.dumps({"store": str(store), "seconds": round(time.perf_counter() - start, 1)}))
        return
    engine = Engine(store)
    print("{}", flush=True)  # ready
    for _ in sys.stdin:
        step, committed = engine.next()
        print(json.dumps({"step": step, "committed": committed}), flush=True)
    engine.close()


if __name__ == "__main__":
    main()
