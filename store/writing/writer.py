"""Writing a study: the one process that coordinates it creates, grows and commits."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from store.commits.heartbeat import JournalWriter, write_status
from store.commits.ledger import Ledger, Record, phases_record
from store.commits.log import CommitReader, CommitWriter
from store.commits.owner import Watching, pid_space, refuse_if_busy
from store.commits.study_progress import divergences_of, read_root, refuse_other_study
from store.errors import StoreError
from store.reading.probe_arrays import remove_values
from store.schema import layout
from store.schema.array_types import Floats
from store.schema.corpus import Corpus, Vocabulary
from store.schema.keys import Key
from store.schema.schedule import Schedules, schedules_record
from store.schema.seed_pairs import mean_over_pairs
from store.schema.snapshot import EngineStatus, Failure, JournalEntry, Phase
from store.statistics.means import PAIR_OF
from store.storage.arrays import read, write
from store.storage.durable_store import DurableStore
from store.storage.links import remove_tree
from store.storage.places import refuse_remote
from store.storage.side_by_side import side_by_side
from store.study import Study
from store.writing.cells import CellWriter, remove_other_sets, remove_pair, remove_results
from store.writing.create import Header, create_study, refuse_mismatch
from store.writing.model_arrays import StudyArrays
from store.writing.packing import Packer, is_complete
from store.writing.pending import CheckpointResult, PairsResult
from store.writing.probe_writer import ProbeWriter
from store.writing.records import reduced_records, scored_record
from store.writing.recovery import remove_leftovers
from store.writing.summary_writer import SummaryWriter

_WATCHING = Watching()


class StudyWriter:
    """A study open for writing, by its one coordinator.

    `ledger` is what is committed; `results` writes what checkpoints and pairs have per token, the
    parts `summaries` and `probes` write and commit theirs. `commit` returns when data and then
    record are on disk; what was not committed when a process died is removed by the next one.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        watching: Watching = _WATCHING,
    ) -> None:
        """Take over an existing study. Raise BusyError, NotAStudyError, DamagedError.

        Where the clocks cannot say whether another engine lives, its heartbeat is watched first,
        for up to `STALE_SECONDS`.
        """
        refuse_remote(path)
        self.path = path
        self._clock, self._watching = clock, watching
        self._root = root = read_root(path)
        self.n_tokens, self.vocab_size = int(root["n_tokens"]), int(root["vocab_size"])
        self.host, self.pid = socket.gethostname(), os.getpid()
        self._ours: set[str] = set()  # writers of all sessions of this object
        self.bytes_written = 0
        self._begin()

    def _begin(self) -> None:
        """Start a session and its writers."""
        reader = CommitReader(self.path / layout.COMMITS)
        reader.refresh()
        refuse_other_study(self.path, self._root, reader.ledger)
        last = reader.ledger.session
        if last is None or last["writer"] not in self._ours:
            refuse_if_busy(self.path, reader.ledger, self._clock(), self._watching)
        clean = reader.ledger.ended in {"finished", "stopped"}
        self.writer = f"{layout.safe_name(self.host)}-{self.pid}-{reader.number + 1}"
        self._ours.add(self.writer)  # before the log can name it
        session = {
            "writer": self.writer,
            "host": self.host,
            "pid": self.pid,
            "pid_space": pid_space(),
            "time": self._clock(),
            "root": self._root["crc32"],  # so that no other study's log is taken for this one's
        }
        self._reader = reader
        self._commits = CommitWriter(self.path / layout.COMMITS, reader, session)
        try:
            self._journal = JournalWriter(self.path, self.writer)
            self._make_parts()
            if not clean:
                remove_leftovers(self._store, self.ledger)
                self._store.flush()
            self._packer.pack_loose(is_complete)
        except OSError:  # as on a full disk, where there may be room for this one line
            with contextlib.suppress(OSError, StoreError):
                self._commits.append({"kind": "end", "how": "failed"})
            raise

    def _make_parts(self) -> None:
        self.results = CellWriter(self.path, self._commits.number, self._reader)
        self._store = self.results.store
        self._arrays = StudyArrays(self._store, self._reader, self.n_tokens, self.divergences)
        parts = self._store, self._commits, self._reader, self._arrays
        self._packer = Packer(self._store, lambda: self.ledger, self.n_tokens)
        self.summaries, self.probes = SummaryWriter(*parts), ProbeWriter(*parts, self._packer)

    def reopen(self) -> None:
        """Start a new session in place of this one, which failed to write and can commit no more.

        What is committed stays, what is not is removed, as if another process had followed. No
        worker of the old session may be writing any more. Raise OSError when there is still
        nothing to write with, and this may be called again; BusyError when another engine has
        taken the study over meanwhile.
        """
        self.results.close()
        commits, journal = self._commits, self._journal
        self._begin()
        commits.close()
        journal.close()

    @classmethod
    def open(
        cls,
        path: Path,
        header: Header,
        corpus: Corpus,
        vocabulary: Vocabulary,
        *,
        clock: Callable[[], float] = time.time,
        watching: Watching = _WATCHING,
    ) -> StudyWriter:
        """Open the study at `path`, or make it when there is nothing.

        Raise StudyMismatchError when it is another study's, NotAStudyError when it is something
        else, BusyError when another engine coordinates it, UnsupportedError for remote addresses.
        """
        refuse_remote(path)
        if not path.exists():
            create_study(path, header, corpus, vocabulary, clock())
        refuse_mismatch(path, read_root(path), header)
        return cls(path, clock=clock, watching=watching)

    @property
    def ledger(self) -> Ledger:
        """Return what is committed."""
        return self._reader.ledger

    @property
    def divergences(self) -> tuple[str, ...]:
        """Return which divergences the study has, KL first."""
        return divergences_of(self._root)

    def study(self) -> Study:
        """Open the same study for reading."""
        return Study(self.path)

    # -- plans ---------------------------------------------------------------------------------

    def plan(self, model: str, checkpoints: Iterable[Key], missing: Mapping[Key, str]) -> None:
        """Make (seed, step) known to the study, in this order; `missing` have no source, and why.

        Grows the axes of the model's arrays and rewrites nothing that is there. What is already
        known is not recorded again.
        """
        self._commits.check()
        known = self.ledger.model(model)
        wanted = [*checkpoints, *missing]
        seeds = [seed for seed in dict.fromkeys(s for s, _ in wanted) if seed not in known.seeds]
        steps = sorted({step for _, step in wanted} - known.steps.keys())
        records: list[Record] = []
        if seeds or steps or model not in self._arrays:
            self._arrays.grow(model, [*known.steps, *steps], [*known.seeds, *seeds])
        if seeds or steps:
            records.append({"kind": "axis", "model": model, "steps": steps, "seeds": seeds})
        new: dict[str, list[int]] = {}
        for seed, step in wanted:
            key = (seed, step)
            retried = key in known.failed or (key in known.missing and key not in missing)
            if key not in known.planned or retried:
                new.setdefault(seed, []).append(step)
        records += [
            {"kind": "planned", "model": model, "seed": seed, "steps": steps}
            for seed, steps in new.items()
        ]
        records += [
            {"kind": "missing", "model": model, "seed": seed, "step": step, "error": why}
            for (seed, step), why in missing.items()
            if known.missing.get((seed, step)) != why
        ]
        if records:
            self._store.flush()
            self._commits.append(*records)

    def unplan(self, model: str, checkpoints: Iterable[Key]) -> None:
        """Record that the study does not want these any more, nor knows what was wrong with them.

        Results that are there stay.
        """
        steps: dict[str, list[int]] = defaultdict(list)
        for seed, step in checkpoints:
            steps[seed].append(step)
        record = {"kind": "unplanned", "model": model}
        if steps:
            self._commits.append(*({**record, "seed": s, "steps": n} for s, n in steps.items()))

    # -- results -------------------------------------------------------------------------------

    def commit(
        self,
        model: str,
        step: int,
        checkpoints: Sequence[CheckpointResult] = (),
        pairs: PairsResult | None = None,
    ) -> None:
        """Commit what was written of one step, all at once: checkpoints, divergences or both.

        From then on the checkpoints, and every ordered pair among the seeds of `pairs`, can be
        read.
        """
        self._commits.check()
        known, records = self.ledger.model(model), []
        t = known.steps[step]
        means: dict[str, dict[int, float]] = defaultdict(dict)  # by array, by seed
        for result in checkpoints:
            n_tokens = result.details["n_tokens"]
            if n_tokens != self.n_tokens:
                raise ValueError(f"{n_tokens} tokens were scored, the corpus has {self.n_tokens}")
            for name, mean in result.means.items():
                means[name][known.seeds[result.seed]] = mean
            before = known.scored.get((result.seed, step), {})
            records.append(scored_record(model, step, result, before))
            self.bytes_written += result.n_bytes

        arrays = self._arrays[model]  # opened before there are threads

        def write_means(name: str) -> None:  # of all seeds at once: their chunk is replaced whole
            seeds, values = np.array(list(means[name])), np.array(list(means[name].values()))
            write(arrays[name], (t, seeds), values)

        side_by_side(write_means, list(means))
        if pairs is not None:
            rows = self._write_pair_means(model, t, pairs) if pairs.means else {}
            records += reduced_records(model, step, pairs, rows, known.seeds)
        self._store.flush()
        self._commits.append(*records)
        if pairs is not None:
            remove_other_sets(self.path, model, known, step)
        if is_complete(known, step):
            self._packer.try_to_pack(model, step)

    def _write_pair_means(self, model: str, t: int, pairs: PairsResult) -> dict[str, Floats]:
        """Write means of pairs; return all of the step, (seed, other_seed), by array."""
        known, arrays = self.ledger.model(model), self._arrays[model]
        # Whole rows are written at once: the chunk is replaced whole each time.
        rows = {
            name: read(arrays[name], (t,))
            for name, variable in layout.variables_of(self.divergences).items()
            if variable.by_pair and not variable.per_token
        }
        for seed, other, means in pairs.means:
            for name, mean in means.items():
                rows[name][known.seeds[seed], known.seeds[other]] = mean
        for name, statistic in PAIR_OF.items():
            array = self.results.array(model, statistic.of)
            totals: dict[tuple[str, str], float] = defaultdict(float)
            for start in range(0, self.n_tokens, array.chunks[2]):  # never the whole corpus
                tokens = slice(start, min(start + array.chunks[2], self.n_tokens))
                values = {s: read(array, (t, known.seeds[s], tokens)) for s in pairs.seeds}
                for seed, other, _ in pairs.means:
                    totals[seed, other] += statistic.total(values[seed], values[other])
            for (seed, other), total in totals.items():
                value = statistic.mean(total, self.n_tokens)
                rows[name][known.seeds[seed], known.seeds[other]] = value
        index = [known.seeds[seed] for seed in pairs.seeds]
        written = rows | {"expected_kl": np.array(mean_over_pairs(rows["mean_kl"], index))}

        side_by_side(lambda name: write(arrays[name], (t,), written[name]), written)
        return rows

    def commit_restored(self, record: Record) -> None:
        """Commit that results which were damaged are there again, as this record has them."""
        self._store.flush()
        self._commits.append(record)

    # -- what else is recorded, and taken back -------------------------------------------------

    def set_phases(self, model: str, phases: tuple[Phase, ...], *, settled: bool = True) -> None:
        """Record the phases of training as the results so far show them.

        `settled`: no results before the newest are still to come, as far as is known.
        """
        known = self.ledger.model(model)
        new = settled and not {phase.name for phase in phases} <= known.phases_seen
        if phases != known.phases or new:
            self._commits.append(phases_record(model, phases, settled=settled))

    def set_schedules(self, schedules: Schedules) -> None:
        """Record the learning rates by model, in place of those recorded before."""
        if schedules != self.ledger.schedules:
            self._commits.append(schedules_record(schedules))

    def set_groups(self, model: str, groups: Mapping[str, Sequence[str]]) -> None:
        """Record the model's groups of seeds, in the place of those recorded before."""
        known, made = self.ledger.models.get(model), {n: list(of) for n, of in groups.items()}
        if made != {n: list(of) for n, of in (known.groups if known else {}).items()}:
            self._commits.append({"kind": "groups", "model": model, "groups": made})

    def fail(self, model: str, seed: str, step: int, failure: Failure) -> None:
        """Record that a checkpoint could not be scored, and when it is tried again."""
        record = {"kind": "failed", "model": model, "seed": seed, "step": step}
        self._commits.append(record | asdict(failure))

    def drop_log_probs(
        self, model: str, step: int, seeds: Iterable[str], *, again: bool = False
    ) -> None:
        """Remove log-probs; results stay. They are declared gone before the first byte goes.

        With `again`, the next engine that finds the checkpoint keeps them once more.
        """
        known = self.ledger.model(model)
        gone = [seed for seed in seeds if (seed, step) in known.stored]
        if gone:
            record: Record = {"kind": "pruned", "model": model, "step": step, "seeds": gone}
            self._commits.append(record | ({"again": True} if again else {}))
        for seed in gone:
            remove_tree(self.path, self.path / layout.log_probs_path(model, seed, step))

    def forget(
        self, model: str, step: int, seeds: Iterable[str], *, pairs_only: bool = False
    ) -> None:
        """Take results back, so that the next engine computes them again; their data go.

        All of these checkpoints, or with `pairs_only` just the divergences they take part in.
        """
        known, gone = self.ledger.model(model), sorted(seeds)
        self._commits.append(
            {
                "kind": "forgotten",
                "model": model,
                "step": step,
                "seeds": gone,
                "what": "pairs" if pairs_only else "checkpoints",
            }
        )
        for seed, other in itertools.product(gone, known.seeds):
            for pair in ((seed, other), (other, seed)):
                remove_pair(self.path, model, known, *pair, step)
        remove_other_sets(self.path, model, known, step)
        for seed in [] if pairs_only else gone:
            remove_results(self.path, model, known, seed, step)
            remove_values(self.path, model, known, self.ledger.probes, (seed, step))
            remove_tree(self.path, self.path / layout.log_probs_path(model, seed, step))
        self._packer.try_to_pack(model, step, again=True)
        self._packer.remove_packs(model, step)

    @property
    def files(self) -> DurableStore:
        """Return the store that arrays are written to."""
        return self._store

    # -- the process ---------------------------------------------------------------------------

    def beat(self, status: EngineStatus) -> None:
        """Write what this process is doing, for readers and other engines."""
        write_status(self.path, status)

    def log(self, entry: JournalEntry) -> None:
        """Add to this process's journal."""
        self._journal.append(entry)

    def close(self, how: str) -> None:
        """Give the study back: `how` is "finished", "stopped" or "failed"."""
        self.results.close()
        if how == "finished":  # the rest may be long in coming
            self._packer.pack_loose(lambda known, step: True)
        try:
            self._commits.append({"kind": "end", "how": how})
            self._commits.seal()
        finally:
            self._commits.close()
            self._journal.close()
