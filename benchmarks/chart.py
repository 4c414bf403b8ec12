"""Time to draw the KL chart, and how many cells change from one picture to the next.

    python -m benchmarks.chart [--rounds 200]

Five models of 154 steps each with a band, phases and a cursor. Prints JSON, per size and glyphs:
the median and 95th percentile in milliseconds; the cells that differ after the cursor moved by one
step, and after one more step arrived. A terminal has to be sent these cells.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from seedconv_tui.chart import Cells, Glyphs, Mark, Series, View, draw, fit

SIZES = ((80, 24), (200, 50), (300, 80))
MARKS = (
    Mark(0, "uniform"),
    Mark(16, "sharp convergence"),
    Mark(256, "sharp divergence"),
    Mark(2000, "slow reconvergence"),
)
STEPS = np.array([0, *(2**k for k in range(10)), *range(1000, 144_000, 1000)], dtype=np.float64)


def study(n_steps: int = len(STEPS)) -> list[Series]:
    """Five models' curves (nats) over the first `n_steps` of Pythia's 154 steps."""
    rng = np.random.default_rng(0)
    knots = np.log10(np.array([0, 16, 256, 2000, 143_000]) + 1.0)
    series = []
    for model, size in enumerate(("14m", "31m", "70m", "160m", "410m")):
        height = 1 - 0.15 * model
        y = np.interp(np.log10(STEPS + 1), knots, np.array([0.02, 0.3, 0.15, 0.6, 0.35]) * height)
        y *= 1 + 0.02 * rng.standard_normal(len(STEPS))
        std = 0.1 * y
        x, y, low, high = (a[:n_steps] for a in (STEPS, y, y - std, y + std))
        series.append(Series(f"pythia-{size}", x, y, low, high, color=model))
    return series


def times(series: list[Series], view: View, size: tuple[int, int], glyphs: Glyphs, n: int) -> Any:
    """Median and 95th percentile of `n` drawings, in ms."""
    taken = []
    for _ in range(n):
        start = time.perf_counter()
        draw(series, view, *size, marks=MARKS, cursor=512.0, glyphs=glyphs, y_label="KL (nats)")
        taken.append(1e3 * (time.perf_counter() - start))
    return {
        "median_ms": round(float(np.median(taken)), 2),
        "p95_ms": round(float(np.percentile(taken, 95)), 2),
    }


def changed(before: Cells, after: Cells) -> int:
    """Cells that differ in text or colour."""
    differs = (before.text != after.text) | (before.color != after.color)
    return int((differs | (before.dim != after.dim)).sum())


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=200, help="drawings per measurement")
    rounds = parser.parse_args().rounds
    full, early = study(), study(len(STEPS) - 1)
    view = fit(full)
    result: dict[str, Any] = {"series": len(full), "points": len(STEPS), "rounds": rounds}
    for size in SIZES:
        of_size = result[f"{size[0]}x{size[1]}"] = {"cells": size[0] * size[1]}
        for glyphs in Glyphs:
            at = float(STEPS[STEPS > 512].min())
            first = draw(full, view, *size, marks=MARKS, cursor=512.0, glyphs=glyphs)
            moved = draw(full, view, *size, marks=MARKS, cursor=at, glyphs=glyphs)
            past = draw(early, view, *size, marks=MARKS, cursor=512.0, glyphs=glyphs)
            refitted = draw(early, fit(early), *size, marks=MARKS, cursor=512.0, glyphs=glyphs)
            of_size[glyphs] = times(full, view, size, glyphs, rounds) | {
                "changed_by_cursor": changed(first, moved),
                "changed_by_step": changed(past, first),
                "changed_by_step_refitted": changed(refitted, first),
            }
    print(json.dumps({"chart": result}, indent=2))


if __name__ == "__main__":
    main()
