"""Let ranks agree on a capture: through the process group's store, never by a collective.

Collectives of a rank that comes alone would pair with those of the others' training.
"""

from __future__ import annotations

import contextlib
import sys
import time
from dataclasses import dataclass
from typing import Any

_meetings: dict[str, int] = {}  # how often each name was used in this process


class NotAllCameError(Exception):
    """Some ranks did not come to a stage in time; `first` is the lowest of those who did."""

    def __init__(self, stage: str, first: int, seconds: float) -> None:
        super().__init__(
            f"not every rank called capture within {seconds:.0f} s. Call it on all ranks, with "
            "the same step"
        )
        self.stage, self.first = stage, first


@dataclass(frozen=True)
class Group:
    """The ranks of a training process."""

    rank: int
    world: int
    store: Any


def find_group() -> Group | None:
    """Return the ranks that train together; None for a single process."""
    torch_distributed = sys.modules.get("torch.distributed")
    if torch_distributed is None or not torch_distributed.is_available():
        return None
    if not torch_distributed.is_initialized() or torch_distributed.get_world_size() == 1:
        return None
    store = torch_distributed.distributed_c10d._get_default_store()
    return Group(torch_distributed.get_rank(), torch_distributed.get_world_size(), store)


class Single:
    """The meeting of a process that captures by itself."""

    def gather(self, stage: str, said: str, seconds: float) -> list[str]:
        """Return what was said."""
        del stage, seconds
        return [said]


class Meeting:
    """Of all ranks, about one capture. Each stage has to be passed by all."""

    def __init__(self, group: Group, name: str) -> None:
        self.group = group
        n = _meetings[name] = _meetings.get(name, 0) + 1
        self._key = f"seedconv/{name}/{n}"
        self._stages: list[str] = []

    def gather(self, stage: str, said: str, seconds: float) -> list[str]:
        """Return what every rank says at this stage, by rank.

        Raise NotAllCameError, on all that came or will come, when some did not within `seconds`.
        """
        store, world = self.group.store, self.group.world
        key = f"{self._key}/{stage}"
        self._stages.append(key)
        verdict = f"{key}/verdict"
        store.set(f"{key}/{self.group.rank}", said)
        if store.add(f"{key}/came", 1) == world:
            store.compare_set(verdict, "", "all")
        if not self._wait(verdict, seconds):
            came = [rank for rank in range(world) if store.check([f"{key}/{rank}"])]
            store.compare_set(verdict, "", str(min(came)))
        found = store.get(verdict).decode()
        if found != "all":
            raise NotAllCameError(stage, int(found), seconds)
        words = [store.get(f"{key}/{rank}").decode() for rank in range(world)]
        if len(self._stages) == 1:  # all are here, and so have left the meeting before
            for meeting in _left:
                meeting._forget()
            _left[:] = [self]
        return words

    def _wait(self, key: str, seconds: float) -> bool:
        """Return whether a key is there in time. It asks again and again: `wait` blocks others."""
        stop, pause = time.monotonic() + seconds, 0.0005
        while not self.group.store.check([key]):
            if time.monotonic() > stop:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 0.02)
        return True

    def _forget(self) -> None:
        """Have the store forget what was said, so that it does not grow with every capture."""
        with contextlib.suppress(Exception):
            for key in self._stages:
                self.group.store.delete_key(f"{key}/{self.group.rank}")
                if self.group.rank == 0:
                    for name in ("verdict", "came"):
                        self.group.store.delete_key(f"{key}/{name}")


_left: list[Meeting] = []  # complete on every rank, once it comes to another
