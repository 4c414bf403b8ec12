"""Places to read a study from: a local folder, or a remote store that holds a copy.

Readers see both through `Files` and distinguish them nowhere else. Only local folders are written.
"""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Protocol

from store.errors import UnsupportedError
from store.storage.links import MOST_METADATA, open_plain, refuse_link, refuse_longer

if TYPE_CHECKING:
    from store.storage.checked_stores import CheckedStore

_REMOTE = re.compile(r"(?:^|/)(?:[a-z][a-z0-9+.-]*://|(?:s3|gs|az|https?):/)")  # `Path` joins //


class Files(Protocol):
    """Files below one address, by names like "commits/1.log". `str()` of it can be shown."""

    near: bool  # whether reading a few bytes costs nothing to speak of

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Return a slice of one file's bytes; empty past its end. `start` may count from the end.

        Raise FileNotFoundError when there is no such file, OSError or RemoteError when it cannot
        be read, DamagedError when that is more than `MOST_METADATA` and no `stop` is given.
        """
        ...

    def look(self) -> None:
        """Take in which files lie here now, where one question answers that for all of them.

        What is read until the next call is of that moment: which files there are, and versions.
        """
        ...

    def version(self, name: str) -> object:
        """Return what changes with a file, as of the last `look`; None: it is not known."""
        ...

    @property
    def resting(self) -> bool:
        """Return whether nothing is asked for again that is known; see `rest`."""
        ...

    def rest(self, seconds: float) -> None:
        """Ask for so long for nothing again that is known, also not whether it has changed."""
        ...

    def stamp(self, name: str) -> tuple[int, ...] | None:
        """Return device, inode, bytes and times of a file; None: no such file, or not known."""
        ...

    def names(self) -> list[str]:
        """Return names of files that lie here, without folders; none where they are not listed."""
        ...

    def exists(self) -> bool:
        """Return whether there is anything here."""
        ...

    def below(self, folder: str) -> Files:
        """Return the files of a folder."""
        ...

    def arrays(self) -> CheckedStore:
        """Return the same as a read-only Zarr store."""
        ...


class LocalFiles:
    """Files of a folder. No link below `root` is followed."""

    near, resting = True, False

    def __init__(self, root: Path, folder: str = "") -> None:
        self._root, self._folder = root, folder

    def __str__(self) -> str:
        return str(self._root / self._folder)

    def _path(self, name: str = "") -> Path:
        path = self._root / self._folder / name
        if "\0" in name or ".." in PurePath(name).parts or not path.is_relative_to(self._root):
            raise FileNotFoundError(errno.ENOENT, "not a name in a store", name)
        refuse_link(self._root, path)
        return path

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See `Files`. Raise DamagedError for a link, and for what is no file."""
        path = self._path(name)
        with open_plain(path) as file:
            size = os.fstat(file.fileno()).st_size
            start = max(0, size + start) if start < 0 else start
            if stop is None:
                refuse_longer(path, size - start, MOST_METADATA)
            file.seek(start)
            return file.read(MOST_METADATA if stop is None else stop - start)

    def look(self) -> None:
        """See `Files`: each file is asked itself."""

    def version(self, name: str) -> None:
        """See `Files`: its `stamp` answers that."""

    def rest(self, seconds: float) -> None:
        """See `Files`: asking costs nothing."""

    def stamp(self, name: str) -> tuple[int, ...] | None:
        """See `Files`."""
        try:
            found = os.stat(f"{self._root}/{self._folder}/{name}")  # noqa: PTH116 (asked often)
        except (OSError, ValueError):  # a name that no file can have
            return None
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns

    def names(self) -> list[str]:
        """See `Files`."""
        return [entry.name for entry in self._path().glob("*")]

    def exists(self) -> bool:
        """See `Files`."""
        return self._path().exists()

    def below(self, folder: str) -> LocalFiles:
        """See `Files`."""
        return LocalFiles(self._root, str(PurePath(self._folder, folder)))

    def arrays(self) -> CheckedStore:
        """See `Files`."""
        from store.storage.checked_stores import CommittedStore  # zarr takes long to import

        return CommittedStore(self._path())


Address = str | Path | Files
"""Where a study is: a folder, a remote store's URL, or files that are open already."""


def open_files(address: Address) -> Files:
    """Return the files at a path, or at an address such as s3://bucket/study.zarr.

    Files that are open already share what they remember of a remote store.
    Raise UnsupportedError for addresses that this installation cannot read.
    """
    if not isinstance(address, str | Path):
        return address
    if isinstance(address, Path) or "://" not in address:
        return LocalFiles(Path(address))
    from store.storage.remote import open_remote  # optional, and slow to import

    return open_remote(address)


def refuse_remote(address: str | Path) -> None:
    """Raise UnsupportedError when `address` is a remote store's: those are only read."""
    if found := _REMOTE.search(str(address)):
        scheme = found[0].strip("/").rstrip(":/")
        raise UnsupportedError(
            f"a study is written to a file system, not to {scheme}://: name a folder as `store` "
            "and copy it there, as docs/store-format.md describes"
        )
