"""Checkpoints in folders."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.errors import CheckpointError
from engine.sources.announcements import Announcement, Announcements
from engine.sources.base import Listing
from engine.sources.checkpoint_files import checkpoint_files, is_folder, list_names, needed
from engine.sources.foreign import recognise_folder, recognise_near
from engine.study_file.models_section import ModelSection
from engine.study_file.patterns import Fields, Pattern
from store.schema.keys import Key

SETTLE_SECONDS = 3.0  # a checkpoint that does not say it is finished must rest so long
ANNOUNCED_SECONDS = 60.0  # within which NFS shows what another machine has announced
STUCK_SECONDS = 600.0  # what is not finished, or passed over, for so long is told


class LocalSource:
    """Folders that fit a template such as `runs/{model}/seed{seed}/checkpoint-{step}`.

    And those that a training script has announced, wherever they are.
    """

    def __init__(
        self,
        model: ModelSection,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
        *,
        settle_seconds: float = SETTLE_SECONDS,
        announcements: Announcements | None = None,
    ) -> None:
        self._model, self._folder, self._clock = model, folder, clock
        self._templates = {seed: Pattern(text) for seed, text in model.templates.items()}
        self._found: dict[Key, Path] = {}  # where the template alone does not tell
        self._announcements = announcements
        self._announced: dict[Key, Announcement] = {}
        self._settle_seconds = settle_seconds
        self._settling = Settling(clock, settle_seconds, allow_pickle=model.allow_pickle)
        self._had: dict[Key, frozenset[str]] = {}  # files without which one is gone
        self._whole: set[Key] = set()  # found finished
        self._latest: dict[str, int] = {}  # step that a seed has had
        self._passed: dict[Key, float] = {}  # since when a later step of its seed is there
        self._given: dict[Key, Path] = {}  # to whoever reads it

    def find(self) -> Listing:
        """Look into the folders."""
        wanted = self._model.listed
        if self._announcements is not None:
            letters = self._announcements.of(self._model.name)
            self._announced = {key: it for key, it in letters.items() if self._model.asks_for(key)}
        if wanted is None or any("*" in t.fields for t in self._templates.values()):
            self._found = {key: path for key, path in self._discover() if self._model.accepts(*key)}
        missing: dict[Key, str] = {}
        for key in self._announced if wanted is None else wanted:
            if key in self._found:
                continue
            try:
                if not is_folder(self._path(key)):
                    missing[key] = f"{self.where(key)}: there is no such folder"
            except CheckpointError as error:  # a step that the template cannot write
                missing[key] = str(error)
        asked = frozenset(self._found.keys() | self._announced if wanted is None else wanted)
        there = asked - missing.keys()
        return Listing(
            asked,
            there,
            missing,
            announced=frozenset(self._announced),
            passed=self._find_passed(there, missing) if wanted is not None else frozenset(),
        )

    def _find_passed(self, there: Collection[Key], missing: Mapping[Key, str]) -> frozenset[Key]:
        """What will not come any more, as steps are saved in order: deleted, or never made."""
        now = self._clock()
        for seed, step in there:
            self._latest[seed] = max(step, self._latest.get(seed, step))
        passed = [key for key in missing if key[1] < self._latest.get(key[0], 0)]
        self._passed = {key: self._passed.get(key, now) for key in passed}
        return frozenset(k for k, since in self._passed.items() if now - since >= STUCK_SECONDS)

    def _discover(self) -> Iterator[tuple[Key, Path]]:
        for label, template in self._templates.items():
            root, parts = self._parts(template)
            for found, path in _match(root, parts, self._known(label, template)):
                yield (found["seed"], int(found["step"])), path

    def _parts(self, template: Pattern) -> tuple[Path, tuple[str, ...]]:
        start = Path(template.text).expanduser()
        if start.is_absolute():
            return Path(start.anchor), start.parts[1:]
        return self._folder, start.parts

    def _known(self, label: str | None, template: Pattern) -> Fields:
        known = {"model": self._model.name} | ({} if label is None else {"seed": label})
        if "step" not in template.fields:
            known["step"] = str(self._model.only_step)
        return known

    def _template(self, key: Key) -> Pattern:
        template = self._templates.get(key[0]) or self._templates.get(None)
        if template is None:  # it was once part of the study
            raise CheckpointError(f"seed {key[0]} has no source")
        return template

    def _path(self, key: Key) -> Path:
        letter = self._announced.get(key)
        if letter is not None and (folder := letter.folder) is not None:
            return folder
        if key in self._found:
            return self._found[key]
        seed, step = key
        known = {"model": self._model.name, "seed": seed, "step": str(step)}
        try:
            return self._folder / Path(self._template(key).fill(known)).expanduser()
        except CheckpointError:  # of no template, or a step it cannot write
            if letter is None:
                raise
            return letter.path

    def where(self, key: Key) -> str:
        """The folder, whether or not it exists."""
        if key in self._announced:
            return str(self._announced[key].path)
        try:
            return str(self._path(key))
        except CheckpointError as error:
            return str(error)

    def place(self, key: Key) -> object:
        """The folder that was found, where the template alone does not tell."""
        if key in self._announced:
            return self.fetch(key)
        return self._found.get(key)

    def adopt(self, key: Key, place: object) -> None:
        """Take the folder that another process found."""
        if isinstance(place, Path):
            self._found[key] = place

    def fetch(self, key: Key) -> Path:
        """The folder; there is nothing to do."""
        self._given[key] = self._path(key)
        return self._given[key]

    def config(self, key: Key) -> Path | None:
        """The checkpoint's own."""
        return self._path(key) / "config.json"

    def signature(self, key: Key) -> object:
        """Name, size and time of every file."""
        return signature(self._path(key))

    def failed(self, key: Key) -> None:
        """It is looked at again before it is read again; a folder that changes says so."""
        self._whole.discard(key)

    def finished(self, key: Key) -> bool:
        """Whether the folder says it is finished, was announced as such, or rests."""
        if key in self._whole:
            return True
        folder = self._path(key)
        standing = self._settling.look(folder, announced=key in self._announced)
        if standing.finished:
            self._whole.add(key)
            self._remember(key, folder)
        return standing.finished

    def refused(self, key: Key, *, waiting: bool) -> str | None:
        """Why a checkpoint that is there will not do; `waiting`, once nothing changes any more."""
        folder = self._path(key)
        if not self._had.get(key):
            self._remember(key, folder)
        what = None if self._had[key] - {"config.json"} else recognise_folder(folder)
        if not waiting:
            return f"{self.where(key)} {what}" if what else None
        standing = self._settling.look(folder, announced=key in self._announced)
        if what and standing.rests >= self._settle_seconds:
            return f"{self.where(key)} {what}"
        error = (standing.error or "").replace(str(folder), self.where(key))
        if error and key in self._announced and standing.rests >= ANNOUNCED_SECONDS:
            return f"announced as finished, but {error}"
        if error and standing.rests >= STUCK_SECONDS:
            return f"{error}; nothing in its folder changes any more"
        return None

    def _remember(self, key: Key, folder: Path) -> None:
        try:
            self._had[key] = needed(list_names(folder))
        except CheckpointError:
            self._had[key] = frozenset()

    def gone(self, key: Key) -> bool:
        """Whether a checkpoint that was there has been deleted, all or some of it.

        Where it was read, if it was: what is let go of may still lie where it was announced.
        """
        try:
            folder = self._given.pop(key, None) or self._path(key)
        except CheckpointError:
            return False
        if is_folder(folder):
            try:
                lost = self._had.get(key, frozenset()) - list_names(folder)
            except CheckpointError:
                return False  # it cannot be told
            gone = bool(lost)
        elif key in self._announced:
            letter = self._announced[key]
            late = self._clock() - letter.since >= ANNOUNCED_SECONDS
            gone = is_folder(letter.path.parent) if self._had.get(key) else late
        else:
            gone = is_folder(self._root(key))  # else all are: a disk that is not mounted
        if gone:
            self._whole.discard(key)
            self._had.pop(key, None)
        return gone

    def _root(self, key: Key) -> Path:
        """The part of the template's path that all checkpoints share."""
        root, parts = self._parts(self._template(key))
        for part in parts[:-1]:
            if Pattern(part).fields:
                break
            root /= part
        return root

    def hint(self) -> str | None:
        """What lies near the template that another trainer may have written; None: nothing."""
        for label, template in self._templates.items():
            root, parts = self._parts(template)
            for n in range(len(parts) - 1, 0, -1):
                near = [path for _, path in _match(root, parts[:n], self._known(label, template))]
                if near:
                    if what := recognise_near(near):
                        return what
                    break
        return None

    def details(self, key: Key) -> dict[str, str]:
        """Nothing: folders are moved, and the study file tells the template."""
        return {}

    def release(self, key: Key) -> None:
        """Folders of the user stay; who reads announcements lets go of what is held for them."""


