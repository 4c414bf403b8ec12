"""Reading back categories and summaries: whole, and made of the results that are there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from store.errors import DamagedError
from store.maintenance.twice import twice
from store.reading.category_arrays import category_path
from store.reading.summary import SummaryReader
from store.schema import layout
from store.schema.array_types import Floats
from store.schema.damage import Damage, Part
from store.schema.seed_pairs import ordered_pairs, pair_mean
from store.storage.metadata import expect_group
from store.study import Study

Cell = tuple[int, ...]
Counts = Callable[[str, str], NDArray[np.int64]]  # category, its digest -> tokens of each level

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
    reader, tried = SummaryReader(study, model), -1
    counts = cache(lambda category, _digest: study.category(model, category).counts)
    for step in sorted(study.ledger(model).summaries):

        def check(step: int = step) -> None:
            nonlocal reader, tried
            if step == tried:  # an engine may have written since it read
                reader = SummaryReader(study, model)
            tried = step
            if step in study.ledger(model).summaries:
                for error in _contradictions(study, reader, model, step, kl, counts):
                    raise DamagedError(f"{study.folder / path}: step {step}: {error}")

        if message := twice(study, check):
            found.append(Damage(Part.SUMMARY, path, message, model, step=step))
    return found


def _contradictions(
    study: Study,
    reader: SummaryReader,
    model: str,
    step: int,
    of_pairs: Mapping[Cell, float],
    counts: Counts,
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
    token_kl = study.token_kl(model, step)
    scale = float(np.abs(means[off]).mean())
    if (
        known_pairs
        and not abs(token_kl.mean(dtype=np.float64) - means[off].mean()) <= _SINGLE * scale
    ):
        yield "token_kl is not the mean over pairs"
    valid = [
        name
        for name, digest in summary.categories.items()  # others are void: to be made again
        if (partition := study.partition(model, name)) and partition.digest == digest
    ]
    at = reader.of_step(step, valid)
    for category in valid:
        try:
            n = counts(category, summary.categories[category])
        except DamagedError:  # said of the category itself
            continue
        kl = at("kl", category)[np.ix_(index, index)]
        full = n > 0
        if known_pairs and full.any() and n.sum() == study.n_tokens:
            joined = kl[..., full] @ n[full] / n.sum()
            if not _close(joined[off], means[off], absolute=_ROUNDING * max(scale, 1e-9)):
                yield f"kl by {category} does not add up to mean_kl"
        expected = at("expected_kl", category)
        if not _close(expected, pair_mean(kl), absolute=1e-15, relative=1e-9):
            yield f"expected_kl by {category} is not the mean over pairs"
        low, high = at("kl_low", category), at("kl_high", category)
        if (low > expected).any() or (high < expected).any():
            yield f"the interval by {category} does not hold its expected_kl"
        for name, variable in layout.summaries_of(study.divergences).items():
            if "level" in variable.dims and reader.lacks(
                name, category, step, at(name, category), full
            ):
                yield f"{name} by {category} lacks values"


@np.errstate(invalid="ignore")  # of two that are infinite
def _close(a: Floats, b: Floats, *, absolute: float, relative: float = 0.0) -> bool:
    """Return whether all are as good as equal, or both NaN; what `allclose` does takes longer."""
    near = np.abs(a - b) <= absolute + relative * np.abs(b)
    return bool(near.all() or (near | (a == b) | (np.isnan(a) & np.isnan(b))).all())
