"""Errors of the Hub, for code that has to know them without asking the Hub itself."""

from __future__ import annotations

from engine.errors import CheckpointError


class HubError(CheckpointError):
    """The Hub does not give something; the reason in one line.

    `absent`: it is not there, and asking again is of no use. `passing`: it may be there later.
    """

    def __init__(self, text: str, *, absent: bool = False, passing: bool = False) -> None:
        super().__init__(text, passing=passing)
        self.absent = absent
