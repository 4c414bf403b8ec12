"""What the engine adds to the forward passes it cannot avoid: `python -m benchmarks.engine`.

Three random seeds of a small GPT-NeoX with the vocabulary of Pythia (50,304), scored and reduced on
this machine; ratios are taken within one run.
"""

from __future__ import annotations

import json
import platform
import resource
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from engine.coordinator import Coordinator
from engine.events import Event
from engine.study_file import load_study_file
from store.snapshot import EngineStatus, State
from tests.models import make_tokenizer, write_study

VOCAB, TOKENS, WINDOW, SEEDS = 50_304, 1024, 256, 3


class Stopwatch:
    """A listener that keeps how long each kind of work took."""

    def __init__(self) -> None:
        self.seconds = {State.SCORING: 0.0, State.REDUCING: 0.0}
        self._doing: State | None = None
        self._since = 0.0

    def on_event(self, event: Event) -> None:
        """Events are not measured."""

    def on_status(self, status: EngineStatus) -> None:
        """Charge the time since the last report to what was being done."""
        now = time.perf_counter()
        if self._doing in self.seconds:
            self.seconds[self._doing] += now - self._since
        self._doing, self._since = (status.work.state if status.work else None), now
        if self._doing is State.READING:
            self._doing = State.SCORING  # reading overlaps; building the model is part of scoring


def measure(folder: Path) -> dict[str, Any]:
    """Score and reduce in `folder`; seconds and ratios."""
    vocab = make_tokenizer(folder / "tokenizer").get_vocab_size()
    backend = json.loads((folder / "tokenizer" / "tokenizer.json").read_text())
    for number in range(vocab, VOCAB):
        backend["model"]["vocab"][f"unused{number}"] = number
    (folder / "tokenizer" / "tokenizer.json").write_text(json.dumps(backend))
    (folder / "text.txt").write_text("the seeds of a model, step by step " * 2000)
    config = GPTNeoXConfig(
        vocab_size=VOCAB,
        hidden_size=128,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=4,
        max_position_embeddings=WINDOW,
        initializer_range=0.1,
    )
    for seed in range(SEEDS):
        torch.manual_seed(seed)
        model = GPTNeoXForCausalLM(config).eval()
        model.save_pretrained(folder / f"runs/seed{seed}/step0")
    inputs = torch.randint(VOCAB, (TOKENS // (WINDOW // 2), WINDOW))
    with torch.inference_mode():
        model(inputs[:1], logits_to_keep=WINDOW // 2)
        start = time.perf_counter()
        for row in inputs:
            model(row[None], logits_to_keep=WINDOW // 2)
        forward = (time.perf_counter() - start) * SEEDS
    study = write_study(
        folder, corpus__max_tokens=TOKENS, scoring__window=WINDOW, scoring__overlap=WINDOW // 2
    )
    watch = Stopwatch()
    start = time.perf_counter()
    Coordinator(load_study_file(study), watch).run()
    total = time.perf_counter() - start
    log_probs = SEEDS * TOKENS * VOCAB
    stored = sum(f.stat().st_size for f in folder.glob("study.zarr/models/m/log_probs/*/*/c/*/*"))
    return {
        "log_probs": log_probs,
        "seconds_total": round(total, 3),
        "seconds_forward_alone": round(forward, 3),
        "seconds_scoring_and_writing": round(watch.seconds[State.SCORING], 3),
        "seconds_reducing": round(watch.seconds[State.REDUCING], 3),
        "scoring_over_forward": round(watch.seconds[State.SCORING] / forward, 2),
        "bytes_per_log_prob": round(stored / log_probs, 3),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> None:
    """Print one JSON object."""
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder))
    machine = {"arch": platform.machine(), "threads": torch.get_num_threads(), "device": "cpu"}
    versions = {name: version(name) for name in ("torch", "transformers", "zarr", "numpy")}
    print(json.dumps({"engine": result, "machine": machine, "versions": versions}, indent=2))


if __name__ == "__main__":
    main()
