"""What the tests that attack the store share: a small synthetic study and ways to compare stores.

Every number is a function of (model, seed, step), so a test can say what any store must hold.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store import Study
from store.analysis import summarise
from store.commits.log import decode, encode
from store.commits.owner import Watching
from store.schema import (
    ESTIMATES,
    REFERENCES,
    TO_MEAN,
    USUAL,
    Category,
    Corpus,
    EngineStatus,
    Vocabulary,
    in_order,
    summaries_of,
    variables_of,
)
from store.writing import Header, StudyWriter
from tests.support.pair_formulas import FORMULAS

N_TOKENS, VOCAB = 300, 64
Values = dict[str, NDArray[Any]]
_VARIABLES = variables_of(USUAL)
PER_TOKEN = tuple(name for name, v in _VARIABLES.items() if v.per_token and not v.by_pair)
PER_PAIR = tuple(name for name, v in _VARIABLES.items() if v.per_token and v.by_pair)
MEANS = tuple(name for name, v in _VARIABLES.items() if not v.per_token)


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


def make_corpus(n_tokens: int = N_TOKENS) -> Corpus:
    """A corpus in which every token covers one character; the last document has none."""
    index = np.arange(n_tokens)
    return Corpus(
        token_id=(index % VOCAB).astype(np.int32),
        context_id=((index - 1) % VOCAB).astype(np.int32),
        document=(index // (n_tokens // 2 + 1)).astype(np.int32),
        char_start=index,
        char_end=index + 1,
        text="aé\U0001f600\ud7ffz"[:5] * (n_tokens // 5 + 1),
        document_start=np.array([0, n_tokens // 2 + 1]),
        document_name=("one.txt", "two.txt"),
    )


def make_vocabulary() -> Vocabulary:
    """Entries of which some are empty and some are no text a terminal should see."""
    text = tuple(("" if n == 3 else "\x1b[2J" if n == 4 else f" é{n}") for n in range(VOCAB))
    return Vocabulary(text, np.arange(VOCAB), "counted in the test")


def patient(each: Callable[[float], object] = lambda seconds: None) -> Watching:
    """Watch a heartbeat without waiting: `each` is called with the seconds that have passed."""
    passed = [0.0]

    def rest(seconds: float) -> None:
        passed[0] += seconds
        each(passed[0])

    return Watching(monotonic=lambda: passed[0], rest=rest)


def open_writer(
    path: Path,
    clock: Any = None,
    *,
    n_tokens: int = N_TOKENS,
    watching: Watching | None = None,
    divergences: Iterable[str] = USUAL,
) -> StudyWriter:
    """Open, or make, the synthetic study."""
    identity: dict[str, str | int] = {"tokenizer.vocabulary": "abc", "scoring.window": 32}
    chosen = in_order(tuple(divergences))
    header = Header("attacked", identity, {"versions": {"zarr": "3"}}, chosen)
    corpus = make_corpus(n_tokens)
    clock, watching = clock or Clock(), watching or patient()
    return StudyWriter.open(path, header, corpus, make_vocabulary(), clock=clock, watching=watching)


@lru_cache(maxsize=512)
def checkpoint(model: str, seed: str, step: int, n_tokens: int = N_TOKENS) -> Values:
    """What scoring the checkpoint gives."""
    digest = hashlib.sha256(f"{model}/{seed}/{step}".encode()).digest()
    rng = np.random.default_rng(list(digest[:8]))
    logits = rng.normal(0, 2, (n_tokens, VOCAB))
    exact = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    best = np.argsort(-exact, axis=1)[:, :10]
    target = make_corpus(n_tokens).token_id
    unigram = np.log((np.arange(VOCAB) + 1) / (np.arange(VOCAB) + 1).sum())
    return {
        "log_probs": exact.astype(np.float16),
        "surprisal": -exact[np.arange(n_tokens), target].astype(np.float32),
        "entropy": -(np.exp(exact) * exact).sum(1).astype(np.float32),
        "kl_unigram": (np.exp(exact) * (exact - unigram)).sum(1).astype(np.float32),
        "top_id": best.astype(np.int32),
        "top_log_prob": np.take_along_axis(exact, best, 1).astype(np.float32),
    }


def floors(step: int) -> dict[str, float]:
    """The floors that `score` records, nats."""
    return {"storage_floor": 1e-6 * (step + 1), "noise_floor": 1e-7 * (step + 1)}


@lru_cache(maxsize=2048)
def kl(model: str, i: str, j: str, step: int, n_tokens: int = N_TOKENS) -> NDArray[np.float32]:
    """What reducing the pair gives, (token,), nats."""
    p, q = (checkpoint(model, seed, step, n_tokens)["log_probs"].astype(float) for seed in (i, j))
    return np.asarray((np.exp(p) * (p - q)).sum(1), np.float32)


def of_pair(
    model: str, i: str, j: str, step: int, n_tokens: int = N_TOKENS
) -> dict[str, NDArray[np.float32]]:
    """What reducing the pair gives by divergence, (token,)."""
    p, q = (checkpoint(model, seed, step, n_tokens)["log_probs"].astype(float) for seed in (i, j))
    return {
        "kl": kl(model, i, j, step, n_tokens),
        "js": js(model, i, j, step, n_tokens),
        **{name: FORMULAS[name](p, q).astype(np.float32) for name in ("hellinger", "tv")},
    }


@lru_cache(maxsize=2048)
def js(model: str, i: str, j: str, step: int, n_tokens: int = N_TOKENS) -> NDArray[np.float32]:
    """What reducing the pair gives, (token,), nats."""
    p, q = (checkpoint(model, seed, step, n_tokens)["log_probs"].astype(float) for seed in (i, j))
    m = np.logaddexp(p, q) - np.log(2)
    return np.asarray((np.exp(p) * (p - m) + np.exp(q) * (q - m)).sum(1) / 2, np.float32)


def score(
    writer: StudyWriter,
    model: str,
    seed: str,
    step: int,
    *,
    keep: bool = True,
    commit: bool = True,
) -> None:
    """Write one checkpoint in blocks of uneven size, as a scorer does."""
    values = checkpoint(model, seed, step, writer.n_tokens)
    writer.drop_log_probs(model, step, [seed])
    pending = writer.results.begin_checkpoint(model, seed, step, "dense" if keep else "none")
    edges = [0, 7, writer.n_tokens // 2, writer.n_tokens]
    for start, stop in itertools.pairwise(edges):
        pending.append({name: value[start:stop] for name, value in values.items()})
    result = pending.finish(floors(step), {"device": "x"})
    if commit:
        writer.commit(model, step, [result])


def reduce(
    writer: StudyWriter,
    model: str,
    step: int,
    seeds: Iterable[str],
    *,
    references: Iterable[str] = REFERENCES,
    commit: bool = True,
) -> None:
    """Write and commit the pairs among `seeds`, and what there is of these references."""
    seeds, weights = tuple(seeds), "weights of the reference"
    pending = writer.results.begin_pairs(model, step, seeds, tuple(references), weights)
    pending.append(pair_block(writer, model, step, seeds))
    result = pending.finish()
    if commit:
        writer.commit(model, step, pairs=result)


def pair_block(
    writer: StudyWriter, model: str, step: int, seeds: tuple[str, ...]
) -> dict[str, NDArray[np.float32]]:
    """Divergences of all tokens, (token, seed, other_seed) each, as a reducer passes them on."""
    rows = [[of_pair(model, i, j, step, writer.n_tokens) for j in seeds] for i in seeds]
    return {
        name: to_mean(model, seeds, step, writer.n_tokens).T
        if name == TO_MEAN
        else to_reference(name, model, seeds, step, writer.n_tokens).T
        if name in REFERENCES
        else np.array([[of[name] for of in row] for row in rows], np.float32).transpose(2, 0, 1)
        for name in writer.divergences
    }


def to_mean(
    model: str, seeds: tuple[str, ...], step: int, n_tokens: int = N_TOKENS
) -> NDArray[np.float32]:
    """What reducing these seeds together gives, (seed, token), nats."""
    logs = np.stack(
        [checkpoint(model, s, step, n_tokens)["log_probs"].astype(float) for s in seeds]
    )
    mean = np.logaddexp.reduce(logs) - np.log(len(seeds))
    return np.asarray((np.exp(logs) * (logs - mean)).sum(-1), np.float32)


def to_reference(
    name: str, model: str, seeds: tuple[str, ...], step: int, n_tokens: int = N_TOKENS
) -> NDArray[np.float32]:
    """What comparing these seeds with a reference of this name gives, (seed, token), nats."""
    log_q = checkpoint("reference", name, 0, n_tokens)["log_probs"].astype(float)
    logs = [checkpoint(model, s, step, n_tokens)["log_probs"].astype(float) for s in seeds]
    return np.asarray([(np.exp(log_p) * (log_p - log_q)).sum(-1) for log_p in logs], np.float32)


def fill(writer: StudyWriter, model: str, seeds: Iterable[str], steps: Iterable[int]) -> None:
    """Plan, score and reduce every (seed, step), one step after the other."""
    seeds = tuple(seeds)
    for step in steps:
        writer.plan(model, [(seed, step) for seed in seeds], {})
        for seed in seeds:
            score(writer, model, seed, step)
        if len(seeds) > 1:
            reduce(writer, model, step, seeds)
            summarise_step(writer, model, step)


def make_categories(n_tokens: int = N_TOKENS) -> tuple[Category, ...]:
    """All tokens, and three levels of which one is empty and some tokens are in none."""
    index = np.arange(n_tokens, dtype=np.int32)
    return (
        Category("all", ("all",), np.zeros(n_tokens, np.int32), "all tokens"),
        Category("third", ("a", "\x1b[2J", "empty"), index % 3 - 1, "made in the test"),
    )


def summarise_step(writer: StudyWriter, model: str, step: int) -> None:
    """Summarise a step that is reduced, as the engine does."""
    categories = make_categories(writer.n_tokens)
    for category in categories:
        writer.summaries.set_category(category)
    study = writer.study()
    seeds = sorted(study.ledger(model).reduced[step])
    made = summarise(study, model, step, seeds, categories)
    writer.summaries.summarise(model, step, seeds, *made)


def beat(writer: StudyWriter, now: float) -> None:
    """Let the writer's heart beat at this time."""
    writer.beat(EngineStatus(writer.writer, writer.host, writer.pid, now, now, "working"))


