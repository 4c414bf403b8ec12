"""From a checkpoint to the log-probs of the whole vocabulary at every token, in corpus order."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers

from engine.corpus import Text
from engine.errors import CheckpointError, ConfigError
from engine.heads import Head, find_head, hidden_states
from engine.models import LoadedModel, Modules
from engine.study_file import ScoringSection
from engine.weights import Checkpoint
from engine.windows import Window, batches, plan_windows

_PROBE_TOKENS = 16
_NOISE_TOKENS = 64
_SHARE_FOR_MODELS = 0.6  # of what is free on a GPU; the rest is for blocks of log-probs
_PRODUCT_BYTES = {"cpu": 2**25, "cuda": 2**28}  # float32 logits of one product
_LOGIT_BYTES = {"cpu": 2**29, "cuda": 2**31}  # logits of one pass of a model that makes its own


def choose_device(setting: str) -> torch.device:
    """The device for "auto", "cpu", "cuda" or "cuda:<n>". Raises ConfigError when there is none."""
    if setting == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(setting)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ConfigError(f'scoring.device: found "{setting}", but this machine has {found} GPUs')
    return device


@dataclass(frozen=True)
class Loaded:
    """A model, and its output layer where that can be used alone."""

    model: LoadedModel
    head: Head | None


class Scorer:
    """Scores causal language models on one text, on one device."""

    def __init__(
        self,
        text: Text,
        vocab_size: int,
        pad: int,
        settings: ScoringSection,
        device: torch.device,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        """`tell` hears of what the user should know: that memory ran out and work went on."""
        self.text, self.vocab_size, self.device, self.tell = text, vocab_size, device, tell
        self._pad, self._settings = pad, settings
        self._modules = Modules(getattr(torch, settings.dtype), device)
        self._batch_tokens = settings.batch_tokens
        self.targets = torch.from_numpy(text.corpus.token_id).long().to(device)
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

    def load(self, checkpoint: Checkpoint, *, resident: bool = True) -> Loaded:
        """Make a model of a checkpoint; not `resident`, it comes to the device at each use.

        Raises CheckpointError when the weights do not fit the architecture.
        """
        model = self._modules.load(checkpoint, resident=resident)
        probe = torch.from_numpy(self.text.sequences[0][None, :_PROBE_TOKENS]).to(self.device)
        with torch.inference_mode():
            head = find_head(model.activate(), self.vocab_size, input_ids=probe, use_cache=False)
        return Loaded(model, head)

    def bytes_on_device(self, checkpoint: Checkpoint) -> int:
        """What a checkpoint's weights take in the precision that they are used in."""
        size = getattr(torch, self._settings.dtype).itemsize
        return sum(tensor.numel() * size for tensor in checkpoint.weights.values())

    def free_bytes(self) -> int | None:
        """Memory of the device that models may take; None where it is the host's."""
        if self._settings.memory_gb is not None:
            return int(self._settings.memory_gb * 1e9)
        if self.device.type == "cpu":
            return None
        free, _ = torch.cuda.mem_get_info(self.device)
        return int(_SHARE_FOR_MODELS * free)

    def windows(self, loaded: Loaded) -> Iterator[list[Window]]:
        """What goes through a model together, in corpus order."""
        window, overlap = self.window(loaded.model.checkpoint.config)
        lengths = [len(sequence) - 1 for sequence in self.text.sequences]
        limit = self._batch_tokens
        if loaded.head is None:
            limit = min(limit, rows_within(_LOGIT_BYTES[self.device.type], self.vocab_size))
        return batches(plan_windows(lengths, window, overlap), limit)

    def forward(self, loaded: Loaded, batch: Sequence[Window]) -> torch.Tensor:
        """Input of the output layer, or logits where that is none, of each window's new tokens.

        (token, hidden or vocab) float32. When memory runs out the batch is halved, and later
        batches with it.
        """
        longest, middle = max(window.length for window in batch), len(batch) // 2
        if not middle or longest * len(batch) <= self._batch_tokens:
            try:
                return self._forward(loaded, batch)
            except torch.OutOfMemoryError:
                if not middle:
                    raise
            self._batch_tokens = longest * middle
            self.tell(f"out of memory with {len(batch)} windows at once; going on with {middle}")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return torch.cat([self.forward(loaded, part) for part in (batch[:middle], batch[middle:])])

    def _forward(self, loaded: Loaded, batch: Sequence[Window]) -> torch.Tensor:
        longest = max(window.length for window in batch)
        inputs = torch.full((len(batch), longest), self._pad, dtype=torch.long)
        for row, window in enumerate(batch):
            ids = self.text.sequences[window.sequence][window.start : window.stop]
            inputs[row, : window.length] = torch.from_numpy(ids)
        # Right padding needs no mask: no kept token sees what stands after it.
        module = loaded.model.activate()
        inputs = inputs.to(self.device)
        if loaded.head is not None:
            states = hidden_states(module, input_ids=inputs, use_cache=False)
        else:
            keep = longest - min(window.length - window.keep for window in batch)
            sliced = "logits_to_keep" in inspect.signature(module.forward).parameters
            options = {"logits_to_keep": keep} if sliced else {}
            states = module(input_ids=inputs, use_cache=False, **options).logits
            states = states[..., : self.vocab_size]
        first = longest - states.shape[1]  # the position of the first that came back
        return torch.cat(
            [
                states[row, window.length - window.keep - first : window.length - first]
                for row, window in enumerate(batch)
            ]
        ).float()

    def noise(self, loaded: Loaded, first: Window, states: torch.Tensor) -> float:
        """Mean KL, in nats, of the first tokens with themselves at another batch shape.

        `states` is what `forward` gave for the first window, in a batch of the usual shape.
        """
        n = min(_NOISE_TOKENS, first.length)
        alone = self.forward(loaded, [Window(0, 0, n, n)] * 2)[:n]
        both = torch.cat([states[:n], alone])
        if loaded.head is not None:
            logits = torch.empty(len(both), self.vocab_size, device=self.device)
            loaded.head.logits(both, logits)
            both = logits
        log_p, log_q = both.double().log_softmax(-1).chunk(2)
        return float((log_p.exp() * (log_p - log_q)).sum(-1).mean())


