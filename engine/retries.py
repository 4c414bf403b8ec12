"""Which checkpoints that failed are tried again, and when.

What may pass (a file that cannot be read, a hub that does not answer, no memory) is tried again
after 15 s, 30 s, 60 s, ... up to an hour, and parked after the twelfth time, some four hours later.
What will not pass by itself (NaN in the weights, another vocabulary) is parked at once. A parked
checkpoint is left alone until it, or what the study file says of it, changes, or the user asks for
it; also by later engines: the store keeps what is decided here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from store import StudyWriter
from store.ledger import Checkpoint
from store.snapshot import Failure

FIRST_SECONDS = 15.0
LONGEST_SECONDS = 3600.0
MOST_ATTEMPTS = 12


def next_try(attempts: int, now: float, *, passing: bool) -> float | None:
    """When what failed for the n-th time is tried again, in Unix time; None: it is parked."""
    if not passing or attempts >= MOST_ATTEMPTS:
        return None
    return now + min(FIRST_SECONDS * 2.0 ** (attempts - 1), LONGEST_SECONDS)


class Retries:
    """What failed and did not succeed since.

    Of checkpoints that follows from the store, whoever wrote it. Of steps whose stored log-probs
    cannot be reduced it is known for as long as this engine works.
    """

    def __init__(
        self,
        writer: StudyWriter,
        settings: Mapping[str, object],
        clock: Callable[[], float],
        *,
        forgive: bool = False,
    ) -> None:
        """`settings` of each model, as plain data: a failure says nothing of what others do.

        With `forgive`, all that failed before is tried now, as if for the first time.
        """
        self._writer, self._settings, self._clock = writer, settings, clock
        self._there: dict[str, Collection[Checkpoint]] = {}  # by model, when it was last looked at
        self._forgiven = {
            (name, key)
            for name, known in writer.ledger.models.items()
            for key in known.failures
            if forgive
        }
        self._steps: dict[tuple[str, int], Failure] = {}

    def held(
        self, model: str, there: Collection[Checkpoint], signature: Callable[[Checkpoint], object]
    ) -> set[Checkpoint]:
        """Those of a model's checkpoints that are there and are not to be tried now."""
        self._there[model] = there
        known = self._writer.ledger.model(model)
        return {
            key
            for key in known.failed.keys() & set(there)
            if (model, key) not in self._forgiven
            and known.failures[key].looks == self._looks(model, signature(key))
            and not self._due(known.failures[key])
        }

    def held_steps(self, model: str) -> set[int]:
        """Those of a model's steps that are not to be reduced now."""
        steps = self._steps.items()
        return {step for (name, step), found in steps if name == model and not self._due(found)}

    def _looks(self, model: str, signature: object) -> str:
        """What tells whether there is reason to try a checkpoint again that is parked."""
        text = repr((signature, self._settings[model]))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def _due(self, failure: Failure) -> bool:
        return failure.retry_at is not None and failure.retry_at <= self._clock()

    def fail(
        self, model: str, key: Checkpoint, error: str, signature: object, *, passing: bool
    ) -> Failure:
        """Decide what becomes of a checkpoint that failed just now, and record it."""
        now, looked = self._clock(), self._looks(model, signature)
        before = self._writer.ledger.model(model).failures.get(key)
        same = before is not None and before.looks == looked and (model, key) not in self._forgiven
        attempts = before.attempts + 1 if before is not None and same else 1
        failure = Failure(error, attempts, now, None, looked)
        failure = replace(failure, retry_at=next_try(attempts, now, passing=passing))
        self._forgiven.discard((model, key))
        self._writer.fail(model, *key, failure)
        return failure

    def fail_step(self, model: str, step: int, error: str, *, passing: bool) -> Failure:
        """Decide what becomes of a step that could not be reduced just now."""
        before, now = self._steps.get((model, step)), self._clock()
        attempts = 1 if before is None else before.attempts + 1
        at = next_try(attempts, now, passing=passing)
        self._steps[model, step] = failure = Failure(error, attempts, now, at)
        return failure

    def reduced(self, model: str, step: int) -> None:
        """Take note that a step was reduced."""
        self._steps.pop((model, step), None)

    def failed(self, model: str) -> dict[Checkpoint, Failure]:
        """What has failed of that which is there, and is not being tried again."""
        known = self._writer.ledger.model(model)
        there = {key for key in self._there.get(model, ()) if (model, key) not in self._forgiven}
        return {key: known.failures[key] for key in there if key in known.failed}

    def count(self) -> tuple[int, int]:
        """How many checkpoints and steps have failed; how many of these checkpoints are parked."""
        found = [failure for model in self._there for failure in self.failed(model).values()]
        return len(found) + len(self._steps), sum(failure.parked for failure in found)

    def next_due(self) -> float | None:
        """When the first of them is tried again, in Unix time; None: none will be."""
        found = [failure for model in self._there for failure in self.failed(model).values()]
        due = (failure.retry_at for failure in (*found, *self._steps.values()))
        return min((at for at in due if at is not None), default=None)
