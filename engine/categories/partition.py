"""The level of each token in every category, of the target and of the token before it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.categories.custom import MOST_LEVELS, custom_category
from engine.categories.groups import group_levels, grouped
from engine.categories.known_tags import tags_of
from engine.categories.tagging import Tags
from engine.errors import ConfigError
from engine.study_file.file import StudyFile
from engine.text.evaluation_text import EvaluationText
from engine.text.tokenizer import Tokenizer
from seedconv_tui.training.windows import plan_windows
from store.schema import ALL, CATEGORIES, CONTEXT, Category
from store.words import counted

Levels = NDArray[np.int32]

FREQUENCIES = ("0", "1-9", "10-99", "100-999", "1e3-1e4", "1e4-1e5", "1e5-1e6", "1e6+")
SURPRISALS = ("0-1", "1-2", "2-4", "4-8", "8+")  # nats
WORD_CLASSES = ("function", "content", "other")
WORD_POSITIONS = ("begin", "inside", "end", "whole", "none")
MEAN_OVER_SEEDS = "mean over seeds"
_FUNCTION = {"ADP", "AUX", "CCONJ", "DET", "PART", "PRON", "SCONJ"}
_CONTENT = {"ADJ", "ADV", "INTJ", "NOUN", "PROPN", "VERB"}


def build_categories(
    study: StudyFile, tokenizer: Tokenizer, text: EvaluationText
) -> tuple[Category, ...]:
    """Return every category of a study that depends on its text alone: `all` first, in one order.

    `surprisal` depends on models too: see `surprisal_category`. Raise ConfigError when a tagger
    or a file of labels cannot be used, or a group names a level that is none.
    """
    return tuple(_categories(study, tokenizer, text))


def context_targets(text: EvaluationText) -> NDArray[np.int64]:
    """Return which target is the context token of each token, (token,); -1 where it is no target.

    That is what begins a sequence and, in masked models, what stands between documents.
    """
    follows = [np.append(False, s.predicts[:-1])[s.predicts] for s in text.sequences]
    return np.where(np.concatenate(follows), np.arange(len(text.corpus)) - 1, -1)


def surprisal_category(
    name: str,
    surprisal: NDArray[np.floating[Any]],
    step: int,
    context: NDArray[np.int64] | None = None,
    whose_seeds: str = MEAN_OVER_SEEDS,
) -> Category:
    """Return levels of surprisal at a step, in nats: of the target or, given `context`, before it.

    `surprisal` is (token,), the mean over seeds, or as `whose_seeds` says; where it is NaN a token
    is in no level. `context` is what `context_targets` returns.
    """
    level = np.digitize(surprisal, [1, 2, 4, 8]).astype(np.int32)
    level[np.isnan(surprisal)] = -1
    whose = "the target" if context is None else "the token before the target"
    return Category(
        name,
        SURPRISALS,
        level if context is None else _of_context(level, context),
        f"surprisal of {whose} in nats, {whose_seeds} at step {step}",
    )


@dataclass(frozen=True)
class _Made:
    """A category of the target, and how the same is made of the token before it."""

    category: Category
    by_context: bool  # whether that makes sense, and is asked for
    of_id: Levels | None = None  # (vocab,) the level of each id; None: each token keeps its own


class _Given:
    """Inputs from which categories are computed."""

    def __init__(self, study: StudyFile, tokenizer: Tokenizer, text: EvaluationText) -> None:
        self.study, self.tokenizer, self.text, self.corpus = study, tokenizer, text, text.corpus
        self.context = study.categories.context  # whether the token before counts too

    @cached_property
    def tags(self) -> Tags:
        """Return the parts of speech of all tokens. Raise ConfigError."""
        tagger = self.study.categories.tagger
        folder = self.study.path(tagger)
        return tags_of(self.corpus, str(folder) if folder.is_dir() else tagger)


def _categories(study: StudyFile, tokenizer: Tokenizer, text: EvaluationText) -> Iterator[Category]:
    given, corpus, context = _Given(study, tokenizer, text), text.corpus, context_targets(text)
    yield Category(ALL, (ALL,), np.zeros(len(corpus), np.int32), "all tokens of the corpus")
    for made in _each(given):
        category, of_id = made.category, made.of_id
        yield category
        if made.by_context:
            yield Category(
                category.name + CONTEXT,
                category.labels,
                _of_context(category.level, context) if of_id is None else of_id[corpus.context_id],
                category.description.replace("the target", "the token before the target", 1),
            )


def _each(given: _Given) -> Iterator[_Made]:
    """Yield all of them, groups after what they are made of."""
    there: dict[str, _Made] = {}
    for made in _ungrouped(given):
        there[made.category.name] = made
        yield made
    for group in given.study.categories.groups:
        if group.of == "surprisal":  # made, and grouped, while reducing
            group_levels(group, SURPRISALS)  # a wrong name is found now
            continue
        if group.of not in there:
            raise ConfigError(
                f"categories.groups {group.name!r}: of: the tagger gives no {group.of}; set "
                "categories.tagger to one that does, or group another category"
            )
        of = there[group.of]
        levels = group_levels(group, of.category.labels)
        of_id = None if of.of_id is None else levels[of.of_id]
        yield _Made(grouped(of.category, group), of.by_context, of_id)


def _ungrouped(given: _Given) -> Iterator[_Made]:
    settings = given.study.categories
    for name in CATEGORIES:
        if name in settings.include and name in _COMPUTED:
            yield from _COMPUTED[name](given)
    for field, name in zip(given.study.corpus.fields, given.study.field_categories, strict=True):
        yield _field(given, field, name)
    for custom in settings.custom:
        category, of_id = custom_category(given.study, custom, given.corpus, given.tokenizer.size)
        wanted = settings.context if custom.context is None else custom.context
        yield _Made(category, wanted, of_id)


def _of_context(level: Levels, context: NDArray[np.int64]) -> Levels:
    return np.where(context >= 0, level[context], -1).astype(np.int32)


def _frequency(given: _Given) -> Iterator[_Made]:
    counts = given.text.counts
    decade = np.searchsorted(10 ** np.arange(len(FREQUENCIES) - 1), counts.count, "right")
    of_id = decade.astype(np.int32)
    what = f"count of the target in reference text ({counts.source})"
    category = Category("frequency", FREQUENCIES, of_id[given.corpus.token_id], what)
    yield _Made(category, given.context, of_id)


def _pos(given: _Given) -> Iterator[_Made]:
    universal, fine, by = given.tags.universal, given.tags.fine, f"tagged by {given.tags.tagger}"
    what = f"universal part of speech of the target, {by}"
    yield _Made(Category("pos", universal.labels, universal.level, what), given.context)
    if fine is not None:
        what = f"fine-grained tag of the target, {by}"
        yield _Made(Category("pos_fine", fine.labels, fine.level, what), given.context)


def _word_class(given: _Given) -> Iterator[_Made]:
    universal, by = given.tags.universal, f"tagged by {given.tags.tagger}"
    classes = [0 if tag in _FUNCTION else 1 if tag in _CONTENT else 2 for tag in universal.labels]
    level = np.array(classes, np.int32)[universal.level]
    what = f"function or content word, by the part of speech of the target, {by}"
    yield _Made(Category("word_class", WORD_CLASSES, level, what), given.context)


def _word_position(given: _Given) -> Iterator[_Made]:
    """Part tokens by the word that the token's first and last word characters are in.

    Words are the longest runs of letters, digits and combining marks within a document. Of tokens
    that share a character, as pieces of its UTF-8 bytes do, the first alone begins the word and
    the last alone ends it.
    """
    corpus = given.corpus
    start, stop = corpus.char_start, corpus.char_end
    # SentencePiece puts its mark before a document too, and there it covers the first letter.
    marks = np.isin(corpus.token_id, list(given.tokenizer.marks))
    stop = np.where(marks, start, stop)
    text = corpus.text[: stop.max() + 1]
    word = _word_characters(text)
    apart = np.zeros(len(text) + 1, np.bool_)  # whether nothing joins a place to that before
    apart[corpus.document_start[corpus.document_start < len(text)]] = apart[len(text)] = True
    opens = word & (apart[:-1] | ~np.append(False, word[:-1]))
    closes = word & (apart[1:] | ~np.append(word[1:], False))

    places = np.arange(len(text))
    following = np.minimum.accumulate(np.where(word, places, len(text))[::-1])[::-1]
    previous = np.maximum.accumulate(np.where(word, places, -1))
    first, last = np.append(following, len(text))[start], previous[stop - 1]
    none = first >= stop
    first, last = np.where(none, 0, first), np.where(none, 0, last)
    begins = opens[first] & ~(np.append(-1, stop[:-1]) > first)
    ends = closes[last] & ~(np.append(start[1:], len(text)) <= last)
    level = np.select([none, begins & ends, begins, ends], [4, 3, 0, 2], 1).astype(np.int32)
    what = "place of the target in its word"
    yield _Made(Category("word_position", WORD_POSITIONS, level, what), given.context)


def _word_characters(text: str) -> NDArray[np.bool_]:
    """Return which characters are letters, digits or combining marks, (character,)."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    table = np.zeros(int(codes.max(initial=0)) + 1, np.bool_)
    table[[ord(c) for c in set(text) if c.isalnum() or unicodedata.category(c)[0] == "M"]] = True
    return table[codes]


