"""The commit log, folded: the planned, committed, failed and summarised parts of a study."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from store.commits.pair_sums import Pair, PairSums
from store.commits.seed_sets import SeedSet
from store.schema import layout
from store.schema.keys import CheckpointName, Key
from store.schema.schedule import Schedule, schedules_of
from store.schema.snapshot import Failure, Phase

Record = dict[str, Any]

RESULTS = tuple(name for name, v in layout.VARIABLES.items() if v.of_checkpoint)
"""Results of a checkpoint per token, in the order in which its record has their checksums."""

CHECKPOINT_MEANS = tuple(
    name for name, v in layout.VARIABLES.items() if not v.per_token and v.dims == ("step", "seed")
)
"""Means of a checkpoint, which its record has unchanged."""


@dataclass(frozen=True)
class Partition:
    """The log's record of a category; its levels are in an array of that name."""

    digest: str
    step: int | None = None  # of the results that it was made of, when it is a model's own


@dataclass(frozen=True)
class Summarised:
    """The readable summaries of a step."""

    seeds: frozenset[str]  # of whose pairs they are
    categories: dict[str, str]  # name -> digest of the partition that was summarised by
    cells: Any = None  # checksums of the chunks of `token_kl`
    sums: dict[str, Any] = field(default_factory=dict)  # category -> checksums of its numbers


@dataclass(frozen=True)
class ProbeEntry:
    """The log's record of a probe; its items are in an array of that name."""

    digest: str
    n_items: int
    n_variants: int


