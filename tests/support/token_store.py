"""A small real store over any text, for the tests of what shows tokens.

Every number is a function of (seed, step, token), so a test can say what must be shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from store.schema import TOP, Corpus, Vocabulary
from store.writing import Header, StudyWriter
from tests.support.made_store import Clock

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

SEEDS = ("a", "b", "c")
STEPS = (0, 8, 64)
MODEL = "m"

PLAIN = [
    *("The", " quick", " brown", " fox", " jumps", " over", " the", " lazy", " dog", ".", "\n\n"),
    *(" A", " sec", "ond", " line", ",", " with", " the", " fox", " again", ".", "\n\n"),
]
HOSTILE = [
    *(
        "[bold]",
        "\x1b[2J",
        "\u202eabc",
        "a\u200bb",
        "\U0001f600",
        "\t",
        "\0",
        "漢字",
        "שלום",
        "\x9b31m",
    ),
    *(
        "e\u0301",
        "\u0301",
        "",
        "\u2764\ufe0f",
        "\U0001f468\u200d\U0001f469",
        "[/]",
        "\ud800",
        " end",
    ),
]


def corpus_of(pieces: Sequence[str], documents: Sequence[int] = (0,)) -> Corpus:
    """A corpus with a token for each piece; `documents` are the tokens at which one begins."""
    ends = np.cumsum([len(piece) for piece in pieces]).astype(np.int64)
    words = sorted(set(pieces))
    numbers = {word: number for number, word in enumerate(words)}
    token_id = np.array([numbers[piece] for piece in pieces], np.int32)
    document = np.searchsorted(documents, np.arange(len(pieces)), "right").astype(np.int32) - 1
    starts = np.concatenate([[0], ends[:-1]])
    return Corpus(
        token_id=token_id,
        context_id=np.roll(token_id, 1),
        document=document,
        char_start=starts,
        char_end=ends,
        text="".join(pieces),
        document_start=starts[list(documents)],
        document_name=tuple(f"text-{n}.txt" for n in range(len(documents))),
    )


def token_kl(i: int, j: int, step: int, n: int) -> NDArray[np.float32]:
    """KL from seed i to seed j at each token, nats."""
    return np.random.default_rng([i, j, step]).gamma(0.5, 0.6, n).astype(np.float32)


def mean_token_kl(step: int, n: int, n_seeds: int = len(SEEDS)) -> NDArray[np.float32]:
    """KL at each token over ordered pairs, nats."""
    pairs = [(i, j) for i in range(n_seeds) for j in range(n_seeds) if i != j]
    total = sum(token_kl(i, j, step, n).astype(np.float64) for i, j in pairs)
    return np.asarray(total / len(pairs), np.float32)


def checkpoint(seed: int, step: int, n: int, n_words: int) -> dict[str, NDArray[Any]]:
    """What scoring a checkpoint gives."""
    rng = np.random.default_rng([seed, step])
    probability = np.sort(rng.dirichlet(np.ones(TOP), n), axis=1)[:, ::-1]
    best = (rng.integers(0, n_words, (n, 1)) + np.arange(TOP)) % n_words
    return {
        "surprisal": rng.exponential(3, n).astype(np.float32),
        "entropy": rng.exponential(3, n).astype(np.float32),
        "kl_unigram": rng.exponential(3, n).astype(np.float32),
        "top_id": best.astype(np.int32),
        "top_log_prob": np.log(probability).astype(np.float32),
    }


def open_writer(path: Path, pieces: Sequence[str], documents: Sequence[int] = (0,)) -> StudyWriter:
    """Makes the store, with nothing scored yet."""
    words = sorted(set(pieces))
    vocabulary = Vocabulary(tuple(words), np.arange(len(words)), "counted in the test")
    corpus = corpus_of(pieces, documents)
    return StudyWriter.open(path, Header("text", {}, {}), corpus, vocabulary, clock=Clock())


def add_step(
    writer: StudyWriter, step: int, seeds: Sequence[str] = SEEDS, *, summarise: bool = True
) -> None:
    """Scores one step; with several seeds, reduces and summarises it."""
    n, n_words = writer.n_tokens, writer.vocab_size
    writer.plan(MODEL, [(seed, step) for seed in seeds], {})
    for number, seed in enumerate(seeds):
        pending = writer.results.begin_checkpoint(MODEL, seed, step, "none")
        pending.append(checkpoint(number, step, n, n_words))
        floors = {"storage_floor": 0.0, "noise_floor": 0.0}
        writer.commit(MODEL, step, [pending.finish(floors, {})])
    if len(seeds) < 2:
        return
    pairs = writer.results.begin_pairs(MODEL, step, tuple(seeds))
    kl = np.zeros((n, len(seeds), len(seeds)), np.float32)
    for i in range(len(seeds)):
        for j in range(len(seeds)):
            kl[:, i, j] = 0 if i == j else token_kl(i, j, step, n)
    pairs.append({"kl": kl, "js": kl / 4})
    writer.commit(MODEL, step, pairs=pairs.finish())
    if summarise:
        writer.summaries.summarise(MODEL, step, seeds, mean_token_kl(step, n, len(seeds)), {})


def make_store(
    path: Path,
    pieces: Sequence[str] = PLAIN,
    *,
    steps: Sequence[int] = STEPS,
    seeds: Sequence[str] = SEEDS,
    documents: Sequence[int] = (0,),
) -> Path:
    """A finished study over the pieces."""
    writer = open_writer(path, pieces, documents)
    for step in steps:
        add_step(writer, step, seeds)
    writer.close("finished")
    return path
