"""How time grows with a study: `python -m benchmarks.scaling`.

Steps, seeds, tokens and vocabulary are doubled in turn from a small study. Seconds are those of
`seedconv run` without its start-up; `times` is by how much they grew, `expected` what the work
grows by: checkpoints x tokens x vocabulary, and pairs on top of that for seeds.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.run import add_options, add_save, checkpoints, report, run_study
from benchmarks.study import REPRESENTATIONS, SEEDS, STEPS, VOCAB, Study

_HALF = VOCAB // 2


def halve_vocabulary(source: Path, target: Path) -> None:
    """The same text, tokenizer and models, with the first half of the vocabulary.

    Entries of a BPE are in the order in which they were merged, so the first half is the tokenizer
    that stopped half-way.
    """
    if (target / "text.txt").exists():
        return
    import transformers
    from transformers import AutoModelForCausalLM

    transformers.utils.logging.disable_progress_bar()
    tokenizer = json.loads((source / "tokenizer/tokenizer.json").read_text(encoding="utf-8"))
    model = tokenizer["model"]
    model["vocab"] = {token: n for token, n in model["vocab"].items() if n < _HALF}
    model["merges"] = [pair for pair in model["merges"] if "".join(pair) in model["vocab"]]
    (target / "tokenizer").mkdir(parents=True, exist_ok=True)
    (target / "tokenizer/tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = (source / "tokenizer/tokenizer_config.json").read_text(encoding="utf-8")
    (target / "tokenizer/tokenizer_config.json").write_text(settings, encoding="utf-8")
    for seed in SEEDS:
        for step in STEPS[:2]:
            name = f"runs/seed{seed}/step{step}"
            whole: Any = AutoModelForCausalLM.from_pretrained(source / name)
            whole.resize_token_embeddings(_HALF)
            whole.save_pretrained(target / name)
    (target / "text.txt").write_bytes((source / "text.txt").read_bytes())


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_options(parser, tokens=4096)
    add_save(parser)
    parser.add_argument("--kept", nargs="+", choices=REPRESENTATIONS, default=REPRESENTATIONS)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; medians are reported")
    options = parser.parse_args()
    result: dict[str, Any] = {}
    with checkpoints(options) as folder:
        half = folder / "half"
        halve_vocabulary(folder, half)
        for kept in options.kept:
            base = Study(half, options.tokens, kept, options.device, SEEDS[:2], STEPS[:1])
            studies = {
                "base": base,
                "steps": replace(base, steps=STEPS[:2]),
                "seeds": replace(base, seeds=SEEDS[:4]),
                "tokens": replace(base, tokens=2 * options.tokens),
                "vocabulary": replace(base, folder=folder),
            }
            seconds: dict[str, list[float]] = {name: [] for name in studies}
            for _ in range(options.rounds):  # taking turns, so that all meet the same machine
                for name, study in studies.items():
                    seconds[name].append(run_study(study).work)
            took = {name: median(seconds[name]) for name in seconds}
            result[kept] = {
                "base_seconds": round(took.pop("base"), 2),
                "times": {n: round(took[n] / median(seconds["base"]), 2) for n in took},
            }
    shape = {"seeds": 2, "steps": 1, "tokens": options.tokens, "vocabulary": _HALF}
    expected = {"steps": 2, "seeds": "2 to 6", "tokens": 2, "vocabulary": 2}
    report("scaling", {"base": shape, "expected": expected, **result}, options)


if __name__ == "__main__":
    main()
