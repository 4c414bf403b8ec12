"""From characters to tokens: which label covers most of a token, and where long text is cut."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
SENTENCE = re.compile(r"[.!?\u2026][\"'\u201d\u2019)\]]*\s+|[\u3002\uff01\uff1f]")
SPACE = re.compile(r"\s+")
NO_LETTER = re.compile(r"[^\w\s]+")

_BLOCK = 1 << 16  # tokens at a time: bounds what is held next to the result
_BLANK = np.array([code for code in range(0x3001) if chr(code).isspace()], np.uint32)


def pieces(
    text: str, start: int, end: int, limit: int, breaks: tuple[re.Pattern[str], ...]
) -> Iterator[tuple[int, int]]:
    """Cut `text[start:end]` into pieces of at most `limit` characters, (start, end) of each.

    A piece ends with the last match of the first of `breaks` that has one in its second half, else
    wherever it is full. Every piece but the last is thus at least half full, and each character is
    looked at no more than twice per break.
    """
    while end - start > limit:
        cut = start + limit
        for pattern in breaks:
            ends = [match.end() for match in pattern.finditer(text, start + limit // 2, cut)]
            if ends:
                cut = ends[-1]
                break
        yield start, cut
        start = cut
    yield start, end


def blank(text: str) -> NDArray[np.bool_]:
    """Return which characters are white space, (character,)."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
    return np.isin(codes, _BLANK)


def spread(
    start: NDArray[np.int64], length: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the characters of spans in a row: (span, character), both (sum of lengths,)."""
    span = np.repeat(np.arange(len(start)), length)
    before = np.cumsum(length) - length
    return span, np.repeat(start - before, length) + np.arange(len(span))


def majority(
    label: NDArray[np.int16],
    counts: NDArray[np.bool_],
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    labels: int,
) -> NDArray[np.int32]:
    """Return the label that covers at least half of each token, (token,); -1 where none does.

    `label` (character,) is below `labels`, or -1 for no label; only characters with `counts` count.
    Where two labels cover exactly half each, it is the one that comes first in the token.
    """
    level = np.full(len(start), -1, np.int32)
    for low in range(0, len(start), _BLOCK):
        part = slice(low, low + _BLOCK)
        token, character = spread(start[part], end[part] - start[part])
        kept = counts[character]
        token, found = token[kept], label[character[kept]].astype(np.int64)
        tokens = len(level[part])
        total = np.bincount(token, minlength=tokens)
        labelled = found >= 0
        votes = np.bincount(
            token[labelled] * labels + found[labelled], minlength=tokens * labels
        ).reshape(tokens, labels)
        # Votes count double, so that one more for the first character decides nothing but a tie.
        ranked = 2 * votes
        first = np.flatnonzero(np.diff(token, prepend=-1))
        first = first[labelled[first]]
        ranked[token[first], found[first]] += 1
        best = ranked.argmax(axis=1)
        enough = (total > 0) & (2 * votes[np.arange(tokens), best] >= total)
        level[part] = np.where(enough, best, -1)
    return level
