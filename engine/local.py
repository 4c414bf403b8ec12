"""Checkpoints in folders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.errors import CheckpointError
from engine.files import checkpoint_files
from engine.patterns import Fields, Pattern
from engine.sources import Found
from engine.study_file import ModelSection
from store.ledger import Checkpoint

SETTLE_SECONDS = 3.0  # a checkpoint that does not say it is finished must rest so long


class LocalSource:
    """Folders that fit a template such as `runs/{model}/seed{seed}/checkpoint-{step}`."""

    def __init__(
        self, model: ModelSection, folder: Path, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._model, self._folder = model, folder
        self._templates = {seed: Pattern(text) for seed, text in model.templates.items()}
        self._found: dict[Checkpoint, Path] = {}  # where the template alone does not tell
        self._settling = Settling(clock, allow_pickle=model.allow_pickle)

    def find(self) -> Found:
        """Look into the folders."""
        wanted = self._model.listed
        if wanted is None or any("*" in t.fields for t in self._templates.values()):
            self._found = {key: path for key, path in self._discover() if self._model.accepts(*key)}
        if wanted is None:
            there = frozenset(self._found)
            return Found(there, there, {})
        missing: dict[Checkpoint, str] = {}
        for key in wanted:
            try:
                if not self._path(key).is_dir():
                    missing[key] = f"{self.where(key)}: there is no such folder"
            except CheckpointError as error:  # a step that the template cannot write
                missing[key] = str(error)
        return Found(frozenset(wanted), frozenset(wanted) - missing.keys(), missing)

    def _discover(self) -> Iterator[tuple[Checkpoint, Path]]:
        for label, template in self._templates.items():
            start = Path(template.text).expanduser()
            root = Path(start.anchor) if start.is_absolute() else self._folder
            parts = start.parts[1:] if start.is_absolute() else start.parts
            known = {"model": self._model.name} | ({} if label is None else {"seed": label})
            if "step" not in template.fields:
                known["step"] = str(self._model.only_step)
            for found, path in _match(root, parts, known):
                yield (found["seed"], int(found["step"])), path

    def _path(self, key: Checkpoint) -> Path:
        if key in self._found:
            return self._found[key]
        seed, step = key
        template = self._templates.get(seed) or self._templates[None]
        known = {"model": self._model.name, "seed": seed, "step": str(step)}
        return self._folder / Path(template.fill(known)).expanduser()

    def where(self, key: Checkpoint) -> str:
        """The folder, whether or not it exists."""
        try:
            return str(self._path(key))
        except CheckpointError as error:
            return str(error)

    def place(self, key: Checkpoint) -> object:
        """The folder that was found, where the template alone does not tell."""
        return self._found.get(key)

    def adopt(self, key: Checkpoint, place: object) -> None:
        """Take the folder that another process found."""
        if isinstance(place, Path):
            self._found[key] = place

    def fetch(self, key: Checkpoint) -> Path:
        """The folder; there is nothing to do."""
        return self._path(key)

    def config(self, key: Checkpoint) -> Path | None:
        """The checkpoint's own."""
        return self._path(key) / "config.json"

    def signature(self, key: Checkpoint) -> object:
        """Name, size and time of every file."""
        return signature(self._path(key))

    def finished(self, key: Checkpoint) -> bool:
        """Whether the folder says it is finished, or rests."""
        return self._settling.finished(self._path(key))

    def details(self, key: Checkpoint) -> dict[str, str]:
        """Nothing: folders are moved, and the study file tells the template."""
        return {}

    def release(self, key: Checkpoint) -> None:
        """Folders of the user stay."""


def _match(folder: Path, parts: tuple[str, ...], known: Fields) -> Iterator[tuple[Fields, Path]]:
    """Yield the fields and the path of every folder that fits."""
    if not parts:
        yield known, folder
        return
    pattern, rest = Pattern(parts[0]), parts[1:]
    if not pattern.fields:
        if (folder / pattern.text).is_dir():
            yield from _match(folder / pattern.text, rest, known)
        return
    match = pattern.matcher(known)
    try:
        entries = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
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


class Settling:
    """Tells finished checkpoints from those still being written, by looking more than once."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, allow_pickle: bool = False
    ) -> None:
        self._clock, self._allow_pickle = clock, allow_pickle
        self._seen: dict[Path, tuple[object, float]] = {}

    def finished(self, folder: Path) -> bool:
        """Whether the checkpoint can be read now.

        `trainer_state.json`, which Trainer writes last, says so at once. Without it nothing in the
        folder may have changed for a few seconds.
        """
        try:
            checkpoint_files(folder, allow_pickle=self._allow_pickle)
        except CheckpointError:
            self._seen.pop(folder, None)
            return False
        if (folder / "trainer_state.json").exists():
            return True
        now, found = self._clock(), signature(folder)
        before, since = self._seen.get(folder, (None, now))
        self._seen[folder] = (found, since if found == before else now)
        return found == before and now - since >= SETTLE_SECONDS
