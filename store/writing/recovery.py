"""Clean up after a coordinator that was killed: nothing uncommitted stays on disk."""

from __future__ import annotations

import glob
import itertools
import shutil
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.commits.ledger import Ledger, ModelLedger
from store.errors import DamagedError
from store.reading.probe_arrays import loose_name, result_name
from store.schema import layout
from store.schema.seed_pairs import mean_over_pairs
from store.schema.variable import Variable
from store.storage.arrays import boxes, open_array, read
from store.storage.durable import PARTIAL
from store.storage.durable_store import DurableStore
from store.storage.links import remove_tree


def remove_leftovers(store: DurableStore, ledger: Ledger) -> None:
    """Remove everything that no record of `ledger` names; what is committed is not touched.

    Looks at every folder of the study, so it is done only when the last session did not end well.
    """
    models = {layout.model_path(name): known for name, known in ledger.models.items()}
    for folder in _folders(store.root / layout.MODELS, 1):
        if str(folder.relative_to(store.root)) not in models:
            remove_tree(store.root, folder)
    for path, known in models.items():
        stored = {(layout.safe_name(seed), str(step)) for seed, step in known.stored}
        _keep(store.root, f"{path}/{layout.LOG_PROBS}", 2, stored)
        for name, variable in layout.VARIABLES.items():
            array = f"{path}/{layout.array_path(name)}"
            if variable.per_token:
                names = {tuple(map(str, cell)) for cell in _kept_cells(known, name, variable)}
                _keep(store.root, f"{array}/c", 1 + variable.n_seed_axes, names)
            elif (store.root / array / "zarr.json").exists():
                by_pair = variable.by_pair or "seed" not in variable.dims
                cells = [
                    cell[: len(variable.dims)] for cell in committed_cells(known, by_pair=by_pair)
                ]
                _clear(store, array, cells)
        _remove_summaries(store, path, known, ledger)
        _remove_probes(store, path, known, ledger)
        for name, variable in layout.ARRAYS.items():
            sizes = len(known.steps), len(known.seeds), 0, ledger.n_levels
            shape = variable.shape(*sizes)
            _shrink(
                store, f"{path}/{name}", known, {axis: shape[axis] for axis in variable.growing}
            )
        for name in ("step", "seed", "other_seed"):
            size = len(known.steps if name == "step" else known.seeds)
            _shrink(store, f"{path}/{name}", known, {0: size})
        _restore_expected_kl(store, path, known)
    _keep(store.root, f"{layout.CORPUS}/{layout.CATEGORY}", 1, _names(ledger.categories))
    _keep(store.root, layout.PROBES, 1, _names(ledger.probes))
    for partial in store.root.rglob(f"*{PARTIAL}"):
        if partial.is_file():  # a model or seed may be named so
            partial.unlink(missing_ok=True)
    # A study that was killed while it was being made never got its name.
    for made in store.root.parent.glob(f"{glob.escape(store.root.name)}.*{PARTIAL}"):
        shutil.rmtree(made, ignore_errors=True)


def committed_cells(known: ModelLedger, *, by_pair: bool) -> Iterator[tuple[int, ...]]:
    """Yield the positions on the axes of a results array, without tokens, that are committed."""
    if not by_pair:
        yield from ((known.steps[step], known.seeds[seed]) for seed, step in known.scored)
        return
    for step, seeds in known.reduced.items():
        index = [known.seeds[seed] for seed in seeds]
        yield from ((known.steps[step], i, j) for i, j in itertools.permutations(index, 2))


def _kept_cells(known: ModelLedger, name: str, variable: Variable) -> Iterator[tuple[int, ...]]:
    """Yield the positions of these results per token; of symmetric pairs both orders."""
    if not variable.by_set:
        yield from committed_cells(known, by_pair=variable.by_pair)
        return
    for step in known.sets:
        if (of := known.set_with(step, name)) is None:
            continue
        yield from ((known.steps[step], known.seeds[seed], of.place) for seed in of.seeds)


