"""Checkpoints that will not come any more: later ones of their seed are there, and have been."""

from __future__ import annotations

from collections.abc import Callable, Collection

from store.schema import Key

STUCK_SECONDS = 600.0  # what is not finished, or passed over, for so long is reported


class Overtaken:
    """Remembers how far each seed has come, as steps are saved in order."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._latest: dict[str, int] = {}  # step that a seed has had
        self._passed: dict[Key, float] = {}  # since when a later step of its seed is there

    def find(self, there: Collection[Key], missing: Collection[Key]) -> frozenset[Key]:
        """Return those of `missing` that have been passed over for ten minutes."""
        now = self._clock()
        for seed, step in there:
            self._latest[seed] = max(step, self._latest.get(seed, step))
        passed = [key for key in missing if key[1] < self._latest.get(key[0], 0)]
        self._passed = {key: self._passed.get(key, now) for key in passed}
        return frozenset(k for k, since in self._passed.items() if now - since >= STUCK_SECONDS)
