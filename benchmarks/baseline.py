"""A script like the paper's, which seedconv is measured against; it shares no code with it.

    python -m benchmarks.baseline DIR OUT --seeds 1 2 3 --steps 20 --tokens 2048

Step by step: each seed's checkpoint loaded with `transformers`, one forward pass per window in
float32, log-softmax over the whole vocabulary, surprisal, entropy, the top 10 by `argsort`; then KL
of each ordered pair of seeds by torch in float32, block by block, from the step's log-probs, which
are all kept in memory. Writes `.npy` per checkpoint and pair and two CSV files of means; nats
throughout. Log-probs are not written, so that its time is the least that such a script takes.
Reads DIR/runs/seed<seed>/step<step>, DIR/tokenizer and DIR/text.txt. Says on stderr what it does,
one JSON object a line, with the seconds of each part.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

TOP = 10
BLOCK = 256  # tokens of a pair at once


class Clock:
    """Seconds per part of the work: each lap is charged to what it is called."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Charge the time since the last lap."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now


def tell(event: str, **fields: Any) -> None:
    """Say what happened, for programs."""
    print(json.dumps({"time": time.time(), "event": event, **fields}), file=sys.stderr, flush=True)


def windows(n_inputs: int, window: int, overlap: int) -> Iterator[tuple[int, int, int]]:
    """(start, stop, first new position) of each window."""
    done = start = 0
    while done < n_inputs:
        stop = min(start + window, n_inputs)
        yield start, stop, done
        done, start = stop, start + window - overlap


def log_probs_of(
    folder: Path, ids: torch.Tensor, options: argparse.Namespace, clock: Clock
) -> torch.Tensor:
    """Log-probs of one checkpoint, (token, vocab), float32, in the host's memory."""
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.to(options.device).eval()
    clock.lap("load")
    parts = []
    for start, stop, new in windows(len(ids) - 1, options.window, options.overlap):
        with torch.no_grad():
            logits = model(ids[None, start:stop].to(options.device)).logits[0]
        if options.device != "cpu":
            torch.cuda.synchronize()
        clock.lap("forward")
        parts.append(torch.log_softmax(logits[new - start :], dim=-1).cpu())
        clock.lap("log_softmax")
    return torch.cat(parts)


def score(
    seed: int, step: int, ids: torch.Tensor, options: argparse.Namespace, clock: Clock
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Score one checkpoint and write its results; return its log-probs and its means."""
    folder = options.folder / "runs" / f"seed{seed}" / f"step{step}"
    log_probs = log_probs_of(folder, ids, options, clock)
    surprisal = -log_probs.gather(1, ids[1:, None])[:, 0]
    entropy, top_id, top_log_prob = [], [], []
    for block in log_probs.split(BLOCK):
        entropy.append(-(block.exp() * block).sum(-1))
        clock.lap("surprisal_entropy")
        top = torch.argsort(block, dim=-1, descending=True)[:, :TOP]
        top_id.append(top.int())
        top_log_prob.append(block.gather(1, top))
        clock.lap("top_10")
    values = {
        "surprisal": surprisal,
        "entropy": torch.cat(entropy),
        "top_id": torch.cat(top_id),
        "top_log_prob": torch.cat(top_log_prob),
    }
    for kind, found in values.items():
        np.save(options.out / f"{kind}_seed{seed}_step{step}.npy", found.numpy())
    clock.lap("save")
    tell("scored", seed=seed, step=step)
    means = {name: float(values[name].double().mean()) for name in ("surprisal", "entropy")}
    return log_probs, {"seed": seed, "step": step, **means}


def compare(
    log_probs: dict[int, torch.Tensor], i: int, j: int, step: int, options: argparse.Namespace
) -> dict[str, Any]:
    """KL of one ordered pair at every token; returns its mean."""
    blocks = zip(log_probs[i].split(BLOCK), log_probs[j].split(BLOCK), strict=True)
    kl = torch.cat([(p.exp() * (p - q)).sum(-1) for p, q in blocks])
    np.save(options.out / f"kl_seed{i}_seed{j}_step{step}.npy", kl.numpy())
    return {"step": step, "seed": i, "other_seed": j, "kl": float(kl.double().mean())}


def write_table(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def main() -> None:
    """Score all checkpoints and compare all pairs, step by step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--steps", type=int, nargs="+", required=True)
    parser.add_argument("--tokens", type=int, required=True)
    parser.add_argument("--window", type=int, default=2048)
    parser.add_argument("--overlap", type=int, default=1024)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(options.folder / "tokenizer")
    text = (options.folder / "text.txt").read_text(encoding="utf-8")
    ids = torch.tensor([tokenizer.bos_token_id, *tokenizer(text)["input_ids"]])
    ids = ids[: options.tokens + 1]
    tell("started")
    clock = Clock()
    checkpoints, pairs = [], []
    for step in options.steps:
        log_probs = {}
        for seed in options.seeds:
            log_probs[seed], means = score(seed, step, ids, options, clock)
            checkpoints.append(means)
        for i, j in itertools.permutations(options.seeds, 2):
            pairs.append(compare(log_probs, i, j, step, options))
        clock.lap("pairs")
    write_table(options.out / "checkpoints.csv", checkpoints)
    write_table(options.out / "pairs.csv", pairs)
    tell("ended", seconds=clock.seconds)


if __name__ == "__main__":
    main()
