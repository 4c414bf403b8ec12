"""The base class of all sections of the study file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic_core import ErrorDetails


class Section(BaseModel):
    """A table of the study file: it has its own fields only, of the right types, and stays."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def in_our_words(finding: ErrorDetails) -> str:
    """Return what pydantic says of one field, as we say it: `should be ...`."""
    message = finding["msg"].removeprefix("Value error, ")
    for kind in ("Input", "List", "String"):
        message = message.replace(f"{kind} should", "should", 1)
    return message
