"""The on-disk contract of a seedconv study: layout, writers, readers.

`open_study(path)` is the way in for reading. Names are resolved on first use, because zarr takes
longer to import than a terminal takes to start, and much here does not need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from store.errors import (
    BusyError,
    DamagedError,
    NotAStudyError,
    RemoteError,
    StoreError,
    StudyMismatchError,
    UnsupportedError,
)

if TYPE_CHECKING:
    from store.category import Category
    from store.corpus import Corpus, Vocabulary
    from store.create import Header
    from store.log_probs import LogProbs, OutputLayer, Representation
    from store.reader import Study, open_study
    from store.summary import Summary
    from store.writer import StudyWriter

_HOME = {
    "Category": "store.category",
    "Corpus": "store.corpus",
    "Header": "store.create",
    "LogProbs": "store.log_probs",
    "OutputLayer": "store.log_probs",
    "Representation": "store.log_probs",
    "Study": "store.reader",
    "StudyWriter": "store.writer",
    "Summary": "store.summary",
    "Vocabulary": "store.corpus",
    "limit_threads": "store.arrays",
    "open_study": "store.reader",
}

__all__ = [
    "BusyError",
    "Category",
    "Corpus",
    "DamagedError",
    "Header",
    "LogProbs",
    "NotAStudyError",
    "OutputLayer",
    "RemoteError",
    "Representation",
    "StoreError",
    "Study",
    "StudyMismatchError",
    "StudyWriter",
    "Summary",
    "UnsupportedError",
    "Vocabulary",
    "limit_threads",
    "open_study",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'store' has no attribute {name!r}")
