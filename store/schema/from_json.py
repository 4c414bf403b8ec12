"""Dataclasses out of JSON that anybody may have written: every value is of its field's type."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

_MOST = 2**63  # of a whole number: one of 4,000 digits is no size and no count
_MOST_FLOAT = 1e11  # nor is there such a time (the year 5138), which `strftime` could not write

_Made = TypeVar("_Made")


def loads(data: bytes) -> Any:
    """Return what JSON says. Raise ValueError for text that is none, or is nested too deep."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("is nested too deep") from None


def from_json(kind: type[_Made], value: object, name: str = "it") -> _Made:
    """Return `value` as a dataclass or another type, fields that it does not know left out.

    Raise ValueError, which names the field, for a value of another type, a number that is not
    finite or larger than anything of ours, or a field that is missing.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is types.UnionType:  # `X | None`, the only kind there is
        return from_json(inner[0], value, name) if value is not None else value  # type: ignore[return-value]
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{name} is no list")
        return tuple(from_json(inner[0], part, name) for part in value)  # type: ignore[return-value]
    if is_dataclass(kind):
        return cast("_Made", _dataclass(kind, value, name))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(from_json(int, value, name))
    wanted = (int, float) if kind is float else kind
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{name} is no {kind.__name__}")
    if isinstance(value, float) and not (math.isfinite(value) and abs(value) < _MOST_FLOAT):
        raise ValueError(f"{name} is no number of its kind")
    if isinstance(value, int) and abs(value) >= (_MOST_FLOAT if kind is float else _MOST):
        raise ValueError(f"{name} is no number of its kind")
    return value  # type: ignore[return-value]


def _dataclass(kind: Any, value: object, name: str) -> object:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is no object")  # noqa: TRY004  as for everything that JSON may say
    hints, found = _hints(kind), {}
    for field in fields(kind):
        if field.name in value:
            found[field.name] = from_json(hints[field.name], value[field.name], field.name)
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{field.name} is missing")
    return kind(**found)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)
