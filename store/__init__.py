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
    from store.reading.category import Category
    from store.reading.log_probs import REPRESENTATIONS, LogProbs, OutputLayer, Representation
    from store.reading.summary import Summary
    from store.schema.corpus import Corpus, Vocabulary
    from store.study import Study, open_study
    from store.writing.create import Header
    from store.writing.writer import StudyWriter

_HOME = {
    "REPRESENTATIONS": "store.reading.log_probs",
    "Category": "store.reading.category",
    "Corpus": "store.schema.corpus",
    "Header": "store.writing.create",
    "LogProbs": "store.reading.log_probs",
    "OutputLayer": "store.reading.log_probs",
    "Representation": "store.reading.log_probs",
    "Study": "store.study",
    "StudyWriter": "store.writing.writer",
    "Summary": "store.reading.summary",
    "Vocabulary": "store.schema.corpus",
    "limit_threads": "store.storage.arrays",
    "open_study": "store.study",
}

__all__ = [
    "REPRESENTATIONS",
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
