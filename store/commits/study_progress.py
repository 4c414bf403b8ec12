"""A study's progress from its commit log: no arrays, and so no zarr, slow to import."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store.commits.heartbeat import read_journal, read_status
from store.commits.ledger import Ledger, ModelLedger
from store.commits.log import CommitReader
from store.errors import (
    DamagedError,
    NotAStudyError,
    ReplacedError,
    StoreError,
    lacks_files,
)
from store.schema import layout
from store.schema.checksums import checksum
from store.schema.from_json import loads
from store.schema.pair_metrics import USUAL, in_order
from store.schema.snapshot import EngineStatus, ModelSnapshot, State, StudySnapshot
from store.storage.places import Address, Files, LocalFiles, open_files

_ALIVE_SECONDS = 30.0  # older heartbeats do not count as work in progress
_MOST_TOKENS = 2**31 - 1  # and entries of a vocabulary: ids are int32
_JOURNALS = 3  # sessions whose journals are shown


class StudyProgress:
    """The planned and finished work of a study, and the state of its engine."""

    def __init__(self, path: Address, *, clock: Callable[[], float] = time.time) -> None:
        """Open the study's log. Raise what `open_study` raises."""
        self.files = open_files(path)
        self.path = path if isinstance(path, Path) else str(self.files)
        self._clock = clock
        self._replaced = 0
        self._begin(_root(self.files), changes=0)

    def _begin(self, root: dict[str, Any], changes: int) -> None:
        self.root = root
        self.name = str(root["study"])
        self.n_tokens = int(root["n_tokens"])
        self.vocab_size = int(root["vocab_size"])
        self.divergences = divergences_of(root)
        self.commits = CommitReader(self.files.below(layout.COMMITS), changes)
        self._engine: EngineStatus | None = None
        self._root_stamp: tuple[int, ...] | None = None  # of the `zarr.json` that says so
        self._seen: object = None  # stamps of what was last found to be the same
        self.commits.refresh()
        refuse_other_study(self.path, self.root, self.commits.ledger)

    @property
    def replaced(self) -> int:
        """Return how often another study, or an older copy, was found in the place of this one."""
        return self._replaced + self.commits.replaced

    def refresh(self) -> bool:
        """Take in what was committed since; return whether there was anything.

        Begins again when another study or an older copy lies there now: see `replaced`. Raises
        what `open_study` raises.
        """
        before, replaced = self.commits.ledger.changes, self.replaced
        try:
            self.commits.refresh()
        except DamagedError:
            if not self._is_another() and self.commits.agrees():
                raise
            if not self._is_another():
                self.commits.start_again()
                self.commits.refresh()
        changed = self.commits.ledger.changes != before
        if (changed or self.files.near) and self._is_another():
            self._replaced = replaced + 1
            self._begin(_root(self.files), self.commits.ledger.changes + 1)
        if self.replaced != replaced:
            self._engine = None
        return self.commits.ledger.changes != before

    def refuse_replaced(self, since: int) -> None:
        """Raise ReplacedError unless what lies there is still what `refresh` took in, or has grown.

        `since` is the value of `replaced` when what is read now was opened. Asks the file system
        for two files' times, and reads only if these changed; elsewhere only `refresh` notices.
        """
        if self.replaced == since:
            if not self.files.near:
                return
            seen = self.files.stamp("zarr.json"), self.commits.stamp()
            if seen == self._seen and None not in seen:
                return
            if not self._is_another() and self.commits.agrees():
                self._seen = seen
                return
        raise ReplacedError(
            f"{self.files}: another study, or an older copy, was put in its place while it was "
            "read; read it again from the start"
        )

    def _is_another(self) -> bool:
        stamp = self.files.stamp("zarr.json")
        if stamp is not None and stamp == self._root_stamp:
            return False
        root = _root(self.files)
        if any(root.get(name) != self.root.get(name) for name in ("id", "crc32", "created")):
            return True
        self._root_stamp = stamp
        return False

    def snapshot(self, model: Callable[[str], ModelSnapshot] | None = None) -> StudySnapshot:
        """Return the study as of the last refresh of `commits`, with results that `model` reads.

        Without it, every model is as if nothing of it could be read yet: all results are NaN.
        """
        ledger, read = self.commits.ledger, model or self._without_results
        if ledger.session is not None:
            self._engine = read_status(self.files, ledger.session["writer"]) or self._engine
        return StudySnapshot(
            path=self.path,
            name=self.name,
            n_tokens=self.n_tokens,
            vocab_size=self.vocab_size,
            divergences=self.divergences,
            generation=ledger.changes,
            models=tuple(self._with_work(read(name)) for name in tuple(ledger.models)),
            engine=self._engine,
            journal=tuple(read_journal(self.files, ledger.writers[-_JOURNALS:])),
            bytes_stored=ledger.bytes_stored,
            seen=self._seen_alive(),
            replaced=self.replaced,
        )

    def _seen_alive(self) -> float | None:
        """Return when the heartbeat was last written, where the file system's clock is of use.

        The engine's clock may differ from ours: it is believed if the file says no better.
        """
        if self._engine is None:
            return None
        beat, now = self._engine.heartbeat, self._clock()
        stamp = self.files.stamp(f"{layout.STATUS}/{self._engine.writer}.json")
        written = stamp[3] / 1e9 if stamp is not None else now + 1
        if written > now:
            return beat if beat <= now else None
        return written if beat > now else max(beat, written)

    def _without_results(self, name: str) -> ModelSnapshot:
        ledger = self.commits.ledger
        known = ledger.models[name]
        seeds, steps = tuple(known.seeds), sorted(known.steps)
        by_seed = np.full((len(steps), len(seeds)), np.nan)
        by_step = np.full(len(steps), np.nan)
        return ModelSnapshot(
            name=name,
            seeds=seeds,
            steps=np.array(steps, np.int64),
            state=states(known, seeds, steps),
            kl=np.full((len(steps), len(seeds), len(seeds)), np.nan),
            cross_entropy=by_seed,
            entropy=by_seed,
            storage_floor=by_step,
            noise_floor=by_step,
            errors=known.errors(),
            phases=known.phases,
            duplicates=ledger.duplicates(name),
            failures=known.failures_now(),
            captured=known.captured(),
            **probes_of(known, ledger.probes),
        )

    def _with_work(self, model: ModelSnapshot) -> ModelSnapshot:
        """Mark what a living engine has in hand."""
        engine = self._engine
        seen = self._seen_alive()
        if engine is None or (seen and self._clock() - seen > _ALIVE_SECONDS):
            return model
        works = [work for work in engine.works if work.model == model.name and not work.probe]
        state = model.state.copy()
        for work in works:
            rows = model.steps == work.step
            busy = np.array([work.seed in (None, seed) for seed in model.seeds], dtype=bool)
            waiting = np.isin(state, [State.QUEUED, State.FAILED, State.SCORED])
            state[rows[:, None] & busy[None, :] & waiting] = work.state
        return replace(model, state=state) if works else model


