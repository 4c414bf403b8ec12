"""Names that a study's folders show: at once, without numpy, and without a word on what is true."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

_MODELS, _CATEGORIES = "models/*", ("corpus/category/*", "models/*/category/*")
"""As in `store.schema.layout`, which needs numpy."""


def folder_names(store: Path) -> tuple[list[str], list[str]]:
    """Return the names of models and of categories, for who types one; none where is no study.

    The commit log alone says what a study holds: a name may be of what is not committed.
    Raise OSError where the folder cannot be read.
    """
    if not (store / "commits").is_dir():
        return [], []
    categories = [name for pattern in _CATEGORIES for name in _names(store, pattern)]
    return _names(store, _MODELS), sorted(set(categories))


def _names(store: Path, pattern: str) -> list[str]:
    return sorted(unquote(path.name) for path in store.glob(pattern) if path.is_dir())
