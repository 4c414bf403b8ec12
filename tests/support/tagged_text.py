"""Text that was tagged by hand, to hold a tagger against."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from store.schema import Corpus

FOLDER = Path(__file__).parents[1] / "data"


def read(name: str) -> tuple[Corpus, list[str]]:
    """The words of `data/tagged_<name>.txt` as the tokens of a corpus, and the tag of each.

    A line is a sentence of word/TAG; `|` joins words that have no space between them. Lines that
    start with # part the kinds of text.
    """
    text, starts, ends, tags = "", [], [], []
    for line in (FOLDER / f"tagged_{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("#") or not line:
            text += "\n" * (not line)
            continue
        for group in line.split():
            for entry in group.split("|"):
                word, _, tag = entry.rpartition("/")
                assert word, f"{name}: {entry!r} in {line!r}"
                starts.append(len(text))
                text += word
                ends.append(len(text))
                tags.append(tag)
            text += " "
        text = text[:-1] + "\n"
    return corpus([text], [starts], [ends]), tags


def corpus(documents: list[str], starts: list[list[int]], ends: list[list[int]]) -> Corpus:
    """A corpus of tokens at these places of each document."""
    lengths = [len(document) for document in documents]
    offsets = np.cumsum([0, *lengths[:-1]])
    count = sum(map(len, starts))

    def places(parts: list[list[int]]) -> np.ndarray:
        moved = [
            np.array(part, np.int64) + offset for part, offset in zip(parts, offsets, strict=True)
        ]
        return np.concatenate(moved)

    return Corpus(
        token_id=np.zeros(count, np.int32),
        context_id=np.zeros(count, np.int32),
        document=np.repeat(np.arange(len(documents)), list(map(len, starts))).astype(np.int32),
        char_start=places(starts),
        char_end=places(ends),
        text="".join(documents),
        document_start=offsets.astype(np.int64),
        document_name=tuple(map(str, range(len(documents)))),
    )
