"""Errors of the store. Each message is one line that names the file and says what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class StoreError(Exception):
    """The store cannot be used as asked."""


class NotAStudyError(StoreError):
    """The path holds no study, or one of another format version."""


class StudyMismatchError(StoreError):
    """The store belongs to another corpus, tokenizer or scoring configuration."""


class ReplacedError(StoreError):
    """Another study, or an older copy, lies where the one was that is being read."""


class UnsupportedError(StoreError):
    """A request that cannot be met: by this installation, or for such an address or category."""


class RemoteError(StoreError):
    """A remote store did not answer, or refused to."""


class BusyError(StoreError):
    """Another engine coordinates this study."""


class DamagedError(StoreError):
    """Something that was committed is missing, altered or unreadable."""


@contextmanager
def from_extra(what: str, extra: str) -> Iterator[None]:
    """Raise `UnsupportedError` where a package that an extra brings is not installed."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UnsupportedError(
            f"{what} needs {error.name}, which is not installed: "
            f"pip install 'seedconv-tui[{extra}]'"
        ) from error


_NO_ROOM = {errno.ENOSPC, errno.EDQUOT}
_NO_FILES = {errno.EMFILE, errno.ENFILE}


def lacks_room(error: BaseException) -> bool:
    """Return whether a disk or a quota is full."""
    return isinstance(error, OSError) and error.errno in _NO_ROOM


def lacks_files(error: BaseException) -> bool:
    """Return whether no more files can be open at the same time: nothing is wrong with any."""
    return isinstance(error, OSError) and error.errno in _NO_FILES
