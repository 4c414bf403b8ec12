"""Reading back everything that a study has committed, to find what is damaged.

Never writes, and may run while an engine does: what is committed after it began is left out, and
what was dropped meanwhile is not damage.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

from store.commits.study_progress import read_root
from store.errors import DamagedError
from store.maintenance.verify_means import MeanChecker
from store.maintenance.verify_metadata import coordinate_damage, corpus_damage, metadata_damage
from store.maintenance.verify_probes import probe_damage, value_damage
from store.maintenance.verify_results import ResultReader, log_prob_damage
from store.maintenance.verify_summaries import category_damage, summary_damage
from store.reading.probe_arrays import loose_name, result_name
from store.schema import layout
from store.schema.damage import Damage, Part
from store.storage.metadata import expect_group
from store.study import Study, open_study


@dataclass(frozen=True)
class Checked:
    """One part that was read back. `done` of `total` parts are."""

    part: Part
    done: int
    total: int
    model: str | None = None
    seed: str | None = None
    step: int | None = None
    damage: tuple[Damage, ...] = ()


def verify(path: Path) -> Iterator[Checked]:
    """Read back everything that is committed in the study at `path`, part by part.

    Raise NotAStudyError when there is no study. Damage is yielded, never raised.
    """
    damage: list[Damage] = []
    try:
        root = read_root(path)
        study = open_study(path)
        expect_group(path, "", {"seedconv": root})
        expect_group(path, layout.MODELS, {})
    except DamagedError as error:
        damage.append(Damage(Part.STUDY, "", str(error)))
        yield Checked(Part.STUDY, 1, 1, damage=tuple(damage))
        return
    walk = _Walk(study)
    total = 3 + bool(study.probes()) + sum(walk.units(model) for model in study.models)
    done = itertools.count(1)
    for part, model, seed, step, found in itertools.chain(
        [
            (Part.STUDY, None, None, None, damage),
            (Part.CORPUS, None, None, None, corpus_damage(study)),
            (Part.CATEGORY, None, None, None, category_damage(study, None)),
        ],
        [(Part.PROBE, None, None, None, probe_damage(study))] if study.probes() else [],
        *(walk.model(name) for name in study.models),
    ):
        yield Checked(part, next(done), total, model, seed, step, tuple(found))


_Unit = tuple[Part, str | None, str | None, int | None, list[Damage]]


class _Walk:
    """Goes through one study. Each method returns the damage it found."""

    def __init__(self, study: Study) -> None:
        self.study = study
        self._results = ResultReader(study)
        self._means = MeanChecker(study, self._results.means)
        self._plans = {name: self._plan(name) for name in study.models}

    def _plan(self, model: str) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
        known = self.study.ledger(model)
        return (
            sorted(known.scored, key=itemgetter(1)),
            sorted(known.stored, key=lambda k: (k[1], k[0])),
            list(known.reduced),
            [(name, *key) for name in known.probed for key in sorted(known.probed[name])],
        )

    def units(self, model: str) -> int:
        """Return how many parts `model` yields."""
        return 5 + sum(map(len, self._plans[model]))

    def model(self, model: str) -> Iterator[_Unit]:
        """Read back all of one model."""
        scored, stored, reduced, probed = self._plans[model]
        yield Part.METADATA, model, None, None, self.metadata(model)
        yield Part.COORDINATES, model, None, None, coordinate_damage(self.study, model)
        for step, of_step in itertools.groupby(scored, itemgetter(1)):
            seeds = [seed for seed, _ in of_step]
            damage = self._results.of_checkpoints(model, step, seeds)
            for seed in seeds:
                yield Part.RESULTS, model, seed, step, [d for d in damage if d.seed == seed]
        for seed, step in stored:
            yield Part.LOG_PROBS, model, seed, step, log_prob_damage(self.study, model, seed, step)
        for step in reduced:
            yield Part.PAIRS, model, None, step, self._results.of_pairs(model, step)
        yield Part.MEANS, model, None, None, self.means(model)
        yield Part.CATEGORY, model, None, None, category_damage(self.study, model)
        yield Part.SUMMARY, model, None, None, self.summaries(model)
        for name, seed, step in probed:
            yield Part.PROBE, model, seed, step, self.probe(model, name, seed, step)

    def metadata(self, model: str) -> list[Damage]:
        """Check groups and arrays of a model; arrays that fail here are not read later."""
        found = metadata_damage(self.study, model)
        group = layout.model_path(model)
        paths = {d.path.removeprefix(f"{group}/") for d in found}
        arrays = layout.VARIABLES.keys() | layout.ARRAYS.keys() | paths
        unreadable = {name for name in arrays if layout.array_path(name) in paths}
        self._results.unreadable |= {(model, name) for name in unreadable}
        return found

    def means(self, model: str) -> list[Damage]:
        """Check arrays of means: readable, and the means of the values that were read."""
        found = []
        for name, variable in layout.variables_of(self.study.divergences).items():
            if not variable.per_token and (model, name) not in self._results.unreadable:
                found += self._means.of_array(model, name)
        return found

    def summaries(self, model: str) -> list[Damage]:
        """Check summaries by level against the results that were read.

        Not while metadata of their arrays are damaged: then that is what is wrong.
        """
        unreadable = {array for name, array in self._results.unreadable if name == model}
        if any(array.startswith(f"{layout.SUMMARY}/") for array in unreadable):
            return []
        means = self._results.means.items()
        kl = {cell: mean for (of, name, cell), (mean, _) in means if (of, name) == (model, "kl")}
        return summary_damage(self.study, model, kl)

    def probe(self, model: str, name: str, seed: str, step: int) -> list[Damage]:
        """Read back what one checkpoint says of a probe."""
        arrays = {(model, result_name(name)), (model, loose_name(name))}
        if not arrays.isdisjoint(self._results.unreadable):
            return []
        return value_damage(self.study, model, name, seed, step)
