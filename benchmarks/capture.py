"""What a capture takes of training, and how soon its KL is there: `python -m benchmarks.capture`.

The GPT of examples/nano, larger, three seeds of it in one process, on the prose that ships with
Python. Times are taken while no engine runs; then the delay from the last seed's handover of a step
to its committed KL, with one that watches. Ratios are of processor time, which a busy machine
changes little; trainer and engine have a thread each.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.run import SEEDCONV, add_save, report
from engine.demo_training import TrainingPlan, prepare
from seedconv_tui.training import Capture
from seedconv_tui.training.announcing import announcements_folder
from seedconv_tui.training.windows import plan_windows
from seedconv_tui.training.work_order import WorkOrder, read_order

sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "nano"))

from model import Config, Nano

SEEDS = (1, 2, 3)
STEPS = tuple(range(0, 50, 10))  # as they are called: one or a few are trained between two
BATCH = 16
STUDY = """\
[study]
name = "capture"
store = "{name}.zarr"

[corpus]
files = ["held_out.txt"]
separator = "\\n\\f\\n"
max_tokens = {tokens}

[tokenizer]
source = "tokenizer"

[[models]]
name = "nano"
source = "captured"
seeds = {seeds}
steps = {steps}

[scoring]
window = {window}
overlap = {overlap}
device = "cpu"

[log_probs]
representation = "{keep}"
"""


class Run:
    """One seed: a model, and its training."""

    def __init__(self, seed: int, config: Config, stream: Tensor) -> None:
        torch.manual_seed(seed)
        self.model, self.stream = Nano(config), stream
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        self.context = config.context_length

    def step(self) -> None:
        """Train on one batch."""
        starts = torch.randint(len(self.stream) - self.context, (BATCH, 1))
        batch = self.stream[starts + torch.arange(self.context + 1)]
        logits = self.model(batch[:, :-1])
        functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def write_study(folder: Path, name: str, keep: str, options: argparse.Namespace) -> Path:
    """Write a study file and its order; return the file."""
    file = folder / f"{name}.toml"
    text = STUDY.format(
        name=name,
        keep=keep,
        tokens=options.tokens,
        seeds=list(SEEDS),
        steps=list(STEPS),
        window=options.window,
        overlap=options.window // 2,
    )
    file.write_text(text, encoding="utf-8")
    subprocess.run([*SEEDCONV, "order", str(file)], check=True, stdout=sys.stderr)
    return file


@dataclass(frozen=True)
class Took:
    """Seconds."""

    wall: float
    processor: float  # of all threads

    @classmethod
    def by(cls, work: Callable[[], object]) -> Took:
        """Do something and time it."""
        wall, processor = time.perf_counter(), time.process_time()
        work()
        return cls(time.perf_counter() - wall, time.process_time() - processor)

    @classmethod
    def median(cls, times: list[Took]) -> Took:
        """Return the medians of both."""
        walls, processors = zip(*((took.wall, took.processor) for took in times), strict=True)
        return cls(median(walls), median(processors))


def windows_of(order: WorkOrder) -> list[Tensor]:
    """The order's windows as inputs, one by one."""
    ids = torch.tensor(order.text.inputs, dtype=torch.long)
    starts = [0, *order.text.lengths.cumsum().tolist()]
    return [
        ids[starts[w.sequence] + w.start : starts[w.sequence] + w.stop]
        for w in plan_windows(order.text.lengths.tolist(), order.window, order.overlap)
    ]


def forward(model: nn.Module, windows: list[Tensor]) -> None:
    """The least that a capture has to do: the same windows, a training batch at a time."""
    model.eval()
    with torch.no_grad():
        longest = max(map(len, windows))
        whole = [window for window in windows if len(window) == longest]
        for start in range(0, len(whole), BATCH):
            model(torch.stack(whole[start : start + BATCH]))
        for window in windows:
            if len(window) < longest:
                model(window[None])
    model.train()


