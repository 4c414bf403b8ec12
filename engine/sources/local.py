"""Checkpoints in folders."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from engine.errors import CheckpointError
from engine.sources.announcements import Announcement, Announcements
from engine.sources.base import Listing, Reference
from engine.sources.checkpoint_files import is_folder
from engine.sources.checkpoint_kinds import AnyFiles, kind_for
from engine.sources.folders import Folders
from engine.sources.foreign import recognise_near
from engine.sources.overtaken import STUCK_SECONDS, Overtaken
from engine.sources.settling import SETTLE_SECONDS, Settling, signature
from engine.study_file.models_section import ModelSection
from store.schema import Key

ANNOUNCED_SECONDS = 60.0  # within which NFS shows what another machine has announced


class LocalSource:
    """Folders of one model's checkpoints: those that fit its templates, and announced ones."""

    def __init__(
        self,
        model: ModelSection,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
        *,
        settle_seconds: float = SETTLE_SECONDS,
        announcements: Announcements | None = None,
    ) -> None:
        self._model, self._clock = model, clock
        self._kind = kind_for(model, folder)
        self._folders = Folders(model, folder, self._kind)
        self._announcements = announcements
        self._settling = Settling(clock, settle_seconds, self._kind)
        self._checkpoints: dict[Key, LocalCheckpoint] = {}
        self._overtaken = Overtaken(clock)

    def find(self) -> Listing:
        """Look into the folders."""
        wanted, folders = self._model.listed, self._folders
        if self._announcements is not None:
            announced = self._announcements.of(self._model.name)
            folders.announced = {
                key: it
                for key, it in announced.items()
                if self._model.asks_for(key) and not it.captured
            }
        folders.look()
        missing: dict[Key, str] = {}
        for key in folders.announced if wanted is None else wanted:
            if key in folders.found:
                continue
            try:
                if not self._kind.is_there(path := folders.path(key)):
                    kind = self._kind.called(path)
                    missing[key] = f"{self.checkpoint(key).where()}: there is no such {kind}"
            except CheckpointError as error:  # a step that the template cannot write
                missing[key] = str(error)
        asked = frozenset(folders.found.keys() | folders.announced if wanted is None else wanted)
        ambiguous = {key: why for key in asked if (why := folders.ambiguous(key))}
        there = asked - missing.keys() - ambiguous.keys()
        return Listing(
            asked,
            there,
            missing,
            ambiguous=ambiguous,
            announced=frozenset(folders.announced),
            passed=self._overtaken.find(there, missing) if wanted is not None else frozenset(),
        )

    def hint(self) -> str | None:
        """Return what lies near the template that another trainer may have written, if any."""
        if isinstance(self._kind, AnyFiles):  # any trainer's will do
            return None
        return next(filter(None, map(recognise_near, self._folders.near())), None)

    def checkpoint(self, key: Key) -> LocalCheckpoint:
        """Return the checkpoint of this seed and step; its folder need not exist."""
        if key not in self._checkpoints:
            checkpoint = LocalCheckpoint(key, self._folders, self._settling, self._clock)
            self._checkpoints.setdefault(key, checkpoint)
        return self._checkpoints[key]

    def reopen(self, reference: Reference) -> LocalCheckpoint:
        """Return the checkpoint that was referred to, in the folder where it was found."""
        if (known := self._checkpoints.get(reference.key)) is not None:  # found by this source
            return known
        folder = reference.place if isinstance(reference.place, Path) else None
        return LocalCheckpoint(reference.key, self._folders, self._settling, self._clock, folder)


class LocalCheckpoint:
    """A checkpoint in a folder, which may not be there yet, or not any more."""

    def __init__(
        self,
        key: Key,
        folders: Folders,
        settling: Settling,
        clock: Callable[[], float],
        folder: Path | None = None,
    ) -> None:
        """Take `folder` as its place; by default it is where `folders` find it."""
        self.key = key
        self._folders, self._settling, self._clock, self._folder = folders, settling, clock, folder
        self._whole = False  # found finished
        self._had: frozenset[str] = frozenset()  # without one of these files it counts as *gone*
        self._given: Path | None = None  # to its reader

    @property
    def _announcement(self) -> Announcement | None:
        return self._folders.announced.get(self.key)

    def _path(self) -> Path:
        return self._folder or self._folders.path(self.key)

    def where(self) -> str:
        """Return the folder, whether or not it exists; the announced one if there is one."""
        if (announcement := self._announcement) is not None:
            return str(announcement.path)
        try:
            return str(self._path())
        except CheckpointError as error:
            return str(error)

    def reference(self) -> Reference:
        """Refer to it, with the folder that was found where the template leaves it open."""
        if self._announcement is not None:
            return Reference(self.key, self.fetch())
        return Reference(self.key, self._folder or self._folders.found.get(self.key))

    def fetch(self) -> Path:
        """Return the folder; there is nothing to do. Raise CheckpointError: it has none."""
        self._given = self._path()
        return self._given

    def config(self) -> Path | None:
        """Return the checkpoint's own, or that of the study file."""
        return self._settling.kind.config(self._path())

    def signature(self) -> object:
        """Return name, size and time of every file."""
        return signature(self._path(), self._settling.kind)

    def finished(self) -> bool:
        """Return whether the folder says it is finished, was announced as such, or rests."""
        if self._whole:
            return True
        folder = self._path()
        standing = self._settling.look(folder, announced=self._announcement is not None)
        if standing.finished:
            self._whole = True
            self._remember(folder)
        return standing.finished

    def refused(self, *, waiting: bool) -> str | None:
        """Return why it is there and will not do; `waiting`, once nothing changes any more."""
        folder, announced = self._path(), self._announcement is not None
        if not self._had:
            self._remember(folder)
        what = self._settling.kind.foreign(folder, self._had)
        if not waiting:
            return f"{self.where()} {what}" if what else None
        standing = self._settling.look(folder, announced=announced)
        if what and standing.rests >= self._settling.settle_seconds:
            return f"{self.where()} {what}"
        error = (standing.error or "").replace(str(folder), self.where())
        if error and announced and standing.rests >= ANNOUNCED_SECONDS:
            return f"announced as finished, but {error}"
        if error and standing.rests >= STUCK_SECONDS:
            return f"{error}; nothing in its folder changes any more"
        return None

    def _remember(self, folder: Path) -> None:
        try:
            self._had = self._settling.kind.needed(folder)
        except CheckpointError:
            self._had = frozenset()

    def gone(self) -> bool:
        """Return whether it was there and has been deleted, all or some of it.

        Where it was read, if it was: what is let go of may still lie where it was announced.
        """
        try:
            folder, self._given = self._given or self._path(), None
        except CheckpointError:
            return False
        announcement = self._announcement
        if self._settling.kind.is_there(folder):
            try:
                lost = self._had - self._settling.kind.names(folder)
            except CheckpointError:
                return False  # it cannot be known
            gone = bool(lost)
        elif announcement is not None:
            late = self._clock() - announcement.since >= ANNOUNCED_SECONDS
            gone = is_folder(announcement.path.parent) if self._had else late
        else:
            gone = is_folder(self._folders.root(self.key))  # else all are: a disk not mounted
        if gone:
            self._whole, self._had = False, frozenset()
        return gone

    def failed(self) -> None:
        """Look at it again before it is read again; a folder that changes says so."""
        self._whole = False

    def details(self) -> dict[str, str]:
        """Return nothing: folders are moved, and the study file has the template."""
        return {}

    def release(self) -> None:
        """Do nothing: folders of the user stay; held copies go with their announcements."""
