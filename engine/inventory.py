"""What the sources of a study have, told to the store and to the user before work begins."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from engine.events import Level
from engine.planner import Step, lonely, remaining, remaining_of, seed_order
from engine.recorder import Recorder
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
        recorder: Recorder,
    ) -> None:
        self._models, self._sources, self._writer = models, sources, writer
        self._session, self._recorder = session, recorder
        self._told: set[tuple[str, str]] = set()

    def look(self, *, waiting: bool) -> Available:
        """What can be scored now; the store learns what is planned or missing.

        `waiting` for more, what is still being written is left out and nothing counts as missing.
        """
        return {name: self._look(name, waiting=waiting) for name in self._models}

    def _look(self, name: str, *, waiting: bool) -> set[Checkpoint]:
        model, known = self._models[name], self._writer.ledger.model(name)
        source = self._sources[name]
        found = source.find()
        wanted, there = set(found.wanted), set(found.there)
        for key in there & {key for owner, key in self._recorder.given_up if owner == name}:
            if self._recorder.given_up[name, key] == source.signature(key):
                wanted, there = wanted - {key}, there - {key}
            else:
                del self._recorder.given_up[name, key]
        if waiting:
            done = set(known.stored)
            there = {key for key in there if key in done or source.finished(key)}
            wanted = wanted if model.listed is not None else there
        absent = {
            key: found.missing[key]
            for key in _ordered(set() if waiting else set(found.missing))
            if key not in known.scored
        }
        self._writer.plan(name, _ordered(wanted - absent.keys()), absent)
        self._recorder.totals.missing += len(absent)
        self._tell_troubles(name, found)
        return there

    def _tell_troubles(self, name: str, found: Found) -> None:
        """Say what a source could not tell; once, though it may be asked often."""
        for text in (*found.warnings, *found.errors):
            if (name, text) not in self._told:
                self._told.add((name, text))
                level: Level = "error" if text in found.errors else "warning"
                self._session.say(level, "source", f"model {name}: {text}", model=name)
                self._recorder.totals.failed += level == "error"

    def remaining(self, available: Mapping[str, Collection[Checkpoint]]) -> list[Step]:
        """Steps with something left to do, the first ones first."""
        steps = [
            step
            for name, keys in available.items()
            for step in remaining(self._writer.ledger, name, set(keys), self._damaged(name))
        ]
        order = list(self._models)
        steps.sort(key=lambda step: (step.step, order.index(step.model)))
        self._session.show(queued=sum(len(step.score) for step in steps))
        return steps

    def remaining_of(self, model: str, step: int, available: Available) -> Step | None:
        """What is left to do of one step; None when it is done or cannot be."""
        given_up = {key for owner, key in self._recorder.given_up if owner == model}
        seeds = {seed for seed, at in available[model] - given_up if at == step}
        known, reducible = self._writer.ledger.model(model), step not in self._damaged(model)
        return remaining_of(known, model, step, seeds, reducible=reducible)

    def _damaged(self, model: str) -> set[int]:
        return {step for name, step in self._recorder.damaged if name == model}

    def complete(self) -> bool:
        """Whether every checkpoint that is listed was scored or given up."""
        for name in self._models:
            known = self._writer.ledger.model(name)
            done = set(known.scored)
            done |= {key for model, key in self._recorder.given_up if model == name}
            if not known.planned or not known.planned <= done:
                return False
        return True

    def explain(self, available: Available) -> None:
        """Say what was found, before hours are spent on it."""
        for name, keys in available.items():
            known = self._writer.ledger.model(name)
            if not keys and not known.scored:
                if not self._sources[name].find().errors:  # else that was told
                    self._recorder.totals.failed += 1
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
                self._recorder.totals.failed += 1
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
