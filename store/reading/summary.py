"""Summaries of one model by the levels of one category, as plain arrays."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from store.errors import DamagedError, from_extra
from store.reading.recorded_means import numbers_checksum
from store.reading.study_reader import StudyReader
from store.schema import layout
from store.schema.array_types import Floats
from store.schema.ensemble import ENDS, ENSEMBLE_METRICS, STATISTICS
from store.schema.packed import checksum_at
from store.schema.reference import REFERENCE_METRICS, references_of
from store.schema.seed_pairs import ordered_pairs
from store.schema.variable import PERCENTILES
from store.statistics.intervals import FEWEST_SEEDS
from store.storage.arrays import Array, read, read_cells

if TYPE_CHECKING:
    import xarray


@cache
def by_level(divergences: tuple[str, ...]) -> tuple[str, ...]:
    """Return the summaries by level of a study, in the order of the checksums in records."""
    summaries = layout.summaries_of(divergences)
    return tuple(name for name, variable in summaries.items() if "level" in variable.dims)


OfStep = Callable[[str, str], Floats]  # name of a summary, category -> one step's ([...,] level)


@dataclass(frozen=True)
class Summary:
    """A model's results by level. NaN where a step is not summarised or a level is empty."""

    model: str
    category: str
    description: str
    step_of_levels: int | None  # the levels are made of this step's results; None: of the corpus
    labels: tuple[str, ...]  # (level,), untrusted
    counts: NDArray[np.int64]  # (level,) tokens
    steps: NDArray[np.int64]  # (step,) ascending, everything that the model has
    seeds: tuple[str, ...]
    n_seeds: NDArray[np.int64]  # (step,) whose pairs were taken
    vocab_size: int
    expected_kl: NDArray[np.float64]  # (step, level) over tokens and ordered pairs, nats
    kl_low: NDArray[np.float64]  # (step, level) its 95 % interval; NaN below three seeds
    kl_high: NDArray[np.float64]
    cross_entropy: NDArray[np.float64]  # (step, seed, level) nats
    entropy: NDArray[np.float64]  # (step, seed, level) nats
    kl_unigram: NDArray[np.float64]  # (step, seed, level) from prediction to unigram, nats
    kl_percentile: NDArray[np.float64]  # (step, percentile, level) of tokens' KL, nats
    # Of a study that has it, else NaN:
    kl_to_mean: NDArray[np.float64]  # (step, seed, level) from seed to the mean of the seeds, nats
    ensemble: NDArray[np.float64]  # (step, statistic, level) see `of_ensemble`, nats
    # From seed to each reference, by name of the metric: (step, seed, level), nats; of a study that
    # has it. And the mean over seeds with the ends of its interval, (step, 3, level).
    to_reference: Mapping[str, NDArray[np.float64]]
    mean_to_reference: Mapping[str, NDArray[np.float64]]

    @cached_property
    def kl_uniform(self) -> NDArray[np.float64]:
        """KL from the prediction to the uniform distribution: log V - entropy, nats."""
        uniform: NDArray[np.float64] = np.log(self.vocab_size) - self.entropy
        return uniform

    def of_ensemble(self, name: str, end: str = "value") -> NDArray[np.float64]:
        """Return one of `ENSEMBLE_METRICS`, (step, level), nats; or an `end` of its interval."""
        place = [metric.name for metric in ENSEMBLE_METRICS].index(name)
        return self.ensemble[:, len(ENDS) * place + ENDS.index(end)]

    @property
    def has_ensemble(self) -> bool:
        """Return whether anything is known of the seeds' mean distribution."""
        return bool(np.isfinite(self.ensemble).any())

    def _values(self, name: str) -> NDArray[np.float64] | None:
        """Return what there is under a name of `layout.SUMMARIES`; None: nothing."""
        for metric in REFERENCE_METRICS:
            if name in (metric.name, metric.mean):
                own = self.to_reference if name == metric.name else self.mean_to_reference
                return own.get(metric.name)
        found: NDArray[np.float64] = getattr(self, name)
        return found

    def dataset(self) -> xarray.Dataset:
        """Return the same as an `xarray.Dataset`. Needs the extra `xarray`."""
        with from_extra("a dataset", "xarray"):
            import xarray  # slow to import

        variables = {}
        for name, variable in layout.SUMMARIES.items():
            if "level" in variable.dims and not variable.by_pair:
                attributes = {"units": variable.units, "long_name": variable.description}
                found = self._values(name)
                if found is not None:
                    variables[name] = xarray.Variable(variable.dims, found, attributes)
        variables["kl_uniform"] = xarray.Variable(
            ("step", "seed", "level"),
            self.kl_uniform,
            {
                "units": "nats",
                "long_name": "KL divergence from the prediction to the uniform distribution",
            },
        )
        return xarray.Dataset(
            variables,
            coords={
                "step": ("step", self.steps),
                "seed": ("seed", list(self.seeds)),
                "level": ("level", list(self.labels)),
                "percentile": ("percentile", list(PERCENTILES)),
                "statistic": ("statistic", list(STATISTICS)),
                **({"end": ("end", list(ENDS))} if self.to_reference else {}),
                "n": ("level", self.counts),
                "n_seeds": ("step", self.n_seeds),
            },
            attrs={
                "model": self.model,
                "category": self.category,
                "description": self.description,
            },
        )