def refuse_other_study(path: object, root: dict[str, Any], ledger: Ledger) -> None:
    """Raise DamagedError when the log was not written for the study of these attributes."""
    wanted = (ledger.session or {}).get("root", root.get("crc32"))
    if wanted not in (root.get("crc32"), *root.get("earlier", ())):
        raise DamagedError(
            f"{path}: zarr.json and commits/ are of two studies; restore both from one copy"
        )


def probes_of(known: ModelLedger, probes: Iterable[str]) -> dict[str, Any]:
    """Return what the log says of a model's probes and results, by a snapshot's fields."""
    return {
        "groups": known.groups,
        "restored": {
            key: tuple(record["restored"])
            for key, record in known.scored.items()
            if record.get("restored")
        },
        "n_scored": len(known.scored),
        "probed": {probe: len(known.probed.get(probe, ())) for probe in probes},
        "probe_failures": {
            (probe, *key): failure
            for probe, found in known.probe_failures.items()
            for key, failure in found.items()
            if known.has(key)
        },
    }


def states(known: ModelLedger, seeds: tuple[str, ...], steps: list[int]) -> NDArray[np.uint8]:
    """Return where each checkpoint stands, by the log: (step, seed), values of `State`."""

    def state(seed: str, step: int) -> State:
        key = (seed, step)
        if key in known.scored:
            if seed not in known.reduced.get(step, ()):
                return State.SCORED
            kept = key in known.stored or not known.scored[key].get("log_probs")
            return State.DONE if kept else State.PRUNED
        if key in known.failed:
            return State.FAILED
        if key in known.missing:
            return State.MISSING
        return State.QUEUED if key in known.planned else State.ABSENT

    cells = [[state(seed, step) for seed in seeds] for step in steps]
    return np.array(cells, np.uint8).reshape(len(steps), len(seeds))


