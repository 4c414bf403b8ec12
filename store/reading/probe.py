"""Probes: what a model says of given items, such as minimal pairs, beside the corpus.

Items and variants are the same for a whole study. The values of a checkpoint are one array over
(item, variant): log-probs of sentences, or surprisals, in nats.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import Store

from store.commits.ledger import ModelLedger, ProbeEntry, Record
from store.errors import DamagedError, StoreError
from store.schema import variables as layout
from store.schema.keys import Key
from store.storage.arrays import Array, create_array, expect, open_array, place, read
from store.storage.durable_store import DurableStore
from store.storage.links import remove_tree

if TYPE_CHECKING:
    from store.study import Study

BLIMP, ICL = "blimp", "icl"  # kinds
GOOD, BAD = 0, 1  # variants of minimal pairs

_CHUNK_ITEMS = 65_536
_GROWING = (0, 1)  # step, seed
_DESCRIPTION = "what a checkpoint says of each item, NaN where an item has no such variant"


@dataclass(frozen=True)
class Probe:
    """What is asked of every checkpoint."""

    name: str
    kind: str  # "blimp" or "icl"
    variants: tuple[str, ...]  # what is asked of each item, in the order of the values
    tasks: tuple[str, ...]  # labels that differ; untrusted
    task: NDArray[np.int32]  # (item,) index of its label among `tasks`
    terms: tuple[str, ...]  # (task,) what the task is about, perhaps empty; untrusted
    content: str  # digest of what the models read

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """The label of each item: the paradigm of a minimal pair, the name of a document."""
        return tuple(self.tasks[code] for code in self.task)

    @property
    def shape(self) -> tuple[int, int]:
        """Items, variants."""
        return len(self.task), len(self.variants)

    @cached_property
    def digest(self) -> str:
        """Identity: equal digests mean the same questions."""
        head = json.dumps(
            [self.name, self.kind, self.variants, self.tasks, self.terms, self.content]
        )
        values = np.ascontiguousarray(self.task, "<i4").tobytes()
        return hashlib.sha256(head.encode() + b"\0" + values).hexdigest()[:16]


@dataclass(frozen=True)
class ProbeValues:
    """What one checkpoint says, not committed yet."""

    probe: str
    digest: str
    seed: str
    values: NDArray[np.float32]  # (item, variant) nats


def probe_path(name: str) -> str:
    """Path of the array that says what a probe's items are."""
    return f"{layout.PROBES}/{layout.safe_name(name)}"


def result_name(name: str) -> str:
    """Path of a probe's results below a model's group."""
    return f"{layout.PROBE}/{layout.safe_name(name)}"


def items_layout(n_items: int) -> dict[str, Any]:
    """Shape, chunks, dtype and dimension of the array that says what the items are."""
    return {
        "shape": (n_items,),
        "chunks": (min(max(n_items, 1), 2**18),),
        "dtype": "int32",
        "dims": ("item",),
    }


def results_layout(n_steps: int, n_seeds: int, entry: ProbeEntry) -> dict[str, Any]:
    """Shape, chunks, dtype, dimensions and attributes of a model's results."""
    return {
        "shape": (n_steps, n_seeds, entry.n_items, entry.n_variants),
        "chunks": (1, 1, min(entry.n_items, _CHUNK_ITEMS), entry.n_variants),
        "dtype": "float32",
        "dims": ("step", "seed", "item", "variant"),
        "attributes": {"units": "nats", "description": _DESCRIPTION},
    }


def write_probe(store: DurableStore, probe: Probe) -> None:
    """Write what a probe's items are, in place of an earlier one of that name."""
    if not (store.root / layout.PROBES / "zarr.json").exists():
        zarr.create_group(store, path=layout.PROBES)
    path = probe_path(probe.name)
    remove_tree(store.root, store.root / path)
    attributes = {
        "kind": probe.kind,
        "variants": list(probe.variants),
        "labels": list(probe.tasks),
        "terms": list(probe.terms),
        "content": probe.content,
        "digest": probe.digest,
    }
    made = create_array(store, path, **items_layout(len(probe.task)), attributes=attributes)
    made[:] = probe.task


def read_probe(store: Store, name: str, digest: str) -> Probe:
    """Read the probe that has this digest. Raises DamagedError when it is not there."""
    array = open_array(store, probe_path(name))
    found: Mapping[str, Any] = dict(array.attrs)
    try:
        probe = Probe(
            name,
            str(found["kind"]),
            tuple(map(str, found["variants"])),
            tuple(map(str, found["labels"])),
            read(array, (slice(None),)),
            tuple(map(str, found["terms"])),
            str(found["content"]),
        )
    except (KeyError, TypeError):
        raise DamagedError(f"{place(array)}: its attributes were altered") from None
    if probe.digest != digest or found.get("digest") != digest:
        raise DamagedError(f"{place(array)}: is not the probe that results were made by")
    return probe


def probe_array(study: Study, store: Store, model: str, name: str) -> Array:
    """A model's results as they are on disk. Raises DamagedError when its metadata are altered."""
    known, entry = study.ledger(model), study.probe_entry(name)
    array = open_array(store, f"{layout.model_path(model)}/{result_name(name)}")
    made = results_layout(len(known.steps), len(known.seeds), entry)
    return expect(array, **made, growing=_GROWING)


def read_values(study: Study, store: Store, model: str, name: str, key: Key) -> NDArray[np.float32]:
    """See `Study.probe_values`."""
    while True:
        known, entry = study.ledger(model), study.probe_entry(name)
        if key not in known.probed.get(name, ()):
            seed, step = key
            raise StoreError(
                f"{study.path}: probe {name!r} of {model}, seed {seed}, step {step}: "
                "no such result (yet)"
            )
        try:
            index = known.steps[key[1]], known.seeds[key[0]]
            values = read(probe_array(study, store, model, name), index)
        except DamagedError:
            if not study.refresh():  # else an engine may be writing another probe in its place
                raise
            continue
        if study.probe_entry(name) == entry:
            return np.asarray(values, np.float32)


def remove_values(
    root: Path, model: str, known: ModelLedger, names: Iterable[str], key: Key
) -> None:
    """Remove from disk what one checkpoint says of these probes."""
    cell = f"c/{known.steps[key[1]]}/{known.seeds[key[0]]}"
    for name in names:
        remove_tree(root, root / layout.model_path(model) / result_name(name) / cell)


def probe_record(probe: Probe) -> Record:
    """The record that makes a probe known."""
    items, variants = probe.shape
    record: Record = {"kind": "probe", "name": probe.name, "digest": probe.digest}
    return record | {"items": items, "variants": variants}
