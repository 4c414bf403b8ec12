"""A study, on disk or remote, as the screens' source of data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from store import StudyProgress

if TYPE_CHECKING:
    from store import Files, Study
    from store.schema import StudySnapshot

REST_SECONDS = 60.0
"""Between two questions to a remote store whose study is finished."""

_MOMENT_SECONDS = 2.0  # for which what was just read of a remote store is not asked for again


class StoreSource:
    """Reads a store, opening it at the first call: there may be none yet.

    Opened once for snapshots and once for details: two threads, and a study serves one at a time.
    """

    def __init__(self, path: str | Path, *, rest_seconds: float = REST_SECONDS) -> None:
        """Read the store at `path`; a finished remote one is asked every `rest_seconds`."""
        self._path: str | Path | Files = path
        self._rest_seconds = rest_seconds
        self._study: Study | None = None
        self._details: Study | None = None

    def progress(self) -> StudySnapshot:
        """Return how far the study is, without results. Raise StoreError if it cannot be read."""
        progress = StudyProgress(self._path)
        self._share(progress.files)
        snapshot = progress.snapshot()
        progress.files.rest(_MOMENT_SECONDS)
        return snapshot

    def snapshot(self) -> StudySnapshot:
        """Return how the study stands now. Raise StoreError while it cannot be read."""
        first = self._study is None
        study = self._study = self._study or self._open()
        asked = first or not study.files.resting
        snapshot = study.snapshot()
        for model in snapshot.models:  # in this thread, so that no screen has to wait for them
            _ = model.marked, model.expected_kl, model.pair_std
        seldom = not (study.files.near or study.live) and self._rest_seconds
        if asked:
            study.files.rest(self._rest_seconds if seldom else 0)
        return replace(snapshot, asked_every=self._rest_seconds) if seldom else snapshot

    def study(self) -> Study:
        """Return the study as it is committed now. Raise StoreError while it cannot be read."""
        if self._details is None:
            self._details = self._open()
        else:
            self._details.refresh()
        return self._details

    def _open(self) -> Study:
        from store import open_study  # zarr: only once progress is painted

        study = open_study(self._path)
        self._share(study.files)
        return study

    def _share(self, files: Files) -> None:
        """Let what was read of a remote store not be read again when it is opened once more."""
        if not files.near:
            self._path = files
