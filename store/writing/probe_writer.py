"""Writing probes: what their items are, and what checkpoints say of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from store.commits.ledger import ProbeEntry, Record
from store.commits.log import CommitReader, CommitWriter
from store.reading.probe_arrays import (
    loose_name,
    probe_path,
    probe_record,
    remove_values,
    result_name,
    write_probe,
)
from store.schema import layout
from store.schema.keys import Key
from store.schema.packed import chunk_keys
from store.schema.probe import Probe, ProbeValues
from store.schema.snapshot import Failure
from store.storage.arrays import write
from store.storage.durable_store import DurableStore
from store.storage.links import remove_tree
from store.writing.model_arrays import StudyArrays
from store.writing.packing import Packer, is_answered
from store.writing.part_writer import PartWriter


class ProbeWriter(PartWriter):
    """The part of a `StudyWriter` that writes probes; the packer is its own."""

    def __init__(
        self,
        store: DurableStore,
        commits: CommitWriter,
        reader: CommitReader,
        arrays: StudyArrays,
        packer: Packer,
    ) -> None:
        super().__init__(store, commits, reader, arrays)
        self._packer = packer

    def set(self, probe: Probe) -> None:
        """Keep a probe. Results of an earlier one of that name, of other items, go.

        Nothing is done when this is the one that is kept.
        """
        before = self._ledger.probes.get(probe.name)
        if before is not None and before.digest == probe.digest:
            return
        self.drop(probe.name)
        write_probe(self._store, probe)
        entry = ProbeEntry(probe.digest, *probe.shape)
        for name, known in self._ledger.models.items():
            self._arrays[name].add_probe(probe.name, entry, len(known.steps), len(known.seeds))
        self._store.flush()
        self._commits.append(probe_record(probe))

    def drop(self, name: str) -> None:
        """Take a probe back with all its results, before the first byte of them goes."""
        if name not in self._ledger.probes:
            return
        self._commits.append({"kind": "probe", "name": name, "digest": None})
        root = self._store.root
        for model in self._ledger.models:  # whose other arrays may be damaged
            if model in self._arrays:
                self._arrays[model].drop_probe(name)
            for path in (result_name(name), loose_name(name)):
                remove_tree(root, root / layout.model_path(model) / path)
        remove_tree(root, root / probe_path(name))

    def commit(self, model: str, step: int, results: Sequence[ProbeValues]) -> None:
        """Commit what checkpoints of a step say; from then on it can be read.

        Once nothing of the step is still to come, it is packed.

        Raise ValueError for values that are not of the probe's shape.
        """
        if not results:
            return
        self._commits.check()
        known, arrays = self._ledger.model(model), self._arrays[model]
        records: list[Record] = []
        group = layout.model_path(model)
        for result in results:
            path = loose_name(result.probe)
            array = arrays[path]
            index = known.steps[step], known.seeds[result.seed]
            if result.values.shape != array.shape[2:]:
                raise ValueError(f"{result.values.shape} values, the probe has {array.shape[2:]}")
            write(array, index, result.values)
            record: Record = {"kind": "probed", "model": model, "seed": result.seed, "step": step}
            keys = chunk_keys(f"{group}/{path}", array.shape, array.chunks, index)
            record |= {"cells": self._store.take_checksums(keys)}
            records.append({**record, "probe": result.probe, "digest": result.digest})
        self._store.flush()
        self._commits.append(*records)
        if is_answered(self._ledger, known, step):
            self._packer.try_to_pack(model, step)

    def fail(self, model: str, name: str, seed: str, step: int, failure: Failure) -> None:
        """Record that a checkpoint could not be asked a probe, and when it is tried again."""
        record: Record = {"kind": "probe_failed", "model": model, "probe": name}
        self._commits.append(record | {"seed": seed, "step": step} | asdict(failure))

    def excuse(self, model: str, name: str, keys: Iterable[Key]) -> None:
        """Forget that these (seed, step) could not be asked: nobody asks them any more."""
        gone = sorted(self._ledger.model(model).probe_failures.get(name, {}).keys() & set(keys))
        record: Record = {"kind": "unprobed", "model": model, "probe": name}
        if gone:
            self._commits.append(*({**record, "seed": seed, "step": step} for seed, step in gone))

    def forget(self, model: str, name: str, keys: Iterable[Key]) -> None:
        """Take back what these (seed, step) say, so that the next engine asks them again."""
        known = self._ledger.model(model)
        gone = sorted(known.probed.get(name, set()) & set(keys))
        record: Record = {"kind": "unprobed", "model": model, "probe": name}
        if gone:
            self._commits.append(*({**record, "seed": seed, "step": step} for seed, step in gone))
        for key in gone:
            remove_values(self._store.root, model, known, [name], key)
        for step in sorted({step for _, step in gone}):
            self._packer.try_to_pack(model, step, again=True)
            self._packer.remove_packs(model, step)
