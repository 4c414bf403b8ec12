"""Time to summarise one step by all categories: `python -m benchmarks.summaries`.

100,000 tokens of Python's documentation, 10 seeds (90 pairs), every category of the study file.
Per-token results are random numbers: only their size matters. The first step also reads what the
operating system does not have in memory; the median is of the others. Prints JSON.
"""

from __future__ import annotations

import itertools
import json
import tempfile
import time
from pathlib import Path
from pydoc_data.topics import topics
from statistics import median
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from benchmarks.run import machine
from engine.categories.partition import build_categories, context_targets, surprisal_category
from engine.study_file.file import StudyFile
from engine.text.evaluation_text import build_text
from engine.text.tokenizer import Tokenizer, entry_names
from store.analysis import summarise
from store.schema import VARIABLES, Category, Vocabulary
from store.writing import Header, StudyWriter

TOKENS, SEEDS, STEPS = 100_000, 10, 4
_ENTRIES = 8192  # of the vocabulary
LABELS = tuple(map(str, range(SEEDS)))
_SEPARATOR, _BLOCK = "\n\f\n", 5_000


def categories(folder: Path) -> tuple[tuple[Category, ...], Any, float]:
    """All categories of a corpus, the corpus, and the seconds that making them took."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    texts = list(topics.values())
    trainer = trainers.BpeTrainer(vocab_size=_ENTRIES, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=backend)
    tokenizer = Tokenizer(
        load=lambda: fast,
        size=backend.get_vocab_size(),
        digest="",
        bos=0,
        end_of_text=0,
        pad=0,
        mask=None,
        vocabulary=fast.get_vocab(),
        marks=frozenset(),
        names=entry_names(fast.get_vocab()),
        added=frozenset(),
        special={},
    )
    text = _SEPARATOR.join(itertools.chain(texts, texts))
    (folder / "text.txt").write_text(text, encoding="utf-8")
    study = StudyFile.model_validate(
        {
            "study": {"name": "summaries", "store": "study.zarr"},
            "corpus": {"files": ["text.txt"], "separator": _SEPARATOR, "max_tokens": TOKENS},
            "tokenizer": {"source": "none"},
            "models": [{"name": "m", "source": "runs/{seed}/{step}"}],
            "folder": folder,
        }
    )
    made = build_text(study, tokenizer)
    start = time.perf_counter()
    found = build_categories(study, tokenizer, made)
    seconds = time.perf_counter() - start
    surprisal = np.random.default_rng(0).exponential(3, len(made.corpus))
    context = context_targets(made)
    own = (
        surprisal_category("surprisal", surprisal, 0),
        surprisal_category("surprisal_context", surprisal, 0, context),
    )
    return (*found, *own), made.corpus, seconds


def fill(writer: StudyWriter, step: int) -> None:
    """One step of random results, as large as real ones."""
    rng = np.random.default_rng(step)
    n = writer.n_tokens
    writer.plan("m", [(seed, step) for seed in LABELS], {})
    results = []
    for seed in LABELS:
        pending = writer.results.begin_checkpoint("m", seed, step, "none")
        values: dict[str, Any] = {
            name: rng.exponential(2, (n, 10) if "rank" in variable.dims else n).astype(
                variable.dtype
            )
            for name, variable in VARIABLES.items()
            if variable.of_checkpoint
        }
        pending.append(values)
        results.append(pending.finish({"storage_floor": 0.0, "noise_floor": 0.0}, {}))
    pairs = writer.results.begin_pairs("m", step, LABELS)
    for start in range(0, n, _BLOCK):
        size = min(_BLOCK, n - start), SEEDS, SEEDS
        pairs.append({name: rng.exponential(1, size).astype(np.float32) for name in ("kl", "js")})
    writer.commit("m", step, results, pairs.finish())


def main() -> None:
    """Run."""
    compute, write = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        parts, corpus, seconds = categories(folder)
        vocabulary = Vocabulary(("x",) * _ENTRIES, np.ones(_ENTRIES, np.int64), "none")
        writer = StudyWriter.open(folder / "study.zarr", Header("b", {}), corpus, vocabulary)
        for step in range(STEPS):
            fill(writer, step)
        for category in parts:
            writer.summaries.set_category(category)
        study = writer.study()
        for step in range(STEPS):
            clock = time.perf_counter()
            made = summarise(study, "m", step, LABELS, parts)
            compute.append(time.perf_counter() - clock)
            clock = time.perf_counter()
            writer.summaries.summarise("m", step, LABELS, *made)
            write.append(time.perf_counter() - clock)
        writer.close("finished")
    result = {
        "tokens": len(corpus),
        "pairs": SEEDS * (SEEDS - 1),
        "categories": len(parts),
        "levels": sum(len(category.labels) for category in parts),
        "documents": len(corpus.document_name),
        "make_categories_seconds": round(seconds, 2),
        "summarise_seconds": round(median(compute[1:]), 3),
        "commit_seconds": round(median(write[1:]), 3),
        "first_seconds": round(compute[0] + write[0], 3),
    }
    print(json.dumps({"summaries": result, "machine": machine("cpu")}, indent=2))


if __name__ == "__main__":
    main()
