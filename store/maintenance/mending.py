"""Repairing what `verify` found: what follows from the rest is computed again, the rest forgotten.

Nobody is believed without proof. A cell is right if its checksum is that of its record, a mean if
it is the one in the record; results that are wrong are computed again from log-probs. What is
forgotten is scored or reduced again by the next engine. Results that are whole stay.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

import numpy as np
from numpy.typing import NDArray
from zarr.core.buffer import default_buffer_prototype

from store.commits.owner import Watching
from store.errors import DamagedError
from store.maintenance.recomputing import (
    restore_pairs,
    restore_results,
    restore_sets,
    restore_summaries,
    unproven,
)
from store.maintenance.verify_means import mean_cells
from store.maintenance.verify_results import log_prob_damage
from store.reading.log_probs import REPRESENTATIONS
from store.reading.probe_arrays import results_layouts
from store.reading.recorded_means import recorded_means
from store.schema import layout
from store.schema.damage import Damage, Part
from store.schema.keys import Key
from store.schema.pair_metrics import OF_STATES
from store.schema.seed_pairs import mean_over_pairs
from store.schema.snapshot import EngineStatus
from store.statistics.means import MEAN_OF, PAIR_OF, RECORDED
from store.storage.array_documents import metadata
from store.storage.arrays import boxes, open_array, read
from store.storage.links import remove_tree
from store.storage.metadata import coordinate_layout, coordinates, model_groups
from store.study import Study
from store.writing.writer import StudyWriter

_LOST = (
    "its results were damaged and its log-probs are not stored, or damaged too: `seedconv run` "
    "scores it again where its checkpoint is there"
)
LOST_FOR_GOOD = "captured in training, cannot be scored again"
"""Ends the reason why what was damaged of a captured checkpoint is missing."""

_LOST_CAPTURE = (
    f"its results were damaged and its log-probs are not stored, or damaged too: {LOST_FOR_GOOD}"
)
_LOST_LOG_PROBS = f"its log-probs were damaged and are dropped; results stay: {LOST_FOR_GOOD}"

MENDABLE = frozenset(Part) - {Part.STUDY, Part.CORPUS}


@contextmanager
def maintain(
    path: Path, doing: str, say: Callable[[str], object] = lambda text: None
) -> Iterator[StudyWriter]:
    """Take the study for a while, to score nothing. Raise BusyError.

    `say` is called with what it waits for, if it has to.
    """
    writer = StudyWriter(path, watching=Watching(say=say))
    how = "failed"
    started = time.time()

    def beat(state: str, message: str = "") -> None:
        now = time.time()
        writer.beat(
            EngineStatus(writer.writer, writer.host, writer.pid, now, started, state, message)
        )

    try:
        beat("working", doing)
        yield writer
        how = "finished"
    finally:
        beat(how)
        writer.close(how)


def mend(
    path: Path, damage: Sequence[Damage], say: Callable[[str], object] = lambda text: None
) -> None:
    """Repair everything whose part is in `MENDABLE`; `say` is called with what it waits for.

    Raise BusyError while an engine works on the study, DamagedError when it cannot be opened.
    """
    with maintain(path, "mending", say) as writer:
        for d in damage:
            if d.path in (f"{layout.CORPUS}/{layout.CATEGORY}", layout.PROBES):
                _write_document(writer, d.path, _group({}))
            elif d.part is Part.PROBE and d.model is None:
                writer.probes.drop(unquote(d.path.rpartition("/")[2]))
            elif d.part is Part.CATEGORY:
                writer.summaries.drop_category(unquote(d.path.rpartition("/")[2]), d.model)
        for model in dict.fromkeys(d.model for d in damage if d.part in MENDABLE):
            if model is not None:
                _mend_model(writer, model, [d for d in damage if d.model == model])


def _mend_model(writer: StudyWriter, model: str, damage: list[Damage]) -> None:
    if any(d.part in {Part.METADATA, Part.COORDINATES} for d in damage):
        _restore_metadata(writer, model, {d.path for d in damage})
    study, known = writer.study(), writer.ledger.model(model)
    damage = damage + unproven(study, model, damage)
    bad = _mend_log_probs(writer, study, model, damage)
    lost = restore_results(writer, study, model, damage, bad)
    for name in RECORDED:  # which an old record may lack
        if any(d.path.endswith(f"/{name}") for d in damage if d.part is not Part.METADATA):
            lost |= {key for key, record in known.scored.items() if name not in record}
    pairs = restore_pairs(writer, study, model, damage, bad)
    pairs += restore_sets(writer, study, model, damage, bad)
    for seed, step in sorted(lost):
        if (seed, step) in known.scored:
            why = _LOST_CAPTURE if known.scored[seed, step].get("captured") else _LOST
            why = _name((seed, step)) + why
            writer.plan(model, [], {(seed, step): why})  # until its checkpoint is found
            writer.forget(model, step, [seed])
    for step, seeds in _fewest(pairs).items():
        if both := seeds & known.reduced.get(step, frozenset()):
            writer.forget(model, step, both, pairs_only=True)
    for d in damage:
        if d.part is Part.PROBE and d.seed is not None and d.step is not None:
            writer.probes.forget(model, unquote(d.path.rpartition("/")[2]), [(d.seed, d.step)])
    computed = any(d.part in {Part.RESULTS, Part.PAIRS} for d in damage)
    if computed or any(d.part is Part.MEANS for d in damage):
        study = writer.study()
        variables = layout.variables_of(writer.divergences)
        for name, variable in variables.items():  # expected_kl, of mean_kl, is the last
            if not variable.per_token:
                wrong = {(d.seed, d.step, d.other_seed) for d in damage if d.path.endswith(name)}
                _write_means(writer, study, model, name, wrong)
    if computed or any(d.part is Part.SUMMARY for d in damage):  # many share a chunk
        writer.summaries.forget(model, known.summaries)
        for name in layout.SUMMARIES:
            path = writer.path / layout.model_path(model) / layout.SUMMARY / name / "c"
            remove_tree(writer.path, path)
        restore_summaries(writer, writer.study(), model)
    writer.files.flush()


def _mend_log_probs(
    writer: StudyWriter, study: Study, model: str, damage: Sequence[Damage]
) -> set[Key]:
    """Write metadata of damaged log-probs again; drop those that this does not repair.

    Return the checkpoints whose log-probs were dropped.
    """
    dropped = set()
    for d in damage:
        if d.part is Part.LOG_PROBS and d.step is not None and d.seed is not None:
            _restore_log_prob_metadata(writer, model, (d.seed, d.step))
            if log_prob_damage(study, model, d.seed, d.step):
                key = d.seed, d.step
                captured = study.ledger(model).scored[key].get("captured")
                writer.drop_log_probs(model, d.step, [d.seed], again=True)
                if captured:
                    writer.plan(model, [], {key: _name(key) + _LOST_LOG_PROBS})
                study.refresh()
                dropped.add(key)
    return dropped


def _name(key: Key) -> str:
    return f"seed {key[0]}, step {key[1]}: "


def _restore_log_prob_metadata(writer: StudyWriter, model: str, key: Key) -> None:
    """Write the `zarr.json` files of one checkpoint's log-probs as their layout has them."""
    known = writer.ledger.model(model)
    path = layout.log_probs_path(model, *key)
    kept = REPRESENTATIONS.get(str(known.scored[key].get("log_probs")))
    if kept is None:
        return
    width = 0
    for name in ("hidden", "output_embedding") if kept.has_factors else ():
        with suppress(DamagedError):
            width = max(width, open_array(writer.files, f"{path}/{name}").shape[-1])
    layouts = kept.layouts(writer.n_tokens, writer.vocab_size, width)
    if kept.has_factors and not width:
        return
    documents = {
        f"{path}/{name}" if name else path: metadata(made) for name, made in layouts.items()
    }
    if kept.has_factors:
        documents[path] = _group({})
    for at, document in documents.items():
        try:
            same = json.loads((writer.path / at / "zarr.json").read_bytes()) == json.loads(document)
        except (OSError, ValueError):
            same = False
        if not same:
            _write_document(writer, at, document)


