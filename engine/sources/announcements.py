"""Announcements as the engine reads them: checked, since anybody may have written them.

Those of format 1 say where a checkpoint lies. Those of format 2 say that one was captured in
training, into this folder of announcements; or why it was not, though it should have been.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.sources.checkpoint_files import is_folder
from engine.sources.checkpoint_kinds import AnyFiles
from seedconv_tui.training.announcing import (
    FORMAT,
    FORMAT_OF_CAPTURES,
    check_names,
    held_folder,
    let_go,
)
from seedconv_tui.training.handover import remove_captured, run_folder
from store.schema import Key

_MOST_BYTES = 16 * 1024
_MOST_BAD = 20  # that are explained; more would only fill the journal


@dataclass(frozen=True)
class Announcement:
    """A training script's statement about one finished checkpoint."""

    file: Path
    model: str
    key: Key
    path: Path
    held: Path | None  # a copy that nobody deletes before it is scored
    since: float  # when the engine read it first, by its own clock
    captured: bool = False  # in training: `path` holds what the model says of the study's text
    lost: str | None = None  # why it was captured and is not there, in one line

    @property
    def folder(self) -> Path | None:
        """Return where it can be read now, the held copy first; None: nowhere.

        It may be a single file; a held copy is a folder even so.
        """
        for folder in (self.held, self.path):
            if folder is not None and AnyFiles().is_there(folder):
                return folder
        return None


class Announcements:
    """The folder of a study's announcements. It need not exist."""

    def __init__(self, folder: Path, models: Mapping[str, object], clock: Callable[[], float]):
        self._folder, self._models, self._clock = folder, models, clock
        self._known: dict[str, tuple[tuple[int, int], Announcement | None]] = {}  # by file name
        self._complaints: set[str] = set()  # what was wrong
        self._version: int | None = None  # of the folder, when it was last looked into

    def changed(self) -> bool:
        """Return whether something came or went since the last look, as far as that is known."""
        return self._stamp() != self._version

    def _stamp(self) -> int | None:
        try:
            return self._folder.stat().st_mtime_ns
        except OSError:
            return None

    def look(self) -> Iterator[str]:
        """Read what is new; yields, once each, what is wrong with those that are ignored."""
        known, self._known = self._known, {}
        self._version = self._stamp()  # before the look: what comes meanwhile is looked at again
        try:
            with os.scandir(self._folder) as entries:
                files = sorted(
                    (entry for entry in entries if entry.name.endswith(".json")),
                    key=lambda entry: entry.name,
                )
        except FileNotFoundError:
            return
        except OSError:  # a network mount that is away: announcements are unknown
            self._known = known
            return
        for entry in files:
            try:
                stat = entry.stat(follow_symlinks=False)
                version = (stat.st_mtime_ns, stat.st_ino)
                if entry.name in known and known[entry.name][0] == version:
                    self._known[entry.name] = known[entry.name]
                    continue
                self._known[entry.name] = (version, None)
                announcement = self._read(Path(entry.path), entry.is_file(follow_symlinks=False))
                self._known[entry.name] = (version, announcement)
            except FileNotFoundError:
                continue  # answered or replaced meanwhile
            except ValueError as error:
                yield from self._complain(entry.path, f"is ignored: {error}")
            except OSError as error:  # as of a mount that is away: read again at the next look
                self._known.pop(entry.name, None)
                yield from self._complain(entry.path, f"cannot be read yet: {error.strerror}")

    def _complain(self, path: str, what: str) -> Iterator[str]:
        """Yield what is wrong with an announcement, once; of too many, only the first."""
        line = f"announcement {path} {what}"
        if line in self._complaints or len(self._complaints) >= _MOST_BAD:
            return
        self._complaints.add(line)
        yield line + "; others like it are not told" * (len(self._complaints) == _MOST_BAD)

    def _read(self, file: Path, is_plain: bool) -> Announcement:
        if not is_plain:  # opening a pipe would wait for its other end
            raise ValueError("is no plain file")
        with file.open("rb") as stream:
            data = stream.read(_MOST_BYTES + 1)
        if len(data) > _MOST_BYTES:
            raise ValueError("is too large to be one")
        try:
            fields: dict[str, Any] = json.loads(data)
            model, seed, step = (fields[name] for name in ("model", "seed", "step"))
            captured = fields.get("captured") is True
            path, held = (None, None) if captured else (fields["path"], fields["held"])
        except (ValueError, RecursionError):
            raise ValueError("is not valid JSON; was it written whole?") from None
        except (KeyError, TypeError, AttributeError):
            raise ValueError("should hold an object with model, seed, step, path, held") from None
        if fields.get("format") != (FORMAT_OF_CAPTURES if captured else FORMAT):
            raise ValueError(
                f"has format {str(fields.get('format'))[:20]}, this seedconv reads {FORMAT}, and "
                f"{FORMAT_OF_CAPTURES} of what was captured"
            )
        check_names(model, seed, step, "/" if captured else str(path))
        if held is not None and not (isinstance(held, str) and held.isalnum() and len(held) < 20):
            raise ValueError("held should be a short name or null")
        if model not in self._models:
            names = ", ".join(list(self._models)[:5])
            raise ValueError(f"its model {model!r} is not one of the study's ({names})")
        if captured:
            lost = _reason(fields.get("lost"))
            # Whatever it says: the training run may see this folder under another path.
            spool = Path(os.path.normpath(self._folder.absolute()))
            place = run_folder(spool, model, seed) / str(step)
            return Announcement(file, model, (seed, step), place, None, self._clock(), True, lost)
        place = Path(os.path.normpath(str(path)))
        copy = None if held is None else held_folder(place, held)
        return Announcement(file, model, (seed, step), place, copy, self._clock())

    def of(self, model: str) -> dict[Key, Announcement]:
        """Return what was announced of a model and not released, as of the last look."""
        known = (announcement for _, announcement in self._known.values())
        return {it.key: it for it in known if it is not None and it.model == model}

    def release(self, announcement: Announcement) -> bool:
        """Let go of what is held, or was captured, of a checkpoint that nobody needs any more.

        Return whether it went: where it may not be removed, it is read and answered again.
        """
        if announcement.held is not None:
            let_go(announcement.held)
        if announcement.captured:
            remove_captured(announcement.path)
            if is_folder(announcement.path):
                return False
        try:
            announcement.file.unlink(missing_ok=True)
        except OSError:  # a folder that may not be written to
            return False
        self._known.pop(announcement.file.name, None)
        return True


def _reason(lost: object) -> str | None:
    if lost is not None and not (isinstance(lost, str) and lost.isprintable() and len(lost) < 1000):
        raise ValueError("lost should be a line of text")
    return lost
