"""Rows that training has handed over, read part by part and checked while they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import CheckpointError
from engine.models.captured_files import Captured, CapturedFile
from engine.models.output_head import Head
from engine.scoring.log_prob_rows import Rows
from engine.scoring.scorer import Scorer
from engine.text.evaluation_text import TokenSequence
from seedconv_tui.training.handover import Handover, rows_file
from seedconv_tui.training.windows import plan_windows

_PIECE_BYTES = 2**24  # read at once, at most
_MOST_OPEN = 64  # files of one capture; there may be one for each of thousands of ranks


class SpooledRows:
    """The rows of sequences, in their order, from the parts that the ranks have written."""

    def __init__(
        self,
        captured: Captured,
        sequences: Sequence[TokenSequence],
        vocab_size: int,
        probe: int | None = None,
    ) -> None:
        """Open the parts; of a `probe`, those of its sequences. Raise CheckpointError."""
        found = captured.handover
        plan = _plan(found, sequences)
        self._plan, self._ranks = iter(plan), found.ranks
        self._parts: list[CapturedFile] = []
        expected = [0] * found.ranks
        for rank, n in plan:
            expected[rank] += n
        width = vocab_size if captured.layer is None else captured.layer.weight.shape[1]
        for rank, n in enumerate(expected):
            path = captured.folder / rows_file(rank, probe)
            part = CapturedFile(path, found.files[path.name], found.row_dtype, 2)
            if part.shape != (n, width):
                raise CheckpointError(
                    f"{path}: has {part.shape[0]:,} rows of {part.shape[1]:,} numbers, should have "
                    f"{n:,} of {width:,}. Capture this step again"
                )
            if not n:
                part.read(0)
            self._parts.append(part)
            self._rest(part)
        self._most = max(1, _PIECE_BYTES // (max(1, width) * np.dtype(found.row_dtype).itemsize))
        self._piece = 0, 0  # part of the window in hand, and its rows that were not read yet

    def next(self) -> NDArray[np.generic]:
        """Return more rows, (n, width); none after the last. Raise CheckpointError."""
        part, left = self._piece
        while not left:
            part, left = next(self._plan, (0, -1))
            if left < 0:
                return np.empty((0, self._parts[0].shape[1]), np.float32)
        n = min(left, self._most)
        self._piece = part, left - n
        values = self._parts[part].read(n)
        self._rest(self._parts[part])
        return values

    def _rest(self, part: CapturedFile) -> None:
        if self._ranks > _MOST_OPEN:
            part.rest()


def _plan(found: Handover, sequences: Sequence[TokenSequence]) -> list[tuple[int, int]]:
    """Return, window by window, the part that it is in and how many rows it has there."""
    lengths, plan = [len(sequence.inputs) for sequence in sequences], []
    for number, window in enumerate(plan_windows(lengths, found.window, found.overlap)):
        predicts = sequences[window.sequence].predicts[window.first : window.last]
        plan.append((number % found.ranks, int(np.count_nonzero(predicts))))
    return plan


class CapturedSeed:
    """A checkpoint that was captured in training: its rows are read when tokens are asked for."""

    def __init__(self, scorer: Scorer, captured: Captured) -> None:
        """Open its rows. Raise CheckpointError."""
        self.model = captured
        self.window = captured.handover.window, captured.handover.overlap
        self.noise_floor: float | None = captured.handover.noise_floor
        layer = captured.layer
        self._head = None if layer is None else Head.of(layer, scorer.device)
        parts = SpooledRows(captured, scorer.text.sequences, scorer.vocab_size)
        self.rows = Rows(scorer, self._head, _Kept(parts, None, scorer.device).more)

    def probe_rows(
        self,
        reading: Scorer,
        probe: int,
        sequences: Sequence[TokenSequence],
        kept: NDArray[np.bool_],
    ) -> Rows:
        """Return rows of those predictions of a probe that are `kept`, (prediction,).

        `reading` predicts them; `sequences` are all that were handed over. Raise CheckpointError.
        """
        parts = SpooledRows(self.model, sequences, reading.vocab_size, probe)
        return Rows(reading, self._head, _Kept(parts, kept, reading.device).more)


class _Kept:
    """Rows on the device, without those that nobody asks for."""

    def __init__(
        self, parts: SpooledRows, kept: NDArray[np.bool_] | None, device: torch.device
    ) -> None:
        self._parts, self._kept, self._device = parts, kept, device
        self._at = 0  # row that comes next

    def more(self) -> torch.Tensor:
        values = self._parts.next()
        if self._kept is not None:
            kept = self._kept[self._at : self._at + len(values)]
            self._at += len(values)
            values = values[kept]
            if not self._kept[self._at :].any():
                while len(self._parts.next()):  # to the end, so that checksums are compared
                    pass
        return torch.from_numpy(values).to(self._device).float()
