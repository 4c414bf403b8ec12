"""Log-probs of the whole vocabulary at every token of the corpus, a block of tokens at a time."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from engine.corpus import Text, Tokenizer
from engine.errors import CheckpointError, ConfigError
from engine.models import LoadedModel, build, capture_hidden, expect_product, find_output_layer
from engine.study_file import ScoringSection
from engine.weights import Checkpoint
from engine.windows import Window, batches, plan_windows
from store import Representation
from store.layout import TOP

_BLOCK_BYTES = 2**25  # float32 log-probs worked on at once: near the caches on a CPU
_PROBE_TOKENS = 16
_LOGIT_BYTES = {"cpu": 2**29, "cuda": 2**31}  # logits of one forward pass


@dataclass(frozen=True)
class Block:
    """Results of consecutive tokens, on the host but for `exact`."""

    exact: torch.Tensor  # (token, vocab) float32 log-probs, on the device
    log_probs: NDArray[np.float16] | None  # (token, vocab), rounded; when kept dense
    hidden: NDArray[np.float32] | None  # (token, hidden), input of the output layer; when factored
    surprisal: NDArray[np.float32]  # (token,), nats
    entropy: NDArray[np.float32]  # (token,), nats
    top_id: NDArray[np.int32]  # (token, rank)
    top_log_prob: NDArray[np.float32]  # (token, rank), nats
    squared_rounding: float  # sum over tokens of the squared KL error made by rounding, nats^2


def choose_device(setting: str) -> torch.device:
    """The device for "auto", "cpu", "cuda" or "cuda:<n>". Raises ConfigError when there is none."""
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(setting)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ConfigError(f'scoring.device: found "{setting}", but this machine has {found} GPUs')
    return device


class Scorer:
    """Scores causal language models on one text, on one device."""

    def __init__(
        self,
        text: Text,
        tokenizer: Tokenizer,
        settings: ScoringSection,
        device: torch.device,
        representation: Representation = "dense",
    ) -> None:
        self._text, self._settings, self.device = text, settings, device
        self._representation = representation
        self._vocab_size = tokenizer.size
        self._pad = tokenizer.bos or 0
        self._dtype = getattr(torch, settings.dtype)
        self._batch_tokens = settings.batch_tokens
        quiet: Any = transformers.utils.logging
        quiet.disable_progress_bar()  # this is a library: what is shown is not its business
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False

    def window(self, config: Any) -> tuple[int, int]:
        """(window, overlap) for a model: the study's, or less where the model takes less."""
        longest = getattr(config.get_text_config(), "max_position_embeddings", None)
        window = min(self._settings.window, longest or self._settings.window)
        if window == self._settings.window:
            return window, self._settings.overlap
        return window, min(self._settings.overlap, window // 2)

    def load(self, checkpoint: Checkpoint) -> LoadedModel:
        """Put a checkpoint's model on the device.

        Raises CheckpointError when the weights do not fit the architecture, or when log-probs are
        to be kept factored and the model's logits are not a product that can be.
        """
        module = build(checkpoint, self._dtype, self.device)
        layer = None
        if self._representation == "factored":
            probe = torch.from_numpy(self._text.sequences[0][None, :_PROBE_TOKENS])
            with torch.inference_mode():
                layer = find_output_layer(
                    checkpoint, module, probe.to(self.device), self._vocab_size
                )
        return LoadedModel(checkpoint, module, layer)

    def score(self, model: LoadedModel) -> Iterator[Block]:
        """Yield the results of all tokens in corpus order.

        Raises CheckpointError when a log-prob is NaN or infinite; the message names the token.
        """
        window, overlap = self.window(model.checkpoint.config)
        lengths = [len(sequence) - 1 for sequence in self._text.sequences]
        done = 0
        budget = _LOGIT_BYTES[self.device.type] // (4 * self._vocab_size)
        limit = max(1, min(self._batch_tokens, budget))
        for batch in batches(plan_windows(lengths, window, overlap), limit):
            for logits, hidden, targets in self._forward(model, batch):
                for block in self._blocks(logits, hidden, targets):
                    self._check(model.checkpoint, block, done)
                    done += len(block.surprisal)
                    yield block

    def _forward(
        self, model: LoadedModel, batch: Sequence[Window]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]]:
        """Yield (logits, hidden, targets) of each window's new tokens; halve on out-of-memory."""
        longest = max(window.length for window in batch)
        inputs = torch.full((len(batch), longest), self._pad, dtype=torch.long)
        for row, window in enumerate(batch):
            ids = self._text.sequences[window.sequence][window.start : window.stop]
            inputs[row, : window.length] = torch.from_numpy(ids)
        # Right padding needs no mask: no kept token sees what stands after it.
        keep = longest - min(window.length - window.keep for window in batch)
        slices_logits = "logits_to_keep" in inspect.signature(model.module.forward).parameters
        options = {"logits_to_keep": keep} if slices_logits else {}
        try:
            with torch.inference_mode(), capture_hidden(model) as captured:
                logits = model.module(inputs.to(self.device), use_cache=False, **options).logits
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            self._batch_tokens = max(1, longest * (len(batch) // 2))
            torch.cuda.empty_cache()
            middle = len(batch) // 2
            yield from self._forward(model, batch[:middle])
            yield from self._forward(model, batch[middle:])
            return
        first = longest - logits.shape[1]  # the position of the first logits that came back
        for row, window in enumerate(batch):
            new = slice(window.length - window.keep - first, window.length - first)
            sequence = self._text.sequences[window.sequence]
            targets = sequence[window.stop - window.keep + 1 : window.stop + 1]
            hidden = None
            if model.output_layer is not None:
                hidden = captured[0][row, new]
                expect_product(model, hidden[-1:], logits[row, new][-1:, : self._vocab_size])
            yield logits[row, new], hidden, torch.from_numpy(targets).to(self.device)

    def _blocks(
        self, logits: torch.Tensor, hidden: torch.Tensor | None, targets: torch.Tensor
    ) -> Iterator[Block]:
        rows = max(1, _BLOCK_BYTES // (4 * self._vocab_size))
        dense = self._representation == "dense"
        with torch.inference_mode():
            for start in range(0, len(targets), rows):
                run = slice(start, start + rows)
                part = logits[run, : self._vocab_size].float()
                states = None if hidden is None else _host(hidden[run].float())
                yield _summarise(part.log_softmax(-1), targets[run], states, dense=dense)

    def _check(self, checkpoint: Checkpoint, block: Block, done: int) -> None:
        bad = ~(np.isfinite(block.surprisal) & np.isfinite(block.entropy))
        if not bad.any() and np.isfinite(block.squared_rounding):
            return
        token = done + int(bad.argmax())
        raise CheckpointError(
            f"{checkpoint.where}: log-probs are NaN or infinite at token {token} "
            f"({self._text.corpus.token_text(token)!r})"
        )


def _summarise(
    log_p: torch.Tensor,
    targets: torch.Tensor,
    hidden: NDArray[np.float32] | None,
    *,
    dense: bool,
) -> Block:
    """Everything kept of a block of log-probs, (token, vocab) float32."""
    p = log_p.exp()
    top_log_prob, top_id = log_p.topk(TOP, dim=-1)
    log_probs, squared_rounding = None, 0.0
    if dense:
        stored = log_p.half()
        # The KL that a reader computes uses rows rounded to float16 and renormalised. To first
        # order the rounding d of one seed's row moves it by sum_v p_v d_v with independent d_v.
        rounding = stored.float().sub_(log_p).mul_(p)
        squared_rounding = float(rounding.square_().sum(dtype=torch.float64))
        log_probs = _host(stored)
    return Block(
        exact=log_p,
        log_probs=log_probs,
        hidden=hidden,
        surprisal=_host(-log_p.gather(-1, targets[:, None])[:, 0]),
        entropy=_host(-(p.mul_(log_p)).sum(-1)),
        top_id=_host(top_id.int()),
        top_log_prob=_host(top_log_prob),
        squared_rounding=squared_rounding,
    )


def _host(tensor: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