def measure_times(file: Path, run: Run) -> dict[str, Any]:
    """A capture, a training step and the bare forward passes, in turn; no engine runs."""
    letters = announcements_folder(file)
    order = read_order(letters / "work-order.npz")
    capture = Capture(file, model="nano", seed=SEEDS[0])
    windows = windows_of(order)
    captures, steps, forwards = list[Took](), list[Took](), list[Took]()
    for step in STEPS:
        captures.append(Took.by(lambda step=step: capture(run.model, step)))
        forwards.append(Took.by(lambda: forward(run.model, windows)))
        steps += [Took.by(run.step) for _ in range(4)]
    if capture.failed:
        sys.exit(f"{capture.failed} steps were not captured")
    spooled = sum(file.stat().st_size for file in letters.rglob("captured/**/*") if file.is_file())
    positions = sum(map(len, windows))
    ratio = positions / (BATCH * run.context)
    taken, trained, ran = (Took.median(times[1:]) for times in (captures, steps, forwards))
    return {
        "capture_ms": round(1000 * taken.wall, 1),
        "first_capture_ms": round(1000 * captures[0].wall, 1),
        "training_step_ms": round(1000 * trained.wall, 1),
        "forward_ms": round(1000 * ran.wall, 1),
        "capture_over_step": round(taken.processor / trained.processor, 2),
        "positions_over_step": round(ratio, 2),
        "capture_over_step_by_position": round(taken.processor / trained.processor / ratio, 2),
        "capture_over_forward": round(taken.processor / ran.processor, 2),
        "bytes": round(spooled / len(STEPS)),
    }


def measure_delay(file: Path, runs: list[Run]) -> dict[str, Any]:
    """Seconds from the return of the last seed's capture to the committed KL of that step."""
    captures = [Capture(file, model="nano", seed=seed) for seed in SEEDS]
    delays = []
    engine = subprocess.Popen(
        [*SEEDCONV, "watch", "--json", "--until-complete", str(file)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert engine.stderr is not None
    heard = []
    try:
        for step in STEPS:
            for run, capture in zip(runs, captures, strict=True):
                if not capture(run.model, step):
                    sys.exit(f"step {step} was not captured")
            handed_over = time.time()
            for line in engine.stderr:
                heard.append(line)
                event = json.loads(line) if line.startswith("{") else {}
                if event.get("event") == "reduced" and event["fields"]["step"] == step:
                    delays.append(event["time"] - handed_over)
                    break
            else:
                sys.exit("".join([*heard[-20:], "the engine ended early"]))
            for run in runs:
                run.step()  # so that the next step differs
        engine.stderr.read()
    finally:
        if engine.poll() is None:
            engine.terminate()
        engine.wait()
    while_it_runs = delays[1:]  # the first waits for the engine to start
    return {
        "delay_seconds": round(median(while_it_runs), 2),
        "longest_delay_seconds": round(max(while_it_runs), 2),
    }


def run_all(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Times, bytes and delay, factored and dense."""
    torch.set_num_threads(1)
    prepare(folder, TrainingPlan(held_out_tokens=options.tokens))
    backend = Tokenizer.from_file(str(folder / "tokenizer" / "tokenizer.json"))
    stream = torch.tensor(backend.encode((folder / "train.txt").read_text(encoding="utf-8")).ids)
    config = Config(
        vocab=backend.get_vocab_size() + 64,
        context_length=options.window,
        width=options.width,
        layers=options.layers,
    )
    result: dict[str, Any] = {
        "tokens": options.tokens,
        "window": options.window,
        "vocabulary": backend.get_vocab_size(),
        "width": options.width,
        "layers": options.layers,
        "training_positions": BATCH * options.window,
    }
    for keep in ("factored", "dense"):
        runs = [Run(seed, config, stream) for seed in SEEDS]
        times = measure_times(write_study(folder, f"{keep}-times", keep, options), runs[0])
        result[keep] = times | measure_delay(write_study(folder, keep, keep, options), runs)
    return result


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=2048, help="corpus size (2,048)")
    parser.add_argument("--window", type=int, default=128, help="positions of a window (128)")
    parser.add_argument("--width", type=int, default=128, help="units of the model (128)")
    parser.add_argument("--layers", type=int, default=3, help="layers of the model (3)")
    add_save(parser)
    parser.set_defaults(device="cpu")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = run_all(Path(folder), options)
    report("capture", result, options)


if __name__ == "__main__":
    main()
