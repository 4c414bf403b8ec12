"""Reading back categories and summaries: whole, and made of the results that are there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from store.errors import DamagedError
from store.maintenance.twice import twice
from store.reading.category_arrays import category_path
from store.reading.summary import SummaryReader
from store.schema import layout
from store.schema.damage import Damage, Part
from store.schema.seed_pairs import ordered_pairs, pair_mean
from store.storage.metadata import expect_group
from store.study import Study

Cell = tuple[int, ...]

_ROUNDING = 1e-10  # of float64 sums over tokens, relative to the size of what is summed
_SINGLE = 1e-5  # of token_kl, which is float32


def category_damage(study: Study, model: str | None) -> list[Damage]:
    """Return the partitions that cannot be read: of the corpus, or of the model's own."""
    found = []
    if model is None:  # a model's group is among its metadata
        group = f"{layout.CORPUS}/{layout.CATEGORY}"
        if message := twice(study, lambda: expect_group(study.folder, group, {})):
            found.append(Damage(Part.CATEGORY, group, message))
    for name in tuple(study.own_categories(model)):
        path = category_path(name, model)

        def check(name: str = name) -> None:
            if name in study.own_categories(model):
                study.own_category(name, model)

        if message := twice(study, check):
            found.append(Damage(Part.CATEGORY, path, message, model))
    return found


def summary_damage(study: Study, model: str, kl: Mapping[Cell, float]) -> list[Damage]:
    """Return the steps whose summaries cannot be read or do not agree with their results.

    `kl` are the means over tokens, nats, of the pairs that could be read: of (step, seed, other
    seed), all three indices.
    """
    found = []
    path = f"{layout.model_path(model)}/{layout.SUMMARY}"
    for step in sorted(study.ledger(model).summaries):

        def check(step: int = step) -> None:
            if step in study.ledger(model).summaries:
                for error in _contradictions(study, model, step, kl):
                    raise DamagedError(f"{study.folder / path}: step {step}: {error}")

        if message := twice(study, check):
            found.append(Damage(Part.SUMMARY, path, message, model, step=step))
    return found


def _contradictions(
    study: Study, model: str, step: int, of_pairs: Mapping[Cell, float]
) -> Iterator[str]:
    """Yield what does not fit together in one step's summaries. Raise DamagedError."""
    known = study.ledger(model)
    summary = known.summaries[step]
    seeds = sorted(summary.seeds)
    index = [known.seeds[seed] for seed in seeds]
    off = ordered_pairs(len(seeds))
    t = known.steps[step]
    means = np.array([[of_pairs.get((t, i, j), np.nan) for j in index] for i in index])
    known_pairs = bool(np.isfinite(means[off]).all())  # else that is said of them
    reader = SummaryReader(study, model)
    token_kl = study.token_kl(model, step)
    scale = float(np.abs(means[off]).mean())
    if (
        known_pairs
        and not abs(token_kl.mean(dtype=np.float64) - means[off].mean()) <= _SINGLE * scale
    ):
        yield "token_kl is not the mean over pairs"
    for category in summary.categories:
        partition = study.partition(model, category)
        if partition is None or partition.digest != summary.categories[category]:
            continue  # void: to be made again
        try:
            n = study.category(model, category).counts
        except DamagedError:  # said of the category itself
            continue
        kl = reader.at(step, "kl", category)[np.ix_(index, index)]
        full = n > 0
        if known_pairs and full.any() and n.sum() == study.n_tokens:
            joined = kl[..., full] @ n[full] / n.sum()
            if not np.allclose(joined[off], means[off], rtol=0, atol=_ROUNDING * max(scale, 1e-9)):
                yield f"kl by {category} does not add up to mean_kl"
        expected = reader.at(step, "expected_kl", category)
        if not np.allclose(expected, pair_mean(kl), rtol=1e-9, atol=1e-15, equal_nan=True):
            yield f"expected_kl by {category} is not the mean over pairs"
        low, high = (reader.at(step, name, category) for name in ("kl_low", "kl_high"))
        if (low > expected).any() or (high < expected).any():
            yield f"the interval by {category} does not hold its expected_kl"
        for name, variable in layout.SUMMARIES.items():
            if "level" in variable.dims and reader.lacks(
                name, category, step, reader.at(step, name, category), full
            ):
                yield f"{name} by {category} lacks values"
