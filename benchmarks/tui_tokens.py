"""What the screens with details cost: `python -m benchmarks.tui_tokens`.

A store of 100,000 tokens x 5 seeds x 12 steps, made for it, in a terminal that only counts:
the time from a key to the bytes that answer it, the bytes of an answer in 16M colours, and the
memory of the whole process. Prints JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.tui_meter import Meter, resident_mb
from seedconv_tui.monitor.data.live import StoreSource
from seedconv_tui.monitor.screens import SCREENS
from store.schema import Category
from tests.support.token_store import MODEL, make_store, open_writer

TOKENS, STEPS, SEEDS = 100_000, (0, *(2**n for n in range(11))), tuple("abcde")
SIZES = (80, 24), (200, 50)
LEVELS = 18, 1000
KEYS = {
    "Categories": {
        "row": ["down"] * 15 + ["up"] * 15,
        "step": ["left"] * 10 + ["right"] * 10,
        "sort": ["s"] * 10,
        "many": ["c"] + ["down"] * 20 + ["pagedown"] * 5,
        "inside": ["enter"] + ["down"] * 20,
    },
    "Tokens": {
        "move": ["right"] * 30 + ["down"] * 30 + ["pagedown"] * 10,
        "jump": ["x"] * 20 + ["end", "home"] * 5,
        "step": ["left_square_bracket"] * 10 + ["right_square_bracket"] * 10,
    },
    "Seeds": {"move": ["down", "up", "L", "H"] * 5, "step": ["left"] * 10 + ["right"] * 10},
}


def words() -> list[str]:
    """Made-up text: words by Zipf's law, lines of about 60 of them."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlu"))
    known = [f" {''.join(rng.choice(letters, n))}" for n in rng.integers(1, 9, 4000)]
    text = [known[n] for n in np.minimum(rng.zipf(1.3, TOKENS), len(known)) - 1]
    text[59::60] = ["\n"] * len(text[59::60])
    return text


def make(path: Path) -> None:
    """Makes the store; parts its tokens into a few levels, and into many; summarises every step."""
    from store.analysis import summarise

    text = words()
    make_store(path, text, steps=STEPS, seeds=SEEDS)
    rng = np.random.default_rng(1)
    categories = [Category("all", ("all",), np.zeros(TOKENS, np.int32), "all tokens")]
    for n in LEVELS:
        level = rng.integers(0, n, TOKENS).astype(np.int32)
        labels = tuple(f"level {number}" for number in range(n))
        categories.append(Category(f"parted_{n}", labels, level, "at random"))
    writer = open_writer(path, text)
    for category in categories:
        writer.summaries.set_category(category)
    for step in STEPS:
        made = summarise(writer.study(), MODEL, step, SEEDS, categories)
        writer.summaries.summarise(MODEL, step, SEEDS, *made)
    writer.close("finished")


async def measure(store: Path, size: tuple[int, int]) -> dict[str, float]:
    """All these screens at one size."""
    meter = Meter(size, StoreSource(store))
    result: dict[str, float] = {}
    async with meter.app.run_test(size=size, headless=False):
        await meter.shows("done")
        for kind in SCREENS:
            for name, keys in KEYS.get(kind, {}).items():
                if kind not in str(meter.app.current_mode):
                    start = time.perf_counter()
                    await meter.key(str(SCREENS.index(kind) + 1))
                    await meter.shows("latest")
                    result[f"{kind.lower()}_first_s"] = round(time.perf_counter() - start, 3)
                    await asyncio.sleep(2)
                await meter.quiet()
                taken = [await meter.key(key) for key in keys]
                at = f"{kind.lower()}_{name}"
                result[f"{at}_key_ms_p95"] = round(float(np.percentile(taken, 95)), 1)
                result[f"{at}_key_bytes"] = round(meter.sent / len(keys))
    return result


def main() -> None:
    """Makes the store, measures all and prints it."""
    os.environ |= {"COLORTERM": "truecolor", "TERM": "xterm-256color"}
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "study"
        maker = get_context("spawn").Process(target=make, args=(store,))  # its memory is not ours
        maker.start()
        maker.join()
        result: dict[str, object] = {
            f"{size[0]}x{size[1]}": asyncio.run(measure(store, size)) for size in SIZES
        }
    result["resident_mb"] = resident_mb()
    machine = f"{os.cpu_count()} cores {platform.machine()}"
    versions = {"python": sys.version.split()[0], "textual": version("textual")}
    print(json.dumps({"tui_tokens": result, "machine": machine, "versions": versions}, indent=2))


if __name__ == "__main__":
    main()
