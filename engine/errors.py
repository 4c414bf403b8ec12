"""Errors of the engine. Each message is one line that names what is wrong and what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from store import StoreError, lacks_files, lacks_room


class ConfigError(Exception):
    """The study file, or what it points to, cannot be used. One line per finding."""


class NotThereError(ConfigError):
    """Something that the study file names is missing or incomplete so far; `watch` waits for it."""


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
    """Return whether what cannot be read may be readable later, though nothing changes there.

    Libraries hide that no more files can be open behind errors of their own.
    """
    behind: BaseException | None = error
    while behind is not None:
        if lacks_files(behind):
            return True
        behind = behind.__cause__ or behind.__context__
    return isinstance(error, OSError) and error.errno is not None and error.errno not in _LASTING


@contextmanager
def reading(file: Path, *, missing: str = "is missing") -> Iterator[None]:
    """Raise CheckpointError, in one line, for a file that is not there or cannot be read."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(f"{file}: {missing}") from None
    except OSError as error:
        text = f"{file}: cannot be read: {error.strerror}"
        raise CheckpointError(text, passing=may_pass(error)) from None


_MOST_CHARACTERS = 300  # of a message that a library made


_BARE = {  # messages without their cause
    "can't start new thread": "memory or the number of processes is limited (`ulimit -a`)",
}


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line; with its type where the message is a mere value."""
    lines = str(error).strip().splitlines()
    text = " ".join(lines[0].split()) if lines else ""
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[:_MOST_CHARACTERS]} ..."
    if text in _BARE:
        return f"{text}: {_BARE[text]}"
    kind = type(error)
    says_enough = issubclass(kind, OSError | RuntimeError | ValueError)
    if text and (says_enough or kind.__module__ != "builtins"):
        return text
    return f"{kind.__name__}: {text}" if text else kind.__name__


NOT_BEGUN = "stopped before work began; run the same command again to continue"


class Interrupted(Exception):  # noqa: N818  (not an error: the user asked)
    """The user asked the engine to stop."""


class EngineError(Exception):
    """The engine cannot go on, though nothing is wrong with the study."""


NOT_OF_CHECKPOINTS = (
    KeyboardInterrupt, GeneratorExit, MemoryError, Interrupted, EngineError, StoreError,
)  # fmt: skip
"""What no checkpoint is to blame for, whatever of it was worked on when it was raised."""


def blocks_writing(error: BaseException) -> bool:
    """Return whether an error of the store is one that passes once somebody makes room."""
    return lacks_room(error) or lacks_files(error)


def what_is_wrong(error: OSError, store: Path) -> tuple[str, str]:
    """Return why a study cannot be written or read any more, and what to do about that."""
    if lacks_room(error):
        return f"{error.filename or store}: no space left on the device", "free some"
    if lacks_files(error):
        remedy = "raise the limit with `ulimit -n`, or end the programs that hold them open"
        return f"{error.filename or store}: too many files are open", remedy
    remedy = "see that it is there and can be written"
    return f"{error.filename or store}: {error.strerror or error}", remedy


def store_trouble(error: OSError, store: Path) -> str:
    """Say in one line why a study cannot be written or read any more, and what to do."""
    trouble, remedy = what_is_wrong(error, store)
    return f"{trouble}; {remedy} and run the same command again: what is committed stays"
