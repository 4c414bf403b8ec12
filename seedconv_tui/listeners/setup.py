"""Puts together who listens to an engine, from the command line and the study file."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.events import Listener
    from engine.study_file.file import StudyFile
    from engine.study_file.notify_section import NotifySection
    from seedconv_tui.listeners.follow import Sink
    from seedconv_tui.listeners.notifier import Target


def add_listener_options(command: argparse.ArgumentParser) -> None:
    """Add the options of `run` and `watch` that say who listens."""
    command.add_argument("--json", action="store_true", help="events as JSON lines on stderr")
    command.add_argument(
        "--log",
        type=Path,
        metavar="FILE",
        help="the log file (default: NAME.log next to the store)",
    )
    command.add_argument(
        "--notify",
        action="append",
        default=[],
        metavar="TARGET",
        help="notify this URL or command of new phases, outliers, failures and the end "
        "(may be repeated; adds to [notify] of the study file)",
    )
    command.add_argument(
        "--metrics-port", type=int, metavar="PORT", help="serve metrics for Prometheus on this port"
    )
    command.add_argument(
        "--metrics-host",
        default="127.0.0.1",
        metavar="HOST",
        help="address to serve metrics on (default: %(default)s, this machine only)",
    )


@contextlib.contextmanager
def listening(study: StudyFile, options: argparse.Namespace) -> Iterator[Listener]:
    """Make the listener that an engine on the study speaks to, with all who listen behind it.

    Raise ConfigError for what cannot work, before anything starts.
    """
    from engine.events import Event, Listeners
    from seedconv_tui.listeners.console import listener
    from seedconv_tui.listeners.log_file import LogFile, log_file
    from seedconv_tui.listeners.notifier import Notifier

    targets = _targets(study, options.notify)
    with contextlib.ExitStack() as stack:
        shown = stack.enter_context(listener(as_json=options.json))
        path = _writable(options.log) if options.log is not None else log_file(study.store)
        log = stack.enter_context(LogFile(path))
        heard = Listeners([shown, log])

        def warn(text: str) -> None:
            heard.on_event(Event(time.time(), "warning", "telling", text))

        if options.metrics_port is not None:
            from seedconv_tui.listeners.prometheus import serve

            host, port = options.metrics_host, options.metrics_port
            stack.enter_context(serve(study.store, host, port, warn))
        others: list[Listener] = []
        if targets:
            notifier = Notifier(targets, study.study.name, str(study.store), warn)
            others.append(stack.enter_context(notifier))
        if sinks := _sinks(study):
            from seedconv_tui.listeners.follow import Follower

            follower = Follower(study.store, study.scalars.categories, sinks, warn)
            others.append(stack.enter_context(follower))
        yield Listeners([heard, *others])


def _writable(path: Path) -> Path:
    """Return the path once it is known that a file can be there. Raise ConfigError."""
    from engine.errors import ConfigError

    try:
        with path.open("a"):
            return path
    except OSError as error:
        raise ConfigError(f"--log {path}: cannot be written: {error.strerror}") from None


def _targets(study: StudyFile, asked: Sequence[str]) -> list[tuple[Target, Sequence[str]]]:
    """Return whom to notify, each with its kinds of events. Raise ConfigError."""
    from engine.errors import ConfigError
    from engine.study_file.notify_section import notify_from

    found = list(_of_section(study.notify, study.folder, "notify.command"))
    for target in asked:
        try:
            section = notify_from(target)
        except ValueError as error:
            raise ConfigError(f"--notify: {error}, found {target!r}") from None
        found += _of_section(section, Path(), "--notify")
    return found


def _of_section(
    section: NotifySection, folder: Path, field: str
) -> Iterator[tuple[Target, Sequence[str]]]:
    from engine.errors import ConfigError
    from seedconv_tui.listeners.targets import CommandTarget, UrlTarget

    if argv := section.argv:
        program = argv[0] if os.sep not in argv[0] else str((folder / argv[0]).absolute())
        if shutil.which(program) is None:
            raise ConfigError(f"{field}: there is no program {argv[0]!r} that can be run")
        yield CommandTarget(argv, folder), section.on
    if section.url is not None:
        yield UrlTarget(section.url, as_text=section.format == "text"), section.on


def _sinks(study: StudyFile) -> list[Sink]:
    """Return where scalars go. Raise UnsupportedError for what is not installed."""
    from seedconv_tui.listeners.trackers import Trackio, Wandb

    sinks: list[Sink] = []
    scalars = study.scalars
    if scalars.tensorboard is not None:
        from seedconv_tui.listeners.tensorboard import EventFiles

        sinks.append(EventFiles(study.path(scalars.tensorboard), study.study.name))
    if scalars.wandb is not None:
        sinks.append(Wandb(scalars.wandb, study.study.name, study.store))
    if scalars.trackio is not None:
        sinks.append(Trackio(scalars.trackio, study.study.name, study.store))
    return sinks
