"""Describe errors in a study file: one line each, naming the place in plain terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from engine.study_file.section import Section, in_our_words

_BRANCHES = ("list[", "literal[", "function-")  # pydantic's names for the branches of a type
_TABLES = {"models": "model", "probes": "probe", "custom": "custom category"}  # one of each list
_ORDINALS = (
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth",
)  # fmt: skip

_Place = tuple[int | str, ...]  # keys of tables, and indices of lists


def findings(error: ValidationError, whole: type[Section], fields: Any) -> list[str]:
    """Return one line per finding in a study file: place, what is wrong, what was found.

    `whole` is the section at the top, in which the `fields` lie.
    """
    lines: dict[str, None] = {}
    details = error.errors(include_url=False)
    places = [
        tuple(part for part in finding["loc"] if not str(part).startswith(_BRANCHES))
        for finding in details
    ]
    for finding, place in zip(details, places, strict=True):
        if finding["type"] == "literal_error" and sum(p[: len(place)] == place for p in places) > 1:
            continue  # the other branch of the type says more
        line = _line(finding, place, whole)
        named = _named(place, fields)
        lines[f"{named}: {line}" if named else line] = None
    return list(lines)


def _line(finding: ErrorDetails, place: _Place, whole: type[Section]) -> str:
    message = in_our_words(finding)
    if finding["type"] == "list_type" and place[-1] in {"seeds", "steps"}:
        message = 'should be a list or "discover"'
    if finding["type"] == "list_type" and place[-1] in _TABLES:
        message = f"should have two brackets: [[{'.'.join(map(str, place))}]]"
    found = finding["input"]
    match finding["type"]:
        case "missing":
            return "is required and was not found"
        case "extra_forbidden":
            return f"no such field; allowed: {', '.join(_allowed(place[:-1], whole))}"
        case "model_type":
            return f"should be a table, found {found!r}"
        case _ if isinstance(found, dict) or (isinstance(found, list) and _tables(found)):
            return message
        case _:
            return f"{message}, found {str(found)[:80]!r}"


def _tables(values: Sequence[object]) -> bool:
    return any(isinstance(value, dict) for value in values)


def _allowed(place: _Place, whole: type[Section]) -> list[str]:
    """Return the fields of the table that is at this place of a study file."""
    section: Any = whole
    for part in place:
        if isinstance(part, str):  # of a list, one table is as good as another
            kind = section.model_fields[part].annotation
            section = next(iter(get_args(kind)), kind)
    return [name for name in section.model_fields if name != "folder"]


def _named(place: _Place, fields: Any) -> str:
    """Return a place in words, such as `model "m": steps: second entry`; "" for the whole file."""
    words: list[str] = []
    path = ""  # fields, since the last words
    value = fields
    for before, part in zip((None, *place), place, strict=False):
        if isinstance(part, str):
            path += f".{part}" if path else part
            value = value.get(part) if isinstance(value, dict) else None
            continue
        item = value[part] if isinstance(value, list) and part < len(value) else None
        if before in _TABLES:
            words, path = [_table(_TABLES[before], part, item, value)], ""
        else:
            words, path = [*words, path, _ordinal("entry", part)], ""
        value = item
    return ": ".join([*words, path] if path else words)


def _table(kind: str, index: int, item: Any, items: Any) -> str:
    """Name one table of a list: by its name, if it has one of its own, else by its position."""
    names = [table.get("name") if isinstance(table, dict) else None for table in items or ()]
    name = item.get("name") if isinstance(item, dict) else None
    if isinstance(name, str) and name and names.count(name) == 1:
        return f'{kind} "{name}"'
    return _ordinal(kind, index)


def _ordinal(what: str, index: int) -> str:
    return f"{_ORDINALS[index]} {what}" if index < len(_ORDINALS) else f"{what} {index + 1}"