class SummaryReader:
    """Read committed summaries of one model; other cells are NaN and never read."""

    def __init__(self, study: StudyReader, model: str) -> None:
        self._study, self._model = study, model
        self._known = study.ledger(model)
        self._by_level = by_level(study.divergences)
        self.steps = np.array(sorted(self._known.steps), np.int64)
        self._order = [self._known.steps[int(step)] for step in self.steps]
        # What `of_step` has read, by name: index of the first step, values, levels.
        self._held: dict[str, tuple[int, Floats, int]] = {}

    @property
    def summarised(self) -> NDArray[np.bool_]:
        """Steps that are summarised at all, (step,)."""
        return np.array([step in self._known.summaries for step in self.steps.tolist()], bool)

    def valid(self, category: str) -> NDArray[np.bool_]:
        """Return the steps at which the category's present levels are summarised, (step,)."""
        partition = self._study.partition(self._model, category)
        return np.array(
            [
                partition is not None
                and (found := self._known.summaries.get(int(step))) is not None
                and found.categories.get(category) == partition.digest
                for step in self.steps
            ],
            bool,
        )

    def read(
        self, name: str, category: str, steps: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float64]:
        """Return values of `layout.SUMMARIES[name]`: (step[, ...], level), steps ascending.

        Given `steps`, (step,), the others are not read and NaN.

        Raise DamagedError when what was committed cannot be read.
        """
        variable, known = layout.SUMMARIES[name], self._known
        valid, span = self.valid(category), self._study.levels(category)
        valid = valid if steps is None else valid & steps
        sizes = len(known.steps), len(known.seeds), self._study.n_tokens, span.stop
        committed = np.zeros(variable.shape(*sizes), bool)
        for step in self.steps[valid].tolist():
            seeds = sorted(known.seeds[seed] for seed in known.summaries[step].seeds)
            committed[variable.cells(known.steps[step], seeds, span)] = True
        values = read_cells(self._array(name), committed)
        for step in self.steps[valid].tolist():
            self._refuse_others(name, category, step, values)
        return values[self._order][..., span.start :]

    def expect_whole(
        self, category: str, full: NDArray[np.bool_], values: Mapping[str, NDArray[np.float64]]
    ) -> None:
        """Raise DamagedError when one of the values that `read` gave lacks what was committed.

        As in a copy that still grows, whose log is ahead of its data. `full`, (level,), are the
        levels that have tokens: others are NaN.
        """
        for at in np.flatnonzero(self.valid(category)):
            step = int(self.steps[at])
            for name, of in values.items():
                if self.lacks(name, category, step, of[at], full):
                    path = f"{self._study.path}/{layout.model_path(self._model)}/{layout.SUMMARY}"
                    raise DamagedError(
                        f"{path}/{name}: lacks values that were committed to it, by {category} at "
                        f"step {step}"
                    )

    def lacks(
        self,
        name: str,
        category: str,
        step: int,
        values: NDArray[np.float64],
        full: NDArray[np.bool_],
    ) -> bool:
        """Return whether one step's values, ([...,] level), lack some of levels that have tokens.

        Not so of those that the record has the checksum of, nor where the NaN comes from a token
        whose result is not finite. Raise DamagedError.
        """
        summary = self._known.summaries[step]
        if checksum_at(summary.sums.get(category), self._by_level.index(name)) is not None:
            return False  # else that was said when they were read
        of_set = layout.SET_OF_SUMMARY.get(name)
        if of_set is not None and self._known.set_with(step, of_set) is None:
            return False  # without any result
        labels = [seed for seed in self._known.seeds if seed in summary.seeds]
        if not _lacks_values(name, values, [self._known.seeds[seed] for seed in labels], full):
            return False
        of = of_set or OF_SEED.get(name)
        finite = partial(self._study.all_finite, self._model)
        if of is not None:
            return all(finite(of, seed, step) for seed in labels)
        return all(finite("kl", i, step, j) for i, j in itertools.permutations(labels, 2))

    def at(self, step: int, name: str, category: str) -> NDArray[np.float64]:
        """Return the same of one step that is summarised: ([...,] level)."""
        t = self._known.steps[step]
        block = self._read_steps(name, t, t + 1, self._study.levels(category).stop)
        return self._of_block(block, t, step, name, category)

    def of_step(self, step: int, categories: Iterable[str]) -> OfStep:
        """Return what does as `at`, of these categories of a step.

        It reads each chunk once, for all of them and for the steps that follow, and believes from
        then on what it has read.
        """
        t = self._known.steps[step]
        stop = max((self._study.levels(name).stop for name in categories), default=0)

        @cache
        def at(name: str, category: str) -> Floats:
            held = self._held.get(name)
            if held is None or not held[0] <= t < held[0] + len(held[1]) or held[2] < stop:
                array = self._array(name)
                first = t - t % array.chunks[0]
                last = min(first + array.chunks[0], len(self._known.steps))
                block = self._read_steps(name, first, last, stop)
                held = self._held[name] = first, block, stop
            return self._of_block(held[1], held[0], step, name, category)

        return at

    def _read_steps(self, name: str, start: int, end: int, stop: int) -> Floats:
        """Return values of these steps, by index, up to a level: (step[, ...], level)."""
        inner = (slice(None),) * (len(layout.SUMMARIES[name].dims) - 2)
        return read(self._array(name), (slice(start, end), *inner, slice(0, stop)))

    def _of_block(self, block: Floats, first: int, step: int, name: str, category: str) -> Floats:
        """Return one step's values, out of those of steps from the index `first` on."""
        span = self._study.levels(category)
        self._refuse_others(name, category, step, block, first=first)
        return np.asarray(block[self._known.steps[step] - first][..., span.start : span.stop])

    def pairs(self, step: int) -> NDArray[np.float64]:
        """Return the KL of the pairs that a step is summarised of, all categories at once, nats.

        (seed, other_seed, level), seeds in the study's order; NaN on the diagonal.
        """
        members = self._known.summaries[step].seeds
        seeds = [index for seed, index in self._known.seeds.items() if seed in members]
        every = slice(None)
        t = self._known.steps[step]
        row = read(self._array("kl"), (slice(t, t + 1), every, every, every))
        for category, digest in self._known.summaries[step].categories.items():
            partition = self._study.partition(self._model, category)
            if partition is not None and partition.digest == digest:
                self._refuse_others("kl", category, step, row, first=t)
        return np.asarray(row[0][np.ix_(seeds, seeds)], np.float64)

    def _refuse_others(
        self, name: str, category: str, step: int, values: NDArray[np.float64], first: int = 0
    ) -> None:
        """Raise DamagedError when a step's numbers are not those that were committed.

        `values` begin with the index `first` on the axis `step`.
        """
        summary, known = self._known.summaries[step], self._known
        recorded = checksum_at(summary.sums.get(category), self._by_level.index(name))
        if recorded is None:
            return
        variable, span = layout.SUMMARIES[name], self._study.levels(category)
        seeds = sorted(known.seeds[seed] for seed in summary.seeds)
        cells = variable.cells(known.steps[step] - first, seeds, span)
        if numbers_checksum(values[cells]) != recorded:
            path = f"{self._study.path}/{layout.model_path(self._model)}/{layout.SUMMARY}"
            gone = bool(np.isnan(values[cells]).all())
            what = "lacks values that were committed to it" if gone else "is not what was committed"
            raise DamagedError(f"{path}/{name}: {what}, by {category} at step {step}")

    def _array(self, name: str) -> Array:
        return self._study.array(self._model, f"{layout.SUMMARY}/{name}")


