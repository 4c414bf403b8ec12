"""The built-in categories: their names, what figures call them, and which are taken by default.

The table below is the one list of them; `engine.categories.partition` says how each is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class BuiltinCategory:
    """A partition of the tokens that every study can have."""

    name: str
    title: str  # of its figures
    comes_with: str = ""  # the category that it is computed with; empty: it is chosen by its name
    is_scale: bool = False  # its levels are drawn as one scale, from the lowest to the highest
    in_reports: bool = True  # a report has it where no categories are chosen
    in_charts: bool = False  # other tools chart KL by its levels where no categories are chosen


CATEGORIES: Mapping[str, BuiltinCategory] = {  # by name, in the order in which they are shown
    category.name: category
    for category in (
        BuiltinCategory("frequency", "frequency", is_scale=True, in_charts=True),
        BuiltinCategory("pos", "part of speech", in_charts=True),
        BuiltinCategory("pos_fine", "pos_fine", comes_with="pos", in_reports=False),
        BuiltinCategory("word_class", "function and content words", in_charts=True),
        BuiltinCategory("surprisal", "surprisal at a late step", is_scale=True, in_charts=True),
        BuiltinCategory("word_position", "place in the word"),
        BuiltinCategory("position", "position", is_scale=True, in_reports=False),
        BuiltinCategory("document", "document", in_reports=False),
    )
}

CHOSEN_BY_NAME = tuple(name for name, of in CATEGORIES.items() if not of.comes_with)
"""What `[categories] include` may hold, and holds by default."""

CHARTED = tuple(name for name, of in CATEGORIES.items() if of.in_charts)
"""Those by whose levels other tools chart KL, where none are chosen."""
