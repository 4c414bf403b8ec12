"""Categories that the study file defines: by a pattern, or by a file of labels."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from engine.categories.matching import MatchingError, search_each
from engine.errors import ConfigError
from engine.study_file.categories_section import CustomSection
from engine.study_file.file import StudyFile
from engine.text.documents import read_text
from store.schema import Category, Corpus

MOST_LEVELS = 1000  # each has its summaries at every step


def custom_category(
    study: StudyFile, custom: CustomSection, corpus: Corpus, vocab_size: int
) -> tuple[Category, NDArray[np.int32] | None]:
    """Return a category and, where labels are of the vocabulary, the level of each id, (vocab,).

    Raise ConfigError when the file of labels cannot be read or does not fit the corpus, or the
    pattern takes too long.
    """
    if custom.labels is None:
        return _by_pattern(custom.name, custom.pattern or "", corpus), None
    field = f"categories.custom {custom.name!r}: labels"
    file = study.path(custom.labels)
    if not file.exists():
        raise ConfigError(f"{field}: {custom.labels!r}: there is no such file under {study.folder}")
    lines = read_text(field, file).removesuffix("\n").split("\n")
    if table := any("\t" in line for line in lines):
        numbers, names = _parse_table(f"{field}: {file}", lines, vocab_size)
    else:
        numbers, names = list(range(len(lines))), lines
        if len(lines) != len(corpus):
            raise ConfigError(
                f"{field}: {file}: holds {len(lines):,} lines, but the corpus has "
                f"{len(corpus):,} tokens, and each needs one; "
                "or write lines of token id, tab, label"
            )
    names = [name.strip() for name in names]
    labels = tuple(dict.fromkeys(name for name in names if name))
    if not 1 <= len(labels) <= MOST_LEVELS:
        raise ConfigError(
            f"{field}: {file}: holds {len(labels):,} labels; there should be 1 to {MOST_LEVELS:,}"
        )
    known = {label: level for level, label in enumerate(labels)}
    levels = np.full(vocab_size if table else len(corpus), -1, np.int32)
    levels[numbers] = [known.get(name, -1) for name in names]
    of_token = levels[corpus.token_id] if table else levels
    what = "label of the target" + (" by its id" if table else "")
    return (
        Category(custom.name, labels, of_token, f"{what}, from {custom.labels}"),
        levels if table else None,
    )


def _by_pattern(name: str, pattern: str, corpus: Corpus) -> Category:
    of_token = [corpus.token_text(token) for token in range(len(corpus))]
    texts = list(dict.fromkeys(of_token))
    try:
        matches = dict(zip(texts, search_each(pattern, texts), strict=True))
    except MatchingError as error:
        raise ConfigError(
            f"categories.custom {name!r}: pattern {pattern!r}: {error}; write it without nested "
            "repeats, such as (a+)+, or use a file of labels"
        ) from None
    level = np.array([not matches[text] for text in of_token], np.int32)
    what = f"whether the text of the target matches {pattern!r}"
    return Category(name, ("match", "no match"), level, what)


def _parse_table(where: str, lines: list[str], vocab_size: int) -> tuple[list[int], list[str]]:
    """Ids and labels from lines of id, tab, label."""
    table: dict[int, str] = {}
    for n, line in enumerate(lines, 1):
        number, tab, label = line.partition("\t")
        if not (tab and re.fullmatch(r"[0-9]{1,9}", number) and int(number) < vocab_size):
            raise ConfigError(
                f"{where}: line {n}: should be a token id below {vocab_size}, a tab and a label, "
                f"found {line[:40]!r}"
            )
        if int(number) in table:
            raise ConfigError(f"{where}: line {n}: token id {number} is there twice")
        table[int(number)] = label
    return list(table), list(table.values())