def _remove_summaries(store: DurableStore, path: str, known: ModelLedger, ledger: Ledger) -> None:
    """Remove summaries of steps, and partitions, that no record names."""
    _keep(store.root, f"{path}/{layout.CATEGORY}", 1, _names(known.categories))
    for name, variable in layout.SUMMARIES.items():
        array = f"{path}/{layout.SUMMARY}/{name}"
        if variable.per_token:
            steps = {(str(known.steps[step]),) for step in known.summaries}
            _keep(store.root, f"{array}/c", 1, steps)
        elif (store.root / array / "zarr.json").exists():
            cells = [
                variable.cells(
                    known.steps[step],
                    [known.seeds[seed] for seed in summary.seeds],
                    ledger.levels[category],
                )
                for step, summary in known.summaries.items()
                for category in summary.categories
            ]
            _clear(store, array, cells)


def _remove_probes(store: DurableStore, path: str, known: ModelLedger, ledger: Ledger) -> None:
    """Remove what checkpoints say of probes, and whole probes, that no record names."""
    for group in (layout.PROBE, f"{layout.LOOSE}/{layout.PROBE}"):
        _keep(store.root, f"{path}/{group}", 1, _names(ledger.probes))
    for name in ledger.probes:
        cells = {
            (str(known.steps[step]), str(known.seeds[seed]))
            for seed, step in known.probed.get(name, ())
        }
        _keep(store.root, f"{path}/{loose_name(name)}/c", 2, cells)
        for array in (result_name(name), loose_name(name)):
            sizes = {0: len(known.steps), 1: len(known.seeds)}
            _shrink(store, f"{path}/{array}", known, sizes)


def _names(categories: Iterable[str]) -> set[tuple[str, ...]]:
    return {(layout.safe_name(name),) for name in categories}


def _folders(root: Path, depth: int) -> Iterator[Path]:
    if root.is_dir():
        yield from (entry for entry in root.glob("/".join("*" * depth)) if entry.is_dir())


def _keep(root: Path, path: str, depth: int, names: Set[tuple[str, ...]]) -> None:
    """Remove the folders `depth` levels below `path` that are not among `names`.

    Raise DamagedError rather than remove anything through a link.
    """
    for folder in list(_folders(root / path, depth)):
        if folder.relative_to(root / path).parts not in names:
            remove_tree(root, folder)


def _clear(store: DurableStore, path: str, cells: Iterable[tuple[Any, ...]]) -> None:
    """Set all cells of a small array but these back to NaN."""
    try:
        array = open_array(store, path)
    except DamagedError:  # as below
        return
    committed: NDArray[np.bool_] = np.zeros(array.shape, bool)
    for cell in cells:
        committed[cell] = True
    for box in boxes(array.shape, array.chunks):
        try:
            values = read(array, box)
        except DamagedError:  # says so to its reader; nothing is hidden by overwriting it
            continue
        cleared = np.where(committed[box], values, np.nan)
        if not np.array_equal(cleared, values, equal_nan=True):
            array[box] = cleared


def _shrink(store: DurableStore, path: str, known: ModelLedger, sizes: Mapping[int, int]) -> None:
    """Cut axes back to what is committed: a plan may have grown them and never been recorded."""
    try:
        array = open_array(store, path)
    except DamagedError:  # as above
        return
    shape = tuple(sizes.get(axis, n) for axis, n in enumerate(array.shape))
    if shape != array.shape and all(n <= m for n, m in zip(shape, array.shape, strict=True)):
        array.resize(shape)
    if "labels" in array.attrs and array.attrs["labels"] != list(known.seeds):
        array.attrs["labels"] = list(known.seeds)


def _restore_expected_kl(store: DurableStore, path: str, known: ModelLedger) -> None:
    """Take pairs that were not committed out of the mean over pairs."""
    if not known.reduced:
        return
    try:
        expected, means = (
            open_array(store, f"{path}/{name}") for name in ("expected_kl", "mean_kl")
        )
    except DamagedError:
        return
    for step, seeds in known.reduced.items():
        t = known.steps[step]
        try:
            row = read(means, (t, slice(None), slice(None)))
            value = mean_over_pairs(row, [known.seeds[seed] for seed in seeds])
            if float(read(expected, (t,))) != value:
                expected[t] = value
        except DamagedError:
            continue
