"""Parts of speech: documents go through a spaCy pipeline whole, and its tags go to the tokens."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.categories.alignment import (
    NO_LETTER,
    PARAGRAPH,
    SENTENCE,
    SPACE,
    blank,
    majority,
    pieces,
    spread,
)
from engine.errors import ConfigError
from store.schema import Corpus

UNIVERSAL = (
    *("ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "NUM", "PART", "PRON", "PROPN"),
    *("PUNCT", "SCONJ", "SYM", "VERB", "X", "SPACE"),
)
OURS = "rules"  # the setting that asks for our own tagger
RULES = "seedconv rules (English)"  # the name of our own tagger wherever its tags are shown
_PREFERRED = "en_core_web_sm"  # what "auto" takes where it is installed

_PIECE = 100_000  # characters: longer documents go through the pipeline in pieces
_BATCH = 200_000  # characters that go through it together
# spaCy's tokenizer takes time quadratic in the length of text without white space.
_UNBROKEN = 250
_LONG_RUN = re.compile(rf"\S{{{_UNBROKEN + 1},}}")

# Factories that neither tags nor what makes them depend on; the parser may be needed, see below.
_UNNEEDED = {
    *(
        "beam_ner",
        "beam_parser",
        "entity_linker",
        "entity_ruler",
        "future_entity_ruler",
        "lemmatizer",
    ),
    *("ner", "parser", "sentencizer", "senter", "span_ruler", "spancat", "spancat_singlelabel"),
    *("textcat", "textcat_multilabel", "trainable_lemmatizer"),
}


@dataclass(frozen=True)
class TagSet:
    """One tag for each token."""

    labels: tuple[str, ...]  # (level,); untrusted: they come from the pipeline
    level: NDArray[np.int32]  # (token,) index of its label; -1: none


@dataclass(frozen=True)
class Tags:
    """A tagger's tags for the tokens of a corpus."""

    tagger: str  # such as "en_core_web_sm 3.8.0"; untrusted if it is a folder's
    universal: TagSet  # labels are UNIVERSAL, every token has one
    fine: TagSet | None  # fine-grained tags, where the tagger gives them


def tag(corpus: Corpus, tagger: str) -> Tags:
    """Tag the tokens of a corpus by their part of speech.

    `tagger` is "rules" (ours), a spaCy pipeline's package name or folder, or "auto": en_core_web_sm
    if it is installed, else the rules. Nothing is downloaded.

    A token takes the tag that covers at least half of its characters, white space not counted; of
    two that cover exactly half each, the first; X where there is none. A token of white space alone
    is SPACE. A token with no characters gets the tag of the character before it, but X at the edge
    of a document, where the end-of-text token is. (Tokenizers may give no width to blanks, or to
    bytes of a character that was counted.) Fine-grained tags go the same way; -1 stands for X and
    SPACE.

    Raise ConfigError when the pipeline cannot be loaded, fails on the text or sets no tags.
    """
    nlp, name = load(tagger)
    spaces = blank(corpus.text)
    universal = np.full(len(corpus.text), -1, np.int16)
    fine = np.full(len(corpus.text), -1, np.int16)
    place_of = {int(nlp.vocab.strings[tag]): place for place, tag in enumerate(UNIVERSAL)}
    place_of[0] = -1
    place_of[int(nlp.vocab.strings["CONJ"])] = UNIVERSAL.index("CCONJ")
    fine_of: dict[int, int] = {0: -1}
    some = False
    try:
        for offset, words in _words(nlp, corpus):
            some = some or len(words) > 0
            length = words[:, 1].astype(np.int64)
            _, character = spread(offset + words[:, 0].astype(np.int64), length)
            keys = words[:, 2].tolist()
            places = [place_of.get(key, UNIVERSAL.index("X")) for key in keys]
            universal[character] = np.repeat(np.array(places, np.int16), length)
            places = [fine_of.setdefault(key, len(fine_of) - 1) for key in words[:, 3].tolist()]
            fine[character] = np.repeat(np.array(places, np.int16), length)
    except Exception as error:  # a pipeline is anybody's code
        raise ConfigError(
            _say(tagger, f"fails on the text: {_reason(error)}. Correct it")
        ) from error
    if some and not spaces.all() and (universal[~spaces] < 0).all():
        what = "fine-grained tags only" if len(fine_of) > 1 else "no tags"
        raise ConfigError(_say(tagger, f"sets {what}; take one with universal parts of speech"))

    start, end = corpus.char_start, corpus.char_end
    ends = np.append(corpus.document_start[1:], len(corpus.text))
    inside = (start > corpus.document_start[corpus.document]) & (end < ends[corpus.document])
    start = np.where((start == end) & inside, start - 1, start)
    level = majority(universal, ~spaces, start, end, len(UNIVERSAL))
    filled = np.append(0, np.cumsum(~spaces))
    only_spaces = (end > start) & (filled[end] == filled[start])
    level[level < 0] = UNIVERSAL.index("X")
    level[only_spaces] = UNIVERSAL.index("SPACE")
    tags = TagSet(UNIVERSAL, level)
    if len(fine_of) == 1:
        return Tags(name, tags, None)
    return Tags(name, tags, _fine(nlp, fine_of, majority(fine, ~spaces, start, end, len(fine_of))))


