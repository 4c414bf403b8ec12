"""From text files to the fixed sequences that every checkpoint is scored on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.study_file.file import StudyFile
from engine.text.corpus_tokens import read_corpus
from engine.text.counts import Counts, reference_counts
from engine.text.documents import document_names
from engine.text.streams import Fields
from engine.text.tokenizer import Tokenizer
from store.schema import Corpus


@dataclass(frozen=True)
class TokenSequence:
    """A model's input of one pass, and the positions in it at which tokens are predicted."""

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
    masked = study.scoring.prediction != "causal"
    tokens, text = read_corpus(study, tokenizer)
    place = np.flatnonzero(tokens.predicted)
    corpus = Corpus(
        token_id=tokens.ids[place].astype(np.int32),
        context_id=tokens.ids[place - 1].astype(np.int32),
        document=tokens.document.astype(np.int32),
        char_start=tokens.char_start,
        char_end=tokens.char_end,
        text=str(text),
        document_start=np.array(text.starts, np.int64),
        document_name=document_names(text.files),
    )
    digest, kept = hashlib.sha256(), []
    ends = np.cumsum(tokens.lengths)[:-1]
    for ids, targets in zip(
        np.split(tokens.ids, ends), np.split(tokens.predicted, ends), strict=True
    ):
        if targets.any():
            digest.update(len(ids).to_bytes(8, "little") + ids.tobytes())
            if masked:
                kept.append(TokenSequence(ids, targets))
            else:  # said at the token before; nothing is said after the last
                kept.append(TokenSequence(ids[:-1], targets[1:]))
    return EvaluationText(
        tuple(kept),
        corpus,
        digest.hexdigest()[:16],
        reference_counts(study, tokenizer, corpus),
        tokenizer.pad,
        tokenizer.mask,
        dict(zip(study.corpus.fields, zip(*text.fields, strict=True), strict=True)),
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
