"""Files that training may write again: which version was looked at, and that it is the one read."""

from __future__ import annotations

import functools
import io
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

from engine.errors import CheckpointError, reading

Version = tuple[int, int, int]  # of a file: another one where it was written since
_Found = TypeVar("_Found")


def version_of(file: Path) -> Version:
    """Return size, time and number of a file. Raise OSError, and CheckpointError: it is none."""
    found = file.stat()
    if not stat.S_ISREG(found.st_mode):  # to open a pipe would wait for its other end
        raise CheckpointError(f"{file}: is no plain file")
    return found.st_size, found.st_mtime_ns, found.st_ino


def once_a_version(
    most: int, *, missing: str = "is missing"
) -> Callable[[Callable[[Path, Version], _Found]], Callable[[Path], tuple[_Found, Version]]]:
    """Remember what was found in each of the last `most` files, until it is written again.

    The function that is decorated raises CheckpointError where a file is not as it should be, which
    is remembered too, and OSError, which is not. What becomes of it also returns the version, and
    raises nothing but CheckpointError; `missing` says what it means that there is no file.
    """

    def decorate(
        look: Callable[[Path, Version], _Found],
    ) -> Callable[[Path], tuple[_Found, Version]]:
        @functools.lru_cache(maxsize=most)
        def remembered(file: Path, version: Version) -> _Found | CheckpointError:
            try:
                return look(file, version)
            except CheckpointError as error:
                return error

        @functools.wraps(look)
        def looked(file: Path) -> tuple[_Found, Version]:
            with reading(file, missing=missing):
                version = version_of(file)
                found = remembered(file, version)
            if isinstance(found, CheckpointError):
                raise CheckpointError(str(found), passing=found.passing)
            return found, version

        return looked

    return decorate


def open_at(file: Path, version: Version) -> io.BufferedReader:
    """Open a file that was looked at. Raise CheckpointError where it is another one now."""
    stream = file.open("rb")
    try:
        check_unchanged(file, stream, version)
    except BaseException:
        stream.close()
        raise
    return stream


def check_unchanged(file: Path, stream: BinaryIO, version: Version) -> None:
    """Raise CheckpointError where a file was written since it was looked at."""
    found = os.fstat(stream.fileno())
    if (found.st_size, found.st_mtime_ns, found.st_ino) != version:
        raise CheckpointError(f"{file}: was written while it was being read", passing=True)
