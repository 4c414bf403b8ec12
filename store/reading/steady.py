"""Reading summaries of one moment, while an engine may be making them anew."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from store.errors import DamagedError

if TYPE_CHECKING:
    from store.study import Study

_Read = TypeVar("_Read")


def steady(study: Study, model: str, steps: Collection[int], read: Callable[[], _Read]) -> _Read:
    """What `read` gives of one moment.

    While it reads, or since the study was last looked at, an engine may have summarised these steps
    anew in the same place: with more seeds, or by a category that has moved on. It is read again
    then. Raises DamagedError for what cannot be read though nothing changed.
    """
    while True:
        before = _state(study, model, steps)
        try:
            found = read()
        except DamagedError:
            if not study.refresh() or _state(study, model, steps) == before:
                raise
            continue
        study.refresh()
        if _state(study, model, steps) == before:
            return found


def steady_all(
    study: Study, steps: Mapping[str, Collection[int]], read: Callable[[], _Read]
) -> _Read:
    """The same of these steps of several models."""
    for model, of in steps.items():
        read = partial(steady, study, model, of, read)
    return read()


def _state(study: Study, model: str, steps: Collection[int]) -> list[Any]:
    known = study.ledger(model)
    partitions = [(name, study.partition(model, name)) for name in study.categories(model)]
    return [partitions, *(known.summaries.get(step) for step in steps)]