def forget_checksums(study: Path) -> None:
    """Write the log as earlier versions did."""
    means = {"cross_entropy", "mean_entropy", "mean_kl_unigram", "means", "sums", "before"}
    for log in (study / "commits").glob("*.log"):
        records = [decode(line) for line in log.read_bytes().splitlines()]
        kept = [
            {k: v for k, v in (r or {}).items() if k not in means and not k.endswith("cells")}
            for r in records
        ]
        log.write_bytes(b"".join(map(encode, kept)))
        log.with_suffix(".end").unlink(missing_ok=True)


# -- comparing -----------------------------------------------------------------------------------


def committed(study: Study) -> dict[tuple[Any, ...], bytes]:
    """Everything the reader shows as committed, as bytes: results, means and log-probs.

    The expected KL of a step is keyed by its seeds: with another seed it is another number.
    """
    found: dict[tuple[Any, ...], bytes] = {}
    for name in study.models:
        known, snapshot = study.ledger(name), study.model_snapshot(name)
        rows = {int(step): row for row, step in enumerate(snapshot.steps)}
        columns = {seed: column for column, seed in enumerate(snapshot.seeds)}
        for seed, step in known.scored:
            at = rows[step], columns[seed]
            for variable in PER_TOKEN:
                values = study.values(name, variable, seed, step)
                found[name, variable, seed, step] = values.tobytes()
            found[name, "cross_entropy", seed, step] = snapshot.cross_entropy[at].tobytes()
            found[name, "mean_entropy", seed, step] = snapshot.entropy[at].tobytes()
            if (seed, step) in known.stored:
                found[name, "log_probs", seed, step] = study.log_probs(name, seed, step)[
                    :
                ].tobytes()
        for probe, keys in known.probed.items():
            for seed, step in keys:
                values = study.probe_values(name, probe, seed, step)
                found[name, "probe", probe, seed, step] = values.tobytes()
        for step, seeds in known.reduced.items():
            members = tuple(sorted(seeds))
            found[name, "expected_kl", members, step] = snapshot.expected_kl[rows[step]].tobytes()
            for i in seeds:
                for variable in known.sets[step].cells if step in known.sets else ():
                    values = study.values(name, variable, i, step)
                    found[name, variable, i, members, step] = values.tobytes()
                for j in seeds - {i}:
                    for variable in {*study.divergences} - {TO_MEAN, *ESTIMATES, *REFERENCES}:
                        values = study.values(name, variable, i, step, j)
                        found[name, variable, i, j, step] = values.tobytes()
                    for variable, values in snapshot.of_states.items():
                        mean = values[rows[step], columns[i], columns[j]]
                        assert np.isfinite(mean)
                        found[name, variable, i, j, step] = mean.tobytes()
                    mean = snapshot.kl[rows[step], columns[i], columns[j]]
                    found[name, "mean_kl", i, j, step] = mean.tobytes()
        for step, summary in list(known.summaries.items()):
            members = tuple(sorted(summary.seeds))
            read = {(name, "token_kl", members, step): study.token_kl(name, step).tobytes()}
            for category in study.categories(name):
                values = study.summary(name, category)
                at = int(np.searchsorted(values.steps, step))
                for field, variable in summaries_of(study.divergences).items():
                    if hasattr(values, field):
                        row = getattr(values, field)[at]
                        if "seed" in variable.dims:
                            row = row[[columns[seed] for seed in members]]
                        read[name, "summary", category, field, members, step] = row.tobytes()
            if study.ledger(name).summaries.get(step) == summary:  # else made again meanwhile
                found |= read
    return found


