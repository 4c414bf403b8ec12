"""Bringing a study of an earlier format to the present one, in its place.

It may be killed at any moment and called again: until the last write, the study's attributes say
that it is being migrated, and nobody else touches it. Results are moved unchanged, byte by byte,
so that what the commit log says of them stays true.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from store.commits.chunk_checksums import ChunkChecksums
from store.commits.heartbeat import write_status
from store.commits.log import CommitReader, CommitWriter
from store.commits.owner import Watching, pid_space, refuse_if_busy
from store.commits.study_progress import divergences_of, read_root, refuse_other_study
from store.reading.probe_arrays import result_name
from store.schema import layout
from store.schema.checksums import checksum
from store.schema.snapshot import EngineStatus
from store.storage.array_documents import as_written
from store.storage.durable import sync_folders
from store.storage.durable_store import DurableStore
from store.storage.links import refuse_link
from store.storage.places import refuse_remote
from store.writing.model_arrays import StudyArrays
from store.writing.packing import Packer
from store.writing.recovery import remove_leftovers


@dataclass(frozen=True)
class Entries:
    """Numbers of files and folders of a study."""

    files: int
    folders: int


@dataclass(frozen=True)
class Migrated:
    """The result of a migration."""

    before: Entries
    after: Entries
    steps: int  # that were packed
    left: tuple[tuple[str, int], ...]  # (model, step) with damage: still loose


def migrate(
    path: Path,
    say: Callable[[str], object] = lambda text: None,
    packed: Callable[[int, int], object] = lambda done, total: None,
) -> Migrated | None:
    """Bring the study at `path` to the present format; return None where it has it.

    `say` is called with what it waits for, `packed` with how many steps are, of how many. Raise
    NotAStudyError, DamagedError, BusyError, UnsupportedError, OSError.
    """
    refuse_remote(path)
    root = read_root(path, migrating=True)
    if root["format"] == layout.FORMAT and "migrating" not in root:
        return None
    before = count_entries(path)
    reader = CommitReader(path / layout.COMMITS)
    reader.refresh()
    refuse_other_study(path, root, reader.ledger)
    refuse_if_busy(path, reader.ledger, time.time(), Watching(say=say))
    with _session(path, root, reader) as (commits, beat):
        store = DurableStore(path, commits.check)
        store.expected = ChunkChecksums(lambda: reader.ledger)
        if root["format"] != layout.FORMAT:
            marked = {**root, "format": layout.FORMAT, "migrating": root["format"]}
            root = _write_root(store, marked, root["crc32"])
        _make_room(store, reader, root)
        remove_leftovers(store, reader.ledger)
        store.flush()
        packer = Packer(store, lambda: reader.ledger, int(root["n_tokens"]))
        loose = [(model, step) for model in reader.ledger.models for step in packer.loose(model)]
        for done, (model, step) in enumerate(loose):
            packed(done, len(loose))
            packer.pack(model, step)
            packer.remove_mirrored(model, step)
            beat("working")
        packed(len(loose), len(loose))
        final = {name: value for name, value in root.items() if name != "migrating"}
        _write_root(store, final, root["crc32"])
        left = [(model, step) for model in reader.ledger.models for step in packer.loose(model)]
    return Migrated(before, count_entries(path), len(loose), tuple(left))


@contextmanager
def _session(
    path: Path, root: dict[str, Any], reader: CommitReader
) -> Iterator[tuple[CommitWriter, Callable[[str], None]]]:
    """Take the study over, and give it back. Raise BusyError."""
    host, pid, started = socket.gethostname(), os.getpid(), time.time()
    writer = f"{layout.safe_name(host)}-{pid}-{reader.number + 1}"
    session = {
        "writer": writer,
        "host": host,
        "pid": pid,
        "pid_space": pid_space(),
        "time": started,
        "root": root["crc32"],
    }
    commits, how = CommitWriter(path / layout.COMMITS, reader, session), "failed"

    def beat(state: str) -> None:
        now, what = time.time(), "migrating" if state == "working" else ""
        write_status(path, EngineStatus(writer, host, pid, now, started, state, what))

    try:
        beat("working")
        yield commits, beat
        how = "finished"
    finally:
        beat(how)
        try:
            commits.append({"kind": "end", "how": how})
            commits.seal()
        finally:
            commits.close()


def _write_root(store: DurableStore, root: dict[str, Any], before: str) -> dict[str, Any]:
    """Replace the study's attributes; what the log calls them by, `before`, stays theirs."""
    root = {**root, "earlier": [*root.get("earlier", ()), before]}
    root["crc32"] = checksum(root)
    document = {"attributes": {"seedconv": root}, "zarr_format": 3, "node_type": "group"}
    store.put("zarr.json", as_written(document))
    store.flush()
    return root


def _make_room(store: DurableStore, reader: CommitReader, root: dict[str, Any]) -> None:
    """Move results per token or item to where loose ones lie; make the arrays for packed ones."""
    arrays = StudyArrays(store, reader, int(root["n_tokens"]), divergences_of(root))
    for model, known in reader.ledger.models.items():
        group = store.root / layout.model_path(model)
        changed = {group}
        for name in (*layout.PER_TOKEN, *map(result_name, reader.ledger.probes)):
            old, new = group / name, group / layout.LOOSE / name
            refuse_link(store.root, new)
            new.parent.mkdir(parents=True, exist_ok=True)
            if old.is_dir() and not new.exists():
                refuse_link(store.root, old)
                old.rename(new)
            changed |= {old.parent, new.parent}
        sync_folders(folder for folder in changed if folder.exists())
        arrays.grow(model, known.steps, known.seeds)


def count_entries(path: Path) -> Entries:
    """Count the files and folders below a folder; links are not followed."""
    walk = [(len(folders), len(files)) for _, folders, files in os.walk(path)]
    return Entries(sum(n for _, n in walk), sum(n for n, _ in walk))
