"""Which level each token is in: every category, of the target and of the token before it."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.categories.custom import custom_category
from engine.study_file.file import StudyFile
from engine.text.evaluation_text import EvaluationText
from engine.text.tokenizer import Tokenizer
from engine.text.windows import plan_windows
from store import Corpus
from store.reading.category import ALL, CONTEXT, Category

if TYPE_CHECKING:
    from engine.categories.tagging import Tags

Levels = NDArray[np.int32]

FREQUENCIES = ("0", "1-9", "10-99", "100-999", "1e3-1e4", "1e4-1e5", "1e5-1e6", "1e6+")
SURPRISALS = ("0-1", "1-2", "2-4", "4-8", "8+")  # nats
WORD_CLASSES = ("function", "content", "other")
WORD_POSITIONS = ("begin", "inside", "end", "whole", "none")
_FUNCTION = {"ADP", "AUX", "CCONJ", "DET", "PART", "PRON", "SCONJ"}
_CONTENT = {"ADJ", "ADV", "INTJ", "NOUN", "PROPN", "VERB"}
_SPACE_MARK = "▁"  # of SentencePiece


def build_categories(
    study: StudyFile, tokenizer: Tokenizer, text: EvaluationText
) -> tuple[Category, ...]:
    """Every category of a study that depends on its text alone: `all` first, always in one order.

    `surprisal` depends on models too: see `surprisal_category`. Raises ConfigError when a tagger
    or a file of labels cannot be used.
    """
    return tuple(_categories(study, tokenizer, text))


def context_targets(text: EvaluationText) -> NDArray[np.int64]:
    """Which target is the context token of each token, (token,); -1 where it is no target.

    That is what begins a sequence and, in masked models, what stands between documents.
    """
    follows = [np.append(False, s.predicts[:-1])[s.predicts] for s in text.sequences]
    return np.where(np.concatenate(follows), np.arange(len(text.corpus)) - 1, -1)


def surprisal_category(
    name: str,
    surprisal: NDArray[np.floating[Any]],
    step: int,
    context: NDArray[np.int64] | None = None,
) -> Category:
    """Surprisal at a reference step, in nats; of the target or, given `context`, the one before.

    `surprisal` is (token,), the mean over seeds; where it is NaN a token is in no level. `context`
    is what `context_targets` returns.
    """
    level = np.digitize(surprisal, [1, 2, 4, 8]).astype(np.int32)
    level[np.isnan(surprisal)] = -1
    whose = "the target" if context is None else "the token before the target"
    return Category(
        name,
        SURPRISALS,
        level if context is None else _of_context(level, context),
        f"surprisal of {whose} in nats, mean over seeds at step {step}",
    )


def _categories(study: StudyFile, tokenizer: Tokenizer, text: EvaluationText) -> Iterator[Category]:
    settings, corpus, context = study.categories, text.corpus, context_targets(text)
    included = set[str](settings.include)

    def both(
        category: Category, by_context: bool = settings.context, of_id: Levels | None = None
    ) -> Iterator[Category]:
        """A category and, if asked, the same by context: of its id, or as the target it is."""
        yield category
        if by_context:
            yield Category(
                category.name + CONTEXT,
                category.labels,
                _of_context(category.level, context) if of_id is None else of_id[corpus.context_id],
                category.description.replace("the target", "the token before the target", 1),
            )

    yield Category(ALL, (ALL,), np.zeros(len(corpus), np.int32), "all tokens of the corpus")
    if "frequency" in included:
        decade = np.searchsorted(10 ** np.arange(len(FREQUENCIES) - 1), text.counts.count, "right")
        of_id = decade.astype(np.int32)
        what = f"count of the target in reference text ({text.counts.source})"
        yield from both(
            Category("frequency", FREQUENCIES, of_id[corpus.token_id], what), of_id=of_id
        )
    if included & {"pos", "word_class"}:
        from engine.categories.tagging import tag  # imports spaCy, which takes a while

        folder = study.path(settings.tagger)
        tags = tag(corpus, str(folder) if folder.is_dir() else settings.tagger)
        for category in _by_tags(tags, included):
            yield from both(category)
    if "word_position" in included:
        yield from both(_word_position(corpus, tokenizer))
    if "position" in included:
        yield _position(study, text)
    if "document" in included:
        labels = tuple(_told_apart(corpus.document_name))
        yield Category("document", labels, corpus.document, "document that the target is in")
    for custom in settings.custom:
        category, by_id = custom_category(study, custom, corpus, tokenizer.size)
        wanted = settings.context if custom.context is None else custom.context
        yield from both(category, wanted, by_id)


def _of_context(level: Levels, context: NDArray[np.int64]) -> Levels:
    return np.where(context >= 0, level[context], -1).astype(np.int32)


def _by_tags(tags: Tags, included: set[str]) -> Iterator[Category]:
    universal, by = tags.universal, f"tagged by {tags.tagger}"
    if "pos" in included:
        what = f"universal part of speech of the target, {by}"
        yield Category("pos", universal.labels, universal.level, what)
        if tags.fine is not None:
            what = f"fine-grained tag of the target, {by}"
            yield Category("pos_fine", tags.fine.labels, tags.fine.level, what)
    if "word_class" in included:
        classes = [
            0 if tag in _FUNCTION else 1 if tag in _CONTENT else 2 for tag in universal.labels
        ]
        level = np.array(classes, np.int32)[universal.level]
        what = f"function or content word, by the part of speech of the target, {by}"
        yield Category("word_class", WORD_CLASSES, level, what)


def _word_position(corpus: Corpus, tokenizer: Tokenizer) -> Category:
    """By the word that the token's first and last word characters are in.

    Words are the longest runs of letters, digits and combining marks within a document. Of tokens
    that share a character, as pieces of its UTF-8 bytes do, the first alone begins the word and
    the last alone ends it.
    """
    start, stop = corpus.char_start, corpus.char_end
    ids, of_token = np.unique(corpus.token_id, return_inverse=True)
    names = tokenizer.backend.convert_ids_to_tokens(ids.tolist())
    # SentencePiece puts its mark before a document too, and there it covers the first letter.
    marks = np.array([not name.strip(_SPACE_MARK) for name in names])
    stop = np.where(marks[of_token], start, stop)
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
    return Category("word_position", WORD_POSITIONS, level, "place of the target in its word")


def _word_characters(text: str) -> NDArray[np.bool_]:
    """Which characters are letters, digits or combining marks, (character,)."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    table = np.zeros(int(codes.max(initial=0)) + 1, np.bool_)
    table[[ord(c) for c in set(text) if c.isalnum() or unicodedata.category(c)[0] == "M"]] = True
    return table[codes]


def _position(study: StudyFile, text: EvaluationText) -> Category:
    """By place in the window that the prediction is taken from, counted from 1."""
    window, overlap = study.scoring.window, study.scoring.overlap
    masked = study.scoring.prediction != "causal"
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
    return Category("position", labels, level.astype(np.int32), f"{what} ({cut})")


def _told_apart(names: tuple[str, ...]) -> Iterator[str]:
    """Names of documents; files of one name in several folders get a number."""
    seen, taken = Counter[str](), set[str]()
    for name in names:
        label = name
        while label in taken:
            seen[name] += 1
            label = f"{name} ({seen[name] + 1})"
        taken.add(label)
        yield label
