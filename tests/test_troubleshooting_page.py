"""`docs/troubleshooting.md`: the messages that it explains are those that the code has."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.messages import unknown_parts

PAGE = Path(__file__).parents[1] / "docs/troubleshooting.md"


def quoted() -> list[str]:
    """Messages in the first column of the tables of messages."""
    found, here = [], False
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = re.split(r"(?<!\\) \| ", line.strip("| "))
        if line.startswith("| message"):
            here = True
        elif not line.startswith("|"):
            here = False
        elif here:
            found += re.findall(r"`([^`]+)`", cells[0])
    return found


def test_the_messages_are_those_of_the_code() -> None:
    messages = quoted()
    assert len(messages) > 40
    assert not {message: unknown for message in messages if (unknown := [*unknown_parts(message)])}


def test_a_message_of_before_is_found() -> None:
    assert [*unknown_parts("model ...: was rescored by the engine at ...")] == [
        "was rescored by the engine at"
    ]
