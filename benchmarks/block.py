"""What a block of log-probs costs in addition to the forward pass: `python -m benchmarks.block`.

Nanoseconds of one thread for each log-prob of one of five seeds, on random data, each part by
itself; seeds are compared by KL and Jensen-Shannon in the plain way and by compiled code. Then
bytes that go through a GPU's memory for each, and kernels for a block, counted without a GPU
(`tests.support.block_traffic`).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.run import add_save, least_cpu_seconds, report
from engine.models.output_head import Head
from engine.scoring.blocks import _exp, _summarise
from engine.scoring.compiled import Comparison
from engine.scoring.divergence import SPARE, divergences
from engine.scoring.scorer import rows_within
from engine.scoring.top_predictions import largest
from store.schema import TOP
from tests.support.block_traffic import HIDDEN, SEEDS, VOCAB, count_block

PRODUCT_BYTES, BLOCK_BYTES = 2**25, 2**20  # as on a CPU
NAMES = ("kl", "js")


def nanoseconds(work: Callable[[], Any], log_probs: int, times: int = 10) -> float:
    """CPU time of one call for each log-prob; the least of several."""
    return round(1e9 * least_cpu_seconds(work, times) / log_probs, 2)


@torch.inference_mode()
def time_parts() -> dict[str, Any]:
    """Each part of the block on its own."""
    rows, product_rows = (rows_within(n, VOCAB) for n in (BLOCK_BYTES, PRODUCT_BYTES))
    head = Head(torch.randn(VOCAB, HIDDEN), None)
    hidden, logits = torch.randn(product_rows, HIDDEN), torch.empty(product_rows, VOCAB)
    found = {"output product": nanoseconds(lambda: head.logits(hidden, logits), logits.numel(), 3)}
    several = 3 * torch.randn(1, rows, VOCAB) + torch.randn(SEEDS, rows, VOCAB)
    kept = several.log_softmax(-1)
    log_p, p = kept.clone(), kept.exp()
    spare, unigram = torch.empty(SPARE, rows, VOCAB), torch.randn(VOCAB).log_softmax(-1)
    targets, n, one = torch.zeros(rows, 1, dtype=torch.int64), kept.numel(), kept[0].numel()
    parts: dict[str, Callable[[], Any]] = {
        "log-softmax": lambda: torch.log_softmax(several[0], -1, out=log_p[0]),
        "exp": lambda: _exp(kept[0], p[0]),
        "top 10": lambda: largest(kept[0], TOP),
        "surprisal, entropy, KL to unigram, top 10": lambda: _summarise(
            kept[0], p[0], targets, unigram, spare[0]
        ),
    }
    found |= {name: nanoseconds(part, one) for name, part in parts.items()}

    def fill() -> None:
        log_p.copy_(kept)
        torch.exp(kept, out=p)

    filling = nanoseconds(fill, n)

    def compared(by: Callable[..., Any]) -> float:
        def work() -> None:
            fill()
            by()

        return round(nanoseconds(work, n) - filling, 2)

    heard: list[str] = []
    ways = Comparison(heard.append, worth=0, fast=math.inf)
    for _ in range(4):  # the last of them compiles
        fill()
        ways.divergences(log_p, p, NAMES, spare, ahead=1)
    found["KL"] = compared(lambda: divergences(log_p, p, NAMES[:1], spare))
    found["KL and Jensen-Shannon"] = compared(lambda: divergences(log_p, p, NAMES, spare))
    found["the same, compiled"] = compared(
        lambda: ways.divergences(log_p, p, NAMES, spare, ahead=1)
    )
    beside = (
        found["log-softmax"] + found["exp"] + found["surprisal, entropy, KL to unigram, top 10"]
    )
    return {
        "nanoseconds": found,
        "said": heard,
        "without_js": round(beside + found["KL"], 2),
        "plain": round(beside + found["KL and Jensen-Shannon"], 2),
        "compiled": round(beside + found["the same, compiled"], 2),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.set_defaults(device="cpu")
    add_save(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    result: dict[str, Any] = time_parts()
    result["on_a_gpu"] = {
        "plain": count_block(compiled=False, names=NAMES),
        "compiled": count_block(compiled=True, names=NAMES),
    }
    report("block", result, options)


if __name__ == "__main__":
    main()
