"""Peak memory of `seedconv run` by size of the corpus: `python -m benchmarks.memory`.

The most memory the command had resident at once, for a corpus and one four times as long. `beside`
is what remains of it without three things: weights, one block of log-probs per seed (float32, a
chunk of the store), the libraries as loaded (the command with nothing left to do).
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.run import SEEDCONV, add_options, add_save, checkpoints, measure, report, run_study
from benchmarks.study import REPRESENTATIONS, SEEDS, STEPS, VOCAB, Study
from store.schema import log_prob_rows

_SEEDS = SEEDS[:3]


def peak(folder: Path, kept: str, options: argparse.Namespace) -> dict[str, Any]:
    """Peaks of one representation, MB."""
    result: dict[str, Any] = {}
    seed = folder / "runs" / f"seed{_SEEDS[0]}" / f"step{STEPS[0]}"
    weights = sum(file.stat().st_size for file in seed.glob("*.safetensors"))
    held = (len(_SEEDS) if kept == "none" else 1) * weights
    blocks = len(_SEEDS) * log_prob_rows(VOCAB) * VOCAB * 4
    for times in (1, 4):
        study = Study(folder, times * options.tokens, kept, options.device, _SEEDS, STEPS[:1])
        result[f"peak_mb_{times}x"] = round(run_study(study).peak_mb)
        if times == 4:
            idle = measure([*SEEDCONV, "run", "--json", str(study.write())]).peak_mb
    return result | {
        "growth": round(result["peak_mb_4x"] / result["peak_mb_1x"], 3),
        "libraries_mb": round(idle),
        "weights_mb": round(held / 2**20),
        "blocks_mb": round(blocks / 2**20),
        "beside_mb": round(result["peak_mb_4x"] - idle - (held + blocks) / 2**20),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_options(parser, tokens=2048)
    add_save(parser)
    options = parser.parse_args()
    with checkpoints(options) as folder:
        result = {kept: peak(folder, kept, options) for kept in REPRESENTATIONS}
    report("memory", {"tokens": options.tokens, "seeds": len(_SEEDS), **result}, options)


if __name__ == "__main__":
    main()