def expect_nothing_changed(before: Mapping[Any, Any], after: Mapping[Any, Any]) -> None:
    """Fail, naming them, when entries of `before` were deleted from `after` or differ there."""
    wrong = [key for key, value in before.items() if after.get(key) != value]
    assert not wrong, f"{len(wrong)} of {len(before)} gone or changed, first: {wrong[:3]}"


def expect_nothing_uncommitted(store: Path) -> None:
    """Fail when results of the only model "m" lie on disk that no record names."""
    known = Study(store).ledger("m")
    for (seed, s), (step, t) in itertools.product(known.seeds.items(), known.steps.items()):
        if (seed, step) not in known.scored:
            assert not (store / f"models/m/log_probs/{seed}/{step}").exists()
            for name, variable in _VARIABLES.items():
                if variable.per_token and not variable.by_pair:
                    assert not (store / f"models/m/loose/{name}/c/{t}/{s}").exists()
        if step not in known.reduced:
            assert not list((store / "models/m/loose/kl/c" / str(t)).glob("*/*/*"))
            assert not list((store / "models/m/kl").glob(f"c.{t}.*"))
    assert not list(store.rglob("*.partial"))


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Contents and time of every file below `folder`, by relative path."""
    return {
        str(file.relative_to(folder)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def is_mean_or_coordinate(name: str) -> bool:
    """Whether a file's chunk holds many checkpoints, so that growth replaces it."""
    parts = Path(name).parts
    small = {*MEANS, "step", "seed", "other_seed", "summary"}
    return len(parts) > 3 and parts[0] == "models" and parts[2] in small
