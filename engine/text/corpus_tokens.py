"""The tokens of a study's corpus: made by its tokenizer, or kept from an earlier start.

The text is read in either case, and what is kept is taken only for the very same text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.study_file.file import StudyFile
from engine.text.derived_cache import Arrays, digest_of, keep, recall
from engine.text.documents import find_files, stream_documents
from engine.text.streams import Fields, Piece
from engine.text.token_runs import document_runs
from engine.text.tokenizer import Tokenizer

_FIELD = "corpus.files"
_KIND = "corpus"


@dataclass(frozen=True)
class CorpusTokens:
    """The ids that all sequences hold, in order, and which of them are predicted."""

    ids: NDArray[np.int64]  # (id,)
    lengths: NDArray[np.int64]  # (sequence,) ids in each
    predicted: NDArray[np.bool_]  # (id,): never a sequence's first
    document: NDArray[np.int64]  # (token,) that each predicted one is in
    char_start: NDArray[np.int64]  # (token,) of the text
    char_end: NDArray[np.int64]  # (token,)


class TextRead:
    """The documents as far as they were read."""

    def __init__(self) -> None:
        self.files = list[Path]()  # of each document
        self.fields = list[Fields]()  # that records say of each
        self.lengths = list[int]()  # characters of each
        self._parts = list[str]()
        self._digest = hashlib.blake2b(digest_size=16)  # of all pieces, as they were split

    def begin(self, file: Path) -> None:
        """Begin a document."""
        self.files.append(file)
        self.lengths.append(0)

    def read(self, pieces: Iterable[Piece]) -> Iterator[Piece]:
        """Yield the pieces of the document, and keep the text of those that were taken."""
        for piece in pieces:
            if len(self.fields) < len(self.files):
                self.fields.append(piece.fields)
            part = piece.text[piece.shared :]
            self._parts.append(part)
            self.lengths[-1] += len(part)
            head = f"{len(self.files)} {len(piece.text)} {piece.shared} {piece.more}\0"
            self._digest.update(head.encode() + piece.text.encode("utf-8", "surrogatepass"))
            yield piece

    @property
    def digest(self) -> bytes:
        """Return the digest of what was read."""
        return self._digest.digest()

    @property
    def starts(self) -> list[int]:
        """Return the first character of each document."""
        return [0, *accumulate(self.lengths)][:-1]

    def __str__(self) -> str:
        return "".join(self._parts)


def read_corpus(study: StudyFile, tokenizer: Tokenizer) -> tuple[CorpusTokens, TextRead]:
    """Return the tokens of the corpus, and its text.

    Nothing is read or tokenised that `corpus.max_tokens` leaves out; a document that is cut off is
    kept as far as it was read. Raise ConfigError.
    """
    key = _key(study, tokenizer)
    kept = recall(_KIND, key)
    found = _recalled(study, kept) if kept is not None else None
    return _tokenised(study, tokenizer, key) if found is None else found


def _documents(study: StudyFile) -> Iterator[tuple[Path, Iterator[Piece]]]:
    corpus = study.corpus
    return stream_documents(study, _FIELD, corpus.files, corpus.separator, corpus.fields)


def _tokenised(
    study: StudyFile, tokenizer: Tokenizer, key: str | None
) -> tuple[CorpusTokens, TextRead]:
    stream = study.scoring.windowing == "stream"
    masked = study.scoring.prediction != "causal"
    limit, end_of_text = study.corpus.max_tokens, tokenizer.end_of_text
    text, ids, lengths = TextRead(), list[int](), list[int]()
    begin = 0  # of the last sequence
    columns: list[tuple[int, int, int, int]] = []  # place in `ids`, document, start, end

    def feed(number: int, document: int, start: int, end: int) -> None:
        if len(ids) > begin:
            columns.append((len(ids), document, start, end))
        ids.append(number)

    def show(number: int | None) -> None:
        if number is not None:
            ids.append(number)

    def is_full() -> bool:
        return limit is not None and len(columns) >= limit

    show(tokenizer.bos)
    offset = 0
    for index, (file, pieces) in enumerate(_documents(study)):
        if is_full():
            break
        if index and masked:
            show(end_of_text)
        elif index and stream and end_of_text is not None:
            feed(end_of_text, index - 1, offset, offset)
        if index and not stream:
            lengths.append(len(ids) - begin)
            begin = len(ids)
        if index and (masked or not stream):
            show(tokenizer.bos)
        text.begin(file)
        for run in document_runs(tokenizer.backend, text.read(pieces)):
            for number, (start, end) in zip(run.ids.tolist(), run.offsets(), strict=True):
                if is_full():
                    break
                feed(number, index, offset + start, offset + end)
            if is_full():
                break
        offset += text.lengths[-1]
    ended = not is_full()
    if masked:
        show(end_of_text)
    elif study.corpus.final_end_of_text and end_of_text is None:
        raise ConfigError(
            "corpus.final_end_of_text: the tokenizer has no end-of-text token; leave it out"
        )
    for _ in range(study.corpus.final_end_of_text if text.files else 0):
        if end_of_text is not None and not is_full():
            feed(end_of_text, len(text.files) - 1, offset, offset)
    lengths.append(len(ids) - begin)
    if not text.files:
        raise ConfigError("corpus.files: hold no text")
    if not columns:
        raise ConfigError("corpus.files: hold fewer than two tokens, so there is none to predict")
    place, document, char_start, char_end = np.array(columns, np.int64).T
    predicted = np.zeros(len(ids), np.bool_)
    predicted[place] = True
    tokens = CorpusTokens(
        np.array(ids, np.int64),
        np.array(lengths, np.int64),
        predicted,
        document,
        char_start,
        char_end,
    )
    keep(_KIND, key, _as_arrays(tokens, text, ended=ended))
    return tokens, text


# -- what is kept ----------------------------------------------------------------------------------


def _key(study: StudyFile, tokenizer: Tokenizer) -> str | None:
    """Return what the tokens depend on besides the text; None: they cannot be kept.

    Files that can be read once only, as pipes, are not read for that.
    """
    files = find_files(study, _FIELD, study.corpus.files)
    if tokenizer.identity is None or not all(file.is_file() for file in files):
        return None
    return digest_of(
        tokenizer.identity,
        tokenizer.bos,
        tokenizer.end_of_text,
        study.scoring.windowing == "stream",
        study.scoring.prediction != "causal",
        study.corpus.max_tokens,
        study.corpus.separator,
        study.corpus.final_end_of_text,
        [str(file.resolve()) for file in files],
    )


def _as_arrays(tokens: CorpusTokens, text: TextRead, *, ended: bool) -> Arrays:
    """Return what is kept; `ended`, the documents came to their end before there was enough."""
    return {
        "ids": tokens.ids.astype(np.int32),
        "lengths": tokens.lengths,
        "predicted": np.packbits(tokens.predicted),
        "of_document": np.bincount(tokens.document, minlength=len(text.files)),
        "char_start": _narrow(tokens.char_start),
        "char_end": _narrow(tokens.char_end),
        "read": np.array(text.lengths, np.int64),
        "ended": np.array(ended),
        "digest": np.frombuffer(text.digest, np.uint8),
    }


def _narrow(places: NDArray[np.int64]) -> NDArray[np.integer]:
    return places.astype(np.int32) if places.max() < 2**31 else places


def _recalled(study: StudyFile, kept: Arrays) -> tuple[CorpusTokens, TextRead] | None:
    """Read the text that tokens were kept of, and return both; None: it is another one now."""
    text, read, ended = TextRead(), kept["read"].tolist(), bool(kept["ended"])
    for index, (file, pieces) in enumerate(_documents(study)):
        if index == len(read):
            if ended:
                return None
            break
        text.begin(file)
        cut = index == len(read) - 1 and not ended
        for _ in text.read(pieces):
            if cut and text.lengths[-1] >= read[index]:
                break
        if text.lengths[-1] != read[index]:
            return None
    if text.lengths != read or text.digest != kept["digest"].tobytes():
        return None
    ids = kept["ids"].astype(np.int64)
    tokens = CorpusTokens(
        ids,
        kept["lengths"],
        np.unpackbits(kept["predicted"], count=len(ids)).astype(np.bool_),
        np.repeat(np.arange(len(read)), kept["of_document"]),
        kept["char_start"].astype(np.int64),
        kept["char_end"].astype(np.int64),
    )
    return tokens, text
