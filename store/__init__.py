"""The on-disk contract of a seedconv study: layout, writers, readers.

`open_study(path)` is the way in for reading. What others may import is here, in `store.schema`
(what a study is, in memory), `store.statistics` (functions of arrays), `store.analysis` (what is
computed from a study), `store.writing` (for engines) and `store.maintenance`; everything else is
internal. Names of this module are resolved on first use, because zarr takes longer to import than a
terminal takes to start, and much here does not need it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from store.errors import (
    BusyError,
    DamagedError,
    NotAStudyError,
    RemoteError,
    ReplacedError,
    StoreError,
    StudyMismatchError,
    UnsupportedError,
    from_extra,
    lacks_files,
    lacks_room,
)

if TYPE_CHECKING:
    from store.commits.ledger import Ledger, ModelLedger, Record
    from store.commits.owner import STALE_SECONDS
    from store.commits.study_progress import StudyProgress, read_root
    from store.reading.log_probs import REPRESENTATIONS, LogProbs
    from store.reading.summary import Summary, SummaryReader
    from store.shown_names import folder_names
    from store.storage.arrays import limit_threads
    from store.storage.durable import write_file
    from store.storage.places import Files, refuse_remote
    from store.study import Study, open_study

_HOME = {
    "REPRESENTATIONS": "store.reading.log_probs",
    "Files": "store.storage.places",
    "Ledger": "store.commits.ledger",
    "LogProbs": "store.reading.log_probs",
    "ModelLedger": "store.commits.ledger",
    "Record": "store.commits.ledger",
    "STALE_SECONDS": "store.commits.owner",
    "Study": "store.study",
    "StudyProgress": "store.commits.study_progress",
    "Summary": "store.reading.summary",
    "SummaryReader": "store.reading.summary",
    "folder_names": "store.shown_names",
    "limit_threads": "store.storage.arrays",
    "open_study": "store.study",
    "read_root": "store.commits.study_progress",
    "refuse_remote": "store.storage.places",
    "write_file": "store.storage.durable",
}

__all__ = [
    "REPRESENTATIONS",
    "STALE_SECONDS",
    "BusyError",
    "DamagedError",
    "Files",
    "Ledger",
    "LogProbs",
    "ModelLedger",
    "NotAStudyError",
    "Record",
    "RemoteError",
    "ReplacedError",
    "StoreError",
    "Study",
    "StudyMismatchError",
    "StudyProgress",
    "Summary",
    "SummaryReader",
    "UnsupportedError",
    "folder_names",
    "from_extra",
    "lacks_files",
    "lacks_room",
    "limit_threads",
    "open_study",
    "read_root",
    "refuse_remote",
    "write_file",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'store' has no attribute {name!r}")
