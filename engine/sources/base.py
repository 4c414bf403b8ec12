"""The protocol of every source of checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from store.schema import Key


@dataclass(frozen=True)
class Listing:
    """A source's checkpoints of a model. Every line of text names a place."""

    wanted: frozenset[Key]  # what the study file asks for; if discovered, what is there
    there: frozenset[Key]
    missing: Mapping[Key, str]  # wanted and not there, with the reason
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()  # what could not be asked
    announced: frozenset[Key] = frozenset()  # by training scripts
    passed: frozenset[Key] = frozenset()  # missing, and training has long passed them
    # Wanted, and given up by who makes them, with the reason.
    lost: Mapping[Key, str] = field(default_factory=dict)
    # There, and not to be read: two that differ stand for the same checkpoint.
    ambiguous: Mapping[Key, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """A checkpoint as plain data: a source of its model, in any process, opens it again."""

    key: Key
    place: object = None  # where it was found, if the template does not say it


class Checkpoint(Protocol):
    """One checkpoint of a model, wherever it is. Used from several threads."""

    @property
    def key(self) -> Key:
        """Return its seed and step."""

    def where(self) -> str:
        """Return its place, for people; it need not exist."""

    def reference(self) -> Reference:
        """Return what a source in another process needs to open it as it was found here."""

    def fetch(self) -> Path:
        """Return a local folder that holds the whole checkpoint; download it if need be.

        Raise CheckpointError, in one line, and Interrupted.
        """

    def config(self) -> Path | None:
        """Return a config.json that has the checkpoint's architecture; None: there is none."""

    def signature(self) -> object:
        """Return plain data that stay equal, in later processes too, while it is the same."""

    def finished(self) -> bool:
        """Return whether the checkpoint is all there, or still being written."""

    def refused(self, *, waiting: bool) -> str | None:
        """Return why it is there and can never be read, in one line; None: it may.

        `waiting`, only once it does not change any more.
        """

    def gone(self) -> bool:
        """Return whether it was there before and was deleted since, all or some of it."""

    def failed(self) -> None:
        """Take note that it failed: whether it is finished is looked at again."""

    def details(self) -> dict[str, str]:
        """Return what is worth recording of where it came from."""

    def release(self) -> None:
        """Take note that it was scored, or cannot be: what was fetched for it may go."""


class Source(Protocol):
    """The checkpoints of one model, by (seed, step). Used from several threads."""

    def find(self) -> Listing:
        """Look what is there now."""

    def hint(self) -> str | None:
        """Return what there is in place of what the template says, and what to do about it.

        None: not known.
        """

    def checkpoint(self, key: Key) -> Checkpoint:
        """Return the checkpoint of this seed and step, always the same one; it need not exist."""

    def reopen(self, reference: Reference) -> Checkpoint:
        """Return the checkpoint that this source, or one in another process, has referred to."""