@dataclass
class ModelLedger:
    """The log's record of one model. `steps` and `seeds` are in the order of the arrays' axes."""

    steps: dict[int, int] = field(default_factory=dict)  # step -> index
    seeds: dict[str, int] = field(default_factory=dict)  # seed -> index
    planned: set[Key] = field(default_factory=set)
    scored: dict[Key, Record] = field(default_factory=dict)
    stored: set[Key] = field(default_factory=set)  # log-probs can be read
    reduced: dict[int, frozenset[str]] = field(default_factory=dict)  # step -> seeds, all pairs
    failed: dict[Key, str] = field(default_factory=dict)
    failures: dict[Key, Failure] = field(default_factory=dict)  # the last, until it succeeds
    missing: dict[Key, str] = field(default_factory=dict)
    phases: tuple[Phase, ...] = ()
    phases_seen: set[str] = field(
        default_factory=set
    )  # names of those that were ever recorded as settled
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)  # of seeds, as recorded
    categories: dict[str, Partition] = field(default_factory=dict)  # the model's own
    summaries: dict[int, Summarised] = field(default_factory=dict)  # by step
    probed: dict[str, set[Key]] = field(default_factory=dict)  # by probe
    wanted_again: set[Key] = field(default_factory=set)  # log-probs that were damaged
    # Checksums of chunks, where records have them: of log-probs by array, of answers by probe, of
    # reductions by step, newest last. Those of results are in the records of `scored`.
    log_prob_cells: dict[Key, dict[str, Any]] = field(default_factory=dict)
    probe_cells: dict[str, dict[Key, Any]] = field(default_factory=dict)
    pair_sums: dict[int, tuple[PairSums, ...]] = field(default_factory=dict)
    # By step, the seeds of whose mean distribution there are results; the step may have others.
    sets: dict[int, SeedSet] = field(default_factory=dict)
    # By probe, of scored checkpoints that could not be asked it: the last, until one can be.
    probe_failures: dict[str, dict[Key, Failure]] = field(default_factory=dict)
    changes: int = 0
    _bytes: tuple[int, int] = (-1, 0)  # `bytes_stored` as of `changes`

    @property
    def bytes_stored(self) -> int:
        """Bytes of the log-probs that can be read."""
        if self._bytes[0] != self.changes:
            total = sum(int(self.scored[key].get("bytes", 0)) for key in self.stored)
            self._bytes = (self.changes, total)
        return self._bytes[1]

    def apply(self, record: Record) -> None:
        """Take in a record of this model; what a log has most of comes first."""
        match record:
            case {"kind": "scored", "seed": str(seed), "step": int(step)}:
                key = (seed, step)
                self.scored[key] = record
                self.failed.pop(key, None)
                self.failures.pop(key, None)
                self.missing.pop(key, None)
                if record.get("log_probs"):
                    self.stored.add(key)
                    self.wanted_again.discard(key)
                    cells = record.pop("log_prob_cells", None)  # so that they go when those go
                    self.log_prob_cells[key] = cells if isinstance(cells, dict) else {}
            case {"kind": "reduced", "step": int(step), "seeds": list(seeds)}:
                self.reduced[step] = frozenset(map(str, seeds))
                made, before = SeedSet.of(record), self.sets.get(step)
                self._take_set(step, made.with_earlier(before) if made else before)
                sums = PairSums.of(record)
                self.pair_sums[step] = (
                    *(self.pair_sums.get(step, ()) if sums.before else ()),
                    sums,
                )
            case {"kind": "summarised", "step": int(step), "seeds": list(seeds)}:
                digests = dict(record.get("categories", {}))
                sums_by = record.get("sums")
                self.summaries[step] = Summarised(
                    frozenset(map(str, seeds)),
                    digests,
                    record.get("cells"),
                    sums_by if isinstance(sums_by, dict) else {},
                )
            case {"kind": "axis", "steps": list(steps), "seeds": list(seeds)}:
                for step in steps:
                    self.steps.setdefault(int(step), len(self.steps))
                for seed in seeds:
                    self.seeds.setdefault(str(seed), len(self.seeds))
            case {"kind": "planned", "seed": str(seed), "steps": list(steps)}:
                for step in steps:
                    self.planned.add((seed, int(step)))
                    self.failed.pop((seed, int(step)), None)
                    self.missing.pop((seed, int(step)), None)
            case {"kind": "failed", "seed": str(seed), "step": int(step), "error": str(error)}:
                self.failed[seed, step] = error
                self.failures[seed, step] = _failure(record, error)
            case {"kind": "missing", "seed": str(seed), "step": int(step), "error": str(error)}:
                self.missing[seed, step] = error
            case {"kind": "unplanned", "seed": str(seed), "steps": list(steps)}:
                for step in steps:
                    self.planned.discard((seed, int(step)))
                    for why in (self.failed, self.failures, self.missing):
                        why.pop((seed, int(step)), None)
            case {"kind": "probed", "probe": str(probe), "seed": str(seed), "step": int(step)}:
                self.probed.setdefault(probe, set()).add((seed, step))
                self.probe_cells.setdefault(probe, {})[seed, step] = record.get("cells")
                self.probe_failures.get(probe, {}).pop((seed, step), None)
            case {
                "kind": "probe_failed",
                "probe": str(probe),
                "seed": str(seed),
                "step": int(step),
                "error": str(error),
            }:
                found = self.probe_failures.setdefault(probe, {})
                found[seed, step] = _failure(record, error)
            case {"kind": "unprobed", "probe": str(probe), "seed": str(seed), "step": int(step)}:
                self.probed.get(probe, set()).discard((seed, step))
                self.probe_failures.get(probe, {}).pop((seed, step), None)
            case {"kind": "pruned", "step": int(step), "seeds": list(seeds)}:
                gone = {(str(seed), step) for seed in seeds}
                self.stored -= gone
                self.wanted_again -= gone
                if record.get("again"):
                    self.wanted_again |= gone
                for key in gone:
                    self.log_prob_cells.pop(key, None)
            case {"kind": "forgotten", "step": int(step), "what": "summaries"}:
                self.summaries.pop(step, None)
            case {"kind": "forgotten", "step": int(step), "seeds": list(seeds), "what": str(what)}:
                self.forget(step, frozenset(map(str, seeds)), pairs_only=what == "pairs")
            case {"kind": "groups", "groups": dict(groups)}:
                self.groups = {str(name): tuple(map(str, seeds)) for name, seeds in groups.items()}
            case {"kind": "phases", "names": list(names), "starts": list(starts)}:
                if record.get("settled", True):
                    self.phases_seen.update(map(str, names))
                sure = (record[key] for key in ("lows", "highs", "supports"))
                self.phases = tuple(
                    Phase(str(name), int(start), *rest)
                    for name, start, *rest in zip(names, starts, *sure, strict=True)
                )

    def forget(self, step: int, seeds: frozenset[str], *, pairs_only: bool) -> None:
        """Take results back: what is forgotten is as if it had only been planned."""
        self.summaries.pop(step, None)
        left = self.reduced.pop(step, frozenset()) - seeds
        if len(left) > 1:
            self.reduced[step] = left
        else:
            self.pair_sums.pop(step, None)
        self._take_set(step, self.sets.get(step))
        if not pairs_only:
            for seed in seeds:
                self.scored.pop((seed, step), None)
                self.stored.discard((seed, step))
                self.wanted_again.discard((seed, step))
                self.log_prob_cells.pop((seed, step), None)
                for probed in self.probed.values():
                    probed.discard((seed, step))
                for found in self.probe_failures.values():
                    found.pop((seed, step), None)

    def _take_set(self, step: int, found: SeedSet | None) -> None:
        """Keep what there is of these seeds together, unless others are compared at the step."""
        self.sets.pop(step, None)
        if found is not None and self.reduced.get(step) == frozenset(found.seeds):
            self.sets[step] = found

    def errors(self) -> dict[Key, str]:
        """Return why checkpoints are missing or failed, and what is next for the failed."""
        told = {key: error for key, error in self.missing.items() if self.has(key)}
        for key, failure in self.failures_now().items():
            error = self.failed[key]
            told[key] = error if failure.time is None else f"{error} ({failure.fate})"
        return told

    def failures_now(self) -> dict[Key, Failure]:
        """Return the failures of checkpoints that failed and were not planned again since."""
        return {key: self.failures[key] for key in self.failed if self.has(key)}

    def captured(self) -> frozenset[Key]:
        """Return checkpoints whose results are what training handed over: they cannot be redone."""
        return frozenset(key for key, record in self.scored.items() if record.get("captured"))

    def has(self, key: Key) -> bool:
        """Return whether a checkpoint is on the axes: a log from elsewhere may name others."""
        return key[0] in self.seeds and key[1] in self.steps

    def unasked(self, key: Key, probes: Iterable[str]) -> tuple[str, ...]:
        """Return those of these probes that a checkpoint was not asked yet."""
        return tuple(probe for probe in probes if key not in self.probed.get(probe, ()))

    def pair_checksums(self, step: int, name: str, pair: Pair) -> tuple[str | None, ...]:
        """Return the checksums of the chunks of a pair's results; none when no record has them."""
        for sums in reversed(self.pair_sums.get(step, ())):
            found = sums.checksums(name, pair)
            if found is not None:
                return found
        return ()

    def set_with(self, step: int, name: str) -> SeedSet | None:
        """Return whose results of this name there are at a step, of all seeds together."""
        found = self.sets.get(step)
        return found if found is not None and name in found.cells else None

    def scored_at(self, step: int) -> frozenset[str]:
        """Return the seeds whose results at `step` are committed."""
        return frozenset(seed for seed in self.seeds if (seed, step) in self.scored)


