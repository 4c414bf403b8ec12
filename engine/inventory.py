"""What the sources of a study have, told to the store and to the user before work begins."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from engine.events import Level
from engine.planner import Step, lonely, remaining, remaining_of, seed_order
from engine.retries import Retries
from engine.session import Session
from engine.sources import Found, Source
from engine.study_file import ModelSection
from store import StudyWriter
from store.ledger import Checkpoint

Available = dict[str, set[Checkpoint]]  # by model


class Inventory:
    """Looks at the sources. What is left to do follows from that and from the store alone."""

    def __init__(
        self,
        models: Mapping[str, ModelSection],
        sources: Mapping[str, Source],
        writer: StudyWriter,
        session: Session,
        retries: Retries,
    ) -> None:
        self._models, self._sources, self._writer = models, sources, writer
        self._session, self._retries = session, retries
        self._told: dict[str, set[str]] = {name: set() for name in models}  # troubles of sources
        self._nothing: set[str] = set()  # models of which nothing was found, or nothing to compare
        self._failing: dict[str, int] = {}  # errors of each source, when it was last asked
        self._missing: dict[str, int] = {}
        self._available: Available = {}

    def look(self, *, waiting: bool) -> Available:
        """What can be scored now; the store learns what is planned or missing.

        `waiting` for more, what is still being written is left out and nothing counts as missing.
        """
        self._available = {name: self._look(name, waiting=waiting) for name in self._models}
        return self._available

    def _look(self, name: str, *, waiting: bool) -> set[Checkpoint]:
        model, known = self._models[name], self._writer.ledger.model(name)
        source = self._sources[name]
        try:
            found = source.find()
            wanted, there = set(found.wanted), set(found.there)
            held = self._retries.held(name, there, source.signature)
            wanted, there = wanted - held, there - held
            if waiting:
                done = set(known.stored)
                there = {key for key in there if key in done or source.finished(key)}
                wanted = wanted if model.listed is not None else there
        except OSError as error:  # such as a network file system that went away
            text = f"{error.filename or 'its folders'}: cannot be read: {error.strerror}"
            nothing = frozenset[Checkpoint]()
            found = Found(nothing, nothing, {}, errors=(f"{text}; is the file system mounted?",))
            wanted, there = set(), set()
        absent = {
            key: found.missing[key]
            for key in _ordered(set() if waiting else set(found.missing))
            if key not in known.scored
        }
        self._writer.plan(name, _ordered(wanted - absent.keys()), absent)
        self._missing[name] = len(absent)
        self._tell_troubles(name, found)
        return there

    def _tell_troubles(self, name: str, found: Found) -> None:
        """Say what a source could not tell; once, though it may be asked often."""
        for text in (*found.warnings, *found.errors):
            if text not in self._told[name]:
                self._told[name].add(text)
                level: Level = "error" if text in found.errors else "warning"
                self._session.say(level, "source", f"model {name}: {text}", model=name)
        if self._failing.get(name) and not found.errors:
            self._told[name] = set(found.warnings)  # if it happens again, it is told again
            text = f"model {name}: its source can be asked again"
            self._session.say("info", "source", text, model=name)
        self._failing[name] = len(found.errors)

    def count(self) -> dict[str, int]:
        """What was amiss when the sources were last looked at, as fields of `Totals`.

        What could not be scored counts as failed, whoever tried it, until it is.
        """
        failed, parked = self._retries.count()
        failed += sum(self._failing.values()) + len(self._nothing)
        return {"failed": failed, "parked": parked, "missing": sum(self._missing.values())}

    def tell_parked(self) -> None:
        """Say what earlier engines left that this one leaves alone, too."""
        for name in self._models:
            found = self._retries.failed(name)
            parked = _ordered([key for key, failure in found.items() if failure.parked])
            if parked:
                (seed, step), *others = parked
                text = f"seed {seed}, step {step} is parked: {found[seed, step].error}"
                text += f" (and {len(others)} more)" if others else ""
                text = f"model {name}: {text}; --retry-failed tries again what is parked"
                self._session.say("warning", "parked", text, model=name, parked=len(parked))

    def remaining(self, available: Mapping[str, Collection[Checkpoint]]) -> list[Step]:
        """Steps with something left to do, the first ones first."""
        steps = [
            step
            for name, keys in available.items()
            for step in remaining(
                self._writer.ledger, name, set(keys), self._retries.held_steps(name)
            )
        ]
        order = list(self._models)
        steps.sort(key=lambda step: (step.step, order.index(step.model)))
        self._session.show(queued=sum(len(step.score) for step in steps))
        return steps

    def left(self) -> list[Step]:
        """Steps with something left to do of what was there when it was last looked at."""
        return self.remaining(self._available)

    def remaining_of(self, model: str, step: int, available: Available) -> Step | None:
        """What is left to do of one step; None when it is done or cannot be."""
        known = self._writer.ledger.model(model)
        reducible = step not in self._retries.held_steps(model)
        seeds = {seed for seed, at in available[model] - known.failed.keys() if at == step}
        return remaining_of(known, model, step, seeds, reducible=reducible)

    def complete(self) -> bool:
        """Whether every checkpoint that is listed was scored or is parked."""
        for name in self._models:
            known = self._writer.ledger.model(name)
            done = set(known.scored)
            done |= {key for key, found in self._retries.failed(name).items() if found.parked}
            if not known.planned or not known.planned <= done:
                return False
        return True

    def explain(self, available: Available) -> None:
        """Say what was found, before hours are spent on it."""
        for name, keys in available.items():
            known = self._writer.ledger.model(name)
            if not keys and (self._failing[name] or not known.scored):
                if not self._failing[name] and not self._retries.failed(name):  # else that is told
                    self._nothing.add(name)
                    text = f"model {name}: {self._nothing_fits(name)}"
                    self._session.say("error", "nothing", text, model=name)
                continue
            seeds = sorted({seed for seed, _ in keys}, key=seed_order)
            steps = {step for _, step in keys}
            self._session.say(
                "info",
                "found",
                f"model {name}: {len(keys)} checkpoints, {len(seeds)} seeds, {len(steps)} steps",
                model=name,
            )
            if absent := {key: why for key, why in known.missing.items() if key not in keys}:
                first = next(iter(absent.values()))
                more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
                self._session.say("warning", "missing", f"model {name}: {first}{more}", model=name)
            if why := lonely(known, keys):
                self._nothing.add(name)
                self._session.say("error", "lonely", f"model {name}: {why}", model=name)

    def _nothing_fits(self, name: str) -> str:
        model = self._models[name]
        templates = list(model.templates.values())
        text = templates[0] + (f" (and {len(templates) - 1} more)" if len(templates) > 1 else "")
        if model.on_hub:
            missing = self._writer.ledger.model(name).missing
            reason = f": {next(iter(missing.values()))}" if missing else ""
            return f"nothing on the hub fits {text}{reason}"
        hint = "; on the hub, write hf://owner/name@revision" if text.count("/") == 1 else ""
        return f"no folder fits {text}{hint}"


def _ordered(keys: Collection[Checkpoint]) -> list[Checkpoint]:
    return sorted(keys, key=lambda key: (key[1], seed_order(key[0])))
