"""The Hugging Face Hub, for studies that may never ask it anything.

Most checkpoints lie in folders. The Hub's library takes a quarter of a second to import, and its
releases before 2.4, which do for folders, lack what `hub_patience` needs; so both wait for the
first question.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.sources.hub_patience import PatientHub


class HubClient:
    """Questions to the Hub. Each waits out refusals and interruptions, for ten minutes at most."""

    def __init__(
        self,
        stop: threading.Event,
        wait: Callable[[float], bool] | None = None,
        on_wait: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Let `wait` pass seconds, `stop.wait` by default; it returns whether to stop.

        `on_wait` is called with a line about each long wait, in any thread.
        """
        self._stop, self._wait = stop, stop.wait if wait is None else wait
        self._on_wait = on_wait

    @cached_property
    def _hub(self) -> PatientHub:
        from engine.sources.hub_patience import PatientHub

        return PatientHub(self._stop, self._wait, self._on_wait)

    def revisions(self, repository: str) -> dict[str, str]:
        """Return the branches and tags of a repository, with their commits."""
        return self._hub.revisions(repository)

    def commit(self, repository: str, revision: str) -> str:
        """Return the commit of any revision: a pull request and a commit's own name too."""
        return self._hub.commit(repository, revision)

    def repositories(self, owner: str, text: str) -> dict[str, str | None]:
        """Return an owner's repositories with `text` in their names, and commits of `main`."""
        return self._hub.repositories(owner, text)

    def files(self, repository: str, commit: str) -> set[str]:
        """Return the names of all files of a commit."""
        return self._hub.files(repository, commit)

    def download(self, repository: str, revision: str, name: str) -> Path:
        """Put one file into the Hub's cache, unless it is there. `revision` may be a commit."""
        return self._hub.download(repository, revision, name)

    def drop(self, commit: str) -> None:
        """Delete a commit's files from the cache, but for those that other commits share."""
        self._hub.drop(commit)
