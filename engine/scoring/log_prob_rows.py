"""Rows of log-probs in corpus order, made of what a model or the store gives piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from engine.models.language_model import LanguageModel
from engine.models.output_head import Head
from engine.scoring.scorer import Scorer, rows_within
from seedconv_tui.training.windows import Window
from store.schema import CKA, DEPTHS

_PRODUCT_BYTES = {"cpu": 2**25, "cuda": 2**28}  # float32 logits of one product


@dataclass(frozen=True)
class Logits:
    """Logits of consecutive tokens, in pieces of any length. Threads may read them at once."""

    start: int  # the first token
    pieces: Sequence[torch.Tensor]  # (token, vocab) of any float dtype

    def log_probs(self, start: int, stop: int, out: torch.Tensor) -> None:
        """Put log-probs of tokens [start, stop) into `out`, (token, vocab) float32, nats."""
        first = self.start
        for piece in self.pieces:
            begin, end = max(start, first), min(stop, first + len(piece))
            if begin < end:
                # In float32 only now: pieces of half precision take half of the memory.
                rows = piece[begin - first : end - first].float()
                torch.log_softmax(rows, -1, out=out[begin - start : end - start])
            first += len(piece)


class Rows:
    """Consecutive rows of log-probs, made of states that come in pieces of any length."""

    def __init__(
        self,
        scorer: Scorer,
        head: Head | None,
        more: Callable[[], torch.Tensor],
        inner: Mapping[str, int] | None = None,
    ) -> None:
        """Call `more` for the states of the next tokens, as `Scorer.forward` returns them.

        `inner` are the hidden states that come after the final ones, with the width of each.
        """
        self._hidden: dict[str, slice] = {}  # units, by what `scoring.divergences` calls them
        if head is not None:
            stop = 0
            for name, width in {CKA: head.weight.shape[1], **(inner or {})}.items():
                self._hidden[name] = slice(stop, stop + width)
                stop += width
        self._scorer, self._head, self._more = scorer, head, more
        self._pieces: list[torch.Tensor] = []  # states of consecutive tokens
        self._first = 0  # the token of the first one
        self._product = torch.empty(0)
        self._made = (0, self._product)  # first token and logits of the last product
        most = _PRODUCT_BYTES[scorer.device.type]
        if head is not None and head.packed is not None:
            most //= 2  # as fast, and gives back what the packed weight takes
        self._product_rows = rows_within(most, scorer.vocab_size)

    def has_hidden(self, which: str) -> bool:
        """Return whether `hidden` has these: the final ones (`CKA`), or one of `DEPTHS`."""
        return which in self._hidden

    def hidden(self, which: str, start: int, stop: int) -> torch.Tensor:
        """Return hidden states of tokens [start, stop), (token, unit) float32."""
        return self.states(start, stop)[:, self._hidden[which]]

    def states(self, start: int, stop: int) -> torch.Tensor:
        """Return states of tokens [start, stop); forget those before, where more are needed.

        When memory runs out, those that came stay: the same may be asked for again.
        """
        have = self._first + sum(map(len, self._pieces))
        if stop > have:
            self._forget(start)
        while have < stop:
            self._pieces.append(self._more())
            have += len(self._pieces[-1])
        if len(self._pieces) > 1:
            self._pieces = [torch.cat(self._pieces)]
        return self._pieces[0][start - self._first : stop - self._first]

    def _forget(self, keep: int) -> None:
        while self._pieces and self._first < keep:
            n = min(keep - self._first, len(self._pieces[0]))
            self._first += n
            self._pieces[:1] = [self._pieces[0][n:]] if n < len(self._pieces[0]) else []

    def logits(self, start: int, stop: int) -> Logits:
        """Return logits of tokens [start, stop), good until others are asked for.

        Starts never go back; the same run may be asked for again.
        """
        if self._head is None:
            return self._as_they_came(start, stop)
        first, made = self._made
        if start < first or stop > first + len(made):
            end = min(max(stop, start + self._product_rows), len(self._scorer.targets))
            first, made = start, self._multiply(self._head, self.states(start, end))
            self._made = first, made
        return Logits(first, [made])

    def fill(self, start: int, stop: int, out: torch.Tensor) -> None:
        """Put log-probs of tokens [start, stop) into `out`, as `logits` and `Logits` do."""
        self.logits(start, stop).log_probs(start, stop, out)

    def _as_they_came(self, start: int, stop: int) -> Logits:
        """Return the pieces with these tokens: joined they would be there twice."""
        self._forget(start)
        have = self._first + sum(map(len, self._pieces))
        while have < stop:
            self._pieces.append(self._more())
            have += len(self._pieces[-1])
        return Logits(self._first, tuple(self._pieces))

    def _multiply(self, head: Head, states: torch.Tensor) -> torch.Tensor:
        if head.packed is not None:
            self._made = 0, torch.empty(0)  # its memory is taken again
            return head.logits(states)
        if len(self._product) < len(states):
            # Kept: memory that is new each time costs as much as the product.
            self._made, self._product = (0, torch.empty(0)), torch.empty(0)
            shape = max(self._product_rows, len(states)), self._scorer.vocab_size
            self._product = torch.empty(shape, device=states.device)
        return head.logits(states, self._product[: len(states)])

    def shrink(self) -> None:
        """Use less memory."""
        self._product_rows = max(1, self._product_rows // 2)
        self._product = torch.empty(0)
        self._made = (0, self._product)


class LiveSeed:
    """A checkpoint that is being scored: its model is run when tokens are asked for."""

    def __init__(self, scorer: Scorer, model: LanguageModel, *, compared: bool = False) -> None:
        """Take a model; if it is `compared`, with what the study compares of inner layers."""
        inner = scorer.inner if compared else ()
        self.model = model
        self.window = scorer.window(model)  # and overlap
        self._batches = Batches(scorer, model, measured=True)
        widths = model.watch([DEPTHS[name] for name in inner]) if inner else ()
        also = dict(zip(inner, widths, strict=False))
        self.rows = Rows(scorer, model.head, self._batches.more, also)

    @property
    def noise_floor(self) -> float | None:
        """Noise of the forward passes, nats; known once tokens were asked for."""
        return self._batches.noise_floor


class Batches:
    """States of the windows of a text, as a model gives them batch by batch.

    It knows nothing of the rows that call it. Otherwise they would hold one another, and the model,
    until Python looks for garbage: some steps later.
    """

    def __init__(self, scorer: Scorer, model: LanguageModel, *, measured: bool = False) -> None:
        """Take a model; `measured`, with the noise of its forward passes."""
        self._scorer, self._model, self._measured = scorer, model, measured
        self._windows = scorer.windows(model)
        self._batch: list[Window] = []  # kept until it went through: memory may run out
        self.noise_floor: float | None = None

    def more(self) -> torch.Tensor:
        """Return states of the next tokens, as `Scorer.forward` does."""
        self._batch = self._batch or next(self._windows)
        states = self._scorer.forward(self._model, self._batch)
        if self._measured and self.noise_floor is None:
            self.noise_floor = self._scorer.noise(self._model, self._batch, states)
        self._batch = []
        return states
