"""A new study: its root, its corpus, and nothing scored yet. It appears whole or not at all."""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from store.commits.study_progress import divergences_of
from store.errors import StudyMismatchError
from store.reading.corpus_reader import CORPUS_ARRAYS, corpus_layout
from store.schema import layout
from store.schema.checksums import checksum, corpus_checksum, vocabulary_checksum
from store.schema.corpus import Corpus, Vocabulary
from store.schema.pair_metrics import USUAL
from store.schema.reference import REFERENCES
from store.storage.arrays import create_array, create_group, write
from store.storage.durable import PARTIAL, sync_folders
from store.storage.durable_store import DurableStore

_REMOVALS, _BETWEEN_SECONDS = 20, 0.05


@dataclass(frozen=True)
class Header:
    """A study's properties, written once. `identity` and `divergences` must agree ever after."""

    study: str
    identity: Mapping[str, str | int | float | bool]  # e.g. "tokenizer.digest", "scoring.window"
    details: Mapping[str, Any] = field(default_factory=dict)  # not compared: versions, config
    divergences: tuple[str, ...] = USUAL  # of pairs, in the order of the table of pair metrics


def create_study(
    path: Path, header: Header, corpus: Corpus, vocabulary: Vocabulary, now: float
) -> None:
    """Make an empty study with its corpus at `path`, where there must be nothing.

    When another engine makes one at the same moment, the first stays. Raise OSError; nothing is
    left behind then.
    """
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}{PARTIAL}")
    made = [folder for folder in path.parents if not folder.exists()]
    partial.mkdir(parents=True)
    try:
        store = DurableStore(partial)
        root = {
            "format": layout.FORMAT,
            "study": header.study,
            "id": uuid.uuid4().hex,  # no two studies have one, though all else be equal
            "created": now,
            "n_tokens": len(corpus),
            "vocab_size": len(vocabulary),
            "identity": dict(header.identity),
            "divergences": list(header.divergences),
            "corpus_crc32": corpus_checksum(corpus),
            "vocabulary_crc32": vocabulary_checksum(vocabulary),
            **header.details,
        }
        root = json.loads(json.dumps(root))  # as it will be read: the checksum is of that
        root["crc32"] = checksum(root)
        zarr.create_group(store, attributes={"seedconv": root})
        create_group(store, layout.MODELS, {})
        _write_corpus(store, corpus, vocabulary)
        for folder in (layout.COMMITS, layout.STATUS, layout.JOURNAL):
            (partial / folder).mkdir()
        store.flush()
        partial.rename(path)
        sync_folders([path.parent, *(folder.parent for folder in made)])
    except BaseException as error:
        _remove(partial)
        if not isinstance(error, OSError) or not (path / "zarr.json").exists():
            raise


def _write_corpus(store: DurableStore, corpus: Corpus, vocabulary: Vocabulary) -> None:
    attributes = {
        "document_names": list(corpus.document_name),
        "unigram_source": vocabulary.source,
    }
    create_group(store, layout.CORPUS, attributes)
    create_group(store, f"{layout.CORPUS}/{layout.CATEGORY}", {})
    entries = [entry.encode("utf-8", "surrogatepass") for entry in vocabulary.text]
    arrays = {
        "text": np.frombuffer(corpus.text.encode("utf-32-le", "surrogatepass"), np.uint32),
        "vocabulary": np.frombuffer(b"".join(entries), np.uint8),
        "vocabulary_end": np.cumsum([len(entry) for entry in entries], dtype=np.int64),
        "unigram_count": vocabulary.count,
    }
    for name, (dtype, _, _) in CORPUS_ARRAYS.items():
        values = np.asarray(arrays[name] if name in arrays else getattr(corpus, name), dtype)
        path = f"{layout.CORPUS}/{name}"
        write(create_array(store, path, corpus_layout(name, values.size)), (slice(None),), values)


def refuse_mismatch(path: Path, root: Mapping[str, Any], header: Header) -> None:
    """Raise StudyMismatchError, naming what differs, unless `root` belongs to `header`."""
    theirs = root["identity"]
    for name, ours in header.identity.items():
        if theirs.get(name) != ours:
            raise StudyMismatchError(
                f"{path}: {name} is {theirs.get(name)!r} there and {ours!r} in the study file; "
                "results could not be compared: use another store, or the settings of this one"
            )
    there, wanted = divergences_of(root), header.divergences
    asked, kept = ({*of} & {*REFERENCES} for of in (wanted, there))
    if asked != kept:
        has = " and ".join(sorted(kept)) or "no KL to a reference"
        raise StudyMismatchError(
            f"{path}: has {has}, and [reference] in the study file asks for "
            f"{' and '.join(sorted(asked)) or 'none'}; that is chosen when a store is made: use "
            "another store, or the [reference] of this one"
        )
    if there != wanted:
        raise StudyMismatchError(
            f"{path}: scoring.divergences is {json.dumps(there)} there and {json.dumps(wanted)} in "
            "the study file; they are chosen when a store is made: use another store, or set "
            f"divergences = {json.dumps(there)}"
        )


def _remove(folder: Path) -> None:
    """Remove a folder, into which threads of zarr may still write what they had begun."""
    for _ in range(_REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return
        time.sleep(_BETWEEN_SECONDS)
