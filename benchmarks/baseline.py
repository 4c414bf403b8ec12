"""The usual script that seedconv is measured against; it shares no code with it.

    python -m benchmarks.baseline DIR OUT --seeds 1 2 3 --steps 20 --tokens 2048

Per checkpoint: loaded with `transformers`, one forward pass per window in float32, log-softmax over
the whole vocabulary, surprisal, entropy, top 10 by argsort; log-probs kept as float16 `.npy`. Then
per step and ordered pair of seeds: both files loaded, KL by numpy, block by block.
Writes `.npy` per checkpoint and pair and two CSV files of means; nats throughout. Reads
DIR/runs/seed<seed>/step<step>, DIR/tokenizer and DIR/text.txt. Tells on stderr what it does, one
JSON object a line, with the seconds of each part.

`--arithmetic` says how KL is computed from the float16 files: in float16 as they are, as such
scripts do, or in float32. float16 is the slower, because nearly all p (log p - log q) are subnormal
there. With both, pairs are compared twice, and each says what it took.
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
from numpy.typing import NDArray
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
) -> NDArray[np.float32]:
    """Log-probs of one checkpoint, (token, vocab)."""
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
        parts.append(torch.log_softmax(logits, dim=-1)[new - start :].cpu().numpy())
        clock.lap("log_softmax")
    return np.concatenate(parts)


def score(
    seed: int, step: int, ids: torch.Tensor, options: argparse.Namespace, clock: Clock
) -> dict[str, Any]:
    """Score one checkpoint, write what is kept of it, and return its means."""
    folder = options.folder / "runs" / f"seed{seed}" / f"step{step}"
    log_probs = log_probs_of(folder, ids, options, clock)
    name = f"seed{seed}_step{step}.npy"
    targets = ids[1:].numpy()
    surprisal = -log_probs[np.arange(len(targets)), targets]
    entropy = -(np.exp(log_probs) * log_probs).sum(axis=-1)
    clock.lap("surprisal_entropy")
    top_id = np.argsort(-log_probs, axis=-1)[:, :TOP]
    top_log_prob = np.take_along_axis(log_probs, top_id, axis=-1)
    clock.lap("top_10")
    np.save(options.out / f"log_probs_{name}", log_probs.astype(np.float16))
    for kind, values in {
        "surprisal": surprisal,
        "entropy": entropy,
        "top_id": top_id.astype(np.int32),
        "top_log_prob": top_log_prob,
    }.items():
        np.save(options.out / f"{kind}_{name}", values)
    clock.lap("save")
    tell("scored", seed=seed, step=step)
    means = {"surprisal": surprisal.mean(dtype=np.float64), "entropy": entropy.mean(dtype=float)}
    return {"seed": seed, "step": step, **means}


def compare(
    i: int, j: int, step: int, dtype: str, options: argparse.Namespace, clock: Clock
) -> dict[str, Any]:
    """KL of one ordered pair at every token, from the files; returns its mean."""
    a = np.load(options.out / f"log_probs_seed{i}_step{step}.npy")
    b = np.load(options.out / f"log_probs_seed{j}_step{step}.npy")
    clock.lap("read_pairs")
    kl = np.empty(len(a), dtype)
    for start in range(0, len(a), BLOCK):
        p = a[start : start + BLOCK].astype(dtype, copy=False)
        q = b[start : start + BLOCK].astype(dtype, copy=False)
        kl[start : start + BLOCK] = (np.exp(p) * (p - q)).sum(axis=-1)
    np.save(options.out / f"kl_{dtype}_seed{i}_seed{j}_step{step}.npy", kl)
    clock.lap("pairs")
    return {"step": step, "seed": i, "other_seed": j, "kl": kl.mean(dtype=np.float64)}


def write_table(file: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows as CSV."""
    with file.open("w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def main() -> None:
    """Score all checkpoints, then compare all pairs."""
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
    kinds = ["float16", "float32"]
    parser.add_argument("--arithmetic", nargs="+", choices=kinds, default=kinds[:1])
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(options.folder / "tokenizer")
    text = (options.folder / "text.txt").read_text(encoding="utf-8")
    ids = torch.tensor([tokenizer.bos_token_id, *tokenizer(text)["input_ids"]])
    ids = ids[: options.tokens + 1]
    tell("started")
    clock = Clock()
    checkpoints = [
        score(seed, step, ids, options, clock)
        for step, seed in itertools.product(options.steps, options.seeds)
    ]
    write_table(options.out / "checkpoints.csv", checkpoints)
    tell("scored_all", seconds=clock.seconds)
    for dtype in options.arithmetic:
        clock = Clock()
        pairs = [
            compare(i, j, step, dtype, options, clock)
            for step in options.steps
            for i, j in itertools.permutations(options.seeds, 2)
        ]
        write_table(options.out / f"pairs_{dtype}.csv", pairs)
        tell("compared", arithmetic=dtype, seconds=clock.seconds)


if __name__ == "__main__":
    main()
