"""Decide whether a checkpoint in a folder is finished or still being written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import CheckpointError
from engine.sources.checkpoint_kinds import CheckpointKind, WeightFiles

SETTLE_SECONDS = 3.0  # a checkpoint that does not say it is finished must rest so long


def signature(place: Path, kind: CheckpointKind) -> tuple[tuple[str, int, int], ...]:
    """Return name, size (bytes) and time (ns) of every file: equal while nothing is written."""
    try:
        stats = [(name, file.stat()) for name, file in kind.files(place)]
    except OSError:
        return ()
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


@dataclass(frozen=True)
class Standing:
    """The state of a folder when it was looked at."""

    finished: bool
    rests: float  # seconds in which nothing in it has changed
    error: str | None  # why it cannot be read


class Settling:
    """Distinguishes finished checkpoints from unfinished ones, by looking more than once."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        settle_seconds: float = SETTLE_SECONDS,
        kind: CheckpointKind | None = None,
    ) -> None:
        """Take what checkpoints consist of: safetensors and config.json, if not given."""
        self._clock, self.settle_seconds = clock, settle_seconds
        self.kind = kind or WeightFiles()
        self._seen: dict[Path, tuple[object, float]] = {}

    def finished(self, folder: Path) -> bool:
        """Return whether the checkpoint can be read now."""
        return self.look(folder).finished

    def look(self, folder: Path, *, announced: bool = False) -> Standing:
        """Look how the checkpoint stands.

        `trainer_state.json`, which Trainer writes last, says that it is finished, and so do who
        announced it and the table of a distributed checkpoint, if it was written after all parts.
        Without any of these nothing in the folder may have changed for a few seconds.
        """
        now, found = self._clock(), signature(folder, self.kind)
        before, since = self._seen.get(folder, (None, now))
        since = since if found == before else now
        self._seen[folder] = (found, since)
        try:
            said = self.kind.look(folder)
        except (CheckpointError, OSError) as error:
            return Standing(finished=False, rests=now - since, error=str(error))
        said |= announced or any(name == "trainer_state.json" for name, _, _ in found)
        rested = found == before and now - since >= self.settle_seconds
        return Standing(finished=said or rested, rests=now - since, error=None)
