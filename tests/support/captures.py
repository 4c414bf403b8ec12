"""A small GPT in training, orders for it, and what was captured of it; no engine code."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from seedconv_tui.training.handover import Handover, read_handover, rows_file
from seedconv_tui.training.windows import Window, plan_windows
from seedconv_tui.training.work_order import (
    ORDER_FILE,
    ModelOrder,
    Sequences,
    WorkOrder,
    write_order,
)

VOCAB, ROWS, CONTEXT, WIDTH = 90, 96, 32, 32  # tokens, and rows of the output layer


class Block(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.norm, self.norm_of_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        # As wide as the output layer, which must not be taken for it.
        self.mlp = nn.Sequential(nn.Linear(WIDTH, ROWS), nn.GELU(), nn.Linear(ROWS, WIDTH))
        self.dropout = dropout

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, n, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).view(batch, n, 3, 4, -1).permute(2, 0, 3, 1, 4)
        p = self.dropout if self.training else 0.0
        y = functional.scaled_dot_product_attention(q, k, v, dropout_p=p, is_causal=True)
        x = x + self.out(y.transpose(1, 2).flatten(2))
        return x + functional.dropout(self.mlp(self.norm_of_mlp(x)), p, self.training)


class SmallGPT(nn.Module):
    """As nanoGPT: logits of the last position alone, unless it gets targets."""

    def __init__(
        self, *, tied: bool = True, bias: bool = False, dropout: float = 0.1,
        cap: float | None = None, scale: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.config = SimpleNamespace(block_size=CONTEXT)
        self.tokens, self.places = nn.Embedding(ROWS, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.blocks = nn.ModuleList(Block(dropout) for _ in range(2))
        self.norm, self.lm_head = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, ROWS, bias=bias)
        if tied:
            self.lm_head.weight = self.tokens.weight
        self.cap, self.scale = cap, scale
        self.register_buffer("calls", torch.zeros(()))  # as experts count tokens
        self.table: torch.Tensor | None = None  # made when it is needed

    def forward(
        self, ids: torch.Tensor, targets: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        self.calls += 1
        if self.table is None:
            self.table = torch.arange(CONTEXT, device=ids.device)
        x = self.tokens(ids) + self.places(self.table[: ids.shape[1]])
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if targets is None:
            return self.lm_head(x[:, [-1]]), None
        logits = self.scale * self.lm_head(x)
        if self.cap is not None:
            logits = self.cap * torch.tanh(logits / self.cap)
        return logits, functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())


def make_gpt(seed: int = 0, **options: Any) -> SmallGPT:
    """A small GPT with logits far from uniform."""
    torch.manual_seed(seed)
    model = SmallGPT(**options)
    with torch.no_grad():
        model.tokens.weight.normal_(std=0.5)
        model.lm_head.weight.normal_(std=0.5)
    return model


def sequences(*lengths: int, seed: int = 0) -> Sequences:
    """Random text; of each sequence all but the first token is predicted from the second on."""
    rng = np.random.default_rng(seed)
    return Sequences.of([(rng.integers(0, VOCAB, n), np.arange(n) >= 1) for n in lengths])


def make_order(
    folder: Path, *, steps: tuple[int, ...] | None = None, probes: bool = True, **changes: Any
) -> WorkOrder:
    """Write an order for model `m`, seeds 1 and 2, into a folder of announcements."""
    fields: dict[str, Any] = {
        "study": "test",
        "models": {"m": ModelOrder(("1", "2"), steps)},
        "keep": "factored",
        "vocab": VOCAB,
        "vocabulary": "abc",
        "window": CONTEXT,
        "overlap": CONTEXT // 2,
        "pad": 0,
        "dtype": "float32",
        "text": sequences(150, 2, 40),
        "probes": {"syntax": sequences(9, 7, 3, seed=1)} if probes else {},
    }
    order = WorkOrder(**(fields | changes))
    write_order(folder / ORDER_FILE, order)
    return order


def train(
    model: nn.Module,
    capture: Callable[[nn.Module, int], object],
    *,
    steps: int = 4,
    accumulate: int = 1,
    autocast: bool = False,
    rank: int = 0,
    sync: Callable[[bool], object] | None = None,
    device: str = "cpu",
) -> str:
    """Train, capturing before each step's last micro-batch; return a digest of the results.

    So gradients of the others are waiting where there are several; `sync` is called with whether
    ranks are to exchange those of the next.
    """
    made = hashlib.blake2b()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    data = torch.Generator().manual_seed(rank)
    for step in range(steps):
        for micro in range(accumulate):
            if micro == accumulate - 1:
                capture(model, step)
            if sync is not None:
                sync(micro == accumulate - 1)
            ids = torch.randint(0, VOCAB, (2, CONTEXT), generator=data).to(device)
            with torch.autocast(device, torch.bfloat16) if autocast else nullcontext():
                _, loss = model(ids, ids.roll(-1, 1))
            loss.backward()
            made.update(np.float64(loss.item()).tobytes())
        if accumulate > 1:
            capture(model, 1000 + step)  # between backward and the optimizer
        optimizer.step()
        optimizer.zero_grad()
    for tensor in (*model.parameters(), *model.buffers()):
        whole = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        made.update(whole.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    made.update(torch.get_rng_state().numpy().tobytes())
    if device == "cuda":
        made.update(torch.cuda.get_rng_state().numpy().tobytes())
    return made.hexdigest()


def no_capture(model: nn.Module, step: int) -> None:
    """Capture nothing."""


def captured(folder: Path, order: WorkOrder) -> tuple[Handover, dict[str, NDArray[np.float64]]]:
    """Log-probs (row, vocab) of a captured folder: of the text, and of probes by name."""
    found = read_handover(folder)
    for name, file in found.files.items():
        data = (folder / name).read_bytes()
        assert (len(data), hashlib.blake2b(data, digest_size=16).hexdigest()) == (
            file.bytes,
            file.digest,
        )
    numbers = {name: found.probes[name].index for name in order.probes}
    return found, {
        name: _log_probs(found, folder, text, numbers.get(name))
        for name, text in {"text": order.text, **order.probes}.items()
    }


def _log_probs(
    found: Handover, folder: Path, text: Sequences, probe: int | None
) -> NDArray[np.float64]:
    parts = [np.load(folder / rows_file(rank, probe)) for rank in range(found.ranks)]
    taken = [0] * found.ranks
    rows = []
    for i, (_, predicts, window) in enumerate(_windows(text, found.window, found.overlap)):
        n = int(predicts[window.first : window.last].sum())
        part = i % found.ranks
        rows.append(parts[part][taken[part] : taken[part] + n])
        taken[part] += n
    assert taken == [len(part) for part in parts]
    values = np.concatenate(rows).astype(np.float64)
    if found.representation == "dense":
        return values
    bias = np.load(folder / "bias.npy") if "bias.npy" in found.files else 0.0
    logits = found.scale * (values @ np.load(folder / "weight.npy").T.astype(np.float64) + bias)
    return torch.from_numpy(logits).log_softmax(-1).numpy()


def _windows(
    text: Sequences, window: int, overlap: int
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.bool_], Window]]:
    parts = list(text.split())
    for planned in plan_windows(text.lengths.tolist(), window, overlap):
        yield *parts[planned.sequence], planned


def reference(
    model: nn.Module, text: Sequences, window: int = CONTEXT, overlap: int = CONTEXT // 2
) -> NDArray[np.float64]:
    """Log-probs (row, vocab) in float64 from the same weights, window by window."""
    exact: Any = copy.deepcopy(model).double().eval()
    rows = []
    for inputs, predicts, at in _windows(text, window, overlap):
        ids = torch.from_numpy(inputs[at.start : at.stop].astype(np.int64))[None]
        with torch.no_grad():
            logits = exact(ids, ids)[0][0, :, :VOCAB]
        kept = np.flatnonzero(predicts[at.first : at.last]) + at.first - at.start
        rows.append(logits.log_softmax(-1).numpy()[kept])
    return np.concatenate(rows)
