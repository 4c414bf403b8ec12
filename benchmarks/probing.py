"""What a probe takes in addition to the corpus: `python -m benchmarks.probing`.

Tokens a second of minimal pairs as short as BLiMP's, of words of the held-out text, and of the
corpus itself, by the events of `seedconv run`: of a checkpoint whose weights are read while another
one is at work.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import shutil
from pathlib import Path
from statistics import median
from typing import Any

from tokenizers import Tokenizer

from benchmarks.run import (
    SEEDCONV,
    add_options,
    add_save,
    checkpoints,
    measure,
    report,
)
from benchmarks.study import SEEDS, STEPS, Study

_WORDS = range(4, 13)  # of a sentence, about as BLiMP's


def write_pairs(folder: Path, n: int) -> int:
    """Write pairs in BLiMP's form to `folder`/pairs; how many tokens their sentences have."""
    words = (folder / "text.txt").read_text(encoding="utf-8").split()
    draw = random.Random(0)
    (folder / "pairs").mkdir(exist_ok=True)
    sentences = []
    for _ in range(n):
        start, length = draw.randrange(len(words) - 20), draw.choice(_WORDS)
        good = words[start : start + length]
        sentences.append((" ".join(good), " ".join([*good[1:], good[0]])))
    lines = (
        json.dumps({"sentence_good": good, "sentence_bad": bad, "UID": "words"})
        for good, bad in sentences
    )
    (folder / "pairs/words.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer/tokenizer.json"))
    encoded = tokenizer.encode_batch(list(itertools.chain(*sentences)), add_special_tokens=False)
    return sum(map(len, encoded))


def ask(study: Study, n: int) -> tuple[float, float]:
    """Tokens a second of the last checkpoint: of the corpus, and of `n` pairs."""
    tokens, file = write_pairs(study.folder, n), study.write()
    with file.open("a", encoding="utf-8") as stream:
        stream.write('\n[[probes]]\nname = "pairs"\nkind = "blimp"\nfolder = "pairs"\n')
    shutil.rmtree(study.store, ignore_errors=True)
    events = measure([*SEEDCONV, "run", "--json", str(file)]).events
    scored = [event["fields"]["seconds"] for event in events if event["event"] == "scored"]
    probed = [event["time"] for event in events if event["event"] == "probed"]
    return study.tokens / scored[-1], tokens / (probed[-1] - probed[-2])


def run_all(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Rates of the corpus and of pairs and their ratio; medians over the rounds."""
    study = Study(
        folder, options.tokens, "factored", options.device, seeds=SEEDS[:2], steps=STEPS[:1]
    )
    rates = [ask(study, options.pairs) for _ in range(options.rounds)]
    of_corpus, of_pairs = (median(column) for column in zip(*rates, strict=True))
    return {
        "corpus_tokens": options.tokens,
        "corpus_tokens_per_second": round(of_corpus),
        "pairs": options.pairs,
        "probe_tokens_per_second": round(of_pairs),
        "probe_over_corpus": round(median(pairs / corpus for corpus, pairs in rates), 2),
        "rounds": [[round(corpus), round(pairs)] for corpus, pairs in rates],
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_options(parser, tokens=4096)
    add_save(parser)
    parser.add_argument("--pairs", type=int, default=1000, help="pairs of the probe (1,000)")
    parser.add_argument("--rounds", type=int, default=3, help="runs; medians are reported")
    options = parser.parse_args()
    with checkpoints(options) as folder:
        result = run_all(folder, options)
    report("probing", result, options)


if __name__ == "__main__":
    main()
