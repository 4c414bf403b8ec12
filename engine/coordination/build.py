"""Builds an engine: each part from those before it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from engine.categories.partition import build_categories, context_targets
from engine.coordination.blocked import BlockedStore
from engine.coordination.board import ProgressBoard
from engine.coordination.coordinator import Coordinator
from engine.coordination.disk_use import DiskUse
from engine.coordination.identity import as_before, header_of, versions
from engine.coordination.inputs import publish, read_inputs
from engine.coordination.inventory import Inventory
from engine.coordination.patience import Patience
from engine.coordination.recorder import Recorder
from engine.coordination.retries import Retries
from engine.coordination.session import Session
from engine.coordination.small_steps import SmallSteps
from engine.coordination.summary_updates import Summaries
from engine.errors import NOT_BEGUN, Interrupted
from engine.events import Event, Listener
from engine.models.user_code import UserLoader, import_loader
from engine.sources.announcements import Announcements
from engine.sources.hub_client import HubClient
from engine.sources.open import open_source
from engine.sources.reference_source import all_sources, find_reference
from engine.study_file.file import StudyFile
from engine.text.tokenizer import entry_texts
from engine.workers.choice import find_devices
from engine.workers.executor import Executor
from engine.workers.messages import Job
from engine.workers.on_demand import ExecutorOnDemand
from store.schema import EngineStatus, Vocabulary
from store.writing import StudyWriter, Watching


def build_coordinator(
    study: StudyFile,
    listener: Listener,
    *,
    cluster: tuple[str, str] | None = None,
    retry_failed: bool = False,
    waiting: bool = False,
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.time,
) -> Coordinator:
    """Load tokenizer and corpus, open the store and return an engine that can start.

    A `cluster`, the name of one of `CLUSTERS` and its address, does the work if given. With
    `retry_failed`, checkpoints that are parked are tried again. `waiting`, what the study file
    points to may not be there yet and is waited for. Raise ConfigError, StoreError or Interrupted;
    nothing was written then.
    """
    stop = stop or threading.Event()
    session: Session | None = None

    def report_wait(text: str) -> None:
        if session is not None:
            session.say("warning", "hub", text)
        else:  # the tokenizer is waited for before there is one
            listener.on_event(Event(clock(), "warning", "hub", text))

    study = as_before(study)
    devices = find_devices(study.scoring, cluster, study.limits)
    loaders = {
        model.name: import_loader(model, study.folder)
        for model in study.models
        if model.loader is not None
    }
    hub = HubClient(stop, on_wait=report_wait)
    models = {model.name: model for model in study.models}
    schedules = study.learning_rates()
    announcements = Announcements(study.announcements, models, clock)
    sources = {
        model.name: open_source(
            model, study.folder, hub, clock, watch=study.watch, announcements=announcements
        )
        for model in study.models
    }
    patience = Patience(study, listener, stop, clock, waiting=waiting)
    to_read = all_sources(study, sources, hub)
    patience.until_there(lambda: find_reference(study, to_read))
    inputs = read_inputs(study, hub, sources, patience)
    tokenizer, text, probes = inputs.tokenizer, inputs.text, inputs.probes
    if study.captured:  # before any slow work: training may begin at any moment
        publish(study, inputs, listener, clock)
    categories = build_categories(study, tokenizer, text)
    if stop.is_set():
        raise Interrupted(NOT_BEGUN)
    vocabulary = Vocabulary(entry_texts(tokenizer), text.counts.count, text.counts.source)
    header = header_of(study, tokenizer, text)

    def rest(seconds: float) -> None:
        if stop.wait(seconds):
            raise Interrupted(NOT_BEGUN)

    def open_writer() -> StudyWriter:
        return StudyWriter.open(
            study.store,
            header,
            text.corpus,
            vocabulary,
            clock=clock,
            watching=Watching(
                rest=rest,
                say=lambda text: listener.on_event(Event(clock(), "info", "takeover", text)),
            ),
        )

    writer = patience.until_written(open_writer, study.store)
    status = EngineStatus(
        writer=writer.writer,
        host=writer.host,
        pid=writer.pid,
        heartbeat=clock(),
        started=clock(),
        state="starting",
        device=devices.describe(),
    )
    session = Session(writer, status, listener, clock, devices.read_gpus)
    board = ProgressBoard(session, stop)
    retries = Retries(writer, _remedies(study, loaders), clock, forgive=retry_failed)
    names = tuple(questions.probe.name for questions in probes)
    inventory = Inventory(
        models, sources, writer, session, retries, announcements, study.log_probs, names,
        study.reference.end,
    )  # fmt: skip

    def make_executor() -> Executor:
        job = Job.of(study, text, tokenizer, writer.results.session, probes)
        executor = devices.executor(job, to_read, writer.results, board)
        session.show(device=devices.describe())  # torch is imported by now, and knows more
        return executor

    return Coordinator(
        study,
        schedules,
        probes,
        inputs.warnings,
        writer,
        session,
        board,
        inventory,
        retries,
        Recorder(study, sources, writer, session, retries, inventory, clock),
        Summaries(
            study.categories,
            categories,
            context_targets(text),
            writer,
            session,
            board,
            clock,
        ),
        DiskUse(study, sources, writer, session, tokenizer.size),
        SmallSteps(writer.n_tokens * tokenizer.size, study.limits, study.scoring),
        BlockedStore(writer, session, board, clock),
        lambda: ExecutorOnDemand(make_executor),
        clock,
    )


def _remedies(study: StudyFile, loaders: Mapping[str, UserLoader]) -> dict[str, object]:
    """Return, by model, everything that may help a checkpoint that failed without it."""
    shared = study.scoring.model_dump(mode="json"), versions()
    return {
        model.name: (
            model.allow_pickle,
            model.trust_remote_code,
            model.config,
            *((model.loader, loaders[model.name].digest) if model.name in loaders else ()),
            *shared,
        )
        for model in study.models
    }
