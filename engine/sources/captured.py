"""Checkpoints that were captured in training: what they say of the study's text, and no weights.

They lie in the folder of announcements until they are scored; each came with a letter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.errors import CheckpointError
from engine.sources.announcements import Announcement, Announcements
from engine.sources.base import Listing, Reference
from engine.sources.checkpoint_files import is_folder
from engine.sources.overtaken import Overtaken
from engine.study_file.models_section import ModelSection
from store.schema import Key

ANNOUNCED_SECONDS = 60.0  # within which NFS shows what another machine has written


class CapturedSource:
    """Captures of one model that training handed over and that are not released yet."""

    def __init__(
        self,
        model: ModelSection,
        clock: Callable[[], float] = time.monotonic,
        announcements: Announcements | None = None,
    ) -> None:
        """Take the `announcements` in the process that looks what is there."""
        self._model, self._clock, self._announcements = model, clock, announcements
        self._letters: Mapping[Key, Announcement] = {}
        self._overtaken = Overtaken(clock)
        self._checkpoints: dict[Key, CapturedCheckpoint] = {}

    def find(self) -> Listing:
        """Look which letters are there."""
        letters: dict[Key, Announcement] = {}
        if self._announcements is not None:
            found = self._announcements.of(self._model.name).items()
            letters = {k: it for k, it in found if it.captured and self._model.asks_for(k)}
        self._letters = letters
        lost = {
            key: f"{self._name(key)} was not captured: {it.lost}"
            for key, it in letters.items()
            if it.lost
        }
        there = frozenset(k for k in letters.keys() - lost.keys() if letters[k].folder is not None)
        wanted = self._model.listed
        asked = frozenset(letters) if wanted is None else frozenset(wanted)
        missing = {key: self._missing(key) for key in asked - there - lost.keys()}
        passed = self._overtaken.find(letters, missing) if wanted is not None else frozenset()
        return Listing(
            asked,
            there,
            missing,
            announced=frozenset(letters.keys() - lost.keys()),
            passed=passed,
            lost=lost,
        )

    def _name(self, key: Key) -> str:
        return f"{self._model.name}, seed {key[0]}, step {key[1]}"

    def _missing(self, key: Key) -> str:
        letter = self._letters.get(key)
        if letter is None:
            return f"{self._name(key)}: no training run has captured it"
        return f"{letter.path}: there is no such folder"

    def hint(self) -> str | None:
        """Return nothing: there is no place that another trainer may have written to."""
        return None

    def checkpoint(self, key: Key) -> CapturedCheckpoint:
        """Return the checkpoint of this seed and step; it need not have been captured."""
        if key not in self._checkpoints:
            self._checkpoints.setdefault(key, self._open(key))
        return self._checkpoints[key]

    def _open(self, key: Key, folder: Path | None = None) -> CapturedCheckpoint:
        return CapturedCheckpoint(key, self._model.name, self._find, self._clock, folder)

    def _find(self, key: Key) -> Announcement | None:
        letter = self._letters.get(key)
        return None if letter is None or letter.lost else letter

    def reopen(self, reference: Reference) -> CapturedCheckpoint:
        """Return the checkpoint that was referred to, in the folder where it was found."""
        if (known := self._checkpoints.get(reference.key)) is not None:
            return known
        folder = reference.place if isinstance(reference.place, Path) else None
        return self._open(reference.key, folder)


class CapturedCheckpoint:
    """One checkpoint's answers: there whole, by a rename, or not at all."""

    def __init__(
        self,
        key: Key,
        model: str,
        find: Callable[[Key], Announcement | None],
        clock: Callable[[], float],
        folder: Path | None = None,
    ) -> None:
        """Take `folder` as its place; by default it is where the letter says that `find` finds."""
        self.key, self._name = key, f"{model}, seed {key[0]}, step {key[1]}"
        self._find, self._clock, self._folder = find, clock, folder

    def _path(self) -> Path | None:
        letter = self._find(self.key)
        return letter.path if letter is not None else self._folder

    def where(self) -> str:
        """Return the folder, whether or not it exists; without a letter, its name."""
        return str(self._path() or self._name)

    def reference(self) -> Reference:
        """Refer to it, with its folder."""
        return Reference(self.key, self._path())

    def fetch(self) -> Path:
        """Return the folder. Raise CheckpointError: there is none."""
        folder = self._path()
        if folder is None:
            raise CheckpointError(f"{self._name}: what was captured of it is not there any more")
        return folder

    def config(self) -> Path | None:
        """Return nothing: there is no configuration that anybody could read."""
        return None

    def signature(self) -> object:
        """Return size, time and number of what describes it, which was written last."""
        folder = self._path()
        if folder is None:
            return None
        stat = (folder / "capture.json").lstat()
        return str(folder), stat.st_size, stat.st_mtime_ns, stat.st_ino

    def finished(self) -> bool:
        """Return that it is: it was renamed when all of it was written."""
        return True

    def refused(self, *, waiting: bool) -> str | None:
        """Return nothing: what is wrong with it is found out when it is read."""
        return None

    def gone(self) -> bool:
        """Return whether its folder was deleted."""
        letter, folder = self._find(self.key), self._path()
        if folder is not None and is_folder(folder):
            return False
        return letter is None or self._clock() - letter.since >= ANNOUNCED_SECONDS

    def failed(self) -> None:
        """Do nothing: it does not change."""

    def details(self) -> dict[str, str]:
        """Return nothing: its folder is removed once it is scored."""
        return {}

    def release(self) -> None:
        """Do nothing: it goes with its letter, once what came of it is committed."""
