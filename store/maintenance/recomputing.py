"""Computing damaged results again from log-probs that are stored, and deciding who is right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence

import numpy as np

from store.analysis.again import pair_again, results_again, to_mean_again
from store.analysis.level_means import summarise
from store.errors import StoreError
from store.reading.recorded_means import recorded_means
from store.schema import layout
from store.schema.damage import Damage, Part
from store.schema.ensemble import TO_MEAN
from store.schema.keys import Key
from store.statistics.means import MEAN_OF
from store.study import Study
from store.writing.restorer import Restorer
from store.writing.writer import StudyWriter


def unproven(study: Study, model: str, damage: Sequence[Damage]) -> list[Damage]:
    """Return the damage that follows from means which contradict values without a checksum.

    A study of an earlier version has no proof of either. The values are computed again from
    log-probs, which say who is right; where those are not stored, neither side is believed.
    """
    found, known = [], study.ledger(model)
    group = layout.model_path(model)
    recorded = {name: recorded_means(known, name) for name in MEAN_OF}
    for d in damage:
        name = d.path.rpartition("/")[2]
        if d.part is not Part.MEANS or name not in MEAN_OF or d.seed is None or d.step is None:
            continue
        at = known.steps[d.step], known.seeds[d.seed]
        cell = at if d.other_seed is None else (*at, known.seeds[d.other_seed])
        if not np.isnan(recorded[name][cell]):
            continue
        of, pairs = MEAN_OF[name], layout.VARIABLES[name].by_pair
        try:
            stored = float(np.asarray(study.array(model, name)[cell]))
            values = study.values(model, of, d.seed, d.step, d.other_seed)
            there = float(values.mean(dtype=np.float64))
            if d.other_seed is None:
                again = results_again(study, model, d.seed, d.step, [of])[of]
            else:
                again = pair_again(study, model, d.step, d.seed, d.other_seed)[of]
            right = float(again.mean(dtype=np.float64))
        except (StoreError, ValueError, RuntimeError, OSError):
            if _unreadable(study, model, name, cell):
                continue  # the values are all there is
        else:
            if abs(there - right) <= abs(stored - right):
                continue
        part = Part.PAIRS if pairs else Part.RESULTS
        message = f"{study.folder}/{group}/{of}: contradicts {name}, and nothing proves it"
        found.append(Damage(part, f"{group}/{of}", message, model, d.seed, d.step, d.other_seed))
    return found


def _unreadable(study: Study, model: str, name: str, cell: tuple[int, ...]) -> bool:
    try:
        return bool(np.isnan(np.asarray(study.array(model, name)[cell])))
    except (StoreError, ValueError, RuntimeError, OSError):
        return True


def restore_results(
    writer: StudyWriter, study: Study, model: str, damage: Sequence[Damage], bad: Collection[Key]
) -> set[Key]:
    """Compute damaged results of checkpoints again; return those for which it cannot be done.

    `bad` are the checkpoints whose log-probs are damaged.
    """
    names: dict[Key, set[str]] = defaultdict(set)
    for d in damage:
        if d.part is Part.RESULTS and d.seed is not None and d.step is not None:
            names[d.seed, d.step].add(d.path.rpartition("/")[2])
    known, restorer, left = writer.ledger.model(model), Restorer(writer, study, model), set()
    for key, of in names.items():
        if key not in known.scored:
            continue
        if key in bad or key not in known.stored:
            left.add(key)
            continue
        try:
            restorer.results(*key, results_again(study, model, *key, of))
        except StoreError:
            left.add(key)
    return left


def restore_pairs(
    writer: StudyWriter, study: Study, model: str, damage: Sequence[Damage], bad: Collection[Key]
) -> list[Damage]:
    """Compute damaged divergences again; return the damage for which it cannot be done."""
    steps: dict[int, list[Damage]] = defaultdict(list)
    for d in damage:
        if d.part is Part.PAIRS and d.step is not None and d.other_seed is not None:
            steps[d.step].append(d)
    known, left = writer.ledger.model(model), []
    for step, of in steps.items():
        usable = {seed for seed, at in known.stored if at == step and (seed, at) not in bad}
        restored = {}
        for pair in dict.fromkeys((str(d.seed), str(d.other_seed)) for d in of):
            if not set(pair) <= known.reduced.get(step, frozenset()):
                continue
            try:
                if usable.issuperset(pair):
                    restored[pair] = pair_again(study, model, step, *pair)
                    continue
            except StoreError:
                pass
            left += [d for d in of if (d.seed, d.other_seed) == pair]
        Restorer(writer, study, model).pairs(step, restored)
    return left


def restore_sets(
    writer: StudyWriter, study: Study, model: str, damage: Sequence[Damage], bad: Collection[Key]
) -> list[Damage]:
    """Compute what depends on all seeds of a step again; return the damage where it cannot be."""
    known, left = writer.ledger.model(model), []
    study.refresh()
    of_sets = [d for d in damage if d.part is Part.PAIRS and d.other_seed is None]
    left += [d for d in of_sets if not d.path.endswith(f"/{TO_MEAN}")]  # of other models as well
    of_sets = [d for d in of_sets if d not in left]
    for step in dict.fromkeys(d.step for d in of_sets if d.step is not None):
        of = known.set_with(step, TO_MEAN)
        keys = {(seed, step) for seed in of.seeds} if of is not None else set()
        try:
            if of is not None and keys <= known.stored - {*bad}:
                values = to_mean_again(study, model, step, of.seeds)
                wrong = {d.seed for d in of_sets if d.step == step}
                again = {seed: of_seed for seed, of_seed in values.items() if seed in wrong}
                Restorer(writer, study, model).to_mean(step, again)
                continue
        except StoreError:
            pass
        left += [d for d in of_sets if d.step == step]
    return left


def restore_summaries(writer: StudyWriter, study: Study, model: str) -> None:
    """Make all summaries of a model again of results per token, as far as those can be read."""
    study.refresh()
    try:
        categories = [study.category(model, name) for name in study.categories(model)]
    except StoreError:  # `run` writes those again, and the summaries with them
        return
    for step, reduced in sorted(study.ledger(model).reduced.items()):
        seeds = sorted(reduced)
        try:
            made = summarise(study, model, step, seeds, categories)
            writer.summaries.summarise(model, step, seeds, *made)
        except StoreError:
            continue
