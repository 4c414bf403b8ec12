"""Whether a checkpoint in a folder is finished, or still being written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine.errors import CheckpointError
from engine.sources.checkpoint_files import checkpoint_files, find_config, is_one_file
from engine.sources.distributed import DistributedWeights
from seedconv_tui.training.weight_files import is_sharded_folder

SETTLE_SECONDS = 3.0  # a checkpoint that does not say it is finished must rest so long


def signature(place: Path, config: Path | None = None) -> tuple[tuple[str, int, int], ...]:
    """Return name, size (bytes) and time (ns) of every file: equal while nothing is written.

    Those of weights in a folder inside, and of a config.json elsewhere, are among them.
    """
    try:
        entries = [place] if is_one_file(place) else sorted(place.iterdir())
        for entry in list(entries):
            entries += sorted(entry.iterdir()) if is_sharded_folder(entry.name) else []
        file = find_config(place, config)
        if file.parent != place and file.exists():
            entries.append(file)
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
    """Distinguishes finished checkpoints from unfinished ones, by looking more than once."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        settle_seconds: float = SETTLE_SECONDS,
        *,
        allow_pickle: bool = False,
        config: Path | None = None,
    ) -> None:
        """Take where config.json is, if it is not in each checkpoint."""
        self._clock, self.settle_seconds = clock, settle_seconds
        self.allow_pickle, self.config = allow_pickle, config
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
        now, found = self._clock(), signature(folder, self.config)
        before, since = self._seen.get(folder, (None, now))
        since = since if found == before else now
        self._seen[folder] = (found, since)
        try:
            files = checkpoint_files(folder, allow_pickle=self.allow_pickle, config=self.config)
            stored = files.stored
            said = isinstance(stored, DistributedWeights) and stored.is_settled()
        except (CheckpointError, OSError) as error:
            return Standing(finished=False, rests=now - since, error=str(error))
        said |= announced or any(name == "trainer_state.json" for name, _, _ in found)
        rested = found == before and now - since >= self.settle_seconds
        return Standing(finished=said or rested, rests=now - since, error=None)
