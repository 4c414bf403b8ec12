"""From a checkpoint to the log-probs of the whole vocabulary at every token, in corpus order."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from engine.machine.devices import DeviceGroup
from engine.machine.faults import blamed
from engine.machine.host_memory import HostMemory, peak_bytes
from engine.machine.precision import multiply_in_full
from engine.models.language_model import LanguageModel, ReadCheckpoint
from engine.models.maker_settings import MakerSettings
from engine.models.makers import Makers
from engine.models.residency import Place, Residence, Stage
from engine.scoring.batching import ANY, Batching, distinguishing_length, find_batching
from engine.scoring.compiled import Comparison
from engine.study_file.limits_section import NO_LIMITS, LimitsSection
from engine.study_file.scoring_section import ScoringSection
from engine.text.counts import log_unigram
from engine.text.evaluation_text import EvaluationText, TokenSequence
from seedconv_tui.training.windows import Window, batches, plan_windows
from store.schema import DEPTHS
from store.words import counted

_PROBE_TOKENS = 16
_NOISE_TOKENS = 32
_NOISE_ROWS = 2  # that are compared at once
_NOISE_WINDOWS = 8  # of a masked model; pseudo, each holds one token
_SHARE_FOR_MODELS = 0.6  # of what is free on a GPU; the rest is for blocks of log-probs
_SHARE_FOR_LAYERS = 0.9  # where none are made; the rest is for what goes from layer to layer
_SHARE_FOR_BATCHES = 0.5  # of what limits leave of the host's; the rest is for the next weights
_LOGIT_BYTES = {"cpu": 2**29, "cuda": 2**31}  # logits of one pass of a model that makes its own


@dataclass
class _Room:
    """Sequences that go through a model together; shared by scorers that read other sequences."""

    tokens: int


class Scorer:
    """Scores language models on one text, on the devices of one worker."""

    def __init__(
        self,
        text: EvaluationText,
        vocab_size: int,
        settings: ScoringSection,
        devices: DeviceGroup,
        note: Callable[[str], None] = lambda text: None,
        limits: LimitsSection = NO_LIMITS,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Call `note` with what the user should know: that memory ran out and work went on.

        `say` takes what is merely of interest.
        """
        self.text, self.vocab_size, self.devices, self.note = text, vocab_size, devices, note
        self.device = device = devices.output  # where ids come from, and log-probs are made
        self._settings = settings
        self.inner = tuple(name for name in settings.divergences if name in DEPTHS)
        self._masked = settings.prediction != "causal"
        self._makers = Makers(
            MakerSettings(
                dtype=getattr(torch, settings.dtype),
                devices=devices,
                first=lambda longest: self._inputs([self._first(longest, _PROBE_TOKENS)])[0],
                vocab_size=vocab_size,
                masked=self._masked,
                note=note,
            )
        )
        self._room = _Room(settings.batch_tokens)
        self._limits, self.memory = limits, HostMemory(limits.memory_gb)
        self._fitted: set[object] = set()  # architectures whose fitting size is known
        self._batchings: dict[object, Batching] = {}
        self._lengths: dict[tuple[int, int], tuple[int, frozenset[int]]] = {}  # window, overlap
        self._stage = Stage()
        self.comparison = Comparison(say)
        self.targets = torch.from_numpy(text.corpus.token_id).long().to(device)
        self.log_unigram = torch.from_numpy(log_unigram(text.counts.count)).float().to(device)
        quiet: Any = transformers.utils.logging
        quiet.disable_progress_bar()  # this is a library: what is shown is not its business
        quiet.set_verbosity(logging.CRITICAL)  # what it would print comes as an error too
        multiply_in_full()

    def reading(self, sequences: Iterable[TokenSequence], targets: NDArray[Any]) -> Scorer:
        """Return the same scorer for other sequences that predict these tokens, (token,)."""
        other = copy.copy(self)
        other.text = replace(self.text, sequences=tuple(sequences))
        other._lengths = {}  # of this text
        other.targets = torch.from_numpy(targets).long().to(self.device)
        return other

    def window(self, model: LanguageModel) -> tuple[int, int]:
        """Return (window, overlap) for a model: the study's, or less where the model takes less."""
        window = min(self._settings.window, model.longest or self._settings.window)
        if window == self._settings.window:
            return window, self._settings.overlap
        return window, min(self._settings.overlap, window // 2)

    def load(
        self,
        checkpoint: ReadCheckpoint,
        residence: Residence = Residence.DEVICE,
        rooms: tuple[int | None, ...] | None = None,
    ) -> LanguageModel:
        """Make a model of a checkpoint; `rooms` are bytes that it may take of each device.

        Raise CheckpointError when the weights do not fit the architecture, or the model fails on
        its first tokens.
        """
        with blamed(checkpoint.where, "its model fails"):  # any code, perhaps the checkpoint's own
            if rooms is None and self.devices.splits:
                rooms = self.free_bytes()
            place = Place(
                self._stage if residence is Residence.TURN else None,
                rooms or (None,) * len(self.devices.devices),
                offload=residence is Residence.LAYERS,
            )
            model = self._makers.make(checkpoint, place)
            try:
                self._fit(model)
                self.batching(model)  # found now, so that what goes wrong is this checkpoint's
            except BaseException:
                model.close()
                raise
            return model

    def _first(self, longest: int | None, n: int) -> Window:
        """Return the first `n` inputs, or as many as a model takes, of the longest sequence."""
        lengths = [len(sequence.inputs) for sequence in self.text.sequences]
        n = min(n, max(lengths), self._settings.window, longest or n)
        return Window(lengths.index(max(lengths)), 0, n, 0, n)

    @torch.inference_mode()
    def batching(self, model: LanguageModel) -> Batching:
        """Find what of the text may go through a model together, once for its architecture.

        Raise UnsteadyError when that cannot be found, as predictions change from call to call.
        """
        n_windows, lengths = self._window_lengths(model)
        fitting = [n for n in lengths if 2 * n <= self._room.tokens]
        alone = n_windows == 1 and self._settings.prediction != "pseudo"
        if not fitting or alone:
            return ANY
        longest = distinguishing_length(model.limits, max(fitting))
        shortest = min(*fitting, (longest + 1) // 2)
        key = model.architecture, shortest, longest
        if key not in self._batchings:
            long = self._first(model.longest, longest)
            stop = min(shortest, long.stop)
            rounding = torch.finfo(model.dtype).eps ** 0.5
            try:
                found = find_batching(
                    # Everywhere: where a probe predicts, a short window may not come to.
                    lambda batch: self._forward(model, batch, everywhere=True),
                    replace(long, stop=stop, last=stop),
                    long,
                    rounding,
                )
            except torch.OutOfMemoryError:  # then batches would not fit either
                found = Batching(lengths=False, windows=False, ends=False)
            if found is None:  # its first token will be refused by name
                return ANY
            self._batchings[key] = found
            if found.note:
                self.note(f"{model.name}: {found.note}")
        return self._batchings[key]

    @torch.inference_mode()
    def _fit(self, model: LanguageModel) -> None:
        """See what one window takes, where memory is limited, and so how many go together."""
        architecture = model.architecture
        left = self.memory.left() if self.device.type == "cpu" else None
        if left is None or architecture in self._fitted:
            return
        self._fitted.add(architecture)
        window = self._first(model.longest, self._settings.window)
        n = window.length
        taken = max(1, peak_bytes(lambda: self._forward(model, [window])))
        if lacking := self.memory.lacks(taken):
            self.note(f"a window of {counted(n, 'token')} takes {lacking}; lower scoring.window")
        fitting = int(_SHARE_FOR_BATCHES * left / taken)
        if n * max(1, fitting) < self._room.tokens:
            self._room.tokens = n * max(1, fitting)

    def let_go(self) -> None:
        """Have the weights that took their turn last leave the device: others need the room."""
        self._stage.clear()

    def bytes_on_device(self, checkpoint: ReadCheckpoint) -> int:
        """Return the bytes that weights take in the precision that they are used in."""
        return checkpoint.bytes_as(getattr(torch, self._settings.dtype))

    def rooms(self) -> tuple[int, ...] | None:
        """Return bytes on each device for the next models; None where memory is the host's."""
        if self._settings.memory_gb is not None:
            return (int(self._settings.memory_gb * 1e9),) * len(self.devices.devices)
        return self.free_bytes()

    def free_bytes(self) -> tuple[int, ...] | None:
        """Return what each GPU has left for models, within the study's limits; None: a CPU."""
        if not self.devices.has_gpus:
            return None
        self.let_go()
        return tuple(map(self._free_on, self.devices.gpus))

    def _free_on(self, gpu: torch.device) -> int:
        free, _ = torch.cuda.mem_get_info(gpu)
        free += torch.cuda.memory_reserved(gpu)  # by torch, and not all of it is in use:
        taken = torch.cuda.memory_allocated(gpu)  # most is left over from the last pass
        free -= taken
        if self._limits.gpu_memory_gb is not None:
            free = min(free, int(self._limits.gpu_memory_gb * 1e9) - taken)
        return int((_SHARE_FOR_MODELS if gpu == self.device else _SHARE_FOR_LAYERS) * free)

    def windows(self, model: LanguageModel) -> Iterator[list[Window]]:
        """Yield what goes through a model together, in corpus order."""
        batching, limit = self.batching(model), self._room.tokens
        if model.head is None:
            limit = min(limit, rows_within(_LOGIT_BYTES[self.device.type], self.vocab_size))
        limit = limit if batching.windows else 1
        return batches(self._asked(self._planned(model)), limit, equal=not batching.lengths)

    def _planned(self, model: LanguageModel) -> Iterator[Window]:
        window, overlap = self.window(model)
        lengths = [len(sequence.inputs) for sequence in self.text.sequences]
        return plan_windows(lengths, window, overlap, both_sides=self._masked)

    def _window_lengths(self, model: LanguageModel) -> tuple[int, frozenset[int]]:
        """Return how many windows the text has for a model, and their lengths; listed once."""
        key = self.window(model)
        if key not in self._lengths:
            lengths = [window.length for window in self._planned(model)]
            self._lengths[key] = len(lengths), frozenset(lengths)
        return self._lengths[key]

    def _asked(self, windows: Iterator[Window]) -> Iterator[Window]:
        """Yield windows in which something is predicted; `pseudo`, a copy for every such token."""
        for window in windows:
            places = self._places(window)
            if self._settings.prediction == "pseudo":
                for place in places.tolist():
                    yield replace(window, first=place, last=place + 1)
            elif len(places):
                yield window

    def _places(self, window: Window, *, everywhere: bool = False) -> NDArray[np.intp]:
        """Return where in the sequence a prediction of this window is kept, or `everywhere`."""
        if everywhere:
            return np.arange(window.first, window.last)
        predicts = self.text.sequences[window.sequence].predicts
        return np.flatnonzero(predicts[window.first : window.last]) + window.first

    def forward(self, model: LanguageModel, batch: Sequence[Window]) -> torch.Tensor:
        """Return input of the output layer, or logits where there is none, at what windows predict.

        (token, hidden or vocab) float32. When memory runs out the batch is halved, and later
        batches with it.
        """
        longest, middle = max(window.length for window in batch), len(batch) // 2
        if not middle or longest * len(batch) <= self._room.tokens:
            try:
                return self._forward(model, batch)
            except torch.OutOfMemoryError:
                if not middle:
                    raise
            self._room.tokens = longest * middle
            windows = counted(len(batch), "window")
            self.note(f"out of memory with {windows} at once; going on with {middle}")
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return torch.cat([self.forward(model, part) for part in (batch[:middle], batch[middle:])])

    def _forward(
        self, model: LanguageModel, batch: Sequence[Window], *, everywhere: bool = False
    ) -> torch.Tensor:
        ids, shown = self._inputs(batch)
        columns = [self._places(window, everywhere=everywhere) - window.start for window in batch]
        length = ids.shape[1]
        first = np.concatenate(columns).min(initial=length - 1)
        states = model.states(ids, shown, length - int(first))
        if model.head is None:
            states = states[..., : self.vocab_size]
        rows = np.repeat(np.arange(len(batch)), [len(places) for places in columns])
        places = np.stack([rows, np.concatenate(columns) - (length - states.shape[1])])
        row, column = torch.from_numpy(places).to(self.device)
        return states[row, column].float()

    def _inputs(self, batch: Sequence[Window]) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return inputs of these windows on the device, and what of them is no filling: None: all.

        Both int64 (batch, position).
        """
        longest = max(window.length for window in batch)
        ids = np.full((len(batch), longest), self.text.pad)
        for row, window in enumerate(batch):
            sequence = self.text.sequences[window.sequence]
            ids[row, : window.length] = sequence.inputs[window.start : window.stop]
            if self._settings.prediction == "pseudo":
                ids[row, window.first - window.start] = self.text.mask
        inputs = torch.from_numpy(ids).to(self.device)
        lengths = np.array([window.length for window in batch])
        if not self._masked or lengths.min() == longest:
            return inputs, None  # right padding is not seen by tokens before it
        shown = (np.arange(longest) < lengths[:, None]).astype(np.int64)
        return inputs, torch.from_numpy(shown).to(self.device)

    def noise(self, model: LanguageModel, batch: Sequence[Window], states: torch.Tensor) -> float:
        """Return the mean KL, in nats, of the first tokens with themselves at another batch shape.

        `states` is what `forward` gave for the first windows, as a batch of the usual shape.
        """
        batching = self.batching(model)
        if not batching.windows:  # then every window goes alone
            again = self.forward(model, batch[:1])
        elif not self._masked and batching.ends:
            n = min(_NOISE_TOKENS, batch[0].stop)
            again = self.forward(model, [replace(batch[0], stop=n, last=n)] * 2)[:n]
        elif len(batch) > 1:
            again = torch.cat([self.forward(model, [w]) for w in batch[:_NOISE_WINDOWS]])
        else:
            alone = replace(batch[0], stop=min(batch[0].stop, max(2, self._room.tokens // 2)))
            alone = replace(alone, last=min(alone.last, alone.stop))
            states = self.forward(model, [alone])
            again = self.forward(model, [alone] * 2)
        n = min(_NOISE_TOKENS, len(states), len(again))
        both = torch.cat([states[:n], again[:n]])
        if model.head is not None:
            both = model.head.logits(both)
        return _mean_kl(both[:n], both[n:])


def _mean_kl(logits: torch.Tensor, others: torch.Tensor) -> float:
    """Return the mean KL of rows of logits, (token, vocab), computed in float64, nats.

    A few rows at a time: of all of them the float64 would be the most memory that scoring takes.
    """
    kl = []
    for start in range(0, len(logits), _NOISE_ROWS):
        rows = slice(start, start + _NOISE_ROWS)
        log_p, log_q = torch.cat([logits[rows], others[rows]]).double().log_softmax(-1).chunk(2)
        kl.append((log_p.exp() * (log_p - log_q)).sum(-1))
    return float(torch.cat(kl).mean())


def rows_within(n_bytes: int, vocab_size: int) -> int:
    """Return how many rows of float32 log-probs fit: a power of two, at least 1."""
    return 1 << max(0, (n_bytes // (4 * vocab_size)).bit_length() - 1)
