"""Guess whether a text is English, from its letters and its commonest words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from store.schema import Corpus

_LOOKED_AT, _DOCUMENTS = 4_000, 100  # characters of a document, from its start, and documents
_FEWEST = 25  # words, and letters, that say something
_FOREIGN_LETTERS = 0.1  # share of letters outside ASCII from which on a document is not English
_COMMON_WORDS = 0.1  # share of the words below, from which on it is
# Words that hardly any other language in Latin letters has among its own.
_ENGLISH = frozenset(
    {
        *("about", "and", "been", "but", "by", "could", "for", "from", "has", "if", "into"),
        *("it", "its", "not", "of", "other", "she", "that", "the", "their", "them", "then"),
        *("there", "these", "they", "this", "to", "were", "what", "when", "which", "who"),
        *("will", "with", "would", "you", "your"),
    }
)
_WORD = re.compile(r"[^\W\d_]+(?:['\u2019][^\W\d_]+)?")


@dataclass(frozen=True)
class Letters:
    """Counts of a text."""

    letters: int
    foreign: int  # letters outside ASCII
    words: int
    common: int  # of these, common English ones

    @property
    def says_nothing(self) -> bool:
        """Return whether there is too little of it."""
        return self.words < _FEWEST and self.foreign < _FEWEST

    @property
    def english(self) -> bool:
        """Return whether it looks English; text without evidence does."""
        return self.says_nothing or (
            self.foreign < _FOREIGN_LETTERS * self.letters
            and self.common >= _COMMON_WORDS * self.words
        )


def count_letters(text: str) -> Letters:
    """Count letters and words."""
    words = _WORD.findall(text)
    letters = [character for word in words for character in word if character.isalpha()]
    common = sum(word.lower() in _ENGLISH for word in words)
    return Letters(len(letters), sum(c > "\x7f" for c in letters), len(words), common)


def not_english(corpus: Corpus) -> tuple[int, int, Letters]:
    """Return how many documents do not look English, of how many, and what was counted in those.

    Of many documents some are looked at, evenly spread over the corpus.
    """
    found = [count_letters(text) for text in _beginnings(corpus)]
    odd = [of for of in found if not of.english]
    totals = (sum(getattr(of, name) for of in odd) for name in Letters.__dataclass_fields__)
    return len(odd), len(found), Letters(*totals)


def _beginnings(corpus: Corpus) -> Iterator[str]:
    starts = corpus.document_start
    ends = np.append(starts[1:], len(corpus.text))
    few = np.unique(np.linspace(0, len(starts) - 1, min(len(starts), _DOCUMENTS)).round())
    for document in few.astype(np.int64):
        start, end = int(starts[document]), int(ends[document])
        yield corpus.text[start : min(end, start + _LOOKED_AT)]
