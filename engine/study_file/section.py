"""What all sections of the study file have in common, and what is said of a wrong one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

_BRANCHES = ("list[", "literal[", "function-")  # pydantic's names for the branches of a type


class Section(BaseModel):
    """A table of the study file: it has its own fields only, of the right types, and stays."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def in_our_words(finding: ErrorDetails) -> str:
    """Return what pydantic says of one field, as we say it: `should be ...`."""
    message = finding["msg"].removeprefix("Value error, ")
    for kind in ("Input", "List"):
        message = message.replace(f"{kind} should", "should", 1)
    return message


def findings(error: ValidationError, whole: type[Section]) -> list[str]:
    """Return one line per finding in a study file: field, what is wrong, what was found.

    `whole` is the section at the top, in which the fields lie.
    """
    lines: dict[str, None] = {}
    details = error.errors(include_url=False)
    places = [
        [str(part) for part in finding["loc"] if not str(part).startswith(_BRANCHES)]
        for finding in details
    ]
    for finding, parts in zip(details, places, strict=True):
        if finding["type"] == "literal_error" and sum(p[: len(parts)] == parts for p in places) > 1:
            continue  # the other branch of the type says more
        lines[f"{'.'.join(parts)}: {_line(finding, parts, whole)}"] = None
    return list(lines)


def _line(finding: ErrorDetails, parts: Sequence[str], whole: type[Section]) -> str:
    message = in_our_words(finding)
    if finding["type"] == "list_type" and parts[-1] in {"seeds", "steps"}:
        message = 'should be a list or "discover"'
    match finding["type"]:
        case "missing":
            return "is required and was not found"
        case "extra_forbidden":
            return f"no such field; allowed: {', '.join(_allowed(parts[:-1], whole))}"
        case "model_type":
            return f"should be a table, found {finding['input']!r}"
        case _ if isinstance(finding["input"], dict):
            return message
        case _:
            return f"{message}, found {str(finding['input'])[:80]!r}"


def _allowed(parts: Sequence[str], whole: type[Section]) -> list[str]:
    """Return the fields of the table that is at this place of a study file."""
    section: Any = whole
    for part in parts:
        if not part.isdigit():  # of a list, one table is as good as another
            kind = section.model_fields[part].annotation
            section = next(iter(get_args(kind)), kind)
    return [name for name in section.model_fields if name != "folder"]