def _fewest(damage: list[Damage]) -> dict[int, set[str]]:
    """Return the seeds to leave out at each step so that no damaged pair is left.

    The most damaged go first.
    """
    pairs: dict[int, list[tuple[str, str]]] = {}
    for d in damage:
        if d.step is not None and d.seed is not None and d.other_seed is not None:
            pairs.setdefault(d.step, []).append((d.seed, d.other_seed))
    chosen: dict[int, set[str]] = {}
    for d in damage:  # one seed less, and what all have together is computed again
        if d.step is not None and d.seed is not None and d.other_seed is None:
            chosen.setdefault(d.step, {d.seed})
    for step, left in pairs.items():
        while left:
            worst, _ = Counter(seed for pair in left for seed in pair).most_common(1)[0]
            chosen.setdefault(step, set()).add(worst)
            left = [pair for pair in left if worst not in pair]
    return chosen


def _restore_metadata(writer: StudyWriter, model: str, paths: set[str]) -> None:
    """Write `zarr.json` files and coordinates again as the layout and the commit log have them."""
    known, group, store = writer.ledger.model(model), layout.model_path(model), writer.files
    groups = model_groups(model, known.seeds, probes=True)
    documents = {path: _group(attributes) for path, attributes in groups.items()}
    sizes = len(known.steps), len(known.seeds), writer.n_tokens, writer.ledger.n_levels
    for name, variable in layout.arrays_of(writer.divergences).items():
        documents[f"{group}/{name}"] = metadata(variable.layout(*sizes))
    for name, entry in writer.ledger.probes.items():
        for array, made in results_layouts(name, *sizes[:2], entry).items():
            documents[f"{group}/{array}"] = metadata(made)
    values = coordinates(known.steps, known.seeds)
    for name, numbers in values.items():
        labels = {} if name == "step" else {"labels": list(known.seeds)}
        documents[f"{group}/{name}"] = metadata(coordinate_layout(name, len(numbers), labels))
    for path in paths & documents.keys():
        _write_document(writer, path, documents[path])
        name = path.rpartition("/")[2]
        if path == f"{group}/{name}" and name in values:
            remove_tree(store.root, store.root / path / "c")
            open_array(store, path)[:] = values[name]


