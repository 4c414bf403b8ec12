"""Which stretches of which sequence go through the model, and what is kept of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Inputs [start, stop) of one sequence; the predictions after the last `keep` are new."""

    sequence: int
    start: int
    stop: int
    keep: int

    @property
    def length(self) -> int:
        """Inputs in the window."""
        return self.stop - self.start


def plan_windows(lengths: Sequence[int], window: int, overlap: int) -> Iterator[Window]:
    """Yield windows over sequences of these many inputs, so that each input is kept exactly once.

    Windows start every `window - overlap` inputs, so every prediction but those of the first
    window sees at least `overlap` tokens.
    """
    for sequence, length in enumerate(lengths):
        start = covered = 0
        while covered < length:
            stop = min(start + window, length)
            yield Window(sequence, start, stop, stop - covered)
            start, covered = start + window - overlap, stop


def batches(windows: Iterator[Window], batch_tokens: int) -> Iterator[list[Window]]:
    """Group windows, in order, that fit one forward pass: as many positions, padding included."""
    batch: list[Window] = []
    for window in windows:
        longest = max((w.length for w in batch), default=0)
        if batch and max(longest, window.length) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
