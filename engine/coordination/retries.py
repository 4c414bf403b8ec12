"""Choose which failed checkpoints and probes are tried again, and when.

What may pass (a file that cannot be read, a Hub that does not answer, no memory) is tried again
after 15 s, 30 s, 60 s, ... up to an hour, and parked after the twelfth time, some four hours later.
What will not pass by itself (NaN in the weights, another vocabulary) is parked at once. A parked
checkpoint is not retried until it changes, or its settings in the study file, or the user asks for
it. Later engines do the same: the store keeps these decisions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace

from store.schema import Failure, Key
from store.writing import StudyWriter

FIRST_SECONDS = 15.0
LONGEST_SECONDS = 3600.0
MOST_ATTEMPTS = 12


def next_try(attempts: int, now: float, *, passing: bool) -> float | None:
    """Return when what failed for the n-th time is tried again, Unix time; None: it is parked."""
    if not passing or attempts >= MOST_ATTEMPTS:
        return None
    return now + min(FIRST_SECONDS * 2.0 ** (attempts - 1), LONGEST_SECONDS)


class Retries:
    """Failures without a later success.

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
        """Take the `settings` of each model, as plain data: a failure applies to no others.

        With `forgive`, everything that failed before is tried now, as if for the first time.
        """
        self._writer, self._settings, self._clock = writer, settings, clock
        self._there: dict[str, Collection[Key]] = {}  # by model, when it was last looked at
        self._forgiven: set[tuple[str, Key, str | None]] = {
            (name, key, probe)
            for name, known in writer.ledger.models.items()
            for probe, found in [(None, known.failures), *known.probe_failures.items()]
            for key in found
            if forgive
        }
        self._steps: dict[tuple[str, int], Failure] = {}

    def held(
        self, model: str, there: Collection[Key], signature: Callable[[Key], object]
    ) -> set[Key]:
        """Return those of a model's checkpoints that are there and are not to be tried now."""
        self._there[model] = there
        known = self._writer.ledger.model(model)
        return {
            key
            for key in known.failed.keys() & set(there)
            if self._waits(model, key, known.failures[key], signature)
        }

    def held_probes(self, model: str, signature: Callable[[Key], object]) -> set[tuple[str, Key]]:
        """Return probes that scored checkpoints, of those there, are not to be asked now."""
        there = set(self._there.get(model, ()))
        return {
            (probe, key)
            for probe, found in self._writer.ledger.model(model).probe_failures.items()
            for key in found.keys() & there
            if self._waits(model, key, found[key], signature, probe)
        }

    def _waits(
        self,
        model: str,
        key: Key,
        failure: Failure,
        signature: Callable[[Key], object],
        probe: str | None = None,
    ) -> bool:
        if (model, key, probe) in self._forgiven or self._due(failure):
            return False
        return failure.looks == self._looks(model, signature(key))

    def held_steps(self, model: str) -> set[int]:
        """Return those of a model's steps that are not to be reduced now."""
        steps = self._steps.items()
        return {step for (name, step), found in steps if name == model and not self._due(found)}

    def awaits_step(self, model: str) -> bool:
        """Return whether one of a model's steps is to be reduced again at a later time."""
        return any(name == model and not it.parked for (name, _), it in self._steps.items())

    def _looks(self, model: str, signature: object) -> str:
        """Return what changes when there is reason to try a parked checkpoint again."""
        text = repr((signature, self._settings[model]))
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def _due(self, failure: Failure) -> bool:
        return failure.retry_at is not None and failure.retry_at <= self._clock()

    def fail(
        self,
        model: str,
        key: Key,
        error: str,
        signature: object,
        *,
        passing: bool,
        probe: str | None = None,
    ) -> Failure:
        """Decide what becomes of a checkpoint, or a probe of it, that failed; and record it."""
        now, looked = self._clock(), self._looks(model, signature)
        known, named = self._writer.ledger.model(model), (model, key, probe)
        found = known.failures if probe is None else known.probe_failures.get(probe, {})
        before = found.get(key)
        same = before is not None and before.looks == looked and named not in self._forgiven
        attempts = before.attempts + 1 if before is not None and same else 1
        failure = Failure(error, attempts, now, None, looked)
        failure = replace(failure, retry_at=next_try(attempts, now, passing=passing))
        self._forgiven.discard(named)
        if probe is None:
            self._writer.fail(model, *key, failure)
        else:
            self._writer.probes.fail(model, probe, *key, failure)
        return failure

    def fail_step(self, model: str, step: int, error: str, *, passing: bool) -> Failure:
        """Decide what becomes of a step that could not be reduced just now."""
        before, now = self._steps.get((model, step)), self._clock()
        attempts = 1 if before is None else before.attempts + 1
        at = next_try(attempts, now, passing=passing)
        self._steps[model, step] = failure = Failure(error, attempts, now, at)
        return failure

    def damaged_steps(self) -> list[str]:
        """Return why steps could not be reduced, a line each."""
        return [
            f"model {model}: step {step:,} cannot be compared: {failure.error}"
            for (model, step), failure in self._steps.items()
        ]

    def reduced(self, model: str, step: int) -> None:
        """Take note that a step was reduced."""
        self._steps.pop((model, step), None)

    def failed(self, model: str) -> dict[Key, Failure]:
        """Return failed checkpoints that are there and are not being tried again."""
        known = self._writer.ledger.model(model)
        return {
            key: known.failures[key]
            for key in self._there.get(model, ())
            if key in known.failed and (model, key, None) not in self._forgiven
        }

    def failed_probes(self, model: str) -> dict[tuple[str, Key], Failure]:
        """Return failed probes of what is there that are not being tried again."""
        there = set(self._there.get(model, ()))
        return {
            (probe, key): failure
            for probe, found in self._writer.ledger.model(model).probe_failures.items()
            for key, failure in found.items()
            if key in there and (model, key, probe) not in self._forgiven
        }

    def count(self) -> dict[str, int]:
        """Return how much has failed, as fields of `Totals`: a step counts as a checkpoint does."""
        found = [failure for model in self._there for failure in self.failed(model).values()]
        probes = [it for model in self._there for it in self.failed_probes(model).values()]
        return {
            "failed": len(found) + len(self._steps),
            "probes_failed": len(probes),
            "parked": sum(failure.parked for failure in (*found, *probes)),
        }

    def next_due(self) -> float | None:
        """Return when the first of them is tried again, in Unix time; None: none will be."""
        found = [
            failure
            for model in self._there
            for failures in (self.failed(model), self.failed_probes(model))
            for failure in failures.values()
        ]
        due = (failure.retry_at for failure in (*found, *self._steps.values()))
        return min((at for at in due if at is not None), default=None)
