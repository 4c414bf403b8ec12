"""What goes wrong on the hub, for those who have to know without asking it themselves."""

from __future__ import annotations

from engine.errors import CheckpointError


class HubError(CheckpointError):
    """What the hub does not give, in one line.

    `absent`: it is not there, and asking again is of no use. `passing`: it may be there later.
    """

    def __init__(self, text: str, *, absent: bool = False, passing: bool = False) -> None:
        super().__init__(text, passing=passing)
        self.absent = absent
