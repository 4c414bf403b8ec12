"""A probe on disk: its items, and by model the answers of each checkpoint."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from zarr.abc.store import Store

from store.commits.ledger import ModelLedger, ProbeEntry, Record
from store.errors import DamagedError
from store.schema import layout
from store.schema.array_layout import ArrayLayout
from store.schema.keys import Key
from store.schema.probe import Probe
from store.schema.variable import PACK_SEEDS
from store.storage.arrays import (
    Array,
    create_array,
    create_group,
    expect,
    open_array,
    place,
    read,
    write,
)
from store.storage.durable_store import DurableStore
from store.storage.links import remove_tree

CHUNK_ITEMS = 65_536
_GROWING = (0, 1)  # step, seed
_DESCRIPTION = "what a checkpoint says of each item, NaN where an item has no such variant"


def probe_path(name: str) -> str:
    """Return the path of the array that says what a probe's items are."""
    return f"{layout.PROBES}/{layout.safe_name(name)}"


def result_name(name: str) -> str:
    """Return the path of a probe's packed results below a model's group."""
    return f"{layout.PROBE}/{layout.safe_name(name)}"


def loose_name(name: str) -> str:
    """Return the path at which chunks of a probe's results are asked for, packed or not."""
    return f"{layout.LOOSE}/{result_name(name)}"


def items_layout(n_items: int, attributes: Mapping[str, Any]) -> ArrayLayout:
    """Return what the array that says what the items are is made with."""
    return ArrayLayout.of_one_axis(n_items, "int32", "item", attributes)


def results_layouts(
    name: str, n_steps: int, n_seeds: int, entry: ProbeEntry
) -> dict[str, ArrayLayout]:
    """Return how both arrays of a model's results are made, by path below the model's group."""
    items, variants = min(entry.n_items, CHUNK_ITEMS), entry.n_variants
    loose = ArrayLayout(
        shape=(n_steps, n_seeds, entry.n_items, variants),
        chunks=(1, 1, items, variants),
        dtype="float32",
        dims=("step", "seed", "item", "variant"),
        attributes={"units": "nats", "description": _DESCRIPTION},
    )
    packed = replace(loose, shards=(1, PACK_SEEDS, items, variants))
    return {result_name(name): packed, loose_name(name): loose}


def write_probe(store: DurableStore, probe: Probe) -> None:
    """Write what a probe's items are, in place of an earlier one of that name."""
    create_group(store, layout.PROBES, {})
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
    made = create_array(store, path, items_layout(len(probe.task), attributes))
    write(made, (slice(None),), probe.task)


def read_probe(store: Store, name: str, digest: str) -> Probe:
    """Read the probe that has this digest. Raise DamagedError when it is not there."""
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


def open_results(
    store: Store, model: str, name: str, known: ModelLedger, entry: ProbeEntry
) -> Array:
    """Open a model's results for reading, packed or not.

    Raise DamagedError when their metadata are altered.
    """
    return open_result(store, model, name, known, entry, loose_name(name))


def open_result(
    store: Store, model: str, name: str, known: ModelLedger, entry: ProbeEntry, path: str
) -> Array:
    """Open one of both arrays of a model's results. Raise DamagedError likewise."""
    made = results_layouts(name, len(known.steps), len(known.seeds), entry)[path]
    array = open_array(store, f"{layout.model_path(model)}/{path}", made)
    return expect(array, made, growing=_GROWING)


def remove_values(
    root: Path, model: str, known: ModelLedger, names: Iterable[str], key: Key
) -> None:
    """Remove what one checkpoint says of these probes and is loose."""
    cell = f"c/{known.steps[key[1]]}/{known.seeds[key[0]]}"
    for name in names:
        remove_tree(root, root / layout.model_path(model) / loose_name(name) / cell)


def probe_record(probe: Probe) -> Record:
    """Return the record that makes a probe known."""
    items, variants = probe.shape
    record: Record = {"kind": "probe", "name": probe.name, "digest": probe.digest}
    return record | {"items": items, "variants": variants}