def _write_document(writer: StudyWriter, path: str, document: bytes) -> None:
    buffer = default_buffer_prototype().buffer.from_bytes(document)
    writer.files.set_sync(f"{path}/zarr.json", buffer)


def _group(attributes: dict[str, str]) -> bytes:
    return json.dumps(
        {"attributes": attributes, "zarr_format": 3, "node_type": "group"}, indent=2
    ).encode()


def _write_means(
    writer: StudyWriter,
    study: Study,
    model: str,
    name: str,
    wrong: set[tuple[str | None, int | None, str | None]],
) -> None:
    """Write an array of means again: whole cells unchanged, others made again, the rest NaN.

    Raise DamagedError when what a mean is taken over cannot be read.
    """
    array = study.array(model, name)
    known, cells = study.ledger(model), mean_cells(study, model, name)
    recorded = recorded_means(known, name)
    values: NDArray[np.float64] = np.full(array.shape, np.nan)
    for box in boxes(array.shape, array.chunks):
        try:
            values[box] = read(array, box)
        except DamagedError:  # missing, as where nothing was committed, or altered: NaN
            continue
    kept: NDArray[np.float64] = np.full(array.shape, np.nan)
    for cell, (seed, step, other) in cells.items():
        kept[cell] = values[cell]
        if not np.isnan(recorded[cell]):
            kept[cell] = recorded[cell]
            continue
        if np.isfinite(kept[cell]) and (seed, step, other) not in wrong and seed is not None:
            continue
        if name in MEAN_OF and seed is not None:
            per_token = study.values(model, MEAN_OF[name], seed, step, other)
            kept[cell] = per_token.mean(dtype=np.float64)
        elif name in RECORDED and seed is not None:
            kept[cell] = known.scored[seed, step][name]
        elif name in PAIR_OF and seed is not None and other is not None:
            pair = PAIR_OF[name]
            i, j = (study.values(model, pair.of, label, step) for label in (seed, other))
            kept[cell] = pair.mean(pair.total(i, j), study.n_tokens)
        elif name in OF_STATES:
            kept[cell] = np.nan
        else:
            row = read(study.array(model, "mean_kl"), (cell[0], slice(None), slice(None)))
            kept[cell] = mean_over_pairs(row, [known.seeds[s] for s in known.reduced[step]])
    path = f"{layout.model_path(model)}/{name}"
    if cells or np.isfinite(values).any():
        remove_tree(study.folder, study.folder / path / "c")
        open_array(writer.files, path)[...] = kept
