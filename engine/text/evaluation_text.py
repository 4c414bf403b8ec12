"""From text files to the fixed sequences that every checkpoint is scored on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.study_file.file import StudyFile
from engine.text.counts import Counts, reference_counts
from engine.text.documents import document_names, stream_documents
from engine.text.streams import Fields, Piece
from engine.text.token_runs import document_runs
from engine.text.tokenizer import Tokenizer
from store.schema import Corpus


@dataclass(frozen=True)
class TokenSequence:
    """What a model reads at a stretch, and where in it a token of the corpus is predicted."""

    inputs: NDArray[np.int64]  # (n,) ids
    predicts: NDArray[np.bool_]  # (n,): causal models predict the next token, others this one


@dataclass(frozen=True)
class EvaluationText:
    """The evaluation text: sequences to feed, and the tokens predicted in them.

    The predictions of all sequences, in order, are of the tokens of `corpus`.
    """

    sequences: tuple[TokenSequence, ...]
    corpus: Corpus
    digest: str
    counts: Counts  # of the vocabulary in reference text
    pad: int = 0  # id that fills a batch up
    mask: int | None = None  # id that stands for a token that is not shown
    fields: Mapping[str, Fields] = field(default_factory=dict)  # (document,) each, by name
    special: Mapping[str, int] = field(default_factory=dict)  # spelt out in it, and how often


def build_text(study: StudyFile, tokenizer: Tokenizer) -> EvaluationText:
    """Tokenise the corpus for the study's windowing.

    `stream` is one sequence: bos, then the documents with the end-of-text token between them (the
    paper's way), and after the last as often as `corpus.final_end_of_text` says. `document` is one
    sequence per document, each after bos. For masked models each document stands between bos and
    the end-of-text token (BERT: [CLS] and [SEP]), and neither is predicted. Nothing is read or
    tokenised that `corpus.max_tokens` leaves out; a document that is cut off is kept as far as it
    was read. Raise ConfigError.
    """
    stream = study.scoring.windowing == "stream"
    masked = study.scoring.prediction != "causal"
    limit = study.corpus.max_tokens
    sequences: list[list[int]] = [[]]
    predicted: list[list[int]] = [[]]  # positions of the targets in each sequence
    columns: list[tuple[int, int, int, int, int]] = []  # id, context, document, start, end
    texts: list[str] = []
    starts: list[int] = []
    files: list[Path] = []
    offset = 0

    def feed(number: int, document: int, start: int, end: int) -> None:
        sequence = sequences[-1]
        if sequence:
            predicted[-1].append(len(sequence))
            columns.append((number, sequence[-1], document, start, end))
        sequence.append(number)

    def show(number: int | None) -> None:
        if number is not None:
            sequences[-1].append(number)

    show(tokenizer.bos)
    settings, said = study.corpus, list[Fields]()
    documents = stream_documents(
        study, "corpus.files", settings.files, settings.separator, settings.fields
    )
    for index, (file, pieces) in enumerate(documents):
        if limit is not None and len(columns) >= limit:
            break
        if index and masked:
            show(tokenizer.end_of_text)
        elif index and stream and tokenizer.end_of_text is not None:
            feed(tokenizer.end_of_text, index - 1, offset, offset)
        if index and not stream:
            sequences.append([])
            predicted.append([])
        if index and (masked or not stream):
            show(tokenizer.bos)
        read: list[str] = []  # of the document's text, as far as it is needed
        fields: list[Fields] = []
        for run in document_runs(tokenizer.backend, _kept(pieces, read, fields)):
            for number, (start, end) in zip(run.ids.tolist(), run.offsets(), strict=True):
                if limit is not None and len(columns) >= limit:
                    break
                feed(number, index, offset + start, offset + end)
            if limit is not None and len(columns) >= limit:
                break
        texts += read
        said.append(fields[0])
        starts.append(offset)
        files.append(file)
        offset += sum(map(len, read))
    if masked:
        show(tokenizer.end_of_text)
    elif study.corpus.final_end_of_text and tokenizer.end_of_text is None:
        raise ConfigError(
            "corpus.final_end_of_text: the tokenizer has no end-of-text token; leave it out"
        )
    for _ in range(study.corpus.final_end_of_text if files else 0):
        if tokenizer.end_of_text is not None and (limit is None or len(columns) < limit):
            feed(tokenizer.end_of_text, len(files) - 1, offset, offset)
    if not files:
        raise ConfigError("corpus.files: hold no text")
    if not columns:
        raise ConfigError("corpus.files: hold fewer than two tokens, so there is none to predict")
    token_id, context_id, document, char_start, char_end = np.array(columns, np.int64).T
    corpus = Corpus(
        token_id=token_id.astype(np.int32),
        context_id=context_id.astype(np.int32),
        document=document.astype(np.int32),
        char_start=char_start,
        char_end=char_end,
        text="".join(texts),
        document_start=np.array(starts, np.int64),
        document_name=document_names(files),
    )
    digest, kept = hashlib.sha256(), []
    for numbers, targets in zip(sequences, predicted, strict=True):
        if targets:
            ids, predicts = np.array(numbers, np.int64), np.zeros(len(numbers), np.bool_)
            digest.update(len(ids).to_bytes(8, "little") + ids.tobytes())
            if masked:
                predicts[targets] = True
                kept.append(TokenSequence(ids, predicts))
            else:  # said at the token before; nothing is said after the last
                predicts[np.array(targets) - 1] = True
                kept.append(TokenSequence(ids[:-1], predicts[:-1]))
    return EvaluationText(
        tuple(kept),
        corpus,
        digest.hexdigest()[:16],
        reference_counts(study, tokenizer, corpus),
        tokenizer.pad,
        tokenizer.mask,
        dict(zip(settings.fields, zip(*said, strict=True), strict=True)),
        _spelt_out(corpus, tokenizer.special),
    )


def _spelt_out(corpus: Corpus, special: Mapping[int, str]) -> dict[str, int]:
    """Return the special tokens that stand in the text by their names, and how often."""
    found = Counter[str]()
    for token in np.flatnonzero(np.isin(corpus.token_id, list(special))).tolist():
        name = special[int(corpus.token_id[token])]
        if corpus.token_text(token).strip() == name.strip():  # else it stands for something else
            found[name] += 1
    return dict(found.most_common())


def _kept(pieces: Iterator[Piece], read: list[str], fields: list[Fields]) -> Iterator[Piece]:
    """Yield the pieces of a document; text and fields of those that were taken go into lists."""
    for piece in pieces:
        read.append(piece.text[piece.shared :])
        fields.append(piece.fields)
        yield piece
