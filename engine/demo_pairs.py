"""Minimal pairs in the words of the language reference, in BLiMP's form, for `make reproduce`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

_NOUNS = (
    "argument", "attribute", "block", "class", "comment", "condition", "expression", "function",
    "keyword", "line", "list", "loop", "method", "module", "name", "number", "object", "operator",
    "parameter", "pattern", "sequence", "set", "statement", "string", "token", "type", "value",
    "variable", "word", "instance",
)  # fmt: skip
_TERMS = {"subject_verb": "subject-verb agreement", "determiner_noun": "determiner-noun agreement"}


def write_pairs(folder: Path) -> None:
    """Write `TASK.jsonl` for each of two tasks into `folder`: 60 pairs of sentences each."""
    folder.mkdir(parents=True, exist_ok=True)
    for task, term in _TERMS.items():
        lines = [
            json.dumps(
                {"sentence_good": good, "sentence_bad": bad, "UID": task, "linguistics_term": term}
            )
            for good, bad in _pairs(task)
        ]
        (folder / f"{task}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _pairs(task: str) -> Iterator[tuple[str, str]]:
    """Yield pairs of a good and a bad sentence, which differ in one word."""
    for noun in _NOUNS:
        nouns = f"{noun}es" if noun.endswith("s") else f"{noun}s"
        if task == "subject_verb":
            yield f"The {noun} is defined.", f"The {noun} are defined."
            yield f"The {nouns} are defined.", f"The {nouns} is defined."
        else:
            yield f"It returns this {noun}.", f"It returns this {nouns}."
            yield f"It returns these {nouns}.", f"It returns these {noun}."