def _position(given: _Given) -> Iterator[_Made]:
    """Part tokens by place in the window that the prediction is taken from, counted from 1."""
    scoring, text = given.study.scoring, given.text
    window, overlap = scoring.window, scoring.overlap
    masked = scoring.prediction != "causal"
    lengths = [len(sequence.inputs) for sequence in text.sequences]
    windows = list(plan_windows(lengths, window, overlap, both_sides=masked))
    start = np.repeat([w.start for w in windows], [w.last - w.first for w in windows])
    place = np.concatenate([np.arange(n) for n in lengths]) - start + 1
    place = place[np.concatenate([sequence.predicts for sequence in text.sequences])]
    powers = 2 ** np.arange(int(place.max()).bit_length())
    level = np.searchsorted(powers, place, "right") - 1
    labels = tuple(f"{n}-{2 * n - 1}" if n > 1 else "1" for n in powers.tolist())
    what = "place of the target in its window" if masked else "tokens shown before the target"
    cut = f"windows of {window} that overlap by {overlap}; models that take less have smaller ones"
    category = Category("position", labels, level.astype(np.int32), f"{what} ({cut})")
    yield _Made(category, by_context=False)


def _document(given: _Given) -> Iterator[_Made]:
    corpus = given.corpus
    labels = tuple(_distinct(corpus.document_name))
    category = Category("document", labels, corpus.document, "document that the target is in")
    yield _Made(category, by_context=False)


