"""Errors of the engine. Each message is one line that names what is wrong and what to do."""

import errno
from pathlib import Path


class ConfigError(Exception):
    """The study file, or what it points to, cannot be used. One line per finding."""


class CheckpointError(Exception):
    """One checkpoint cannot be scored; the others can.

    `passing`: there is hope that it can be later, though nothing changes where it lies.
    """

    def __init__(self, text: str, *, passing: bool = False) -> None:
        super().__init__(text)
        self.passing = passing


_LASTING = {
    errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG,
    errno.EINVAL,
}  # fmt: skip


def may_pass(error: BaseException) -> bool:
    """Whether what cannot be read may be readable later, though nothing changes there."""
    return isinstance(error, OSError) and error.errno is not None and error.errno not in _LASTING


class Interrupted(Exception):  # noqa: N818  (not an error: the user asked)
    """The user asked the engine to stop."""


class EngineError(Exception):
    """The engine cannot go on, though nothing is wrong with the study."""


def store_trouble(error: OSError, store: Path) -> str:
    """Say why a study cannot be written or read any more, and what to do."""
    where = error.filename or store
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        trouble, remedy = "no space left on the device", "free some"
    else:
        trouble, remedy = error.strerror or str(error), "see that it is there and can be written"
    return f"{where}: {trouble}; {remedy} and run the same command again: what is committed stays"
