"""The parts of a report: figures with their data, tables, and reasons for omissions."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from seedconv_tui.tables.long_tables import Column
from seedconv_tui.tables.rows import Batch

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing


LINES = 7
"""Lines in a panel at most: as many as there are colours that can be distinguished in print."""


@dataclass(frozen=True, eq=False)
class Figure:
    """One figure. Title and caption are plain text that may hold names from outside."""

    name: str  # of its files; of letters, digits, `-` and `_` alone
    title: str
    caption: str
    columns: tuple[Column, ...]
    rows: Batch  # what is drawn, in long form
    draw: Callable[[], Drawing]  # inside `style.styled()`


@dataclass(frozen=True)
class Omitted:
    """A figure or table that could not be made, and what it would take. One line."""

    name: str
    why: str
    damaged: bool = False  # what is stored cannot be read


@dataclass(frozen=True)
class PageTable:
    """One table, of plain text; the columns after `n_names` are numbers."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    note: str = ""
    n_names: int = 1


@dataclass(frozen=True)
class Block:
    """Lines that are shown unchanged, in letters of one width."""

    title: str
    lines: tuple[str, ...]


def file_name(*words: str) -> str:
    """Return a name for files, of letters, digits, `-` and `_`; other words give other names."""
    joined = "_".join(words)
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", joined)[:60]
    if name == joined:
        return name
    return f"{name}-{hashlib.sha256(joined.encode('utf-8', 'replace')).hexdigest()[:6]}"


MODEL = Column("model", "str", "", "name of the model")
STEP = Column("step", "int", "training steps", "training step")


def text(name: str, description: str) -> Column:
    """Return a column of text."""
    return Column(name, "str", "", description)


def whole(name: str, units: str, description: str) -> Column:
    """Return a column of whole numbers."""
    return Column(name, "int", units, description)


def nats(name: str, description: str) -> Column:
    """Return a column of divergences or entropies."""
    return Column(name, "float", "nats", description)


def gathered(columns: Sequence[Column], rows: Sequence[Sequence[Any]]) -> Batch:
    """Return rows as columns."""
    return {column.name: [row[at] for row in rows] for at, column in enumerate(columns)}
