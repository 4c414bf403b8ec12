"""The messages of the code, as far as they are fixed: what pages quote is held against them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("store", "engine", "seedconv_tui")


@cache
def texts() -> tuple[str, ...]:
    """Return the texts of each file of the code, a line each; values in them end a line."""
    found = []
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            lines = []
            for node in ast.walk(ast.parse(file.read_bytes())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    lines += re.split(r"%[.\d]*[sdfgr]", node.value)
            found.append("\n".join(f" {' '.join(line.split())} " for line in lines))
    return tuple(found)


def unknown_parts(message: str) -> Iterator[str]:
    """Yield the parts of a quoted message that the code does not have.

    `...` and numbers stand for values. A part may consist of two texts, as a message does in which
    another text is filled in: of one file, or each of several words.
    """
    for part in re.split(r"\.\.\.|\b\d+(?:nd|th)?\b", message):
        words = part.strip(" :;,()%").split()
        if len(words) < 2 or _known(" ".join(words)):
            continue
        cuts = [(" ".join(words[:n]), " ".join(words[n:])) for n in range(1, len(words))]
        halves = [(first.rstrip(":;,()"), second) for first, second in cuts]
        together = any(a in text and b in text for text in texts() for a, b in halves)
        several = [pair for pair in halves if all(" " in half for half in pair)]
        if not together and not any(_known(a) and _known(b) for a, b in several):
            yield " ".join(words)


def _known(text: str) -> bool:
    return any(text in of_file for of_file in texts())
