"""Ways to keep log-probs, on models that were really trained: `python -m benchmarks.codecs`.

Two seeds of a small GPT-NeoX learn Python's own library with a vocabulary of 50,304, trained on it
too; each checkpoint's log-probs of text held out are written and read in every way. Figures go
into the table of docs/representations.md.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from numpy.typing import NDArray
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from zarr.codecs import BloscCodec, Crc32cCodec, ZstdCodec

from benchmarks.checkpoints import library_text, train_tokenizer
from benchmarks.study import VOCAB
from engine.scoring.divergence import divergences
from store.reading.log_probs import create_log_probs, open_log_probs
from store.schema import OutputLayer, Representation
from store.storage.durable_store import DurableStore

WINDOW, BATCH, TOKENS, UNITS = 128, 4, 1024, 128
_KINDS: tuple[Representation, ...] = ("dense", "factored")
STEPS = (0, 20, 120)
SHUFFLED = (("lz4", 5), ("zstd", 1), ("zstd", 3), ("zstd", 9))


def token_ids(text: str) -> torch.Tensor:
    """The text in tokens of a byte-level BPE trained on it."""
    return torch.tensor(train_tokenizer(text).encode(text[: 8 * 2**20]).ids)


def train(ids: torch.Tensor, seed: int) -> Iterator[tuple[int, GPTNeoXForCausalLM]]:
    """Yield (step, model) at each of STEPS."""
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=VOCAB,
        hidden_size=UNITS,
        intermediate_size=4 * UNITS,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=WINDOW,
    )
    model = GPTNeoXForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.1)
    for step in range(max(STEPS) + 1):
        if step in STEPS:
            yield step, model.eval()
            model.train()
        starts = torch.randint(len(ids) - TOKENS - WINDOW - 1, (BATCH,))
        batch = torch.stack([ids[start : start + WINDOW] for start in starts])
        model(batch, labels=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()


def held_out(model: GPTNeoXForCausalLM, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(hidden, logits) of the last TOKENS tokens, float32."""
    windows = ids[-TOKENS:].reshape(-1, WINDOW)
    with torch.inference_mode():
        hidden = model.gpt_neox(windows).last_hidden_state.reshape(TOKENS, UNITS)
        return hidden, model.get_output_embeddings()(hidden)


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """(seconds, result): the best of three, files in the page cache."""
    best, result = float("inf"), None
    for _ in range(3):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result


def kl_of_pairs(log_p: torch.Tensor) -> torch.Tensor:
    """KL (token, seed, other_seed) of log-probs (seed, token, vocab)."""
    return divergences(log_p, log_p.exp(), ["kl"])["kl"]


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def codecs() -> Iterator[tuple[str, Any, int, int | None]]:
    """(name, compressors, rows per chunk, per shard) of every way to keep an array."""
    for (name, level), shuffle in itertools.product(SHUFFLED, ("bitshuffle", "shuffle")):
        codec = BloscCodec(cname=name, clevel=level, shuffle=shuffle)  # type: ignore[arg-type]
        yield f"blosc {name} {level}, {shuffle}", [codec], 64, None
    yield "zstd 3, not shuffled", [ZstdCodec(level=3)], 64, None
    yield "not compressed", [], 64, None
    codec = BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle")
    for rows in (8, 16, 256):
        yield f"blosc lz4 5, bitshuffle, {rows} rows a chunk", [codec], rows, None
    yield "blosc lz4 5, bitshuffle, shards of 512 rows", [codec], 64, 512


def measure_codecs(folder: Path, stored: list[NDArray[np.float16]]) -> list[dict[str, Any]]:
    """Size and speed of each codec, over the log-probs of all checkpoints together."""
    found = []
    entries = sum(array.size for array in stored)
    for name, compressors, rows, shard in codecs():
        path = folder / "codec"

        def write(
            compressors: Any = compressors,
            rows: int = rows,
            shard: int | None = shard,
            path: Path = path,
        ) -> list[zarr.Array[Any]]:
            arrays = []
            for number, values in enumerate(stored):
                array = zarr.create_array(
                    path / str(number),
                    shape=values.shape,
                    chunks=(rows, VOCAB),
                    shards=(shard, VOCAB) if shard else None,
                    dtype="float16",
                    compressors=[*compressors, Crc32cCodec()],
                    overwrite=True,
                )
                array[:] = values
                arrays.append(array)
            return arrays

        wrote, arrays = timed(write)
        read, _ = timed(lambda arrays=arrays: [array[:] for array in arrays])
        found.append(
            {
                "codec": name,
                "bytes_per_log_prob": round(size_of(path) / entries, 3),
                "write_mb_s": round(2 * entries / wrote / 1e6),
                "read_mb_s": round(2 * entries / read / 1e6),
            }
        )
    return found


def measure_representations(
    folder: Path, step: int, checkpoints: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
) -> dict[str, Any]:
    """Size, read speed and error of the expected KL of both representations at one step."""
    logits = torch.stack([logits.double() for _, logits, _ in checkpoints])
    exact = kl_of_pairs(logits.log_softmax(-1))
    pairs = [exact[:, 0, 1].numpy(), exact[:, 1, 0].numpy()]
    found: dict[str, Any] = {"step": step, "expected_kl": float(np.mean(pairs))}
    for kind in _KINDS:
        path = folder / f"{kind}-{step}"
        path.mkdir()
        store = DurableStore(path)
        blocks, seconds = [], 0.0
        for number, (hidden, logits, weight) in enumerate(checkpoints):
            layer = OutputLayer(weight.numpy(), None) if kind == "factored" else None
            made = create_log_probs(store, str(number), kind, (TOKENS, VOCAB), layer)
            (array,) = made.values()
            values = hidden if layer else logits.log_softmax(-1).half()
            array[:] = values.numpy()
            kept = open_log_probs(store, str(number), kind, (TOKENS, VOCAB))
            spent, block = timed(lambda kept=kept: kept[:])
            seconds += spent
            blocks.append(torch.from_numpy(block).double())
        kl = kl_of_pairs(torch.stack(blocks).log_softmax(-1))
        errors = [kl[:, 0, 1].numpy() - pairs[0], kl[:, 1, 0].numpy() - pairs[1]]
        found[kind] = {
            "bytes_per_log_prob": round(size_of(path) / (2 * TOKENS * VOCAB), 4),
            "read_million_log_probs_s": round(2 * TOKENS * VOCAB / seconds / 1e6),
            "error_of_expected_kl": float(abs(np.mean(errors))),
            "error_of_token_kl_rms": float(np.sqrt(np.mean(np.square(errors)))),
        }
    return found


def main() -> None:
    """Print one JSON object."""
    ids = token_ids(library_text())
    runs = [train(ids, seed) for seed in (1, 2)]
    steps, stored = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for at in zip(*runs, strict=True):
            step = at[0][0]
            checkpoints = [
                (*held_out(model, ids), model.get_output_embeddings().weight.detach().clone())
                for _, model in at
            ]
            stored.append(checkpoints[0][1].log_softmax(-1).half().numpy())
            steps.append(measure_representations(folder, step, checkpoints))
        table = measure_codecs(folder, stored)
    machine = {"arch": platform.machine(), "cores": os.cpu_count(), "device": "cpu"}
    versions = {name: version(name) for name in ("numcodecs", "numpy", "torch", "zarr")}
    result = {"tokens": TOKENS, "vocabulary": VOCAB, "units": UNITS, "steps": steps}
    found = {"codecs": {"representations": result, "codecs": table}}
    print(json.dumps(found | {"machine": machine, "versions": versions}, indent=2))


if __name__ == "__main__":
    main()
