"""The base class of the parts of a `StudyWriter`."""

from __future__ import annotations

from store.commits.ledger import Ledger
from store.commits.log import CommitReader, CommitWriter
from store.storage.durable_store import DurableStore
from store.writing.model_arrays import StudyArrays


class PartWriter:
    """Writes and commits some kind of results, with the arrays and the log of a `StudyWriter`."""

    def __init__(
        self, store: DurableStore, commits: CommitWriter, reader: CommitReader, arrays: StudyArrays
    ) -> None:
        self._store, self._commits, self._reader, self._arrays = store, commits, reader, arrays

    @property
    def _ledger(self) -> Ledger:
        return self._reader.ledger
