"""The corpus broken into rows of a width: where each begins, not what is in it.

Only the rows that are seen are ever drawn, so 100,000 tokens cost a few numbers each. Every token
is drawn at least one cell wide, and its text as `seedconv_tui.text.visible` has it.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len

from seedconv_tui.text import visible

if TYPE_CHECKING:
    from store.schema import Corpus

_NEWLINE = ord("\n")
_MOST = 200  # characters of one token, and of a gap, that are drawn


@dataclass(frozen=True, eq=False)
class TextRows:
    """TextRows of tokens for one width. Immutable; shared by threads."""

    corpus: Corpus
    width: int
    ascii: bool
    first: NDArray[np.int64]  # (row + 1,) first token of each row, then the number of tokens
    seen: NDArray[np.int64]  # (token,) characters before it that are drawn already
    cells: NDArray[np.int64]  # (token,) cells that it takes, the gap before it included

    def __len__(self) -> int:
        return len(self.first) - 1

    def row_of(self, token: int) -> int:
        """Return the row that a token is in."""
        return int(np.searchsorted(self.first, token, "right")) - 1

    def tokens(self, row: int) -> range:
        """Return the tokens of a row."""
        return range(int(self.first[row]), int(self.first[row + 1]))

    def column_of(self, token: int) -> int:
        """Return the cell at which a token begins."""
        return int(self.cells[int(self.first[self.row_of(token)]) : token].sum())

    def token_at(self, row: int, column: int) -> int:
        """Return the token that covers a cell; the nearest one beyond the ends."""
        row = min(max(row, 0), len(self) - 1)
        tokens = self.tokens(row)
        ends = np.cumsum(self.cells[tokens.start : tokens.stop])
        return min(tokens.start + int(np.searchsorted(ends, column, "right")), tokens.stop - 1)

    def pieces(self, token: int) -> tuple[str, str]:
        """Return what is drawn for a token: the text before it that is in no token, and its own."""
        return _pieces(self.corpus, int(self.seen[token]), token, self.ascii)


def shown(text: str, ascii: bool) -> str:  # noqa: A002  said the same everywhere
    """Return a token's text as drawn, safe and at least one cell wide.

    A token without characters of its own is a box. An accent without its letter stands on a circle.
    A character that chooses another glyph for the one before it is escaped.
    """
    if not text:
        return "_" if ascii else "▯"
    text = visible(text, ascii)
    if text.isascii():
        return text
    text = "".join(_escaped(c) if 0xFE00 <= ord(c) <= 0xFE0F else c for c in text)
    return f"◌{text}" if unicodedata.category(text[0]) in ("Mn", "Me", "Mc") else text


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _pieces(corpus: Corpus, seen: int, token: int, ascii_only: bool) -> tuple[str, str]:
    start, end = int(corpus.char_start[token]), int(corpus.char_end[token])
    gap = corpus.text[max(seen, start - _MOST) : start]
    own = corpus.text[max(start, seen) : min(end, start + _MOST)]
    return visible(gap, ascii_only), shown(own, ascii_only)


def reflow(corpus: Corpus, width: int, ascii: bool, *, keep_lines: bool = False) -> TextRows:  # noqa: A002
    """Break the corpus into rows of at most `width` >= 1 cells.

    A row ends at a blank line (with `keep_lines` at every line break), at the end of a document,
    else before the last word that would not fit. A token wider than a row has one to itself.
    """
    width, n = max(width, 1), len(corpus)
    codes = np.frombuffer(corpus.text.encode("utf-32-le", "surrogatepass"), np.uint32)
    ends = np.maximum.accumulate(corpus.char_end)
    seen = np.concatenate([[0], ends[:-1]]).astype(np.int64)
    begin = np.minimum(np.minimum(seen, corpus.char_start), len(codes))

    odd = _counts((codes < 0x20) | (codes >= 0x7F))
    cells = np.maximum(corpus.char_end, seen) - begin
    special = (odd[corpus.char_end] > odd[begin]) | (corpus.char_end <= seen) | (cells > _MOST)
    known: dict[tuple[str, str], int] = {}
    for token in np.flatnonzero(special):
        pieces = _pieces(corpus, int(seen[token]), int(token), ascii)
        if pieces not in known:
            known[pieces] = sum(map(cell_len, pieces))
        cells[token] = known[pieces]

    lines = _counts(codes == _NEWLINE)
    blank = (codes == 0x20) | ((codes >= 0x09) & (codes <= 0x0D))
    inked = _counts(~blank)
    own = np.maximum(seen, corpus.char_start)  # where a token's own characters begin
    ink = np.concatenate([[-1], np.where(blank, -1, np.arange(len(codes)))])
    last_ink = np.maximum.accumulate(ink)  # before each character; -1: none
    ended = lines[own] - lines[last_ink[own] + 1]  # line breaks since the last ink before it
    only_blank = inked[corpus.char_end] == inked[own]
    hard = (ended >= (1 if keep_lines else 2)) & ~only_blank
    hard[1:] |= np.diff(corpus.document) != 0

    padded = np.append(codes, 0)
    opens = padded[begin]
    space_here = np.append(blank, False)[begin]
    space_before = np.append(blank, False)[np.maximum(begin - 1, 0)] & (begin > 0)
    soft = hard | space_here | space_before | (opens >= 0x2E80)  # East Asian text has no blanks
    first = _break(cells, width, hard, soft)
    return TextRows(corpus, width, ascii, np.array([*first, n], np.int64), seen, cells)


def _counts(found: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return how many there are before each place, (n + 1,)."""
    return np.concatenate([[0], np.cumsum(found)]).astype(np.int64)


def _break(
    cells: NDArray[np.int64], width: int, hard: NDArray[np.bool_], soft: NDArray[np.bool_]
) -> list[int]:
    """Return the first token of each row."""
    n = len(cells)
    reach = _sums(cells).tolist()
    must = [*np.flatnonzero(hard).tolist(), n]
    may = np.maximum.accumulate(np.where(soft, np.arange(n), 0)).tolist()
    first: list[int] = []
    start = 0
    while start < n:
        first.append(start)
        end = max(bisect_right(reach, reach[start] + width) - 1, start + 1)
        stop = must[bisect_right(must, start)]
        if stop > end:
            stop = may[end] if end < n and may[end] > start else end
        start = stop
    return first


def _sums(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(cells)]).astype(np.int64)
