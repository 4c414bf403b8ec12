"""Tokens of documents of any length, exact to the token, in bounded memory.

A long document is tokenised in pieces that overlap. Near the ends of a piece, tokens may differ
from those of the whole. So one piece takes over from another in the middle of what they share, and
only where both agree on every token and its place there. Where they do not, as within a word that
is longer than what they share, they are joined and tokenised again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.text.encoding import encode
from engine.text.streams import Piece, Position

MOST_JOINED = 16  # pieces between two places where they agree; more would take too much memory


@dataclass(frozen=True)
class _Tokens:
    """A text that was tokenised. Where tokens are is asked of few alone: it takes time."""

    ids: NDArray[np.int64]  # (n,)
    n_characters: int
    encoding: Any  # of the tokenizers library

    def first(self, at: int) -> int:
        """Return the first token that begins at character `at` or later; if none, their number."""
        for character in range(at, self.n_characters):
            token: int | None = self.encoding.char_to_token(character)
            if token is not None:  # else the tokenizer drops that character
                while token < len(self.ids) and self._start(token) < at:
                    token += 1
                return token
        return len(self.ids)

    def between(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return the tokens that begin there: their ids, and how far behind `start`."""
        tokens = range(self.first(start), self.first(end))
        return [(int(self.ids[token]), self._start(token) - start) for token in tokens]

    def _start(self, token: int) -> int:
        return int(self.encoding.token_to_chars(token)[0])


@dataclass(frozen=True)
class Run:
    """Consecutive tokens of a document."""

    ids: NDArray[np.int64]  # (n,)
    position: Position  # from where what follows is read
    ended: bool  # whether these are the document's last
    _tokens: _Tokens
    _first: int  # of these among `_tokens`
    _base: int  # character of the document at which `_tokens` begin

    def offsets(self) -> list[tuple[int, int]]:
        """Return for each token its first character in the document and the one after its last."""
        part = self._tokens.encoding.offsets[self._first : self._first + len(self.ids)]
        return [(self._base + start, self._base + end) for start, end in part]


def document_runs(
    backend: Any, pieces: Iterator[Piece], most_joined: int | None = None
) -> Iterator[Run]:
    """Yield the tokens of one document, without special ones, as its pieces are read.

    `backend` is a fast tokenizer. If the first piece shares text with one before, tokens begin in
    the middle of that. With `most_joined`, raises ConfigError for a document of which so many
    pieces cannot be split; else it takes as much memory as it needs.
    """
    piece = next(pieces)
    text, joined, base = piece.text, 1, 0
    tokens = _tokenise(backend, text)
    done = tokens.first(piece.shared // 2) if piece.shared else 0
    while piece.more:
        following = next(pieces)
        after = _tokenise(backend, following.text)
        shared, offset = following.shared, len(text) - following.shared
        quarter, middle = shared // 4, shared // 2
        here = tokens.between(offset + quarter, offset + shared - quarter)
        if here == after.between(quarter, shared - quarter):
            last = tokens.first(offset + middle)
            yield Run(tokens.ids[done:last], piece.position, False, tokens, done, base)
            text, tokens, done, joined = following.text, after, after.first(middle), 1
            base += offset
        elif joined == most_joined:
            raise ConfigError(
                f"{len(text):,} characters of a document have no place where they can be split "
                f"between tokens: {text[-40:]!r}; put it into several documents"
            )
        else:
            parts = [text, following.text[shared:]]
            # As many pieces again, so that what is tokenised again stays in proportion.
            while len(parts) <= joined and following.more and most_joined is None:
                following = next(pieces)
                parts.append(following.text[following.shared :])
            text, joined = "".join(parts), joined + len(parts) - 1
            tokens = _tokenise(backend, text)
        piece = following
    yield Run(tokens.ids[done:], piece.position, True, tokens, done, base)


def _tokenise(backend: Any, text: str) -> _Tokens:
    encoded = encode(backend, text)
    return _Tokens(np.array(encoded["input_ids"], np.int64), len(text), encoded.encodings[0])
