"""Learning-rate schedules: the CSV that gives them, and the record that keeps them."""

from __future__ import annotations

import csv
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_COLUMNS = ("step", "learning_rate")
_MOST = 20_000  # lines: every reader of the study loads them
_EVERY = ""  # stands for all models that are not named


@dataclass(frozen=True)
class Schedule:
    """The learning rate over training, at some steps; nothing is said of those between."""

    steps: tuple[int, ...]  # ascending
    rates: tuple[float, ...]  # of each


Schedules = Mapping[str, Schedule]  # by model


def of_model(schedules: Schedules, model: str) -> Schedule | None:
    """Return the model's schedule, or the one of all models that have none of their own."""
    return schedules.get(model) or schedules.get(_EVERY)


def read_schedules(file: Path, models: Collection[str]) -> dict[str, Schedule]:
    """Read a CSV with the columns step, learning_rate and perhaps model; others are passed over.

    Lines may stand in any order. Those without a model are of all of `models` that no line names.
    Raise ValueError, in one line that names the file and the line at fault.
    """
    found: dict[str, dict[int, float]] = {}
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            if not set(_COLUMNS) <= set(reader.fieldnames or ()):
                raise ValueError(
                    f"{file}: line 1: should name the columns step,learning_rate[,model]"
                )
            for n, row in enumerate(reader, 1):
                where = f"{file}: line {reader.line_num}"
                if n > _MOST:
                    raise ValueError(f"{where}: are more than {_MOST:,} steps; leave some out")
                step, rate = (_number(where, name, row[name]) for name in _COLUMNS)
                if step != int(step):
                    raise ValueError(f"{where}: step should be a whole number, found {step}")
                model = (row.get("model") or _EVERY).strip()
                if model != _EVERY and model not in models:
                    there = ", ".join(models)
                    raise ValueError(f"{where}: there is no model {model!r}; there are: {there}")
                of = found.setdefault(model, {})
                if step in of:
                    raise ValueError(f"{where}: step {int(step)} is there twice")
                of[int(step)] = rate
    except UnicodeDecodeError:
        raise ValueError(f"{file}: is not UTF-8 text") from None
    except csv.Error as error:
        raise ValueError(f"{file}: line {reader.line_num + 1}: is not CSV: {error}") from None
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from None
    if not found:
        raise ValueError(f"{file}: has no lines below its header")
    return {
        model: Schedule(tuple(sorted(of)), tuple(of[step] for step in sorted(of)))
        for model, of in found.items()
    }


def _number(where: str, name: str, text: str | None) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{where}: {name} should be a number from 0, found {(text or '')[:40]!r}")
    return number


def schedules_record(schedules: Schedules) -> dict[str, Any]:
    """Return the record that replaces all schedules by these."""
    return {
        "kind": "learning_rate",
        "models": {
            model: {"steps": list(of.steps), "rates": list(of.rates)}
            for model, of in schedules.items()
        },
    }


def schedules_of(models: Mapping[str, Any]) -> dict[str, Schedule]:
    """Return the schedules of such a record."""
    return {
        str(model): Schedule(tuple(map(int, of["steps"])), tuple(map(float, of["rates"])))
        for model, of in models.items()
    }
