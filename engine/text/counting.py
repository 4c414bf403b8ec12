"""Occurrences of tokens in documents of any length, exact to the token, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.text.encoding import encode
from engine.text.streams import LONG, Piece, Position
from engine.text.token_runs import MOST_JOINED, document_runs

_AT_ONCE = 256  # documents tokenised together


@dataclass(frozen=True)
class TokenCount:
    """Counts of some more text."""

    count: NDArray[np.int64]  # (vocab,) occurrences
    documents: int  # that ended
    position: Position  # from where what is not counted yet is read


def count_tokens(backend: Any, pieces: Iterable[Piece], size: int) -> Iterator[TokenCount]:
    """Count the tokens of documents, without special ones, a few documents at a time.

    `backend` is a fast tokenizer, `size` the number of its entries. Blank documents are passed
    over. Raise ConfigError for a long document that cannot be parted.
    """
    stream, batch, length = iter(pieces), list[Piece](), 0
    for piece in stream:
        if piece.more or piece.shared:
            if batch:
                yield _of_documents(backend, batch, size)
                batch, length = [], 0
            for run in document_runs(backend, chain([piece], stream), MOST_JOINED):
                yield TokenCount(np.bincount(run.ids, minlength=size), run.ended, run.position)
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
        for ids in encode(backend, texts)["input_ids"]:
            count += np.bincount(np.array(ids, np.int64), minlength=size)
    return TokenCount(count, len(batch), batch[-1].position)
