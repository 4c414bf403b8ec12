"""Bytes moved and kernels launched for a block of log-probs on a GPU, counted without one.

The block of `engine.scoring.passes` is computed with tensors that have a shape and no data. Each
operation is a kernel that reads its inputs and writes its outputs once; views are none. Sums that
are compiled are the kernels that PyTorch's compiler makes of the same graph on a CPU: with all
pairs in one loop, what the caches hold of it is read once.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from engine.models.output_head import Head
from engine.scoring import log_prob_rows, passes
from engine.scoring.compiled import compile_sums
from engine.scoring.divergence import divergence_sums, divergences
from engine.scoring.log_prob_rows import Rows
from engine.scoring.passes import CorpusPass, Live

SEEDS, TOKENS, VOCAB, HIDDEN = 5, 512, 50_304, 128


class Traffic(TorchDispatchMode):
    """Counts what goes through memory while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.kernels = 0
        self.of: dict[str, int] = {}  # bytes by operation

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Count one operation."""
        found = func(*args, **(kwargs or {}))
        if func.is_view or "empty" in func.__name__:
            return found
        asked = {name: value for name, value in (kwargs or {}).items() if name != "out"}
        tensors = tree_leaves((args, asked, found))
        if func.__name__.startswith("gather"):  # as many entries as it writes
            tensors = [found, *tensors[1:]]
        moved = sum(_bytes(leaf) for leaf in tensors if isinstance(leaf, torch.Tensor))
        self.bytes += moved
        self.kernels += 1
        name = func.__name__.split(".")[0]
        self.of[name] = self.of.get(name, 0) + moved
        return found


def _bytes(tensor: torch.Tensor) -> int:
    """Bytes of memory that are behind a tensor: a view may show the same ones more than once."""
    sizes = [n for n, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride]
    return math.prod(sizes) * tensor.element_size()


def count_block(compiled: bool, names: Sequence[str] = ("kl", "js")) -> dict[str, Any]:
    """Bytes for each log-prob of one seed, and kernels for a block, as a pass computes it."""
    device = torch.device("meta")
    shape = SEEDS, TOKENS, VOCAB

    def compare(log_p: torch.Tensor, p: torch.Tensor, *args: Any, **_: Any) -> dict[str, Any]:
        if not compiled:
            return divergences(log_p, p, *args)
        traffic.bytes += one_loop["bytes"]
        traffic.kernels += one_loop["kernels"]
        return {name: torch.empty(TOKENS, SEEDS, SEEDS, device=device) for name in names}

    one_loop = count_sums(names) if compiled else {}
    scorer: Any = SimpleNamespace(
        device=device,
        vocab_size=VOCAB,
        targets=torch.empty(TOKENS, dtype=torch.int64, device=device),
        log_unigram=torch.empty(VOCAB, device=device),
        memory=SimpleNamespace(left=lambda: None),
        comparison=SimpleNamespace(divergences=compare, has_to_try=lambda *_: False),
        note=lambda text: None,
    )
    head = Head(torch.empty(VOCAB, HIDDEN, device=device), None)
    with _sizes(device):
        live = []
        for seed in range(SEEDS):
            rows = Rows(scorer, head, lambda: torch.empty(TOKENS, HIDDEN, device=device))
            made: Any = SimpleNamespace(rows=rows)
            live.append(Live(str(seed), made, SimpleNamespace(), None))  # type: ignore[arg-type]
        pairs: Any = SimpleNamespace(divergences=names, of_states=())
        work = CorpusPass(scorer, live, pairs, lambda n: None)
        with torch.inference_mode(), Traffic() as traffic:
            next(work._computed())
    n = math.prod(shape)
    found = {"bytes_per_log_prob": round(traffic.bytes / n, 1), "kernels": traffic.kernels}
    most = sorted(traffic.of.items(), key=lambda item: -item[1])[:10]
    return found | {"most": {name: round(moved / n, 1) for name, moved in most}}


def count_sums(names: Sequence[str]) -> dict[str, int]:
    """Bytes and kernels of the compiled sums of a block, from what the compiler plans."""
    from torch._inductor import config, metrics

    few = 4  # tokens; traffic grows with them
    log_p = torch.randn(SEEDS, few, VOCAB).log_softmax(-1)
    first, second = torch.triu_indices(SEEDS, SEEDS, 1).unbind()
    sums = compile_sums(functools.partial(divergence_sums, names=names, first=first, second=second))
    metrics.reset()
    torch.compiler.reset()
    with torch.inference_mode(), config.patch(force_disable_caches=True):
        sums(log_p, log_p.exp())
    return {
        "bytes": metrics.num_bytes_accessed * TOKENS // few,
        "kernels": metrics.generated_kernel_count,
    }


@contextlib.contextmanager
def _sizes(device: torch.device) -> Iterator[None]:
    """Blocks of `TOKENS` for a device that the engine has no size for."""
    sizes = {device.type: 4 * TOKENS * VOCAB}
    passes._BLOCK_BYTES |= sizes
    log_prob_rows._PRODUCT_BYTES |= sizes
    try:
        yield
    finally:
        del passes._BLOCK_BYTES[device.type], log_prob_rows._PRODUCT_BYTES[device.type]