class Rows:
    """Consecutive rows of log-probs, made of states that come in pieces of any length."""

    def __init__(self, scorer: Scorer, head: Head | None, more: Callable[[], torch.Tensor]) -> None:
        """`more` gives the states of the tokens that follow, as `Scorer.forward` returns them."""
        self._scorer, self._head, self._more = scorer, head, more
        self._states = torch.empty(0)
        self._first = 0  # the token of the first state
        self._product = torch.empty(0)
        self._made = (0, self._product)  # first token and logits of the last product
        self._product_rows = rows_within(_PRODUCT_BYTES[scorer.device.type], scorer.vocab_size)

    def states(self, start: int, stop: int, *, keep: int | None = None) -> torch.Tensor:
        """States of tokens [start, stop). Those before `keep`, or else `start`, are forgotten."""
        have = self._first + len(self._states)
        if stop > have:
            keep = start if keep is None else keep
            pieces = [self._states[keep - self._first :]] if len(self._states) else []
            self._first = keep
            while have < stop:
                pieces.append(self._more())
                have += len(pieces[-1])
            self._states = torch.cat(pieces)
        return self._states[start - self._first : stop - self._first]

    def fill(self, start: int, stop: int, out: torch.Tensor) -> None:
        """Put log-probs of tokens [start, stop) into `out`, (token, vocab) float32, nats.

        Starts never go back; the same run may be asked for again.
        """
        at = start
        while at < stop:
            first, logits = self._made
            if not first <= at < first + len(logits):
                end = min(at + self._product_rows, len(self._scorer.targets))
                first, logits = self._made = at, self._logits(self.states(at, end, keep=start))
            end = min(stop, first + len(logits))
            rows = out[at - start : end - start]
            torch.log_softmax(logits[at - first : end - first], -1, out=rows)
            at = end

    def _logits(self, states: torch.Tensor) -> torch.Tensor:
        if self._head is None:
            return states
        if not len(self._product):  # kept: memory that is new each time costs as much as the sum
            shape = self._product_rows, self._scorer.vocab_size
            self._product = torch.empty(shape, device=states.device)
        out = self._product[: len(states)]
        self._head.logits(states, out)
        return out

    def shrink(self) -> None:
        """Make do with less memory."""
        self._product_rows = max(1, self._product_rows // 2)
        self._product = torch.empty(0)
        self._made = (0, self._product)


class LiveSeed:
    """A checkpoint that is being scored: its model is run when tokens are asked for."""

    def __init__(self, scorer: Scorer, loaded: Loaded) -> None:
        self._scorer, self._loaded = scorer, loaded
        self._windows = scorer.windows(loaded)
        self._batch: list[Window] = []  # kept until it went through: memory may run out
        self.noise_floor: float | None = None  # nats; known once tokens were asked for
        self.rows = Rows(scorer, loaded.head, self._more)

    def _more(self) -> torch.Tensor:
        self._batch = self._batch or next(self._windows)
        states = self._scorer.forward(self._loaded, self._batch)
        if self.noise_floor is None:
            self.noise_floor = self._scorer.noise(self._loaded, self._batch[0], states)
        self._batch = []
        return states


def rows_within(n_bytes: int, vocab_size: int) -> int:
    """Rows of float32 log-probs: the largest power of two that takes no more, at least 1."""
    return 1 << max(0, (n_bytes // (4 * vocab_size)).bit_length() - 1)


def refuse_factors(checkpoint: Checkpoint) -> CheckpointError:
    """The error for a model whose log-probs cannot be kept factored."""
    return CheckpointError(
        f"{checkpoint.where}: its logits are not hidden states times an output embedding, so "
        'log-probs cannot be kept factored; set log_probs.representation = "dense"'
    )
