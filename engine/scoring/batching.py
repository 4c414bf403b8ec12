"""Find, by asking the model, which windows may go through it together.

What a batch holds besides a window must not change what the model says of it. It does for some.
LongRoPE takes its factors by the longest position in the batch. Experts of limited capacity drop
tokens by what else is there. Masked models may see what fills a batch up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from seedconv_tui.training.windows import Window

_ENOUGH = 64  # inputs of a window that shows how a model takes its positions


@dataclass(frozen=True)
class Batching:
    """Windows that may go together; may one be cut off behind the tokens of interest?"""

    lengths: bool = True  # windows of different lengths
    windows: bool = True  # windows of one length; if not, each goes alone
    ends: bool = True  # a window says of its first tokens the same when it ends behind them

    @property
    def note(self) -> str | None:
        """Return what the user should know, in one line; None: nothing."""
        if self.lengths:
            return None
        together = "only windows of one length go" if self.windows else "no two windows go"
        return f"its predictions depend on what is in a batch: {together} through it together"


ANY = Batching()


class UnsteadyError(Exception):
    """A model's predictions depend on what it was asked before, or on chance."""


def distinguishing_length(limits: Iterable[int], longest: int) -> int:
    """Return how many inputs of the `longest` window show whether a batch changes predictions.

    Beyond `limits` a model may compute otherwise.
    """
    return min(longest, max([_ENOUGH, *(limit + 1 for limit in limits)]))


def find_batching(
    forward: Callable[[Sequence[Window]], torch.Tensor],
    short: Window,
    long: Window,
    rounding: float,
) -> Batching | None:
    """Compare what a model says of `short` alone, next to `long`, and next to one of its length.

    `forward` gives a row for every input of the windows; those of `short` come first. Rows are
    the same when they differ by no more than `rounding`, relative to their norm. None: rows are NaN
    or infinite, and show nothing. Raise UnsteadyError when the same window gives other rows after
    another.
    """

    def same(a: torch.Tensor, b: torch.Tensor) -> bool:
        return bool((a - b).norm() <= rounding * a.norm())

    alone = forward([short])
    if not alone.isfinite().all():
        return None
    beside = forward([short, long])[: len(alone)]
    if not same(alone, forward([short])):
        raise UnsteadyError("says something else when it is asked the same again")
    if same(alone, beside):
        part = replace(long, stop=long.start + short.length, last=long.start + short.length)
        said = forward([part])
        return Batching(ends=same(said, forward([long])[: len(said)]))
    end = long.start + short.length
    equal = replace(long, stop=end, first=min(long.first, end), last=min(long.last, end))
    windows = same(alone, forward([short, equal])[: len(alone)])
    return Batching(lengths=False, windows=windows, ends=False)
