"""What scoring adds to the work it cannot avoid: `python -m benchmarks.efficiency`.

Wall of scoring over the larger of the pure forward time and the pure write time, all in one run on
the same checkpoints. Wall of scoring: `seedconv run`, from the end of its start-up to the last
checkpoint scored, reading weights included; where nothing is kept, reducing too. Pure forward: the
same windows through the same models, the output layer for new tokens only, nothing done with what
comes out. Pure write: log-probs of the same models through the store's writer, commits included.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM

from benchmarks.baseline import windows
from benchmarks.run import Measured, add_options, add_save, checkpoints, report, run_study
from benchmarks.study import OVERLAP, REPRESENTATIONS, SEEDS, STEPS, VOCAB, WINDOW, Study
from store import open_study
from store.schema import OutputLayer, Vocabulary
from store.writing import Header, StudyWriter

_BLOCK = 1024  # tokens handed to the writer at once


def forward(model: Any, ids: torch.Tensor, batch: int) -> float:
    """Seconds for all windows of ids (token,), `batch` of them at once; the device waited for."""
    plan = list(windows(len(ids), WINDOW, OVERLAP))
    wait = torch.cuda.synchronize if ids.is_cuda else lambda: None
    wait()
    start = time.perf_counter()
    with torch.inference_mode():
        for shape in dict.fromkeys((stop - begin, stop - new) for begin, stop, new in plan):
            alike = [w for w in plan if (w[1] - w[0], w[1] - w[2]) == shape]
            for first in range(0, len(alike), batch):
                rows = torch.stack([ids[a:b] for a, b, _ in alike[first : first + batch]])
                model(rows, use_cache=False, logits_to_keep=shape[1])
    wait()
    return time.perf_counter() - start


def results(model: Any, ids: torch.Tensor) -> Iterator[dict[str, NDArray[Any]]]:
    """What scoring gives of a model, a run of tokens at a time."""
    for start, stop, new in windows(len(ids), WINDOW, OVERLAP):
        with torch.inference_mode():
            states = model.base_model(ids[None, start:stop]).last_hidden_state[0, new - start :]
            for hidden in states.split(_BLOCK):
                log_p = model.get_output_embeddings()(hidden).log_softmax(-1)
                top_log_prob, top_id = log_p.topk(10)
                block = {
                    "log_probs": log_p.half(),
                    "hidden": hidden,
                    "surprisal": -log_p[:, 0],
                    "entropy": -(log_p.exp() * log_p).sum(-1),
                    "kl_unigram": (log_p.exp() * (log_p + math.log(VOCAB))).sum(-1),
                    "top_id": top_id.int(),
                    "top_log_prob": top_log_prob,
                }
                yield {name: values.cpu().numpy() for name, values in block.items()}


class Writing:
    """The store's writer alone."""

    def __init__(self, path: Path, kept: str, corpus: Any) -> None:
        vocabulary = Vocabulary(("x",) * VOCAB, np.ones(VOCAB, np.int64), "none")
        self.writer = StudyWriter.open(path, Header("efficiency", {}), corpus, vocabulary)
        self.writer.plan("m", [(str(seed), 0) for seed in SEEDS], {})
        self.kept: Any = kept
        self.seconds = 0.0

    def write(self, seed: int, blocks: list[dict[str, NDArray[Any]]], weight: NDArray[Any]) -> None:
        """Write and commit one checkpoint."""
        start = time.perf_counter()
        layer = OutputLayer(weight, None) if self.kept == "factored" else None
        pending = self.writer.results.begin_checkpoint("m", str(seed), 0, self.kept, layer)
        for block in blocks:
            pending.append(block)
        floors = {"storage_floor": 0.0, "noise_floor": 0.0}
        self.writer.commit("m", 0, [pending.finish(floors, {})])
        self.seconds += time.perf_counter() - start


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
