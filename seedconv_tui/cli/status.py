"""`seedconv status`: progress and health of a study, for people and for scripts."""

from __future__ import annotations

import argparse
import contextlib
import time
from typing import TYPE_CHECKING

from seedconv_tui.cli.options import add_json, add_store
from seedconv_tui.exit_codes import FAILED, OK

if TYPE_CHECKING:
    from store import Study
    from store.analysis import TextAgreement
    from store.schema import StudySnapshot

HELP = "print progress, health and what to do next"
EXAMPLE = "seedconv status study.zarr"
PAGE = "alerts.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_store(parser)
    add_json(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 if work failed or no engine is alive",
    )


def run(options: argparse.Namespace) -> int:
    """Print the status; with `--check`, fail where somebody should look."""
    from seedconv_tui.cli.study_status import status_json, status_text
    from seedconv_tui.health import troubled
    from seedconv_tui.text import json_text
    from store import open_study

    study = open_study(options.store)
    snapshot, now = study.snapshot(), time.time()
    halves = _halves(study, snapshot)
    if options.json:
        print(json_text(status_json(snapshot, now, halves)))
    else:
        print(status_text(snapshot, now, halves))
    return FAILED if options.check and troubled(snapshot, now) else OK


def _halves(study: Study, snapshot: StudySnapshot) -> dict[str, TextAgreement]:
    """Return how halves of the text agree, by model; not of one whose results cannot be read."""
    from store import StoreError
    from store.analysis import text_agreement

    found: dict[str, TextAgreement] = {}
    for model in snapshot.models:
        with contextlib.suppress(StoreError):  # what is damaged is reported by others
            if (halves := text_agreement(study, model.name)) is not None:
                found[model.name] = halves
    return found
