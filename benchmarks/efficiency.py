"""What scoring adds to the work it cannot avoid: `python -m benchmarks.efficiency`.

Wall of scoring over the larger of the pure forward time and the pure write time, all in one run on
the same checkpoints. Wall of scoring: `seedconv run`, from the end of its start-up to the last
checkpoint scored, reading weights included; where nothing is kept, reducing too. Pure forward: the
same windows through the same models, the output layer for new tokens only, nothing done with what
comes out. Pure write: log-probs of the same models through the store's writer, commits included.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

from benchmarks.bare_work import Writing, forward, results
from benchmarks.run import Measured, add_options, add_save, checkpoints, report, run_study
from benchmarks.study import REPRESENTATIONS, SEEDS, STEPS, Study
from store import open_study


def alone(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the forward passes by themselves, and of each way of writing by itself."""
    corpus = open_study(Study(folder, options.tokens, "none").store).corpus
    ids = torch.tensor(np.concatenate([corpus.context_id[:1], corpus.token_id[:-1]]))
    ids = ids.long().to(options.device)
    seconds = {1: 0.0, 4: 0.0}
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        writers = {kept: Writing(Path(scratch) / kept, kept, corpus) for kept in REPRESENTATIONS}
        for seed in SEEDS:
            source = folder / "runs" / f"seed{seed}" / f"step{STEPS[0]}"
            model: Any = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
            model.to(options.device).eval()
            if seed == SEEDS[0]:
                forward(model, ids, 1)  # not charged: what a device does once
            for batch in seconds:
                seconds[batch] += forward(model, ids, batch)
            blocks = list(results(model, ids))
            weight = model.get_output_embeddings().weight.detach().cpu().numpy()
            for writing in writers.values():
                writing.write(seed, blocks, weight)
        for writing in writers.values():
            writing.writer.close("finished")
    return {
        "forward": min(seconds.values()),  # by one or by four windows, whichever is faster
        "write": {kept: writing.seconds for kept, writing in writers.items()},
    }


def run_all(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and ratios of every representation; medians over the rounds."""
    transformers.utils.logging.disable_progress_bar()
    torch.backends.cuda.matmul.allow_tf32 = False
    runs: dict[str, list[Measured]] = {kept: [] for kept in REPRESENTATIONS}
    pure = []
    for _ in range(options.rounds):
        for kept in REPRESENTATIONS:
            study = Study(folder, options.tokens, kept, options.device, SEEDS, STEPS[:1])
            runs[kept].append(run_study(study))
        pure.append(alone(folder, options))
    ahead = median(one["forward"] for one in pure)
    result: dict[str, Any] = {
        "tokens": options.tokens,
        "checkpoints": f"{len(SEEDS)} seeds x 1 step",
        "forward_seconds": round(ahead, 3),
    }
    for kept in REPRESENTATIONS:
        write = median(one["write"][kept] for one in pure)
        scoring = median(run.seconds_to_last("scored") for run in runs[kept])
        result[kept] = {
            "scoring_seconds": round(scoring, 3),
            "write_seconds": round(write, 3),
            "scoring_over_larger": round(scoring / max(ahead, write), 2),
            "scoring_over_sum": round(scoring / (ahead + write), 2),
        }
    return result


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add_options(parser, tokens=4096)
    add_save(parser)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; medians are reported")
    options = parser.parse_args()
    with checkpoints(options) as folder:
        result = run_all(folder, options)
    report("efficiency", result, options)


if __name__ == "__main__":
    main()
