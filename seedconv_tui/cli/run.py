"""`seedconv run`: an engine at work on a study until nothing is missing."""

from __future__ import annotations

import argparse
import gc
import shlex
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from seedconv_tui.cli.stopping import Stop, lasting_stderr, stopping
from seedconv_tui.exit_codes import FAILED, OK
from seedconv_tui.listeners.setup import add_listener_options
from seedconv_tui.text import counted

if TYPE_CHECKING:
    from engine.coordination.coordinator import Coordinator
    from engine.coordination.recorder import Totals
    from engine.study_file.file import StudyFile


HELP = "score new checkpoints, compare the seeds, then exit"
EXAMPLE = "seedconv run study.toml"
PAGE = "reference-study-file.md"

# Objects made between two looks for garbage. Importing torch and transformers makes a million, of
# which hardly one is garbage: to look after each 700 takes a tenth of the start.
_COLLECT_AFTER = 50_000

_LIMITS = {
    "nice": ("N", int, "CPU priority, 0 to 19 (lowest); disk priority follows it"),
    "threads": ("N", int, "threads that compute at once, in all processes together"),
    "memory_gb": ("GB", float, "limit of this machine's memory, in GB"),
    "gpu_memory_gb": ("GB", float, "limit of each GPU's memory, in GB"),
    "gpu_below": ("PERCENT", float, "score only while other programs use less of a GPU's time"),
    "cpu_below": ("PERCENT", float, "score only while other programs use less of all cores' time"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes, and `watch` as well."""
    from engine.workers.cluster_kinds import CLUSTERS  # which is light

    add_listener_options(parser)
    parser.add_argument("study", type=Path, metavar="STUDY.toml", help="the study file")
    parser.add_argument(
        "--device",
        metavar="LIST",
        help='override scoring.device: "cuda:1", or several: "cuda:0,cuda:1", "cpu,cpu"; '
        '"cuda:0+cuda:1" splits each model over two',
    )
    for name, cluster in CLUSTERS.items():
        parser.add_argument(
            f"--{name}",
            dest="cluster",
            type=partial(_named, name),
            metavar="ADDRESS",
            help=cluster.option_help,
        )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="retry checkpoints that failed permanently",
    )
    group = parser.add_argument_group("resource limits (override [limits] of the study file)")
    for name, (metavar, kind, text) in _LIMITS.items():
        option = f"--{name.replace('_', '-')}"
        group.add_argument(option, type=kind, metavar=metavar, help=text)


def _named(cluster: str, address: str) -> tuple[str, str]:
    return cluster, address


def run(options: argparse.Namespace) -> int:
    """Run the engine until nothing is missing."""
    return run_engine(options, lambda engine: engine.run())


def run_engine(
    options: argparse.Namespace, work: Callable[[Coordinator], Totals], *, waiting: bool = False
) -> int:
    """Have an engine on the study do the work, and sum it up on stderr; return the exit code.

    `waiting`, for what the study file points to and is not there yet.
    """
    gc.set_threshold(_COLLECT_AFTER)
    with stopping() as stop, lasting_stderr():
        study, totals = _work(options, work, stop, waiting=waiting)
        wrong = _troubles(study)
        if not options.json:  # the event "end" says it
            for line in wrong:
                print(f"next: {line}", file=sys.stderr)
            _summary(options.study, study, totals)
    return FAILED if wrong else OK


def _troubles(study: StudyFile) -> list[str]:
    """Return what is wrong, as `status --check` finds it in the store."""
    from seedconv_tui.health import troubles
    from store import open_study

    return troubles(open_study(study.store).snapshot(), time.time())


def _work(
    options: argparse.Namespace,
    work: Callable[[Coordinator], Totals],
    stop: Stop,
    *,
    waiting: bool,
) -> tuple[StudyFile, Totals]:
    """Do it. Raise what says why there is nothing to sum up: Interrupted among others."""
    from engine.errors import EngineError, store_trouble
    from engine.study_file.file import load_study_file
    from engine.study_file.options import with_device, with_limits
    from store import refuse_remote

    study = load_study_file(options.study)  # before importing torch: report mistakes at once
    if options.device is not None:
        study = with_device(study, options.device)
    study = with_limits(study, **{name: getattr(options, name) for name in _LIMITS})
    refuse_remote(study.study.store)
    from engine.coordination.build import build_coordinator
    from engine.machine.limits import limit_process
    from seedconv_tui.listeners.setup import listening

    limit_process(study.limits)
    try:
        with listening(study, options) as listener:
            engine = build_coordinator(
                study,
                listener,
                cluster=options.cluster,
                retry_failed=options.retry_failed,
                waiting=waiting,
                stop=stop,
            )
            stop.begun = True
            return study, work(engine)
    except OSError as error:
        raise EngineError(store_trouble(error, study.store)) from error


def _summary(file: Path, study: StudyFile, totals: Totals) -> None:
    parts = [f"{counted(totals.scored, 'checkpoint')} scored"]
    parts.append(f"{counted(totals.reduced, 'step')} compared")
    if totals.probed:
        parts.append(f"{counted(totals.probed, 'checkpoint')} probed")
    if totals.missing:
        parts.append(f"{totals.missing} missing")
    if totals.uncompared:
        parts.append(f"{counted(totals.uncompared, 'step')} with pairs that cannot be computed")
    if totals.failed:
        parts.append(f"{totals.failed} failed")
    if totals.probes_failed:
        parts.append(f"{totals.probes_failed} probe{'s' * (totals.probes_failed > 1)} failed")
    if totals.parked:
        again = f"seedconv run {shlex.quote(str(file))} --retry-failed"
        parts[-1] += f" ({totals.parked} parked: `{again}` tries again)"
    print(f"{', '.join(parts)}. Open the results: seedconv tui {study.store}", file=sys.stderr)
