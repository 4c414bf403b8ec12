"""Whether a text looks English, by its letters and by the commonest words: a guess, no more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from store.schema import Corpus

_LOOKED_AT = 4_000  # characters of each document, from its start
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
    """What was counted in a text."""

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
        """Return whether it looks English; what says nothing does."""
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


def not_english(corpus: Corpus) -> tuple[int, Letters]:
    """Return how many documents do not look English, and what was counted in them all together."""
    counted = [
        letters for text in _beginnings(corpus) if not (letters := count_letters(text)).english
    ]
    totals = (sum(getattr(of, name) for of in counted) for name in Letters.__dataclass_fields__)
    return len(counted), Letters(*totals)


def _beginnings(corpus: Corpus) -> Iterator[str]:
    ends = [*corpus.document_start[1:].tolist(), len(corpus.text)]
    for start, end in zip(corpus.document_start.tolist(), ends, strict=True):
        yield corpus.text[start : min(end, start + _LOOKED_AT)]