def _fine(nlp: Any, fine_of: dict[int, int], level: NDArray[np.int32]) -> TagSet:
    """Labels in alphabetical order, those that no token has left out."""
    labels = {place: str(nlp.vocab.strings[key]) for key, place in fine_of.items() if place >= 0}
    used = sorted((labels[place], place) for place in np.unique(level) if place >= 0)
    new = np.full(len(labels) + 1, -1, np.int32)  # the last is for -1
    for number, (_, place) in enumerate(used):
        new[place] = number
    return TagSet(tuple(label for label, _ in used), new[level])


def _words(nlp: Any, corpus: Corpus) -> Iterator[tuple[int, NDArray[np.uint64]]]:
    """For each piece of a document: its start, and (word, 4): place, length, tag, fine tag.

    Text after the last token is left out, but for what shares a piece with it.
    """
    limit = min(_PIECE, nlp.max_length)
    last = int(corpus.char_end.max(initial=0))
    bounds = [*map(int, corpus.document_start), len(corpus.text)]
    spans = [
        span
        for low, high in itertools.pairwise(bounds)
        for span in pieces(corpus.text, low, high, limit, (PARAGRAPH, SENTENCE, SPACE))
        if span[0] < span[1] and span[0] < last
    ]
    batch = max(1, _BATCH // max((high - low for low, high in spans), default=1))
    documents = (_tokenise(nlp, corpus.text[low:high]) for low, high in spans)
    for (low, _), document in zip(spans, nlp.pipe(documents, batch_size=batch), strict=True):
        yield low, document.to_array(["IDX", "LENGTH", "POS", "TAG"]).astype(np.uint64)


def _tokenise(nlp: Any, text: str) -> Any:
    """Return the text as a spaCy document, its words not tagged yet."""
    if not _LONG_RUN.search(text):
        return nlp.make_doc(text)
    from spacy.tokens import Doc

    parts, done = [], 0
    for run in _LONG_RUN.finditer(text):
        parts.append(text[done : run.start()])
        spans = pieces(text, run.start(), run.end(), _UNBROKEN, (NO_LETTER,))
        parts += [text[low:high] for low, high in spans]
        done = run.end()
    parts.append(text[done:])
    return Doc.from_docs([nlp.make_doc(part) for part in parts if part], ensure_whitespace=False)


def choose(tagger: str) -> str:
    """Return which tagger "auto" is: the pipeline that is preferred if it is installed, or ours."""
    if tagger != "auto":
        return tagger
    try:
        distribution(_PREFERRED)
    except PackageNotFoundError:
        return OURS
    return _PREFERRED


def load(tagger: str) -> tuple[Any, str]:
    """Return the pipeline without what tags do not need, and its name with its version."""
    import spacy

    tagger = choose(tagger)
    if tagger == OURS:
        from engine.categories.english import rule_tagger

        nlp = spacy.blank("en")
        nlp.add_pipe(rule_tagger.FACTORY)
        return nlp, RULES
    try:
        nlp = spacy.load(tagger)
    except Exception as error:  # a damaged folder, or a package's own code, may raise anything
        if isinstance(error, OSError) and "[E050]" in str(error):
            reason = "there is no package or folder of that name; install it"
        else:
            reason = f"cannot be loaded: {_reason(error)}. Install it again"
        raise ConfigError(_say(tagger, reason)) from None
    for name in nlp.component_names:
        factory = nlp.get_pipe_meta(name).factory
        if factory in _UNNEEDED and not ("parser" in factory and _needs_parser(nlp)):
            nlp.disable_pipe(name)
    return nlp, f"{nlp.meta['lang']}_{nlp.meta['name']} {nlp.meta['version']}"


def _needs_parser(nlp: Any) -> bool:
    """Return whether universal tags depend on the parse, as in spaCy's English pipelines."""
    rulers = [nlp.get_pipe(name) for name in nlp.pipe_names if "attribute_ruler" in name]
    return any("DEP" in repr(ruler.patterns) for ruler in rulers)


def _say(tagger: str, what: str) -> str:
    return f'categories.tagger: {tagger!r} {what}, or set categories.tagger = "rules"'


def _reason(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
