"""A source of checkpoints, in which one that cannot be looked at fails alone.

What lies in a folder, or on the Hub, was written by anybody. Whatever is raised while a checkpoint
is looked at becomes the reason why that checkpoint is refused; the others are not concerned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from engine.errors import NOT_OF_CHECKPOINTS, CheckpointError, first_line, may_pass
from engine.sources.base import Checkpoint, Listing, Reference, Source
from store.schema import Key

T = TypeVar("T")

_LONGEST = 200  # bytes of a seed's name, as part of a URL
_LAST_STEP = 2**53  # a float still has every digit of it


class GuardedSource:
    """A source that raises nothing for what it finds."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._last = Listing(frozenset(), frozenset(), {})

    def find(self) -> Listing:
        """Look what is there now; where that fails, repeat the last answer, with the error."""

        def look() -> Listing:
            self._last = _named(self._source.find())
            return self._last

        def failed(error: BaseException) -> Listing:
            text = f"cannot be looked at: {first_line(error)}"
            return replace(self._last, warnings=(), errors=(text,), passed=frozenset())

        return _tried(look, failed)

    def hint(self) -> str | None:
        """Return what there is in place of what the template says; None: not known."""
        return _tried(self._source.hint, lambda _: None)

    def checkpoint(self, key: Key) -> GuardedCheckpoint:
        """Return the checkpoint of this seed and step."""
        return GuardedCheckpoint(self._source.checkpoint(key))

    def reopen(self, reference: Reference) -> GuardedCheckpoint:
        """Return the checkpoint that was referred to."""
        return GuardedCheckpoint(self._source.reopen(reference))


class GuardedCheckpoint:
    """A checkpoint that only `fetch` raises errors of, each a CheckpointError."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint

    @property
    def key(self) -> Key:
        """Return its seed and step."""
        return self._checkpoint.key

    def where(self) -> str:
        """Return its place; its seed and step where that cannot be known."""
        seed, step = self.key
        return _tried(self._checkpoint.where, lambda _: f"seed {seed}, step {step}")

    def reference(self) -> Reference:
        """Return what opens it again; without its place where that cannot be known."""
        return _tried(self._checkpoint.reference, lambda _: Reference(self.key))

    def fetch(self) -> Path:
        """Return a local folder that holds it. Raise CheckpointError and Interrupted."""

        def failed(error: BaseException) -> Path:
            if isinstance(error, CheckpointError):
                raise error
            text = f"{self.where()}: cannot be fetched: {first_line(error)}"
            raise CheckpointError(text, passing=may_pass(error)) from error

        return _tried(self._checkpoint.fetch, failed)

    def config(self) -> Path | None:
        """Return a config.json that has its architecture; None: there is none."""
        return _tried(self._checkpoint.config, lambda _: None)

    def signature(self) -> object:
        """Return plain data that stay equal while it is the same."""
        return _tried(self._checkpoint.signature, lambda _: None)

    def finished(self) -> bool:
        """Return whether it is all there; False where that cannot be known."""
        return _tried(self._checkpoint.finished, lambda _: False)

    def refused(self, *, waiting: bool) -> str | None:
        """Return why it can never be read, also where looking at it fails."""
        return _tried(
            lambda: self._checkpoint.refused(waiting=waiting),
            lambda error: f"{self.where()}: cannot be looked at: {first_line(error)}",
        )

    def gone(self) -> bool:
        """Return whether it was deleted; False where that cannot be known."""
        return _tried(self._checkpoint.gone, lambda _: False)

    def failed(self) -> None:
        """Take note that it failed."""
        _tried(self._checkpoint.failed, lambda _: None)

    def details(self) -> dict[str, str]:
        """Return what is worth recording of where it came from."""
        return _tried(self._checkpoint.details, lambda _: {})

    def release(self) -> None:
        """Take note that it is not needed any more."""
        _tried(self._checkpoint.release, lambda _: None)


def _named(found: Listing) -> Listing:
    """Leave out, with a warning, what has a seed or a step that no study can have.

    Such are names that are not Unicode text, or would break a line of a message.
    """
    keys = found.wanted | found.there | found.missing.keys() | found.lost.keys()
    odd = frozenset(key for key in keys if not _can_be_named(key))
    if not odd:
        return found
    left_out = tuple(
        f"seed {ascii(seed)[:60]}, step {str(step)[:30]}: is left out: no study can have such a "
        "seed or step. Rename its folder or revision"
        for seed, step in sorted(odd)
    )
    return replace(
        found,
        wanted=found.wanted - odd,
        there=found.there - odd,
        missing={key: why for key, why in found.missing.items() if key not in odd},
        lost={key: why for key, why in found.lost.items() if key not in odd},
        warnings=(*found.warnings, *left_out),
    )


def _can_be_named(key: Key) -> bool:
    seed, step = key
    return seed.isprintable() and len(quote(seed)) <= _LONGEST and 0 <= step <= _LAST_STEP


def _tried(look: Callable[[], T], failed: Callable[[BaseException], T]) -> T:
    """Return what looking gives, or what `failed` makes of the error that it ends in."""
    try:
        return look()
    except NOT_OF_CHECKPOINTS:
        raise
    except BaseException as error:
        return failed(error)
