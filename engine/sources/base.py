"""Where checkpoints come from: what every source can do, whatever it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from store.schema.keys import Key


@dataclass(frozen=True)
class Listing:
    """What a source has of a model. Every line says where."""

    wanted: frozenset[Key]  # what the study file asks for; if discovered, what is there
    there: frozenset[Key]
    missing: Mapping[Key, str]  # wanted and not there, with the reason
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()  # what could not be asked
    announced: frozenset[Key] = frozenset()  # by training scripts
    passed: frozenset[Key] = frozenset()  # missing, and training has long passed them


class Source(Protocol):
    """The checkpoints of one model, by (seed, step). Used from several threads."""

    def find(self) -> Listing:
        """Look what is there now."""

    def where(self, key: Key) -> str:
        """The place of a checkpoint, for people; it need not exist."""

    def place(self, key: Key) -> object:
        """What was found out of a checkpoint's place: plain data, for a source elsewhere."""

    def adopt(self, key: Key, place: object) -> None:
        """Know of a checkpoint what the source of another process found out."""

    def fetch(self, key: Key) -> Path:
        """A local folder that holds the whole checkpoint. May take long.

        Raises CheckpointError, in one line, and Interrupted.
        """

    def config(self, key: Key) -> Path | None:
        """A config.json that tells the checkpoint's architecture; None when it cannot be had."""

    def signature(self, key: Key) -> object:
        """Plain data that stay equal, also in a later process, while the checkpoint is the same."""

    def failed(self, key: Key) -> None:
        """A checkpoint failed: whether it is finished is looked at again."""

    def finished(self, key: Key) -> bool:
        """Whether the checkpoint is all there, or still being written."""

    def refused(self, key: Key, *, waiting: bool) -> str | None:
        """Why a checkpoint that is there can never be read as it is, in one line; None: it may.

        `waiting`, only once it does not change any more.
        """

    def gone(self, key: Key) -> bool:
        """Whether a checkpoint that was there before has been deleted since, all or some of it."""

    def hint(self) -> str | None:
        """What there is in place of what the template says, and what to do; None: not known."""

    def details(self, key: Key) -> dict[str, str]:
        """What is worth recording of where the checkpoint came from."""

    def release(self, key: Key) -> None:
        """The checkpoint was scored, or cannot be: what was fetched for it may go."""