def read_root(path: str | Path, *, migrating: bool = False) -> dict[str, Any]:
    """Return the study's own attributes; `migrating`: also of a format that can be migrated.

    Raise NotAStudyError, in one line that says what to do; DamagedError when it was a study.
    """
    return _root(open_files(path), migrating=migrating)


def _root(files: Files, *, migrating: bool = False) -> dict[str, Any]:
    def refuse(why: str) -> StoreError:
        try:
            files.read(f"{layout.COMMITS}/1.log", 0, 1)
        except (FileNotFoundError, NotADirectoryError):
            return NotAStudyError(f"{files}: {why}")
        return DamagedError(
            f"{files}/zarr.json: damaged, though the study has commits; restore it from a copy"
        )

    try:
        metadata = loads(files.read("zarr.json"))
        root = metadata["attributes"]["seedconv"]
        found = root["format"]
    except FileNotFoundError:
        what = "is not a study" if files.exists() else "does not exist"
        hint = "`seedconv run STUDY.toml` makes one where the study file says"
        if not isinstance(files, LocalFiles):
            hint = "check bucket and prefix, or copy one there first"
        raise refuse(f"{what}; {hint}") from None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        if lacks_files(error):
            raise
        if str(files).endswith(".toml"):
            raise refuse("is a study file. Name its store: `store` in its [study]") from None
        raise refuse("is not a seedconv study") from None
    if type(found) is not int:  # true and 1.0 are not 1 in JSON
        raise NotAStudyError(f"{files}: is not a seedconv study")
    old = found in layout.MIGRATED or "migrating" in root
    if old and not migrating:
        command = f"`seedconv migrate {files}`"
        if not isinstance(files, LocalFiles):
            command = "`seedconv migrate` where it was made, and copy it here again"
        what = f"has store format {root.get('migrating', found)}"
        raise NotAStudyError(f"{files}: {what}; bring it to format {layout.FORMAT} by {command}")
    if found != layout.FORMAT and not old:
        raise NotAStudyError(
            f"{files}: has store format {found}, this seedconv reads format {layout.FORMAT}; "
            "use the version that made it"
        )
    if not {"study", "n_tokens", "vocab_size", "identity"} <= root.keys():
        raise refuse("is not a seedconv study")
    if root.get("crc32") != checksum(root):
        raise refuse("its attributes were altered")
    if odd := [name for name, fits in _ROOT.items() if not fits(root.get(name))]:
        raise refuse(f"{odd[0]} in its zarr.json cannot be what it says")
    return dict(root)


def divergences_of(root: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which divergences a study has, in the order of the table of pair metrics.

    Those that a later version added are left out; a study of an earlier one has the usual ones.
    """
    return in_order(root.get("divergences", USUAL))


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value <= _MOST_TOKENS


def _is_text(value: object) -> bool:
    return type(value) is str


def _are_divergences(value: object) -> bool:
    return value is None or (type(value) is list and "kl" in value and all(map(_is_text, value)))


def _are_texts(value: object) -> bool:
    return value is None or (type(value) is list and all(map(_is_text, value)))


def _is_identity(value: object) -> bool:
    scalars = (str, int, float, bool)
    return type(value) is dict and all(type(part) in scalars for part in value.values())


_ROOT: dict[str, Callable[[object], bool]] = {
    "study": _is_text,
    "n_tokens": _is_size,
    "vocab_size": _is_size,
    "identity": _is_identity,
    "divergences": _are_divergences,
    "earlier": _are_texts,
    "corpus_crc32": _is_text,
    "vocabulary_crc32": _is_text,
}