@dataclass
class Ledger:
    """The commit log, folded."""

    models: dict[str, ModelLedger] = field(default_factory=dict)
    categories: dict[str, Partition] = field(default_factory=dict)  # of the corpus alone
    levels: dict[str, range] = field(default_factory=dict)  # category -> its part of the axis
    n_levels: int = 0
    probes: dict[str, ProbeEntry] = field(default_factory=dict)
    schedules: dict[str, Schedule] = field(default_factory=dict)  # learning rates, as recorded
    writers: list[str] = field(default_factory=list)  # one per session
    session: Record | None = None
    ended: str | None = None  # how the last session ended; None: it did not say
    changes: int = 0
    # By the fingerprint of its weights: the first that had them, and where several do, all of them
    _first: dict[str, CheckpointName] = field(default_factory=dict)
    _shared: dict[str, list[CheckpointName]] = field(default_factory=dict)  # oldest first

    def model(self, name: str) -> ModelLedger:
        """Return the model's ledger, made empty when it is new."""
        if name not in self.models:
            self.models[name] = ModelLedger()
        return self.models[name]

    def duplicates(self, model: str) -> dict[Key, CheckpointName]:
        """Return the model's checkpoints with the weights of one scored before, and that one."""
        found: dict[Key, CheckpointName] = {}
        for fingerprint, group in self._shared.items():
            first, *others = [it for it in group if self._has(it, fingerprint)] or group[:1]
            found |= {(seed, step): first for name, seed, step in others if name == model}
        return found

    def _has(self, named: CheckpointName, fingerprint: str) -> bool:
        model, seed, step = named
        return self.models[model].scored.get((seed, step), {}).get("fingerprint") == fingerprint

    def _take_fingerprint(self, model: str, record: Record) -> None:
        if record.get("kind") != "scored":
            return
        named, fingerprint = (model, record["seed"], record["step"]), str(record["fingerprint"])
        first = self._first.setdefault(fingerprint, named)
        if first != named and named not in (group := self._shared.setdefault(fingerprint, [first])):
            group.append(named)

    @property
    def bytes_stored(self) -> int:
        """Bytes of all log-probs that can be read."""
        return sum(model.bytes_stored for model in self.models.values())

    def apply(self, record: Record) -> None:
        """Take one record in. Kinds that this version does not know change nothing."""
        self.changes += 1
        match record:
            case {"kind": "probed", "probe": str(probe), "digest": digest} if (
                probe not in self.probes or self.probes[probe].digest != digest
            ):
                return  # of items that are not those of the study any more
            case {"model": str(name)} if record.get("kind") != "category":
                model = self.model(name)
                model.changes = self.changes
                model.apply(record)
                if record.get("fingerprint"):
                    self._take_fingerprint(name, record)
            case {"kind": "category", "name": str(name)}:
                self._take_category(name, record)
            case {"kind": "probe", "name": str(name)}:
                self._take_probe(name, record)
            case {"kind": "learning_rate", "models": dict(models)}:
                self.schedules = schedules_of(models)
            case {"kind": "session"}:
                self.session, self.ended = record, None
                self.writers.append(str(record.get("writer")))
            case {"kind": "end", "how": str(how)}:
                self.ended = how

    def _take_category(self, name: str, record: Record) -> None:
        """Take in a partition, or that there is none until its next record."""
        categories = self.categories
        if "model" in record:
            model = self.model(str(record["model"]))
            model.changes, categories = self.changes, model.categories
        categories.pop(name, None)
        if record.get("digest") is None:
            return
        first, step = int(record["first"]), record.get("step")
        self.levels[name] = range(first, first + int(record["size"]))
        self.n_levels = max(self.n_levels, self.levels[name].stop)
        categories[name] = Partition(str(record["digest"]), None if step is None else int(step))

    def _take_probe(self, name: str, record: Record) -> None:
        """Take in a probe without results yet, or that there is none until its next record."""
        self.probes.pop(name, None)
        for model in self.models.values():
            asked, failed = model.probed.pop(name, None), model.probe_failures.pop(name, None)
            if asked or failed:
                model.changes = self.changes
        if record.get("digest") is not None:
            sizes = int(record["items"]), int(record["variants"])
            self.probes[name] = ProbeEntry(str(record["digest"]), *sizes)


def _failure(record: Record, error: str) -> Failure:
    fields = ("attempts", "time", "retry_at", "looks")
    return Failure(error, **{name: record[name] for name in fields if name in record})


def phases_record(model: str, phases: tuple[Phase, ...], *, settled: bool) -> Record:
    """Return the record that replaces the model's phases by these."""
    return {
        "kind": "phases",
        "model": model,
        "names": [phase.name for phase in phases],
        "starts": [phase.start for phase in phases],
        "lows": [phase.low for phase in phases],
        "highs": [phase.high for phase in phases],
        "supports": [phase.support for phase in phases],
        "settled": settled,
    }
