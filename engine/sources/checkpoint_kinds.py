"""The kinds of checkpoints: files of a known layout, or whatever a user's loader reads."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from engine.errors import CheckpointError
from engine.sources.checkpoint_files import (
    INCOMPLETE,
    are_of_transformers,
    checkpoint_files,
    contents,
    find_config,
    is_one_file,
    is_there,
    list_names,
    needed,
)
from engine.sources.distributed import DistributedWeights
from engine.sources.foreign import recognise_folder
from engine.study_file.models_section import ModelSection
from seedconv_tui.training.weight_files import ONE_FILE, is_sharded_folder

_DEEP = 3  # folders in folders whose files are looked at


class CheckpointKind(Protocol):
    """The way to look at the checkpoints of one model; each is a folder, or one file."""

    def is_there(self, place: Path) -> bool:
        """Return whether there is one; False also where that cannot be known."""

    def may_be_file(self, pattern: str) -> bool:
        """Return whether a file may be one, by the last part of a template."""

    def called(self, place: Path) -> str:
        """Return what one that is not there would be: a file or a folder."""

    def config(self, place: Path) -> Path | None:
        """Return where its config.json is, or should be; None: it has none."""

    def look(self, place: Path) -> bool:
        """Return whether it says itself that it is finished.

        Raise CheckpointError or OSError when it cannot be read as it is.
        """

    def files(self, place: Path) -> list[tuple[str, Path]]:
        """Return names and paths of what changes while it is being written. Raise OSError."""

    def needed(self, place: Path) -> frozenset[str]:
        """Return the names of what it needs. Raise CheckpointError."""

    def names(self, place: Path) -> frozenset[str]:
        """Return the names of what is there of it. Raise CheckpointError."""

    def foreign(self, place: Path, had: frozenset[str]) -> str | None:
        """Return which trainer's it is and what to do, if it can never be read; `had` it needed."""


def kind_for(model: ModelSection, folder: Path) -> CheckpointKind:
    """Return the kind that a model's section asks for; its paths are below `folder`."""
    if model.loader is not None:
        return AnyFiles()
    return WeightFiles(allow_pickle=model.allow_pickle, config=model.config_file(folder))


class WeightFiles:
    """Weights in a layout that is known, with a config.json."""

    def __init__(self, *, allow_pickle: bool = False, config: Path | None = None) -> None:
        """Take where config.json is, if it is not in each checkpoint."""
        self._allow_pickle, self._config = allow_pickle, config

    def is_there(self, place: Path) -> bool:
        """Return whether there is a folder, or a file of a name that weights have."""
        return is_there(place)

    def may_be_file(self, pattern: str) -> bool:
        """Return whether files of that name hold weights; a `*` fits other files, too."""
        return pattern.endswith(ONE_FILE)

    def called(self, place: Path) -> str:
        """Return whether it would be a file, by its name."""
        return "file" if is_one_file(place) else "folder"

    def config(self, place: Path) -> Path:
        """Return the checkpoint's own, or that of the study file."""
        return find_config(place, self._config)

    def look(self, place: Path) -> bool:
        """Look whether all files are there; a distributed checkpoint may say that it is finished.

        Its table does, if it was written after all parts.
        """
        files = checkpoint_files(place, allow_pickle=self._allow_pickle, config=self._config)
        return isinstance(files.stored, DistributedWeights) and files.stored.is_settled()

    def files(self, place: Path) -> list[tuple[str, Path]]:
        """Return all files, those of weights in a folder inside and config.json with them."""
        entries = [place] if is_one_file(place) else sorted(place.iterdir())
        for entry in list(entries):
            entries += sorted(entry.iterdir()) if is_sharded_folder(entry.name) else []
        file = find_config(place, self._config)
        if file.parent != place and file.exists():
            entries.append(file)
        return [(entry.name, entry) for entry in entries]

    def needed(self, place: Path) -> frozenset[str]:
        """Return the files of weights, and the configuration."""
        return needed(contents(place))

    def names(self, place: Path) -> frozenset[str]:
        """Return all files, those of weights in a folder inside with them."""
        return contents(place)

    def foreign(self, place: Path, had: frozenset[str]) -> str | None:
        """Recognise what other trainers write."""
        if are_of_transformers(had):
            return None
        return recognise_folder(place, pickles=self._allow_pickle)


class AnyFiles:
    """Whatever there is: a loader of the user reads it."""

    def is_there(self, place: Path) -> bool:
        """Return whether there is a folder or a file."""
        try:
            return place.is_dir() or place.is_file()
        except OSError:
            return False

    def may_be_file(self, pattern: str) -> bool:
        """Return True: of any name."""
        return True

    def called(self, place: Path) -> str:
        """Return that it could be either."""
        return "folder or file"

    def config(self, place: Path) -> None:
        """Return None: a loader needs none."""

    def look(self, place: Path) -> bool:
        """Look whether there is anything, and no sign that it is being written."""
        names = self.names(place)
        if not names:
            raise CheckpointError(f"{place}: is empty")
        if INCOMPLETE in names:
            raise CheckpointError(f"{place}: holds {INCOMPLETE}: it is still being written")
        return False

    def files(self, place: Path) -> list[tuple[str, Path]]:
        """Return all files and folders, as deep as checkpoints mostly are."""
        return [(entry.relative_to(place).as_posix(), entry) for entry in _below(place, _DEEP)]

    def needed(self, place: Path) -> frozenset[str]:
        """Return all: any of them may be needed."""
        return self.names(place)

    def names(self, place: Path) -> frozenset[str]:
        """Return the names of all, which of a single file is its own."""
        return frozenset({place.name}) if place.is_file() else list_names(place)

    def foreign(self, place: Path, had: frozenset[str]) -> str | None:
        """Return None: its loader knows."""
        return None


def _below(place: Path, depth: int) -> Iterator[Path]:
    if not place.is_dir():
        yield place
        return
    for entry in sorted(place.iterdir()):
        yield entry
        if depth and entry.is_dir():
            yield from _below(entry, depth - 1)
