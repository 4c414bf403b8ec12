"""The engine's main loop: plans, scores, reduces and commits, one (model, step) after the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import torch

from engine.corpus import build_text, load_tokenizer
from engine.errors import ConfigError
from engine.events import Level, Listener
from engine.hub import HubClient
from engine.planner import Step, lonely, remaining, seed_order
from engine.projection import REPRESENTATIONS, describe_sizes, projected_bytes, size_text
from engine.scorer import Scorer, choose_device
from engine.session import Session, disk_free
from engine.sources import Found, open_source
from engine.study_file import StudyFile
from engine.weights import Checkpoint as Weights
from engine.weights import read_checkpoint
from engine.worker import Outcome, Worker
from store import Header, Representation, StudyWriter
from store.commits import Checkpoint
from store.snapshot import EngineStatus

POLL_SECONDS = 2.0


class Coordinator:
    """Works through one study. `run` does what is there, `watch` goes on as more arrives."""

    def __init__(
        self,
        study: StudyFile,
        listener: Listener,
        *,
        stop: threading.Event | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Load tokenizer and corpus and open the store.

        Raises ConfigError, StoreError; nothing was written then.
        """
        self._study = study
        self._stop = stop or threading.Event()
        device = choose_device(study.scoring.device)
        hub = HubClient(self._stop)
        self._tokenizer = load_tokenizer(study, hub)
        self._text = build_text(study, self._tokenizer)
        self._n_tokens = len(self._text.corpus)
        kept = study.log_probs.representation
        scorer = Scorer(self._text, self._tokenizer, study.scoring, device, kept)
        self._models = {model.name: model for model in study.models}
        self._sources = {
            model.name: open_source(model, study.folder, hub, clock) for model in study.models
        }
        self._writer = StudyWriter.open(study.store, self._header(), self._text.corpus, clock=clock)
        status = EngineStatus(
            writer=self._writer.writer,
            host=self._writer.host,
            pid=self._writer.pid,
            heartbeat=clock(),
            started=clock(),
            state="starting",
            device=_describe(device),
        )
        self._session = Session(self._writer, status, listener, clock)
        self._worker = Worker(
            study, scorer, self._writer, self._session, self._stop, self._sources, self._read
        )
        self.outcome = self._worker.outcome
        self._told: set[tuple[str, str]] = set()

    def _header(self) -> Header:
        scoring = self._study.scoring
        identity: dict[str, str | int] = {
            "tokenizer.vocabulary": self._tokenizer.digest,
            "scoring.windowing": scoring.windowing,
            "scoring.window": scoring.window,
            "scoring.overlap": scoring.overlap,
            "scoring.dtype": scoring.dtype,
            "corpus.digest": self._text.digest,
        }
        details = {
            "tokenizer": self._study.tokenizer.source,
            "study_file": self._study.model_dump(mode="json"),
            "versions": _versions(),
        }
        return Header(self._study.study.name, self._tokenizer.size, identity, details)

    def _read(self, name: str, key: Checkpoint) -> Weights:
        source, model = self._sources[name], self._models[name]
        return read_checkpoint(
            source.fetch(key),
            self._tokenizer,
            where=source.where(key),
            allow_pickle=model.allow_pickle,
            trust_remote_code=model.trust_remote_code,
        )

    # -- the two ways to work ------------------------------------------------------------------

    def run(self) -> Outcome:
        """Score and reduce all that is missing and there, then return."""
        with self._session:
            self._warn_of_remote_code()
            available = {name: self._look(name, waiting=False) for name in self._models}
            self._explain(available)
            self._refuse_what_does_not_fit(available)
            self._worker.work(self._remaining(available))
        return self.outcome

    def watch(self, *, until_complete: bool = False, poll_seconds: float = POLL_SECONDS) -> Outcome:
        """Go on as checkpoints arrive, until stopped or, if asked, until every listed one is done.

        Raises ConfigError when it could never be complete.
        """
        if until_complete:
            for name, model in self._models.items():
                if model.listed is None:
                    self._writer.close("failed")
                    raise ConfigError(
                        f"models {name!r}: list its seeds and steps; with "
                        '"discover" there is no telling when all of them are done'
                    )
        with self._session:
            self._warn_of_remote_code()
            while True:
                steps = self._remaining(
                    {name: self._look(name, waiting=True) for name in self._models}
                )
                if steps:
                    self._worker.work(
                        steps[:1]
                    )  # look again after each: newer checkpoints may be there
                elif until_complete and self._complete():
                    break
                else:
                    self._session.show(state="waiting", work=None)
                    self._stop.wait(poll_seconds)
                self._worker.check_stop()
        return self.outcome

    def _complete(self) -> bool:
        for name in self._models:
            known = self._writer.ledger.model(name)
            done = set(known.scored) | {
                key for model, key in self._worker.given_up if model == name
            }
            if not known.planned or not known.planned <= done:
                return False
        return True

    # -- planning ------------------------------------------------------------------------------

    def _look(self, name: str, *, waiting: bool) -> set[Checkpoint]:
        """What can be scored of a model now; the store learns what is planned or missing."""
        model, known = self._models[name], self._writer.ledger.model(name)
        source = self._sources[name]
        found = source.find()
        wanted, there = set(found.wanted), set(found.there)
        for key in there & {key for owner, key in self._worker.given_up if owner == name}:
            if self._worker.given_up[name, key] == source.signature(key):
                wanted, there = wanted - {key}, there - {key}
            else:
                del self._worker.given_up[name, key]
        if waiting:
            done = set(known.stored)
            there = {key for key in there if key in done or source.finished(key)}
            wanted = wanted if model.listed is not None else there
        absent = {
            key: found.missing[key]
            for key in _ordered(set() if waiting else set(found.missing))
            if key not in known.scored
        }
        self._writer.plan(name, _ordered(wanted - absent.keys()), absent)
        self.outcome.missing += len(absent)
        self._tell_troubles(name, found)
        return there

    def _tell_troubles(self, name: str, found: Found) -> None:
        """Say what a source could not tell; once, though it may be asked often."""
        for text in (*found.warnings, *found.errors):
            if (name, text) not in self._told:
                self._told.add((name, text))
                level: Level = "error" if text in found.errors else "warning"
                self._session.say(level, "source", f"model {name}: {text}", model=name)
                self.outcome.failed += level == "error"

    def _warn_of_remote_code(self) -> None:
        for name, model in self._models.items():
            if model.trust_remote_code:
                self._session.say(
                    "warning",
                    "remote_code",
                    f"model {name}: models.trust_remote_code is set: Python code that comes with "
                    "its checkpoints may run",
                    model=name,
                )

    def _remaining(self, available: dict[str, set[Checkpoint]]) -> list[Step]:
        steps = [
            step
            for name, keys in available.items()
            for step in remaining(self._writer.ledger, name, keys)
            if step.score or (name, step.step) not in self._worker.damaged
        ]
        order = list(self._models)
        steps.sort(key=lambda step: (step.step, order.index(step.model)))
        self._session.show(queued=sum(len(step.score) for step in steps))
        return steps

    def _explain(self, available: dict[str, set[Checkpoint]]) -> None:
        """Say what was found, before hours are spent on it."""
        for name, keys in available.items():
            known = self._writer.ledger.model(name)
            if not keys and not known.scored:
                self.outcome.failed += 1
                text = f"model {name}: {self._nothing_fits(name)}"
                self._session.say("error", "nothing", text, model=name)
                continue
            seeds = sorted({seed for seed, _ in keys}, key=seed_order)
            steps = {step for _, step in keys}
            self._session.say(
                "info",
                "found",
                f"model {name}: {len(keys)} checkpoints, {len(seeds)} seeds, {len(steps)} steps",
                model=name,
            )
            if absent := {key: why for key, why in known.missing.items() if key not in keys}:
                first = next(iter(absent.values()))
                more = f" (and {len(absent) - 1} more)" if len(absent) > 1 else ""
                self._session.say("warning", "missing", f"model {name}: {first}{more}", model=name)
            if why := lonely(known, keys):
                self.outcome.failed += 1
                self._session.say("error", "lonely", f"model {name}: {why}", model=name)

    def _nothing_fits(self, name: str) -> str:
        model = self._models[name]
        templates = list(model.templates.values())
        text = templates[0] + (f" (and {len(templates) - 1} more)" if len(templates) > 1 else "")
        if model.on_hub:
            return f"nothing on the hub fits {text}"
        hint = "; on the hub, write hf://owner/name@revision" if text.count("/") == 1 else ""
        return f"no folder fits {text}{hint}"

    def _refuse_what_does_not_fit(self, available: dict[str, set[Checkpoint]]) -> None:
        """Say what the log-probs will take. Raises ConfigError when it is too much."""
        steps = self._remaining(available)
        if not steps:
            return
        settings, sizes = self._study.log_probs, dict.fromkeys(REPRESENTATIONS, 0)
        for representation in REPRESENTATIONS:
            projected = [
                len(step.score) * self._checkpoint_bytes(step, representation) for step in steps
            ]
            whole = settings.retention == "all"
            sizes[representation] = sum(projected) if whole else max(projected)
        needed, free = sizes[settings.representation], disk_free(self._study.store)
        text = (
            f"{self._n_tokens:,} tokens x {self._tokenizer.size:,} entries; log-probs to come take "
            f"about {describe_sizes(sizes, settings.representation)}; {size_text(free)} are free"
        )
        advice = (
            "free some space, lower corpus.max_tokens, or set log_probs.representation or "
            'log_probs.retention = "until_reduced"'
        )
        if needed > free:
            raise ConfigError(f"{self._study.store}: {text}; {advice}")
        kept = self._bytes_stored()
        if settings.budget_gb is not None and kept + needed > settings.budget_gb * 1e9:
            raise ConfigError(
                f"{self._study.store}: {text}; with {size_text(kept)} stored already that is more "
                f"than log_probs.budget_gb = {settings.budget_gb:g}; raise it, lower "
                'corpus.max_tokens, or set log_probs.representation or retention = "until_reduced"'
            )
        self._session.say("info", "projected", text, bytes=needed, free=free, sizes=sizes)

    def _checkpoint_bytes(self, step: Step, representation: Representation) -> int:
        if not step.score:
            return 0
        factored = representation == "factored"
        key = step.score[0], step.step
        config = self._sources[step.model].config(key) if factored else None
        return projected_bytes(config, representation, self._n_tokens, self._tokenizer.size)

    def _bytes_stored(self) -> int:
        return sum(
            int(known.scored[key].get("bytes", 0))
            for known in self._writer.ledger.models.values()
            for key in known.stored
        )


def _ordered(keys: set[Checkpoint]) -> list[Checkpoint]:
    return sorted(keys, key=lambda key: (key[1], seed_order(key[0])))


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {torch.get_num_threads()} threads"


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in ("seedconv-tui", "torch", "transformers", "zarr")}
