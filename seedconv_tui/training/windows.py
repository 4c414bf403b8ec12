"""Windows over sequences: what goes through the model, and what is kept of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Inputs [start, stop) of one sequence; what the model says at [first, last) of it is kept."""

    sequence: int
    start: int
    stop: int
    first: int
    last: int

    @property
    def length(self) -> int:
        """Return the number of inputs in the window."""
        return self.stop - self.start


def plan_windows(
    lengths: Sequence[int], window: int, overlap: int, *, both_sides: bool = False
) -> Iterator[Window]:
    """Yield windows over sequences of these many inputs, so that each input is kept exactly once.

    Windows start every `window - overlap` inputs. Of each, what is new is kept, so that everything
    but the first window is predicted from at least `overlap` tokens. For a model that sees
    `both_sides`, a window keeps what is nearer to its middle than to another's: every input has at
    least `overlap // 2` tokens on each side, except at an end of the sequence.
    """
    for sequence, length in enumerate(lengths):
        start = covered = 0
        while covered < length:
            stop = min(start + window, length)
            following = start + window - overlap
            last = stop
            if both_sides and stop < length:
                last = following + overlap // 2
            yield Window(sequence, start, stop, covered, last)
            start, covered = following, last


def batches(
    windows: Iterator[Window], batch_tokens: int, *, equal: bool = False
) -> Iterator[list[Window]]:
    """Group windows, in order, that fit one forward pass: as many positions, padding included.

    `equal`, only windows of the same length are grouped, so that there is no padding.
    """
    batch: list[Window] = []
    for window in windows:
        longest = max((w.length for w in batch), default=0)
        full = max(longest, window.length) * (len(batch) + 1) > batch_tokens
        if batch and (full or (equal and window.length != longest)):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
