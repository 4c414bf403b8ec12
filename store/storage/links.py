"""Nothing inside a study leads out of it: symbolic links are neither followed nor deleted through.

The study's folder itself may be reached by a link; what lies in it may not be one. Nor is a pipe or
a device in it ever read, which might never end.
"""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import BinaryIO

from store.errors import DamagedError

MOST_METADATA = 2**26  # bytes of a `zarr.json`, which names every document of a corpus


def refuse_link(root: Path, path: Path | str) -> None:
    """Raise DamagedError when `path`, which lies below `root`, is reached through a link."""
    whole = str(path)  # not a path, which is slow: every reading asks
    end = len(str(root))
    while end < len(whole):
        end = whole.find(os.sep, end + 1)
        end = len(whole) if end < 0 else end
        try:
            linked = stat.S_ISLNK(os.lstat(whole[:end]).st_mode)
        except (OSError, ValueError):  # it is not there, or no file can have this name
            return
        if linked:
            raise DamagedError(
                f"{whole[:end]}: is a symbolic link, and a study holds none; put back what belongs "
                "there"
            )


def open_plain(path: Path | str) -> BinaryIO:
    """Open a file for reading. Raise DamagedError where something else has its name, or OSError."""
    return os.fdopen(open_descriptor(path)[0], "rb")


def open_descriptor(path: Path | str) -> tuple[int, os.stat_result]:
    """Return a file's descriptor, to be closed, and what the system says of it.

    Raise as `open_plain`.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        if Path(path).exists() and not Path(path).is_file():  # a socket, or without a driver
            raise _not_plain(path) from error
        raise
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        os.close(descriptor)
        raise _not_plain(path)
    return descriptor, found


def refuse_other_than_file(path: Path, most_bytes: int) -> None:
    """Raise DamagedError when what lies at `path`, if anything does, is no file or is longer."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode):
        raise _not_plain(path)
    refuse_longer(path, found.st_size, most_bytes)


def refuse_longer(path: object, size: int, most_bytes: int) -> None:
    """Raise DamagedError when a file is longer than one of its kind can be."""
    if size > most_bytes:
        raise DamagedError(
            f"{path}: has {size:,} bytes, and no file of its kind has more than {most_bytes:,}; "
            "restore it from a copy"
        )


def _not_plain(path: Path | str) -> DamagedError:
    return DamagedError(f"{path}: is no file; put back the file that belongs there")


def remove_tree(root: Path, folder: Path) -> None:
    """Remove a folder below `root`, if it is there. A link in its place goes, its target stays.

    Raise DamagedError when a folder above it is a link.
    """
    refuse_link(root, folder.parent)
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