def _match(folder: Path, parts: tuple[str, ...], known: Fields) -> Iterator[tuple[Fields, Path]]:
    """Yield the fields and the path of every folder that fits."""
    if not parts:
        yield known, folder
        return
    pattern, rest = Pattern(parts[0]), parts[1:]
    if not pattern.fields:
        if is_folder(folder / pattern.text):
            yield from _match(folder / pattern.text, rest, known)
        return
    match = pattern.matcher(known)
    try:
        with os.scandir(folder) as found_there:  # which mostly knows without asking for each
            entries = sorted(entry.name for entry in found_there if entry.is_dir())
    except OSError:
        return
    for entry in entries:
        if (found := match(entry)) is not None:
            yield from _match(folder / entry, rest, found)


def signature(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of every file of a checkpoint: equal while nothing is being written."""
    try:
        entries = sorted(folder.iterdir())
        stats = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return ()
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


@dataclass(frozen=True)
class Standing:
    """How a folder was when it was looked at."""

    finished: bool
    rests: float  # seconds in which nothing in it has changed
    error: str | None  # why it cannot be read as it is


class Settling:
    """Tells finished checkpoints from those still being written, by looking more than once."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        settle_seconds: float = SETTLE_SECONDS,
        *,
        allow_pickle: bool = False,
    ) -> None:
        self._clock, self._settle_seconds = clock, settle_seconds
        self._allow_pickle = allow_pickle
        self._seen: dict[Path, tuple[object, float]] = {}

    def finished(self, folder: Path) -> bool:
        """Whether the checkpoint can be read now."""
        return self.look(folder).finished

    def look(self, folder: Path, *, announced: bool = False) -> Standing:
        """How the checkpoint stands.

        `trainer_state.json`, which Trainer writes last, says that it is finished, and so does who
        announced it. Without either nothing in the folder may have changed for a few seconds.
        """
        now, found = self._clock(), signature(folder)
        before, since = self._seen.get(folder, (None, now))
        since = since if found == before else now
        self._seen[folder] = (found, since)
        try:
            checkpoint_files(folder, allow_pickle=self._allow_pickle)
        except CheckpointError as error:
            return Standing(finished=False, rests=now - since, error=str(error))
        said = announced or any(name == "trainer_state.json" for name, _, _ in found)
        rested = found == before and now - since >= self._settle_seconds
        return Standing(finished=said or rested, rests=now - since, error=None)
