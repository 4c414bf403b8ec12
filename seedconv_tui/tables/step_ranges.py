"""Steps as chosen on the command line: `A:B`, `:B`, `A:` or a list `0,8,64`."""

from __future__ import annotations

import argparse
from dataclasses import dataclass


@dataclass(frozen=True)
class Steps:
    """The wanted steps. Called with a step, says whether it is one of them."""

    first: int | None = None  # a range, both ends included; None: open
    last: int | None = None
    named: frozenset[int] | None = None  # a list, in place of a range

    def __call__(self, step: int) -> bool:
        if self.named is not None:
            return step in self.named
        return (self.first is None or self.first <= step) and (
            self.last is None or step <= self.last
        )


def parse_steps(text: str) -> Steps:
    """Parse `text`. Raise ValueError."""
    if ":" not in text:
        return Steps(named=frozenset(int(part) for part in text.split(",")))
    first, last = (int(part) if part.strip() else None for part in text.split(":"))
    if first is not None and last is not None and first > last:
        raise ValueError(text)
    return Steps(first, last)


def steps_argument(text: str) -> Steps:
    """Return `parse_steps`, with the error as argparse wants it."""
    try:
        return parse_steps(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"should be A:B or a list of steps, found {text!r}"
        ) from None
