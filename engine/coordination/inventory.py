"""The checkpoints that a study's sources have, and those that remain to be scored."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from engine.coordination.lost_pairs import LostPairs, describe, find_lost_pairs
from engine.coordination.planner import Step, lacks_end, remaining, remaining_of
from engine.coordination.releases import Releases, stay_missing
from engine.coordination.retries import Retries
from engine.coordination.session import Session
from engine.coordination.source_reports import SourceReports, place
from engine.sources.announcements import Announcements
from engine.sources.base import Listing, Source
from engine.study_file.models_section import ModelSection
from engine.study_file.scoring_section import LogProbsSection
from store.schema import Key
from store.writing import StudyWriter

Available = dict[str, set[Key]]  # by model


class Inventory:
    """Looks at the sources. What is left to do follows from that and from the store alone."""

    def __init__(
        self,
        models: Mapping[str, ModelSection],
        sources: Mapping[str, Source],
        writer: StudyWriter,
        session: Session,
        retries: Retries,
        announcements: Announcements,
        log_probs: LogProbsSection,
        probes: Collection[str] = (),
        end: int | None = None,
    ) -> None:
        """Look at nothing yet; a checkpoint is done once it was asked all `probes`.

        Seeds are also compared with what they are at the step `end`, which therefore comes first.
        """
        self._end = end
        self._log_probs = log_probs
        self._keeps = log_probs.representation != "none" and log_probs.retention == "all"
        self._models, self._sources, self._writer = models, sources, writer
        self._session, self._retries = session, retries
        self._announcements, self._probes = announcements, probes
        self._reports = SourceReports(models, sources, writer, session, retries, end)
        self._releases = Releases(
            models, writer, session, self._reports, probes, self.seeds, keeps=self._keeps
        )
        self._available: Available = {}
        self._missing: dict[str, int] = {}
        self._seen: dict[str, set[Key]] = {name: set() for name in models}
        # Deleted before they were done, and where they were.
        self._gone: dict[str, dict[Key, str]] = {name: {} for name in models}
        self._refused: dict[str, dict[Key, str]] = {}
        self._passed: dict[str, frozenset[Key]] = {}
        self._lost: dict[str, dict[int, LostPairs]] = {}  # by model and step

    # -- what is there -------------------------------------------------------------------------

    def look(self, *, waiting: bool) -> Available:
        """Return what can be scored now; record in the store what is planned or missing.

        `waiting` for more, what is still being written is left out, and what is not there yet does
        not count as missing, unless it was there before.
        """
        for text in self._announcements.look():
            self._reports.once("", "warning", "announcement", text)
        self._forget_unwanted()
        self._available = {name: self._look(name, waiting=waiting) for name in self._models}
        self.find_lost_pairs(waiting=waiting)
        self.release_announcements()
        return self._available

    def hears_of_more(self) -> bool:
        """Return whether training has announced something since the last look."""
        return self._announcements.changed()

    def _look(self, name: str, *, waiting: bool) -> set[Key]:
        model, known = self._models[name], self._writer.ledger.model(name)
        source = self._sources[name]
        found = source.find()
        wanted, there = set(found.wanted), set(found.there)
        held = self._retries.held(name, there, self._signature(name))
        wanted, there = wanted - held, there - held
        self._reports.ambiguous(name, [k for k in found.ambiguous if k in known.scored], found)
        new = there - known.scored.keys()
        if waiting:
            new = {key for key in new if not source.checkpoint(key).finished()}
        refusals = {key: source.checkpoint(key).refused(waiting=waiting) for key in _ordered(new)}
        refused = {key: why for key, why in refusals.items() if why}
        refused |= {k: why for k, why in found.ambiguous.items() if k not in known.scored}
        there -= new if waiting else refused.keys()
        if waiting and model.listed is None:
            wanted = set(there)
        stays = stay_missing(known, found) if model.source_kind.captured else {}
        absent = self._find_gone(name, there, found) | refused | stays
        for key in found.passed if waiting else found.missing:
            later = ", though later steps of its seed have been" if waiting else ""
            absent.setdefault(key, found.missing[key] + later)
        if not (waiting or found.errors):
            absent |= self._forget_failures_of_deleted(name, found)
        absent = {key: absent[key] for key in _ordered(absent) if key not in known.scored}
        self._refused[name], self._passed[name] = refused, found.passed
        self._writer.plan(name, _ordered(wanted - absent.keys() - stays.keys()), absent)
        self._missing[name] = len(absent)
        self._reports.troubles(name, found)
        self._excuse_deleted(name, found)
        if waiting:
            nothing = not (found.there or known.scored)
            self._reports.waiting(name, refused, nothing=nothing)
        return there

    def _forget_unwanted(self) -> None:
        """Take back plans and failures of what the study file does not ask for any more."""
        for name, known in self._writer.ledger.models.items():
            model = self._models.get(name)
            if model is None:
                self._writer.unplan(name, list(known.failed))
                for probe, failures in known.probe_failures.items():
                    self._writer.probes.excuse(name, probe, list(failures))
                continue
            listed = model.listed
            there = (known.planned | known.missing.keys()) - known.scored.keys()
            self._writer.unplan(
                name,
                [
                    key
                    for key in _ordered(there | known.failed.keys())
                    if not (model.accepts(*key) if listed is None else key in listed)
                ],
            )

    def _forget_failures_of_deleted(self, name: str, found: Listing) -> dict[Key, str]:
        """Return what failed and was deleted since: it is missing, and the reason why it failed.

        Those that were scored before are not needed, or lack pairs, which is reported as such.
        """
        known, source = self._writer.ledger.model(name), self._sources[name]
        deleted = known.failed.keys() - found.there - found.ambiguous.keys()
        scored = known.failed.keys() & known.scored.keys()
        needed = {key for key in scored - deleted if self._releases.needed_again(name, key)}
        done = scored - needed
        self._writer.unplan(name, _ordered(done))
        return {
            key: f"{source.checkpoint(key).where()} is gone: deleted after it failed: "
            f"{known.failed[key]}"
            for key in deleted - scored - found.missing.keys()
        }

    def find_lost_pairs(self, *, waiting: bool = False) -> None:
        """Find out which pairs of seeds cannot be computed; report what is new of that.

        `waiting`, what cannot be seen just now may only be away, as on a disk that is not mounted.
        """
        for name, model in self._models.items():
            known = self._writer.ledger.model(name)
            if self._reports.fails(name):  # then it is not known what is there
                continue
            there = self._available[name] - self._gone[name].keys() - known.failed.keys()
            found, reported = find_lost_pairs(model, known, there), self._lost.get(name, {})
            if waiting:
                found = {
                    step: lost
                    for step, lost in found.items()
                    if reported.get(step) == lost or self._lost_for_good(name, step, lost)
                }
            new = {step: lost for step, lost in found.items() if reported.get(step) != lost}
            for text in describe(model, new, self._log_probs):
                self._session.say("error", "uncompared", text, model=name)
            self._lost[name] = found

    def _lost_for_good(self, name: str, step: int, lost: LostPairs) -> bool:
        """Return whether nothing more can come: no disk is away, and nothing is tried again."""
        known, source = self._writer.ledger.model(name), self._sources[name]
        return all(known.failures[seed, step].parked for seed in lost.failed) and (
            self._models[name].source_kind.downloads
            or all(source.checkpoint((seed, step)).gone() for seed in lost.gone)
        )

    def amiss(self) -> list[str]:
        """Return what is wrong as of the last look, a line each, but for failed checkpoints."""
        lines = self._reports.amiss()
        for name, model in self._models.items():
            lines += describe(model, self._lost.get(name, {}), self._log_probs)
        return lines + self._retries.damaged_steps()

    def seeds(self, name: str) -> set[str]:
        """Return the seeds of a model that are to be compared: as listed, or those found so far."""
        model = self._models[name]
        known = self._writer.ledger.model(name).seeds
        return model.listed_seeds or {seed for seed in known if model.accepts(seed)}

    def discovers(self, name: str) -> bool:
        """Return whether seeds of a model may come that nobody has named."""
        return self._models[name].listed_seeds is None

    def _find_gone(self, name: str, there: set[Key], found: Listing) -> dict[Key, str]:
        """Return checkpoints that were deleted before they were scored, until they are back."""
        known, gone = self._writer.ledger.model(name), self._gone[name]
        for key in there & gone.keys():
            del gone[key]
        once = self._seen[name] | found.announced
        if self._models[name].listed is None:
            once |= known.planned  # as it was found
        parked = {key for key in known.failed if known.failures[key].parked}  # its reason stays
        once -= there | found.ambiguous.keys() | gone.keys() | known.scored.keys() | parked
        if self._models[name].source_kind.captured:
            once -= known.missing.keys()  # its reason stays
        once = {key for key in once if self._models[name].asks_for(key)}  # still
        source = self._sources[name]
        self.lose(name, [key for key in _ordered(once) if source.checkpoint(key).gone()])
        self._seen[name] |= there
        return dict(gone)

    def _excuse_deleted(self, name: str, found: Listing) -> None:
        """Excuse scored checkpoints that were deleted from the probes they were not asked yet."""
        model, known = self._models[name], self._writer.ledger.model(name)
        if found.errors:  # then it is not known what is there
            return
        lost = [
            key
            for key in known.scored.keys() - found.there - found.ambiguous.keys()
            if model.asks_for(key) and key not in self._gone[name]
        ]
        for probe in self._probes:
            gone = _ordered([key for key in lost if known.unasked(key, [probe])])
            if gone:
                self._writer.probes.excuse(name, probe, gone)
                self._reports.unprobed(name, probe, gone)

    def lose(self, model: str, keys: Sequence[Key]) -> None:
        """Note checkpoints that were deleted before they were scored, or scored again."""
        if not keys:  # of a new model no arrays are made before the length of their axes is known
            return
        source, known = self._sources[model], self._writer.ledger.model(model)
        where = {key: source.checkpoint(key).where() for key in keys}
        lost = {
            key: f"{where[key]} is gone: deleted before it was "
            + ("scored again" if key in known.scored else "scored")
            for key in keys
        }
        new = [why for key, why in lost.items() if known.missing.get(key) != why]
        self._gone[model] |= lost
        self._writer.plan(model, [], {k: why for k, why in lost.items() if k not in known.scored})
        if new:
            more = f" (and {len(new) - 1} more)" if len(new) > 1 else ""
            self._session.say("warning", "gone", f"model {model}: {new[0]}{more}", model=model)

    def lose_unprobed(self, model: str, key: Key, probes: Collection[str]) -> None:
        """Note that a checkpoint was deleted before it was asked `probes`; its results stay."""
        where = self._sources[model].checkpoint(key).where()
        why = f"{where} is gone: deleted before it was asked probe {', '.join(probes)}"
        self._gone[model][key] = why
        for probe in probes:
            self._writer.probes.excuse(model, probe, [key])
        self._session.say("warning", "gone", f"model {model}: {why}", model=model)

    def release_announcements(self) -> None:
        """Release what was announced and is not needed any more."""
        self._releases.release(self._announcements, self._gone)

    def report_unasked(self, name: str, key: Key) -> None:
        """Report which probes a captured checkpoint, now scored, has no answers to."""
        known = self._writer.ledger.model(name)
        for probe in known.unasked(key, self._probes):
            if key not in known.probe_failures.get(probe, {}):
                self._reports.unprobed(name, probe, [key])

    def report_found(self, available: Mapping[str, set[Key]]) -> None:
        """Report what was found, before hours are spent on it; and what stays parked."""
        for name, keys in available.items():
            self._reports.found(name, keys, self._refused[name], self._gone[name])

    def report_lonely(self) -> None:
        """Report models without two seeds to compare, when no more will come."""
        for name, keys in self._available.items():
            self._reports.lonely(name, keys)

    def report_parked(self) -> None:
        """Report what earlier engines parked and this one will not try again either."""
        self._reports.parked()

    def count(self) -> dict[str, int]:
        """Return what was wrong when the sources were last looked at, as fields of `Totals`.

        What could not be scored counts as failed, whoever tried it, until it is.
        """
        counts = self._retries.count()
        counts["failed"] += len(self._reports.amiss())
        uncompared = sum(map(len, self._lost.values()))
        return {**counts, "missing": sum(self._missing.values()), "uncompared": uncompared}

    # -- what is left --------------------------------------------------------------------------

    def remaining(
        self, available: Mapping[str, Collection[Key]], *, newest_first: bool = False
    ) -> list[Step]:
        """Return steps with something left to do, ascending; or the newest of every model first.

        Probes come after all else, where a step `only_probes`.
        """
        ranked = []
        for place_of_model, (name, keys) in enumerate(available.items()):
            held = self._retries.held_steps(name)
            unasked = self._retries.held_probes(name, self._signature(name))
            steps = remaining(
                self._writer.ledger, name, set(keys), held, self._asked(name), unasked, self._keeps,
                self._end,
            )  # fmt: skip
            if newest_first:
                ranks = list(enumerate(reversed(steps)))
            else:
                ranks = [(step.step, step) for step in steps]
            ranked += [
                ((self.only_probes(step), step.step != self._end), rank, place_of_model, step)
                for rank, step in ranks
            ]
        ordered = [step for *_, step in sorted(ranked, key=lambda entry: entry[:3])]
        self._session.show(queued=sum(len(step.score) for step in ordered))
        return ordered

    def _asked(self, model: str) -> Collection[str]:
        """Return the probes that checkpoints are asked once they are scored.

        Captured ones have answered by then: nothing is left that could be asked.
        """
        return () if self._models[model].source_kind.captured else self._probes

    def only_probes(self, step: Step) -> bool:
        """Return whether it is only to be probed, and no downloaded checkpoint waits for that."""
        return step.seed is not None and self._models[step.model].cache == "keep"

    def left(self) -> list[Step]:
        """Return steps with something left to do of what was there at the last look."""
        return self.remaining(self._available)

    def remaining_of(self, model: str, step: int, available: Available) -> list[Step]:
        """Return what is left to do of one step, and can be done now."""
        known = self._writer.ledger.model(model)
        there = available[model] - self._gone[model].keys() - known.failed.keys()
        return remaining_of(
            known,
            model,
            step,
            {seed for seed, at in there if at == step},
            reducible=step not in self._retries.held_steps(model),
            probes=self._asked(model),
            held=self._retries.held_probes(model, self._signature(model)),
            keeps=self._keeps,
            end=self._end,
        )

    def not_compared_with_end(self) -> list[Step]:
        """Return steps that were reduced before the step `end` was, and can be compared with it."""
        return [
            Step(name, step, (), reduce=True)
            for name in self._models
            for known in [self._writer.ledger.model(name)]
            for step in sorted(known.reduced)
            if lacks_end(known, step, self._end) and step not in self._retries.held_steps(name)
        ]

    def _signature(self, name: str) -> Callable[[Key], object]:
        """Return what gives the signature of a model's checkpoints."""
        return lambda key: self._sources[name].checkpoint(key).signature()

    def complete(self) -> bool:
        """Return whether every checkpoint that is listed was scored, is parked or will not come.

        And nothing waits for another try at reducing a step, or asking a probe.
        """
        for name in self._models:
            probes = self._retries.failed_probes(name).values()
            if self._retries.awaits_step(name) or not all(failure.parked for failure in probes):
                return False
            known = self._writer.ledger.model(name)
            done = known.scored.keys() | self._refused[name].keys() | self._passed[name]
            done |= self._gone[name].keys()
            if self._models[name].source_kind.captured:
                done |= known.missing.keys()  # as training gave them up
            done |= {key for key, found in self._retries.failed(name).items() if found.parked}
            if not known.planned or not known.planned <= done:
                return False
        return True


def _ordered(keys: Collection[Key]) -> list[Key]:
    return sorted(keys, key=place)