OF_SEED = {"cross_entropy": "surprisal", "entropy": "entropy", "kl_unigram": "kl_unigram"}
"""By summary of each seed: the results per token that it is a mean of."""


def _lacks_values(
    name: str, values: NDArray[np.float64], seeds: Sequence[int], full: NDArray[np.bool_]
) -> bool:
    """Return whether one step's values have NaN in levels that have tokens."""
    if name in ("kl_low", "kl_high") and len(seeds) < FEWEST_SEEDS:
        return False
    variable = layout.SUMMARIES[name]
    if variable.dims[1] in ("statistic", "end") and len(seeds) < FEWEST_SEEDS:
        values = values[:: len(ENDS)]
    if variable.by_pair:
        values = values[np.ix_(seeds, seeds)][ordered_pairs(len(seeds))]
    elif "seed" in variable.dims:
        values = values[seeds]
    return bool(np.isnan(values[..., full]).any())


def read_summary(study: StudyReader, model: str, category: str) -> Summary:
    """Read a category's summaries, all of one moment. Raise StoreError, DamagedError."""
    steps = tuple(study.ledger(model).summaries)
    return study.consistent({model: steps}, lambda: _read_summary(study, model, category))


def _read_summary(study: StudyReader, model: str, category: str) -> Summary:
    found, partition = study.category(model, category), study.partition(model, category)
    reader, known = SummaryReader(study, model), study.ledger(model)
    valid = reader.valid(category)
    n_seeds = [
        len(known.summaries[int(step)].seeds) if at else 0
        for step, at in zip(reader.steps, valid, strict=True)
    ]
    values = {
        name: reader.read(name, category)
        for name, variable in layout.summaries_of(study.divergences).items()
        if "level" in variable.dims and not variable.by_pair
    }
    reader.expect_whole(category, found.counts > 0, values)
    sizes = len(known.steps), len(known.seeds), 0, len(found.labels)
    for name in layout.SUMMARIES.keys() - layout.summaries_of(study.divergences).keys():
        values[name] = np.full(layout.SUMMARIES[name].shape(*sizes), np.nan)
    references = references_of(study.divergences)
    to_reference = {metric.name: values[metric.name] for metric in references}
    of_mean = {metric.name: values[metric.mean] for metric in references}
    for metric in REFERENCE_METRICS:
        del values[metric.name], values[metric.mean]
    return Summary(
        model=model,
        category=category,
        description=found.description,
        step_of_levels=partition.step if partition else None,
        labels=found.labels,
        counts=found.counts,
        steps=reader.steps,
        seeds=tuple(known.seeds),
        n_seeds=np.array(n_seeds, np.int64),
        vocab_size=study.vocab_size,
        to_reference=to_reference,
        mean_to_reference=of_mean,
        **values,
    )
