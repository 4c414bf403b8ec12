"""One size of model on one device, measured in this process: a part of `benchmarks.gpu`.

    python -m benchmarks.gpu_size SIZE DIR OUT.json --device cuda --until UNIX_TIME

The results are written after each measurement, so that an early end keeps those before.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import shutil
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import transformers
from transformers import AutoModelForCausalLM

from benchmarks.bare_work import Writing, forward, results
from benchmarks.gpu_models import (
    SEEDS,
    SHAPES,
    SMALL,
    STEP,
    Shape,
    checkpoint,
    make_checkpoints,
    make_text,
)
from benchmarks.gpu_trace import Trace
from benchmarks.study import REPRESENTATIONS, Study
from engine.coordination.build import build_coordinator
from engine.events import Event
from engine.scoring import compiled, passes
from engine.study_file.file import load_study_file
from store import open_study
from store.schema import EngineStatus

_BATCHES = (1, 4)


class Heard:
    """What an engine said."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_event(self, event: Event) -> None:
        """Keep it."""
        self.events.append(event)

    def on_status(self, status: EngineStatus) -> None:
        """Nothing: progress is not measured."""


class Size:
    """The measurements of one size; `found` is what is known so far."""

    def __init__(self, shape: Shape, folder: Path, device: str) -> None:
        self.shape, self.folder, self.device = shape, folder, device
        self.cuda = device != "cpu"
        self.found: dict[str, Any] = {}

    def study(self, kept: str, dtype: str = "float32") -> Study:
        """The study of one way to keep log-probs, without a store."""
        shape = self.shape
        tokens = shape.dense_tokens if kept == "dense" else shape.tokens
        study = Study(self.folder, tokens, kept, self.device, SEEDS, (STEP,))
        study = replace(study, window=shape.window, overlap=shape.window // 2, dtype=dtype)
        shutil.rmtree(study.store, ignore_errors=True)
        return study

    # -- parts -----------------------------------------------------------------------------------

    def make(self) -> None:
        """Tokenizer, text and checkpoints."""
        make_text(self.folder, self.shape)
        make_checkpoints(self.folder, self.shape, self.device)
        seed = checkpoint(self.folder, SEEDS[0])
        n_bytes = sum(file.stat().st_size for file in seed.glob("*.safetensors"))
        self.found["parameters"] = n_bytes // 2  # bfloat16

    def bare(self) -> None:
        """Forward passes of one seed in memory; the store's writer with what comes out."""
        study = self.study("none")
        self.score(study)  # makes the corpus, and the device does what it does once
        corpus = open_study(study.store).corpus
        ids = torch.tensor(np.concatenate([corpus.context_id[:1], corpus.token_id[:-1]]))
        ids = ids.long().to(self.device)
        window, overlap = study.window, study.overlap
        found: dict[str, Any] = {}
        for dtype in (torch.float32, torch.bfloat16) if self.cuda else (torch.float32,):
            model: Any = AutoModelForCausalLM.from_pretrained(
                checkpoint(self.folder, SEEDS[0]), dtype=dtype
            )
            model.to(self.device).eval()
            forward(model, ids[:window], 1, window, overlap)
            best = min(forward(model, ids, batch, window, overlap) for batch in _BATCHES)
            name = str(dtype).removeprefix("torch.")
            found[f"forward_{name}_tokens_a_second"] = round(len(ids) / best)
            if dtype == torch.float32:
                some = ids[: self.shape.dense_tokens]
                blocks = list(results(model, some, window, overlap))
                self.found["bare"] = found | self.write(blocks, corpus)
            del model
            gc.collect()
        self.found["bare"] |= found

    def write(self, blocks: list[dict[str, Any]], corpus: Any) -> dict[str, Any]:
        """Tokens a second of the store's writer alone, dense."""
        n = sum(len(block["surprisal"]) for block in blocks)
        fields = ("context_id", "token_id", "document", "char_start", "char_end")
        some = replace(corpus, **{name: getattr(corpus, name)[:n] for name in fields})
        path = self.folder / "writing"
        writing = Writing(path, "dense", some, self.shape.vocab)
        writing.write(SEEDS[0], blocks, np.empty(0))
        writing.writer.close("finished")
        shutil.rmtree(path)
        return {"write_dense_tokens_a_second": round(n / writing.seconds)}

    def score(self, study: Study, trace: Trace | None = None) -> dict[str, Any]:
        """An engine's run over a new store: seconds, memory, and what it warned of."""
        engine = build_coordinator(load_study_file(study.write()), heard := Heard())
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        start = time.time()
        with trace or nullcontext():
            engine.run()
        whole = time.time() - start
        scored = [event.time for event in heard.events if event.event == "scored"]
        if len(scored) != len(SEEDS):
            said = [event.text for event in heard.events if event.level != "info"]
            raise RuntimeError(f"{len(scored)} of {len(SEEDS)} seeds scored: {'; '.join(said)}")
        # Where nothing is kept, all seeds are compared in the pass that scores them.
        seconds = whole if study.representation == "none" else max(scored) - start
        found = {
            "tokens": study.tokens,
            "scoring_seconds": round(seconds, 3),
            "with_comparison_seconds": round(whole, 3),
            "tokens_a_second": round(len(SEEDS) * study.tokens / seconds),
        }
        if self.cuda:
            found["peak_gpu_mb"] = round(torch.cuda.max_memory_allocated() / 2**20)
        else:
            found["peak_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        found["plan"] = [event.fields["plan"] for event in heard.events if event.event == "plan"]
        said = [e.text for e in heard.events if e.level != "info" or "compil" in e.text]
        return found | ({"said": said} if said else {})

    def scoring(self, kept: str, dtype: str = "float32", name: str | None = None) -> None:
        """One way to keep log-probs, end to end, over what cannot be avoided."""
        study = self.study(kept, dtype)
        found = self.score(study)
        shutil.rmtree(study.store)
        bare = self.found["bare"]
        least = found["tokens"] / bare[f"forward_{dtype}_tokens_a_second"]
        if kept == "dense":
            least = max(least, found["tokens"] / bare["write_dense_tokens_a_second"])
        found["over_the_larger"] = round(found["scoring_seconds"] / (len(SEEDS) * least), 2)
        self.found[name or kept] = found

    def compiled(self) -> None:
        """Seeds compared by compiled code from the first blocks on; twice, compiled by then."""
        smaller = {} if self.cuda else {"cpu": 2**16}  # or a tiny study would be one block
        with (
            mock.patch.object(compiled, "WORTH_SECONDS", 0.0),
            mock.patch.dict(passes._BLOCK_BYTES, smaller),
        ):
            for name in ("none, compiling", "none, compiled"):
                self.scoring("none", name=name)

    def trace(self) -> None:
        """What the GPU does meanwhile: kernels, copies, and how far they overlap."""
        for kept in ("dense", "none"):
            study, trace = self.study(kept), Trace()
            self.score(study, trace)
            shutil.rmtree(study.store)
            log_probs = len(SEEDS) * study.tokens * self.shape.vocab
            self.found[f"trace, {kept}"] = trace.summary(log_probs)

    def parts(self) -> dict[str, Callable[[], None]]:
        """All parts, in their order."""
        parts: dict[str, Callable[[], None]] = {"make": self.make, "bare": self.bare}
        for kept in reversed(REPRESENTATIONS):
            parts[kept] = lambda kept=kept: self.scoring(kept)  # type: ignore[misc]
        parts["compiled"] = self.compiled
        if self.cuda:
            parts["none, bfloat16"] = lambda: self.scoring("none", "bfloat16", "none, bfloat16")
            parts["trace"] = self.trace
        return parts


def main() -> None:
    """Measure, until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", choices=[*SHAPES, *SMALL])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--until", type=float, default=float("inf"), help="unix time")
    options = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    torch.backends.cuda.matmul.allow_tf32 = False
    size = Size((SHAPES | SMALL)[options.size], options.folder, options.device)
    seconds: dict[str, float] = {}
    size.found |= {"part_seconds": seconds, "skipped": {}}
    needed = False
    for name, part in size.parts().items():
        if needed:
            size.found["skipped"][name] = "a part that it needs failed"
            continue
        # A part takes about as long as the longest before it.
        if time.time() + max(seconds.values(), default=0.0) > options.until:
            size.found["skipped"][name] = "no time left"
            continue
        start = time.monotonic()
        try:
            part()
        except Exception as error:  # the other parts are still worth knowing
            said = str(error).strip().splitlines()
            size.found["skipped"][name] = f"{type(error).__name__}: {said[0] if said else ''}"
            needed = name in ("make", "bare")
        seconds[name] = round(time.monotonic() - start, 1)
        options.out.write_text(json.dumps(size.found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
