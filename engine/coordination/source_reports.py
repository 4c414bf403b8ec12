"""Report on the sources: checkpoints found, wrong, or waited for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from engine.coordination.planner import has_no_pairs
from engine.coordination.retries import Retries
from engine.coordination.session import Session
from engine.events import Level
from engine.sources.base import Listing, Source
from engine.study_file.models_section import ModelSection
from engine.workers.messages import seed_order
from store.schema import Key
from store.words import counted, quoted
from store.writing import StudyWriter


class SourceReports:
    """Reports each finding once, though it may be found often."""

    def __init__(
        self,
        models: Mapping[str, ModelSection],
        sources: Mapping[str, Source],
        writer: StudyWriter,
        session: Session,
        retries: Retries,
        end: int | None,
    ) -> None:
        """`end` is the step of the study's reference, if it has one."""
        self._end = end
        self._models, self._sources, self._writer = models, sources, writer
        self._session, self._retries = session, retries
        self._nothing: dict[str, str] = {}  # models with nothing to score or compare, and why
        self._failing: dict[str, tuple[str, ...]] = {}  # errors of each source when last asked
        self._reported: set[tuple[str, str]] = set()

    def once(self, model: str, level: Level, event: str, text: str, kind: str = "") -> None:
        """Report something once; of a `kind`, only the first."""
        if (model, kind or text) in self._reported:
            return
        self._reported.add((model, kind or text))
        self._session.say(level, event, text, **({"model": model} if model else {}))

    def amiss(self) -> list[str]:
        """Return what is wrong, a line each: errors of sources, models with nothing to compare."""
        failing = [
            f"model {name}: {text}" for name, errors in self._failing.items() for text in errors
        ]
        return [*failing, *self._nothing.values()]

    def fails(self, name: str) -> bool:
        """Return whether a model's source could not answer when it was last asked."""
        return bool(self._failing.get(name))

    def troubles(self, name: str, found: Listing) -> None:
        """Report what a source could not find out, and when it answers again."""
        for text in found.warnings:
            self.once(name, "warning", "source", f"model {name}: {text}")
        for text in found.errors:
            self.once(name, "error", "source", f"model {name}: {text}")
        if self._failing.get(name) and not found.errors:
            self._reported = {(model, text) for model, text in self._reported if model != name}
            text = f"model {name}: its source can be asked again"
            self._session.say("info", "source", text, model=name)
        self._failing[name] = found.errors

    def parked(self) -> None:
        """Report what earlier engines parked and this one will not try again either."""
        for name in self._models:
            found = {("", key): failure for key, failure in self._retries.failed(name).items()}
            found |= self._retries.failed_probes(name)
            parked = [which for which, failure in found.items() if failure.parked]
            if parked:
                first = min(parked, key=lambda it: (it[0], *place(it[1])))
                probe, (seed, step) = first
                text = f"probe {probe} of " if probe else ""
                text += f"seed {seed}, step {step:,} is parked: {found[first].error}"
                text += _more(parked)
                text = f"model {name}: {text}; --retry-failed tries again what is parked"
                self._session.say("warning", "parked", text, model=name, parked=len(parked))

    def unprobed(self, name: str, probe: str, gone: Sequence[Key]) -> None:
        """Report scored checkpoints that were deleted before they were asked a probe."""
        (seed, step), n = gone[0], len(gone)
        if self._models[name].source_kind.captured:
            text = (
                f"model {name}: seed {seed}, step {step:,} was captured without probe {probe}, and "
                "cannot be asked it any more: its work order did not have it, or its answers were "
                "damaged. Others like it are not reported"
            )
            self.once(name, "warning", "gone", text, kind=f"unprobed {probe}")
            return
        are, more = ("are", f", and {n - 1} more") if n > 1 else ("is", "")
        self.once(
            name,
            "warning",
            "gone",
            f"model {name}: {counted(n, 'scored checkpoint')} {are} not at the source "
            f"any more and cannot be asked probe {probe}: seed {seed}, step {step:,}{more}",
        )

    def ambiguous(self, name: str, scored: Sequence[Key], found: Listing) -> None:
        """Report checkpoints that were scored and have become ambiguous.

        Those that are not scored are refused, and reported as such.
        """
        if scored:
            text = f"model {name}: {found.ambiguous[scored[0]]}{_more(scored)}"
            self.once(name, "warning", "refused", f"{text} Results that are there stay")

    def waiting(self, name: str, refused: Mapping[Key, str], *, nothing: bool) -> None:
        """Report why what is there is not taken while waiting for more; or that nothing is."""
        source = self._sources[name]
        for key, why in refused.items():
            kind = why.replace(source.checkpoint(key).where(), "")
            self.once(name, "warning", "refused", f"model {name}: {why}", kind)
        if nothing and not self._models[name].source_kind.downloads:
            text = self._nothing_fits(name, refused)
            level: Level = "warning" if source.hint() else "info"
            self.once(name, level, "waiting", f"model {name}: {text}; waiting for it", "waiting")

    def found(
        self,
        name: str,
        keys: set[Key],
        refused: Mapping[Key, str],
        gone: Collection[Key],
    ) -> None:
        """Report what was found of a model, before hours are spent on it.

        Those that are `gone` were reported before.
        """
        known = self._writer.ledger.model(name)
        if not keys and (self._failing[name] or not known.scored):
            if not self._failing[name] and not self._retries.failed(name):  # else that is reported
                self._nothing[name] = f"model {name}: {self._nothing_fits(name, refused)}"
                self._session.say("error", "nothing", self._nothing[name], model=name)
            return
        seeds = sorted({seed for seed, _ in keys}, key=seed_order)
        steps = {step for _, step in keys}
        numbers = {"checkpoint": keys, "seed": seeds, "step": steps}
        text = ", ".join(counted(len(these), noun) for noun, these in numbers.items())
        if self._models[name].source_kind.captured:  # the others were released
            were = "was" if len(known.scored) == 1 else "were"
            before = counted(len(known.scored), "checkpoint")
            text += f" captured since; {before} {were} scored before"
        self._session.say("info", "found", f"model {name}: {text}", model=name)
        absent = [why for k, why in known.missing.items() if k not in keys and k not in gone]
        if absent:
            text = f"model {name}: {absent[0]}{_more(absent)}"
            self._session.say("warning", "missing", text, model=name)
        for why in self._named_in_vain(name, keys | {*known.scored, *known.missing}):
            self.once(name, "warning", "missing", f"model {name}: {why}")
        self.lonely(name, keys)

    def _named_in_vain(self, name: str, keys: set[Key]) -> Iterator[str]:
        """Yield what the study file names and none of these checkpoints has."""
        seeds = {seed for seed, _ in keys}
        for group, members in self._models[name].groups.items():
            if absent := sorted(set(members) - seeds, key=seed_order):
                yield (
                    f"groups.{quoted(group)}: there is no checkpoint of seed {', '.join(absent)}; "
                    "correct it, or run again once there is one"
                )
        if self._end is not None and self._end not in {step for _, step in keys}:
            yield (
                f"reference.end: there is no checkpoint of step {self._end}, so nothing is "
                "compared with it; run again once there is one"
            )

    def lonely(self, name: str, keys: set[Key]) -> None:
        """Report a model without two seeds to compare; once."""
        why = has_no_pairs(self._writer.ledger.model(name), keys)
        if why is None:
            self._nothing.pop(name, None)
        elif name not in self._nothing:
            self._nothing[name] = f"model {name}: {why}"
            self._session.say("error", "lonely", self._nothing[name], model=name)

    def _nothing_fits(self, name: str, refused: Mapping[Key, str]) -> str:
        model, reasons = self._models[name], list(refused.values())
        if reasons:
            return reasons[0] + _more(reasons)
        templates = list(model.templates.values())
        text = templates[0] + _more(templates)
        nothing = f"{model.source_kind.nothing_fits} {text}"
        if model.source_kind.downloads:
            missing = self._writer.ledger.model(name).missing
            return f"{nothing}: {next(iter(missing.values()))}" if missing else nothing
        if near := self._sources[name].hint():
            return f"{nothing}; {near}"
        hint = "; on the Hub, write hf://owner/name@revision" if text.count("/") == 1 else ""
        return f"{nothing}{hint}"


def place(key: Key) -> tuple[int, tuple[bool, int, str]]:
    """Return the sort key of a checkpoint: by step, then seed."""
    return key[1], seed_order(key[0])


def _more(of: Collection[object]) -> str:
    return f" (and {len(of) - 1} more)" if len(of) > 1 else ""
