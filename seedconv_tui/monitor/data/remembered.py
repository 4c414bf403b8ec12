"""The view that the terminal remembers of a store between sessions: a small JSON file."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_Default = TypeVar("_Default")

_VERSION = 1
_TOURED = "toured"  # a file that says so
_MOST_BYTES = 100_000
_MOST = 2**53  # integers beyond are no step and no token
_HUGE = 1e300


def memory_path(store: str | Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Return the file for a store: in `$XDG_STATE_HOME/seedconv`, or `~/.local/state/seedconv`.

    Raise RuntimeError where there is neither the variable nor a home.
    """
    given = Path(environment.get("XDG_STATE_HOME", ""))
    folder = given if given.is_absolute() else Path.home() / ".local" / "state"
    digest = hashlib.sha256(_address(store).encode("utf-8", "surrogateescape")).hexdigest()
    return folder / "seedconv" / f"{digest[:24]}.json"


def _address(store: str | Path) -> str:
    return store if isinstance(store, str) and "://" in store else str(Path(store).resolve())


class Memory:
    """One store's file. What cannot be read counts as nothing; what cannot be written is said."""

    def __init__(self, path: Path, store: str | Path, *, fresh: bool = False) -> None:
        """Take the file, the store it is about, and whether what it holds is to be ignored."""
        self._path, self._store, self._fresh = path, _address(store), fresh
        self.trouble = ""  # why the last writing failed; empty: it did not

    def load(self) -> Remembered:
        """Return what was remembered; nothing if damaged, of another version or another store's."""
        if self._fresh:
            return Remembered({})
        try:
            with self._path.open("rb") as file:
                found = json.loads(file.read(_MOST_BYTES))
        except (OSError, ValueError, RecursionError):
            return Remembered({})
        kept = Remembered(found)
        same = kept.number("version") == _VERSION and kept.text("store") == self._store
        return kept if same else Remembered({})

    def save(self, state: Mapping[str, Any]) -> None:
        """Write what JSON can hold; the file is the old one or the new one at any moment."""
        content = {"version": _VERSION, "store": self._store, **state}
        data = json.dumps(content).encode()
        from seedconv_tui.tables.writers import new_file  # late: it brings what reads the store

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with new_file(self._path) as file:
                file.write(data)
            self.trouble = ""
        except OSError as error:
            self.trouble = f"{self._path}: {error.strerror or error}"


def memory_of(store: str | Path, *, fresh: bool) -> Memory | None:
    """Return a store's memory; None where there is no place for one."""
    try:
        return Memory(memory_path(store), store, fresh=fresh)
    except RuntimeError:
        return None


def is_first_start(environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether the monitor was never started before, and take note that it is now.

    False as well where that cannot be noted, so that it is not the first start for ever.
    """
    try:
        folder = memory_path("", environment).parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        known = any(folder.iterdir())
        (folder / _TOURED).touch()
    except (OSError, RuntimeError):
        return False
    return not known


class Remembered:
    """Values out of a file that anybody may have changed: each is of its kind, or its default."""

    def __init__(self, values: object) -> None:
        """Take what was read; anything but an object counts as an empty one."""
        self.values: dict[str, Any] = values if isinstance(values, dict) else {}

    def part(self, name: str) -> Remembered:
        """Return an object within."""
        return Remembered(self.values.get(name))

    def text(self, name: str, default: str = "") -> str:
        """Return a text."""
        value = self.values.get(name)
        return value if isinstance(value, str) else default

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts; those in it that are none are left out."""
        value = self.values.get(name)
        return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()

    def flag(self, name: str, default: _Default) -> bool | _Default:
        """Return true or false."""
        value = self.values.get(name)
        return value if isinstance(value, bool) else default

    def number(self, name: str) -> int | None:
        """Return a whole number that is not negative."""
        value = self.values.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            return None
        return value if 0 <= value < _MOST else None

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return a list of finite numbers; empty if anything else is in it."""
        value = self.values.get(name)
        if not isinstance(value, list) or any(isinstance(v, bool) for v in value):
            return ()
        right = all(isinstance(v, int | float) and abs(v) < _HUGE for v in value)
        return tuple(map(float, value)) if right else ()

    def choice(self, name: str, among: Sequence[str]) -> int:
        """Return the place of a text among these; 0 for any other."""
        value = self.values.get(name)
        return among.index(value) if isinstance(value, str) and value in among else 0
