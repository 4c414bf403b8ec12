"""Occurrences of tokens in documents of any length, exact to the token, in bounded memory.

A long document is tokenised in pieces that overlap. Near the ends of a piece tokens may be others
than in the whole, so what counts changes over in the middle of what two pieces share, and only
where both agree there on every token and its place. Where they do not, as within a word that is
longer than what they share, they are joined and tokenised again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.text.streams import LONG, Piece, Position

_AT_ONCE = 256  # documents tokenised together
_JOINED = 16  # pieces, at most, between two places where they agree


@dataclass(frozen=True)
class TokenCount:
    """What was counted of some more text."""

    count: NDArray[np.int64]  # (vocab,) occurrences
    documents: int  # that ended
    position: Position  # from where what is not counted yet is read


@dataclass(frozen=True)
class _Tokens:
    """A text that was tokenised. Where tokens are is asked of few alone: it takes time."""

    ids: NDArray[np.int64]  # (n,)
    n_characters: int
    encoding: Any  # of the tokenizers library

    def first(self, at: int) -> int:
        """The first token that begins at character `at` or after it; the number of all if none."""
        for character in range(at, self.n_characters):
            token: int | None = self.encoding.char_to_token(character)
            if token is not None:  # else the tokenizer drops that character
                while token < len(self.ids) and self._start(token) < at:
                    token += 1
                return token
        return len(self.ids)

    def between(self, start: int, end: int) -> list[tuple[int, int]]:
        """Tokens that begin there: their ids, and how far behind `start`."""
        tokens = range(self.first(start), self.first(end))
        return [(int(self.ids[token]), self._start(token) - start) for token in tokens]

    def _start(self, token: int) -> int:
        return int(self.encoding.token_to_chars(token)[0])


def count_tokens(backend: Any, pieces: Iterable[Piece], size: int) -> Iterator[TokenCount]:
    """Count the tokens of documents, without special ones, a few documents at a time.

    `backend` is a fast tokenizer, `size` the number of its entries. Blank documents are passed
    over. Raises ConfigError for a long document that cannot be parted.
    """
    stream, batch, length = iter(pieces), list[Piece](), 0
    for piece in stream:
        if piece.more or piece.shared:
            if batch:
                yield _of_documents(backend, batch, size)
                batch, length = [], 0
            yield from _of_long(backend, piece, stream, size)
            continue
        batch.append(piece)
        length += len(piece.text)
        if len(batch) == _AT_ONCE or length > LONG:
            yield _of_documents(backend, batch, size)
            batch, length = [], 0
    if batch:
        yield _of_documents(backend, batch, size)


def _of_documents(backend: Any, batch: list[Piece], size: int) -> TokenCount:
    count = np.zeros(size, np.int64)
    if texts := [piece.text for piece in batch if piece.text.strip()]:
        encoded = backend(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )
        for ids in encoded["input_ids"]:
            count += np.bincount(np.array(ids, np.int64), minlength=size)
    return TokenCount(count, len(batch), batch[-1].position)


def _of_long(
    backend: Any, piece: Piece, stream: Iterator[Piece], size: int
) -> Iterator[TokenCount]:
    """One document: `piece` and what follows of it. What is shared before it was counted."""
    text, joined = piece.text, 1
    tokens = _tokenise(backend, text)
    counted = tokens.first(piece.shared // 2) if piece.shared else 0
    while piece.more:
        following = next(stream)
        after = _tokenise(backend, following.text)
        offset, shared = len(text) - following.shared, following.shared
        quarter, middle = shared // 4, shared // 2
        here = tokens.between(offset + quarter, offset + shared - quarter)
        if here == after.between(quarter, shared - quarter):
            ids = tokens.ids[counted : tokens.first(offset + middle)]
            yield TokenCount(np.bincount(ids, minlength=size), 0, piece.position)
            text, tokens, counted, joined = following.text, after, after.first(middle), 1
        elif joined == _JOINED:
            raise ConfigError(
                f"{len(text):,} characters of a document have no place where they can be parted "
                f"between tokens: {text[-40:]!r}; put it into several documents"
            )
        else:
            text, joined = text + following.text[shared:], joined + 1
            tokens = _tokenise(backend, text)
        piece = following
    yield TokenCount(np.bincount(tokens.ids[counted:], minlength=size), 1, piece.position)


def _tokenise(backend: Any, text: str) -> _Tokens:
    encoded = backend(text, add_special_tokens=False, return_attention_mask=False, verbose=False)
    return _Tokens(np.array(encoded["input_ids"], np.int64), len(text), encoded.encodings[0])
