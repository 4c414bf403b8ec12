"""Checking what an engine may be changing: what fails once may only have been dropped meanwhile."""

from __future__ import annotations

from collections.abc import Callable

from store.errors import DamagedError, StoreError
from store.study import Study


def twice(
    study: Study, check: Callable[[], None], still: Callable[[], bool] = lambda: True
) -> str | None:
    """Return what is wrong, or None.

    Asked twice: the first time an engine may have been writing, or have dropped it. Nothing is
    wrong with what is not `still` committed.
    """
    message = None
    for _ in range(2):
        try:
            if not still():
                return None
            check()
        except DamagedError as error:
            message = str(error)
            study.refresh()
        except StoreError:  # forgotten in between
            return None
        else:
            return None
    return message
