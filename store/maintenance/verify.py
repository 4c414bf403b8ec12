"""Reading back everything that a study has committed, to find what is damaged.

Never writes, and may run while an engine does: what is committed after it began is left out, and
what was dropped meanwhile is not damage.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.commits.progress import read_root
from store.errors import DamagedError, StoreError
from store.maintenance.verify_probes import metadata_checks, probe_damage, value_damage
from store.maintenance.verify_summaries import category_damage, summary_damage
from store.reading.probe import result_name
from store.schema import variables as layout
from store.schema.damage import Damage, Part
from store.statistics.means import MEAN_OF, PAIR_OF, RECORDED, mean_over_pairs
from store.storage.arrays import CommittedStore, boxes, expect, open_array, place, read
from store.storage.metadata import (
    coordinate_layout,
    coordinates,
    expect_group,
    expect_nothing_else,
    is_array,
)
from store.study import Study, open_study
from store.writing.create import CORPUS_ARRAYS

_ROUNDING = 1e-10  # of means: relative to the mean size of what was summed, in float64


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
    """Read back all that is committed in the study at `path`, part by part.

    Raises NotAStudyError when there is no study. Damage is yielded, never raised.
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
            (Part.CORPUS, None, None, None, walk.corpus()),
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
        self._store = CommittedStore(study.folder)
        self._unreadable: set[tuple[str, str]] = set()  # (model, array): its metadata are damaged
        self._means: dict[tuple[str, str, tuple[int, ...]], tuple[float, float]] = {}
        self._step_values: tuple[str, int, dict[tuple[str, str], NDArray[Any]]] = ("", -1, {})
        self._plans = {name: self._plan(name) for name in study.models}

    def _plan(self, model: str) -> tuple[list[Any], list[Any], list[Any], list[Any]]:
        known = self.study.ledger(model)
        return (
            list(known.scored),
            sorted(known.stored, key=lambda k: (k[1], k[0])),
            list(known.reduced),
            [(name, *key) for name in known.probed for key in sorted(known.probed[name])],
        )

    def units(self, model: str) -> int:
        """How many parts `model` yields."""
        return 5 + sum(map(len, self._plans[model]))

    def model(self, model: str) -> Iterator[_Unit]:
        """All of one model."""
        scored, stored, reduced, probed = self._plans[model]
        yield Part.METADATA, model, None, None, self.metadata(model)
        yield Part.COORDINATES, model, None, None, self.coordinates(model)
        for seed, step in scored:
            yield Part.RESULTS, model, seed, step, self.results(model, seed, step)
        for seed, step in stored:
            yield Part.LOG_PROBS, model, seed, step, self.log_probs(model, seed, step)
        for step in reduced:
            yield Part.PAIRS, model, None, step, self.pairs(model, step)
        yield Part.MEANS, model, None, None, self.means(model)
        yield Part.CATEGORY, model, None, None, category_damage(self.study, model)
        yield Part.SUMMARY, model, None, None, self.summaries(model)
        for name, seed, step in probed:
            yield Part.PROBE, model, seed, step, self.probe(model, name, seed, step)

    def _try(self, check: Callable[[], None], still: Callable[[], bool]) -> str | None:
        """What is wrong, or None. Tried twice: the first time an engine may have dropped it."""
        message = None
        for _ in range(2):
            try:
                if not still():
                    return None
                check()
            except DamagedError as error:
                message = str(error)
                self.study.refresh()
            except StoreError:  # dropped in between
                return None
            else:
                return None
        return message

    def corpus(self) -> list[Damage]:
        """Tokens, text and document names."""

        def check() -> None:
            names, source = list(self.study.corpus.document_name), self.study.vocabulary.source
            attributes = {"document_names": names, "unigram_source": source}
            expect_group(self.study.folder, layout.CORPUS, attributes)
            for name in CORPUS_ARRAYS:
                array = open_array(self._store, f"{layout.CORPUS}/{name}")
                expect_nothing_else(self.study.folder, array)

        message = self._try(check, lambda: True)
        return [Damage(Part.CORPUS, layout.CORPUS, message)] if message else []

    # -- one model -----------------------------------------------------------------------------

    def metadata(self, model: str) -> list[Damage]:
        """Groups and arrays of a model; arrays that fail here are not read later."""
        group, known = layout.model_path(model), self.study.ledger(model)
        checks: dict[str, Callable[[], Any]] = {}
        if known.steps or known.seeds:
            path = f"{group}/{layout.LOG_PROBS}"
            checks[group] = partial(expect_group, self.study.folder, group, {"model": model})
            checks[path] = partial(expect_group, self.study.folder, path, {})
            for name in (layout.SUMMARY, layout.CATEGORY):
                path = f"{group}/{name}"
                checks[path] = partial(expect_group, self.study.folder, path, {})
            for name in layout.ARRAYS:
                checks[f"{group}/{name}"] = partial(self._array, model, name)
            checks |= metadata_checks(self.study, model)
        for seed in {seed for seed, _ in known.stored}:
            path = f"{group}/{layout.LOG_PROBS}/{layout.safe_name(seed)}"
            checks[path] = partial(expect_group, self.study.folder, path, {"seed": seed})
        found = []
        for path, check in checks.items():
            if message := self._try(check, lambda: True):
                found.append(Damage(Part.METADATA, path, message, model))
                self._unreadable.add((model, path.removeprefix(f"{group}/")))
        return found

    def _array(self, model: str, name: str) -> None:
        array, known = self.study.array(model, name), self.study.ledger(model)
        expect_nothing_else(self.study.folder, array)
        sizes = len(known.steps), len(known.seeds), self.study.n_tokens, self.study.n_levels
        shape = layout.ARRAYS[name].shape(*sizes)
        if array.shape != shape and not self.study.live:  # no engine is about to use the rest
            raise DamagedError(f"{place(array)}: has shape {array.shape}, not {shape}")

    def coordinates(self, model: str) -> list[Damage]:
        """Steps and seeds; an engine may have added more than is committed."""
        known, found = self.study.ledger(model), []
        if not known.steps and not known.seeds:
            return []
        for name, values in coordinates(known.steps, known.seeds).items():
            path = f"{layout.model_path(model)}/{name}"

            def check(name: str = name, path: str = path, values: Any = values) -> None:
                array, live = open_array(self._store, path), self.study.live
                attributes = {} if name == "step" else {"labels": list(known.seeds)}
                labels: Any = array.attrs.get("labels")
                if live and name != "step" and isinstance(labels, list):
                    attributes["labels"] += labels[len(known.seeds) :]
                expect(
                    array,
                    **coordinate_layout(name, len(values), attributes),
                    growing=(0,) if live else (),
                )
                expect_nothing_else(self.study.folder, array)
                if not np.array_equal(read(array, (slice(0, len(values)),)), values):
                    raise DamagedError(f"{place(array)}: differs from the commit log")

            if message := self._try(check, lambda: True):
                found.append(Damage(Part.COORDINATES, path, message, model))
        return found

    def _read(self, model: str, name: str, cell: tuple[int, ...]) -> None:
        """Read all tokens of a cell, and keep their mean."""
        array, total, size = self.study.array(model, name), 0.0, 0.0
        rows, n_tokens = array.chunks[len(cell)], self.study.n_tokens
        for start in range(0, n_tokens, rows):
            block = read(array, (*cell, slice(start, min(start + rows, n_tokens))))
            total += float(block.sum(dtype=np.float64))
            size += float(np.abs(block).sum(dtype=np.float64))
        self._means[model, name, cell] = total / n_tokens, size / n_tokens

    def results(self, model: str, seed: str, step: int) -> list[Damage]:
        """Per-token results of one checkpoint."""
        record, found = self.study.ledger(model).scored.get((seed, step)), []
        for name, variable in layout.VARIABLES.items():
            if not variable.per_token or variable.by_pair or (model, name) in self._unreadable:
                continue
            known = self.study.ledger(model)
            cell = (known.steps[step], known.seeds[seed])
            message = self._try(
                partial(self._read, model, name, cell),
                lambda: self.study.ledger(model).scored.get((seed, step)) == record,
            )
            if message:
                path = f"{layout.model_path(model)}/{name}"
                found.append(Damage(Part.RESULTS, path, message, model, seed, step))
        return found

    def log_probs(self, model: str, seed: str, step: int) -> list[Damage]:
        """Log-probs of one checkpoint, block by block, whatever their representation."""

        def check() -> None:
            log_probs, at = self.study.log_probs(model, seed, step), 0
            shape = (self.study.n_tokens, self.study.vocab_size)
            where = self.study.folder / path
            if tuple(log_probs.shape) != shape:
                raise DamagedError(f"{where}: has shape {log_probs.shape} where {shape} belongs")
            for start, block in log_probs.blocks():
                if start != at or block.shape[1:] != shape[1:] or np.isnan(block).any():
                    raise DamagedError(f"{where}: no log-probs from token {at} on")
                at += len(block)
            if at != shape[0]:
                raise DamagedError(f"{where}: ends at token {at} of {shape[0]}")
            for file in where.rglob("zarr.json"):  # one array, or a group of them
                node = str(file.parent.relative_to(self.study.folder))
                if is_array(file):
                    expect_nothing_else(self.study.folder, open_array(self._store, node))

        path = layout.log_probs_path(model, seed, step)
        message = self._try(check, lambda: (seed, step) in self.study.ledger(model).stored)
        return [Damage(Part.LOG_PROBS, path, message, model, seed, step)] if message else []

    def pairs(self, model: str, step: int) -> list[Damage]:
        """Divergences per token of all pairs reduced at a step."""
        names = [name for name, v in layout.VARIABLES.items() if v.per_token and v.by_pair]
        found, seeds = [], sorted(self.study.ledger(model).reduced.get(step, ()))
        for name, (i, j) in itertools.product(names, itertools.permutations(seeds, 2)):
            if (model, name) in self._unreadable:
                continue
            known = self.study.ledger(model)
            cell = (known.steps[step], known.seeds[i], known.seeds[j])
            message = self._try(
                partial(self._read, model, name, cell),
                lambda i=i, j=j: (  # type: ignore[misc]
                    {i, j} <= self.study.ledger(model).reduced.get(step, frozenset())
                ),
            )
            if message:
                path = f"{layout.model_path(model)}/{name}"
                found.append(Damage(Part.PAIRS, path, message, model, i, step, j))
        return found

    # -- means ---------------------------------------------------------------------------------

    def means(self, model: str) -> list[Damage]:
        """Arrays of means: readable, and the means of the values that were read."""
        found = []
        for name, variable in layout.VARIABLES.items():
            if not variable.per_token and (model, name) not in self._unreadable:
                found += self._mean(model, name)
        return found

    def summaries(self, model: str) -> list[Damage]:
        """Summaries by level, against the results that were read."""
        means = self._means.items()
        kl = {cell: mean for (of, name, cell), (mean, _) in means if (of, name) == (model, "kl")}
        return summary_damage(self.study, model, kl)

    def probe(self, model: str, name: str, seed: str, step: int) -> list[Damage]:
        """What one checkpoint says of a probe."""
        if (model, result_name(name)) in self._unreadable:
            return []
        return value_damage(self.study, model, name, seed, step)

    def _mean(self, model: str, name: str) -> list[Damage]:
        path, cells = f"{layout.model_path(model)}/{name}", self._cells(model, name)
        if not cells:
            return []
        stored: dict[tuple[int, ...], float] = {}
        if message := self._try(lambda: stored.update(self._stored(model, name)), lambda: True):
            return [Damage(Part.MEANS, path, message, model)]
        known, found = self.study.ledger(model), []
        for cell, (seed, step, other) in cells.items():
            expected = self._expected(model, name, cell, seed, step, other)
            value = stored.get(cell, np.nan)
            if expected is None or abs(value - expected[0]) <= _ROUNDING * expected[1]:
                continue
            now = self._cells(model, name)  # forgotten or reduced anew in between
            if cell in now and known is self.study.ledger(model):
                message = f"{self.study.folder / path}: {value!r} where {expected[0]!r} belongs"
                found.append(Damage(Part.MEANS, path, message, model, seed, step, other))
        return found

    def _expected(
        self, model: str, name: str, cell: tuple[int, ...], seed: str | None, step: int,
        other: str | None,
    ) -> tuple[float, float] | None:  # fmt: skip
        """What a mean must be and the size of what it sums; None when that cannot be told."""
        known = self.study.ledger(model)
        if name in MEAN_OF:
            return self._means.get((model, MEAN_OF[name], cell))
        if name in RECORDED:
            floor = known.scored[seed, step].get(name)  # type: ignore[index]
            return None if floor is None else (float(floor), 0.0)
        if name in PAIR_OF:
            pair, n_tokens = PAIR_OF[name], self.study.n_tokens
            try:
                both = [self._values(model, pair.of, str(label), step) for label in (seed, other)]
            except StoreError:  # said of the results themselves
                return None
            return pair.mean(pair.total(*both), n_tokens), 1.0
        if self.study.live:  # an engine writes the mean over pairs before it commits the pairs
            return None
        index = [known.seeds[label] for label in known.reduced[step]]
        n = len(known.seeds)
        row: NDArray[np.float64] = np.full((n, n), np.nan)
        sizes = []
        for i, j in itertools.permutations(index, 2):
            if (model, "kl", (cell[0], i, j)) not in self._means:
                return None
            row[i, j], size = self._means[model, "kl", (cell[0], i, j)]
            sizes.append(size)
        return mean_over_pairs(row, index), float(np.mean(sizes))

    def _values(self, model: str, name: str, seed: str, step: int) -> NDArray[Any]:
        """Per-token results of one checkpoint; those of one step are kept for its other pairs."""
        if self._step_values[:2] != (model, step):
            self._step_values = model, step, {}
        held = self._step_values[2]
        if (name, seed) not in held:
            held[name, seed] = self.study.values(model, name, seed, step)
        return held[name, seed]

    def _stored(self, model: str, name: str) -> dict[tuple[int, ...], float]:
        """Committed cells as they are on disk. Raises DamagedError."""
        array, cells = self.study.array(model, name), self._cells(model, name)
        values: dict[tuple[int, ...], float] = {}
        for box in boxes(array.shape, array.chunks):
            inside = [
                c for c in cells if all(s.start <= k < s.stop for s, k in zip(box, c, strict=True))
            ]
            block = read(array, box) if inside else None
            for cell in inside:
                assert block is not None
                values[cell] = float(
                    block[tuple(k - s.start for s, k in zip(box, cell, strict=True))]
                )
        return values

    def _cells(self, model: str, name: str) -> Mapping[Any, tuple[str | None, int, str | None]]:
        return mean_cells(self.study, model, name)


def mean_cells(
    study: Study, model: str, name: str
) -> dict[tuple[int, ...], tuple[str | None, int, str | None]]:
    """Committed cells of an array of means: index -> (seed, step, other seed)."""
    known, dims = study.ledger(model), layout.VARIABLES[name].dims
    if "seed" not in dims:
        return {(known.steps[step],): (None, step, None) for step in known.reduced}
    if "other_seed" not in dims:
        return {
            (known.steps[step], known.seeds[seed]): (seed, step, None)
            for seed, step in known.scored
        }
    return {
        (known.steps[step], known.seeds[i], known.seeds[j]): (i, step, j)
        for step, seeds in known.reduced.items()
        for i, j in itertools.permutations(sorted(seeds), 2)
    }
