"""A study, on disk or remote, as the screens' source of data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from store import StudyProgress

if TYPE_CHECKING:
    from store import Study
    from store.schema import StudySnapshot


class StoreSource:
    """Reads a store, opening it at the first call: there may be none yet.

    Opened once for snapshots and once for details: two threads, and a study serves one at a time.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._study: Study | None = None
        self._details: Study | None = None

    def progress(self) -> StudySnapshot:
        """Return how far the study is, without results. Raise StoreError if it cannot be read."""
        return StudyProgress(self._path).snapshot()

    def snapshot(self) -> StudySnapshot:
        """Return how the study stands now. Raise StoreError while it cannot be read."""
        from store import open_study  # zarr: only once progress is painted

        if self._study is None:
            self._study = open_study(self._path)
        snapshot = self._study.snapshot()
        for model in snapshot.models:  # in this thread, so that no screen has to wait for them
            _ = model.marked, model.expected_kl, model.pair_std
        return snapshot

    def study(self) -> Study:
        """Return the study as it is committed now. Raise StoreError while it cannot be read."""
        from store import open_study

        if self._details is None:
            self._details = open_study(self._path)
        else:
            self._details.refresh()
        return self._details
