"""Keep slow results next to a report, under a digest of their inputs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from seedconv_tui.tables.writers import new_file

VERSION = 1  # raised when what is kept means something else


class ResultCache:
    """Results in JSON files of a folder; one that cannot be read is as if it were not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str, *made_of: Any) -> Any:
        """Return what was kept under the name for these things; None if there is nothing."""
        try:
            return json.loads(self._file(name, made_of).read_bytes())
        except (OSError, ValueError):
            return None

    def put(self, result: Any, name: str, *made_of: Any) -> None:
        """Keep what JSON can hold; NaN comes back as NaN."""
        self._folder.mkdir(exist_ok=True)
        with new_file(self._file(name, made_of)) as file:
            file.write(json.dumps(result).encode())

    def _file(self, name: str, made_of: tuple[Any, ...]) -> Path:
        return self._folder / f"{name}-{digest(VERSION, *made_of)}.json"


def digest(*made_of: Any) -> str:
    """Return a digest of bytes, and of whatever JSON can hold."""
    found = hashlib.sha256()
    for part in made_of:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode()
        found.update(f"{len(data)}:".encode() + data)
    return found.hexdigest()[:16]
