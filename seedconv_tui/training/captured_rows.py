"""Running a study's text through a model in training, and picking what is predicted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray

from seedconv_tui.training.forward_ways import Forward, NoLogitsError, are_probabilities
from seedconv_tui.training.layer_search import (
    Heard,
    Layer,
    candidates,
    factor,
    find_layer,
    listening,
)
from seedconv_tui.training.windows import Window, plan_windows
from seedconv_tui.training.work_order import Sequences, WorkOrder
from seedconv_tui.training.wrapped_models import Placement

_NOISE_TOKENS = 32
_FACTOR_OFF = 0.01  # how far a factor may be from that of the first batch: it is estimated


@dataclass(frozen=True)
class CaptureJob:
    """One capture, as a rank has to do it."""

    place: Placement
    order: WorkOrder
    window: int
    overlap: int
    part: int  # of the windows, which are dealt out to
    parts: int
    batch_tokens: int  # positions that go through the model at once
    forward: Forward
    factored: bool  # whether an output layer is looked for


@dataclass(frozen=True)
class First:
    """The findings of the first batch; on a rank without logits, that there are none."""

    vocab: int | None = None  # logits at a position
    layer: Layer | None = None
    dtype: str = ""
    noise: float = 0.0  # nats: mean KL of some tokens with themselves at another batch shape


@dataclass(frozen=True)
class _Text:
    """The text, or a probe."""

    windows: list[Window]  # of all ranks
    sequences: list[tuple[NDArray[np.int32], NDArray[np.bool_]]]

    @classmethod
    def of(cls, text: Sequences, job: CaptureJob) -> _Text:
        lengths = text.lengths.tolist()
        return cls(list(plan_windows(lengths, job.window, job.overlap)), list(text.split()))

    def places(self, window: Window) -> NDArray[np.intp]:
        """Return where in a window something is predicted that is kept of it."""
        predicts = self.sequences[window.sequence][1]
        return np.flatnonzero(predicts[window.first : window.last]) + window.first - window.start

    def ids(self, batch: Sequence[Window], pad: int) -> NDArray[np.int64]:
        """Return what windows read, (window, position), filled up at their ends."""
        found = np.full((len(batch), max(window.length for window in batch)), pad, np.int64)
        for row, window in zip(found, batch, strict=True):
            row[: window.length] = self.sequences[window.sequence][0][window.start : window.stop]
        return found


@dataclass(frozen=True)
class _Batch:
    """Windows that went through the model, and what came out."""

    text: _Text
    windows: Sequence[Window]  # fewer than rows: those of others are run and not kept
    logits: torch.Tensor | None
    heard: list[Heard]


class CapturedRows:
    """Rows of one rank: of the text (None) and of each probe, by its number."""

    def __init__(self, job: CaptureJob) -> None:
        self._job = job
        probes = dict[int | None, Sequences](enumerate(job.order.probes.values()))
        self._texts = {
            name: _Text.of(text, job) for name, text in {None: job.order.text, **probes}.items()
        }
        self._first: _Batch | None = None
        self._layer: Layer | None = None
        self.finite = True  # what was picked so far
        self.steady = True  # whether logits are made as those of the first batch

    def counts(self, part: int) -> dict[int | None, int]:
        """Return how many rows a part holds, of the text and of each probe."""
        return {
            name: sum(len(text.places(window)) for window in text.windows[part :: self._job.parts])
            for name, text in self._texts.items()
        }

    def first(self) -> First:
        """Run the first batch, and a part of it again."""
        parameters = self._job.place.module.parameters()
        kept = next(p.dtype for p in parameters if p.is_floating_point())  # FSDP gathers others
        while True:
            text, windows = self._texts[None], next(self._rounds(self._texts[None]))
            try:
                batch = self._run(text, windows, self._searched(), weights=True)
                break
            except torch.OutOfMemoryError:
                if self._job.place.together or len(windows) <= self._job.parts:
                    raise
            _let_go(self._job.place.device)
            self._job = replace(self._job, batch_tokens=self._job.batch_tokens // 2)
        self._first = batch
        if batch.logits is None:
            self._repeated(batch)
            return First()
        vocab = self._job.order.vocab
        if are_probabilities(batch.logits):
            raise NoLogitsError("returns probabilities, which are no logits")
        if self._job.factored:
            self._layer = find_layer(batch.heard, batch.logits, vocab)
        self.finite = bool(torch.isfinite(self._picked(batch, batch.logits[..., :vocab])).all())
        output = batch.heard[0].output if batch.heard else None
        made = batch.logits.dtype if output is None else output.dtype
        names = [str(dtype).removeprefix("torch.") for dtype in (kept, made)]
        return First(
            vocab=batch.logits.shape[-1],
            layer=self._layer,
            dtype="/".join(dict.fromkeys(names)),
            noise=self._noise(batch),
        )

    def rows(self, *, factored: bool) -> Iterator[tuple[int | None, NDArray[np.generic]]]:
        """Run all batches; yield rows float32 (row, hidden) when factored, else float16 log-probs.

        `first` was called before.
        """
        if not factored:
            self._layer = None
        layers = [] if self._layer is None else [self._layer.module]
        first, self._first = self._first, None
        for name, text in self._texts.items():
            for windows in self._rounds(text):
                made = [first] if first is not None else self._batches(text, windows, layers)
                first = None
                for batch in made:
                    if batch is not None and batch.logits is not None:
                        yield name, self._kept(batch)

    def _rounds(self, text: _Text) -> Iterator[list[Window]]:
        """Yield windows of all ranks that are run at the same time."""
        return rounds(text.windows, self._job.parts, self._job.batch_tokens)

    def _searched(self) -> list[torch.nn.Linear]:
        if not self._job.factored:
            return []
        return candidates(self._job.place.module, self._job.order.vocab)

    def _batches(
        self, text: _Text, windows: list[Window], layers: list[torch.nn.Linear]
    ) -> Iterator[_Batch]:
        """Run windows, in halves where memory runs out and no other rank has to do the same."""
        try:
            batch = self._run(text, windows, layers)
        except torch.OutOfMemoryError:
            parts = self._job.parts
            if self._job.place.together or len(windows) <= parts:
                raise
            batch = None
        if batch is not None:
            yield batch
            return
        _let_go(self._job.place.device)
        middle = (len(windows) // parts + 1) // 2 * parts
        yield from chain(
            self._batches(text, windows[:middle], layers),
            self._batches(text, windows[middle:], layers),
        )

    def _run(
        self, text: _Text, windows: list[Window], layers: list[torch.nn.Linear],
        *, weights: bool = False,
    ) -> _Batch:  # fmt: skip
        """Run this rank's of some windows; where it has none, the first, as all run equally often.

        Of the weight only that rank makes a copy which hands it over.
        """
        own = windows[self._job.part :: self._job.parts]
        ids = self._ids(text.ids(own or windows[:1], self._job.order.pad))
        weights = weights and self._job.part == 0
        with listening(layers, self._job.order.vocab, weights=weights) as heard:
            logits = self._job.forward(self._job.place.module, ids)
        return _Batch(text, own, logits, heard)

    def _ids(self, ids: NDArray[np.int64]) -> torch.Tensor:
        return torch.from_numpy(ids).to(self._job.place.device)

    def _picked(self, batch: _Batch, values: torch.Tensor) -> torch.Tensor:
        """Return what stands where predictions are kept, (row, ...)."""
        columns = [batch.text.places(window) for window in batch.windows]
        rows = np.repeat(np.arange(len(columns)), [len(places) for places in columns])
        places = np.stack([rows, np.concatenate([np.empty(0, np.intp), *columns])]).astype(np.int64)
        row, column = torch.from_numpy(places).to(values.device)
        return values[row, column]

    def _kept(self, batch: _Batch) -> NDArray[np.generic]:
        logits, vocab = batch.logits, self._job.order.vocab
        assert logits is not None
        if self._layer is None:
            picked = self._picked(batch, logits[..., :vocab]).float().log_softmax(-1)
            self.finite &= bool(torch.isfinite(picked).all())
            return picked.half().cpu().numpy()
        if not self._made_alike(batch, logits):
            said = self._picked(batch, logits[..., :vocab])
            self.finite &= bool(torch.isfinite(said).all())  # which would explain it
            self.steady = False
            empty: NDArray[np.float32] = np.empty((0, self._layer.module.in_features), np.float32)
            return empty
        hidden = batch.heard[0].input.reshape(*logits.shape[:2], -1)
        picked = self._picked(batch, hidden).float()
        self.finite &= bool(torch.isfinite(picked).all())
        return picked.cpu().numpy()

    def _made_alike(self, batch: _Batch, logits: torch.Tensor) -> bool:
        """Return whether logits are the layer's output times the factor of the first batch."""
        assert self._layer is not None
        scale, expected = factor(batch.heard, logits, self._job.order.vocab), self._layer.scale
        return scale is not None and abs(scale - expected) <= _FACTOR_OFF * abs(expected)

    def _repeated(self, batch: _Batch) -> tuple[int, _Batch]:
        """Run the first tokens of a batch's first window again, twice at once."""
        window = (batch.windows or batch.text.windows)[0]
        n = min(_NOISE_TOKENS, (window.length + 1) // 2)  # so that one that sees later ones shows
        ids = self._ids(batch.text.ids([window], self._job.order.pad)[:, :n]).repeat(2, 1)
        layers = [] if self._layer is None else [self._layer.module]
        with listening(layers, self._job.order.vocab, weights=False) as heard:
            logits = self._job.forward(self._job.place.module, ids)
        return n, _Batch(batch.text, [window], logits, heard)

    def _noise(self, batch: _Batch) -> float:
        """Return the mean KL, in nats, of the first tokens with themselves, batched otherwise."""
        n, again = self._repeated(batch)
        both = []
        for made in (batch, again):
            logits = made.logits
            if logits is None:
                return 0.0
            if self._layer is not None and self._layer.weight is not None and made.heard:
                hidden = made.heard[0].input.reshape(*logits.shape[:2], -1)[0, :n]
                both.append(self._layer.logits(hidden.float().cpu()))
            else:
                both.append(logits[0, :n, : self._job.order.vocab].float().cpu())
        log_p, log_q = (logits.double().log_softmax(-1) for logits in both)
        found = float((log_p.exp() * (log_p - log_q)).sum(-1).mean())
        return max(found, 0.0)  # rounding may make it negative


def rounds(windows: Sequence[Window], parts: int, batch_tokens: int) -> Iterator[list[Window]]:
    """Group windows, in order, so that `parts` ranks run equally many batches of them.

    Rank r runs every `parts`-th of a group from the r-th on, at most so many positions, padding
    included; but one window at least.
    """
    start = 0
    while start < len(windows):
        stop, longest = start, 0
        while stop < len(windows):
            longest = max(longest, *(window.length for window in windows[stop : stop + parts]))
            each = (stop - start) // parts + 1
            if stop > start and longest * each > batch_tokens:
                break
            stop += parts
        yield list(windows[start:stop])
        start = stop


def _let_go(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()