def _field(given: _Given, field: str, name: str) -> _Made:
    """Part tokens by what the record of their document says in a field."""
    said = given.text.fields[field]
    labels = tuple(dict.fromkeys(value for value in said if value is not None))
    if not 1 <= len(labels) <= MOST_LEVELS:
        raise ConfigError(
            f"corpus.fields: {field!r} has {counted(len(labels), 'value')} in the documents of "
            f"the corpus; there should be 1 to {MOST_LEVELS:,}"
        )
    known = {label: level for level, label in enumerate(labels)}
    of_document = np.array([-1 if value is None else known[value] for value in said], np.int32)
    level = of_document[given.corpus.document]
    what = f"field {field!r} of the document that the target is in"
    return _Made(Category(name, labels, level, what), by_context=False)


def _distinct(names: tuple[str, ...]) -> Iterator[str]:
    """Yield names of documents; files of one name in several folders get a number."""
    seen, taken = Counter[str](), set[str]()
    for name in names:
        label = name
        while label in taken:
            seen[name] += 1
            label = f"{name} ({seen[name] + 1})"
        taken.add(label)
        yield label


_COMPUTED: Mapping[str, Callable[[_Given], Iterator[_Made]]] = {
    "frequency": _frequency,
    "pos": _pos,  # and pos_fine
    "word_class": _word_class,
    "word_position": _word_position,
    "position": _position,
    "document": _document,
}
"""How each category is computed; `surprisal`, which depends on models, is made while reducing."""
