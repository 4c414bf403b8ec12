"""What the sources of a study have, told to the store and to the user before work begins."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from engine.coordination.planner import Step, lonely, remaining, remaining_of
from engine.coordination.recorder import Recorder
from engine.coordination.retries import Retries
from engine.coordination.session import Session
from engine.events import Level
from engine.sources.announcements import Announcements
from engine.sources.base import Listing, Source
from engine.study_file.models_section import ModelSection
from engine.workers.messages import seed_order
from store import StudyWriter
from store.schema.keys import Key

Available = dict[str, set[Key]]  # by model


class Inventory:
    """Looks at the sources. What is left to do follows from that and from the store alone."""

    def __init__(
        self,
        models: Mapping[str, ModelSection],
        sources: Mapping[str, Source],
        writer: StudyWriter,
        session: Session,
        recorder: Recorder,
        retries: Retries,
        announcements: Announcements,
        probes: Collection[str] = (),
    ) -> None:
        """`probes` are those of the study: a checkpoint is done once it was asked them all."""
        self._models, self._sources, self._writer = models, sources, writer
        self._session, self._recorder, self._retries = session, recorder, retries
        self._announcements, self._probes = announcements, probes
        self._available: Available = {}
        self._nothing: set[str] = set()  # models of which nothing was found, or nothing to compare
        self._failing: dict[str, int] = {}  # errors of each source, when it was last asked
        self._missing: dict[str, int] = {}
        self._told: set[tuple[str, str]] = set()
        self._seen: dict[str, set[Key]] = {name: set() for name in models}
        self._refused: dict[str, dict[Key, str]] = {}
        self._passed: dict[str, frozenset[Key]] = {}

    def look(self, *, waiting: bool) -> Available:
        """What can be scored now; the store learns what is planned or missing.

        `waiting` for more, what is still being written is left out, and what is not there yet does
        not count as missing, unless it was there before.
        """
        for text in self._announcements.look():
            self._tell("", "warning", "announcement", text)
        self._available = {name: self._look(name, waiting=waiting) for name in self._models}
        self.answer()
        return self._available

    def _look(self, name: str, *, waiting: bool) -> set[Key]:
        model, known = self._models[name], self._writer.ledger.model(name)
        source = self._sources[name]
        found = source.find()
        wanted, there = set(found.wanted), set(found.there)
        held = self._retries.held(name, there, self._signature(name))
        wanted, there = wanted - held, there - held
        new = there - known.scored.keys()
        if waiting:
            new = {key for key in new if not source.checkpoint(key).finished()}
        refusals = {key: source.checkpoint(key).refused(waiting=waiting) for key in _ordered(new)}
        refused = {key: why for key, why in refusals.items() if why}
        there -= new if waiting else refused.keys()
        if waiting and model.listed is None:
            wanted = set(there)
        absent = self._find_gone(name, there, found) | refused
        for key in found.passed if waiting else found.missing:
            later = ", though later steps of its seed have been" if waiting else ""
            absent.setdefault(key, found.missing[key] + later)
        absent = {key: absent[key] for key in _ordered(absent) if key not in known.scored}
        self._refused[name], self._passed[name] = refused, found.passed
        self._writer.plan(name, _ordered(wanted - absent.keys()), absent)
        self._missing[name] = len(absent)
        self._tell_troubles(name, found)
        self._tell_unprobed(name, found)
        if waiting:
            self._tell_waiting(name, nothing=not (found.there or known.scored))
        return there

    def _find_gone(self, name: str, there: set[Key], found: Listing) -> dict[Key, str]:
        """Checkpoints that were deleted before they were scored, until they are back."""
        known, recorder = self._writer.ledger.model(name), self._recorder
        for key in there & {key for owner, key in recorder.gone if owner == name}:
            del recorder.gone[name, key]
        once = self._seen[name] | found.announced
        if self._models[name].listed is None:
            once |= known.planned  # as it was found
        gone = {key for owner, key in recorder.gone if owner == name}
        parked = {key for key in known.failed if known.failures[key].parked}  # its reason stays
        once -= there | gone | known.scored.keys() | parked
        once = {key for key in once if self._models[name].asks_for(key)}  # still
        source = self._sources[name]
        recorder.lose(name, [key for key in _ordered(once) if source.checkpoint(key).gone()])
        self._seen[name] |= there
        return {key: why for (owner, key), why in recorder.gone.items() if owner == name}

    def answer(self) -> None:
        """Let go of what was announced and is not needed any more."""
        for name, model in self._models.items():
            known = self._writer.ledger.model(name)
            for key, announcement in self._announcements.of(name).items():
                seed, _ = key
                if model.on_hub:
                    text = "was announced, but its source is the hub: nothing is done about it"
                    self._tell(name, "warning", "announcement", f"model {name} {text}")
                    continue
                if not model.accepts(seed):
                    text = f"seed {seed} was announced, but is none of those that are listed"
                    self._tell(name, "warning", "announcement", f"model {name}: {text}")
                unwanted = not model.asks_for(key) or (name, key) in self._recorder.gone
                if unwanted or (key in known.scored and not self._needed_again(name, key)):
                    self._announcements.release(announcement)

    def _needed_again(self, name: str, key: Key) -> bool:
        """Whether a checkpoint that is scored has to be read: for a probe, or for a late seed."""
        known, listed = self._writer.ledger.model(name), self._models[name].listed
        if known.unasked(key, self._probes):
            return True
        seeds = known.seeds.keys() if listed is None else {seed for seed, _ in listed}
        return key not in known.stored and not seeds <= known.reduced.get(key[1], frozenset())

    def _tell(self, model: str, level: Level, event: str, text: str, kind: str = "") -> bool:
        """Say something once, though it may be found often; of a `kind`, the first alone."""
        if (model, kind or text) in self._told:
            return False
        self._told.add((model, kind or text))
        self._session.say(level, event, text, **({"model": model} if model else {}))
        return True

    def _tell_troubles(self, name: str, found: Listing) -> None:
        """Say what a source could not tell."""
        for text in found.warnings:
            self._tell(name, "warning", "source", f"model {name}: {text}")
        for text in found.errors:
            self._tell(name, "error", "source", f"model {name}: {text}")
        if self._failing.get(name) and not found.errors:
            self._told = {(model, text) for model, text in self._told if model != name}
            text = f"model {name}: its source can be asked again"
            self._session.say("info", "source", text, model=name)
        self._failing[name] = len(found.errors)

    def count(self) -> dict[str, int]:
        """What was amiss when the sources were last looked at, as fields of `Totals`.

        What could not be scored counts as failed, whoever tried it, until it is.
        """
        counts = self._retries.count()
        counts["failed"] += sum(self._failing.values()) + len(self._nothing)
        return {**counts, "missing": sum(self._missing.values())}

    def tell_parked(self) -> None:
        """Say what earlier engines left that this one leaves alone, too."""
        for name in self._models:
            found = {("", key): failure for key, failure in self._retries.failed(name).items()}
            found |= self._retries.failed_probes(name)
            parked = [which for which, failure in found.items() if failure.parked]
            if parked:
                probe, (seed, step) = first = min(parked, key=lambda it: (it[0], *_place(it[1])))
                text = f"probe {probe} of " if probe else ""
                text += f"seed {seed}, step {step} is parked: {found[first].error}"
                text += f" (and {len(parked) - 1} more)" if len(parked) > 1 else ""
                text = f"model {name}: {text}; --retry-failed tries again what is parked"
                self._session.say("warning", "parked", text, model=name, parked=len(parked))

    def _tell_unprobed(self, name: str, found: Listing) -> None:
        """Say how many checkpoints can be asked no more what they were not asked yet."""
        model, known = self._models[name], self._writer.ledger.model(name)
        if found.errors:  # then it is not known what is there
            return
        lost = [
            key
            for key in known.scored.keys() - found.there
            if model.asks_for(key) and (name, key) not in self._recorder.gone
        ]
        for probe in self._probes:
            gone = _ordered([key for key in lost if known.unasked(key, [probe])])
            if gone:
                self._writer.probes.excuse(name, probe, gone)
                (seed, step), n = gone[0], len(gone)
                are, more = ("are", f", and {n - 1} more") if n > 1 else ("is", "")
                self._tell(
                    name,
                    "warning",
                    "gone",
                    f"model {name}: {n} scored checkpoint{'s' * (n > 1)} {are} not at the source "
                    f"any more and cannot be asked probe {probe}: seed {seed}, step {step}{more}",
                )

    def _tell_waiting(self, name: str, *, nothing: bool) -> None:
        """Say, while more is waited for, why what is there is not taken; or that nothing is."""
        source = self._sources[name]
        for key, why in self._refused[name].items():
            kind = why.replace(source.checkpoint(key).where(), "")
            self._tell(name, "warning", "refused", f"model {name}: {why}", kind)
        if nothing and not self._models[name].on_hub:
            text = self._nothing_fits(name)
            level: Level = "warning" if source.hint() else "info"
            self._tell(name, level, "waiting", f"model {name}: {text}; waiting for it", "waiting")

    def remaining(
        self, available: Mapping[str, Collection[Key]], *, newest_first: bool = False
    ) -> list[Step]:
        """Steps with something left to do, ascending; or the newest of every model first.

        What is only to be probed comes after all others, if it is `at_leisure`.
        """
        ranked = []
        for place, (name, keys) in enumerate(available.items()):
            held = self._retries.held_steps(name)
            unasked = self._retries.held_probes(name, self._signature(name))
            steps = remaining(self._writer.ledger, name, set(keys), held, self._probes, unasked)
            if newest_first:
                ranks = list(enumerate(reversed(steps)))
            else:
                ranks = [(step.step, step) for step in steps]
            ranked += [(self.at_leisure(step), rank, place, step) for rank, step in ranks]
        ordered = [step for *_, step in sorted(ranked, key=lambda entry: entry[:3])]
        self._session.show(queued=sum(len(step.score) for step in ordered))
        return ordered

    def at_leisure(self, step: Step) -> bool:
        """Whether it is only to be probed, and nothing that was downloaded waits for that."""
        return step.seed is not None and self._models[step.model].cache == "keep"

    def left(self) -> list[Step]:
        """Steps with something left to do of what was there when it was last looked at."""
        return self.remaining(self._available)

    def remaining_of(self, model: str, step: int, available: Available) -> list[Step]:
        """What is left to do of one step, and can be done now."""
        known = self._writer.ledger.model(model)
        gone = {key for owner, key in self._recorder.gone if owner == model}
        seeds = {seed for seed, at in available[model] - gone - known.failed.keys() if at == step}
        reducible = step not in self._retries.held_steps(model)
        held = self._retries.held_probes(model, self._signature(model))
        return remaining_of(
            known, model, step, seeds, reducible=reducible, probes=self._probes, held=held
        )

    def _signature(self, name: str) -> Callable[[Key], object]:
        """Return what gives the signature of a model's checkpoints."""
        return lambda key: self._sources[name].checkpoint(key).signature()

    def complete(self) -> bool:
        """Whether every checkpoint that is listed was scored, is parked or will not come.

        And nothing waits for another try at reducing a step, or asking a probe.
        """
        for name in self._models:
            probes = self._retries.failed_probes(name).values()
            if self._retries.awaits_step(name) or not all(failure.parked for failure in probes):
                return False
            known = self._writer.ledger.model(name)
            done = known.scored.keys() | self._refused[name].keys() | self._passed[name]
            done |= {key for model, key in self._recorder.gone if model == name}
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
            gone = {key for model, key in self._recorder.gone if model == name}  # which was told
            absent = {k: why for k, why in known.missing.items() if k not in keys and k not in gone}
            if absent:
                first = next(iter(absent.values()))
                more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
                self._session.say("warning", "missing", f"model {name}: {first}{more}", model=name)
            if why := lonely(known, keys):
                self._nothing.add(name)
                self._session.say("error", "lonely", f"model {name}: {why}", model=name)

    def _nothing_fits(self, name: str) -> str:
        model, refused = self._models[name], list(self._refused[name].values())
        if refused:
            return refused[0] + (f" (and {len(refused) - 1} more)" if len(refused) > 1 else "")
        templates = list(model.templates.values())
        text = templates[0] + (f" (and {len(templates) - 1} more)" if len(templates) > 1 else "")
        if model.on_hub:
            missing = self._writer.ledger.model(name).missing
            reason = f": {next(iter(missing.values()))}" if missing else ""
            return f"nothing on the hub fits {text}{reason}"
        if near := self._sources[name].hint():
            return f"no folder fits {text}; {near}"
        hint = "; on the hub, write hf://owner/name@revision" if text.count("/") == 1 else ""
        return f"no folder fits {text}{hint}"


def _ordered(keys: Collection[Key]) -> list[Key]:
    return sorted(keys, key=_place)


def _place(key: Key) -> tuple[int, tuple[bool, int, str]]:
    return key[1], seed_order(key[0])
