"""The commands that look after a store, `verify` and `prune`, as the command line takes them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from seedconv_tui.tables.step_ranges import steps_argument


class Command(Protocol):
    """Makes the parser of one command."""

    def __call__(
        self, name: str, function: Callable[[argparse.Namespace], int], text: str, example: str
    ) -> argparse.ArgumentParser: ...


def add_verify(command: Command) -> None:
    """Add `seedconv verify`."""
    verify = command(
        "verify",
        _verify,
        "read back all that is committed, say what is damaged and what mends it",
        "seedconv verify study.zarr",
    )
    verify.add_argument("store", type=Path, metavar="STORE", help="the study's store")
    verify.add_argument("--json", action="store_true", help="as one JSON object")
    verify.add_argument(
        "--mend",
        action="store_true",
        help="mend it: what cannot be told from the rest is forgotten, for `run` to compute again",
    )


def add_prune(command: Command, natural: Callable[[str], int]) -> None:
    """Add `seedconv prune`; `natural` parses an integer of 0 or more."""
    prune = command(
        "prune",
        _prune,
        "drop log-probs of fully reduced steps; every result stays",
        "seedconv prune study.zarr --keep-last 1 --dry-run",
    )
    prune.add_argument("store", type=Path, metavar="STORE", help="the study's store")
    prune.add_argument("--model", action="append", help="only this model (may be repeated)")
    prune.add_argument(
        "--steps", type=steps_argument, help="only these: A:B, :B, A: or a list 0,8,64"
    )
    prune.add_argument(
        "--keep-last", type=natural, default=0, metavar="N", help="keep the last N steps"
    )
    prune.add_argument("--dry-run", action="store_true", help="change nothing, say what would go")
    prune.add_argument("--json", action="store_true", help="as one JSON object")


def _verify(options: argparse.Namespace) -> int:
    from seedconv_tui.cli.verify import verify_command
    from store.storage.places import refuse_remote

    refuse_remote(options.store)
    return verify_command(options.store, as_json=options.json, mend=options.mend)


def _prune(options: argparse.Namespace) -> int:
    from seedconv_tui.cli.prune import prune_command
    from store.storage.places import refuse_remote

    refuse_remote(options.store)
    return prune_command(
        options.store,
        models=options.model,
        wanted=options.steps,
        keep_last=options.keep_last,
        dry_run=options.dry_run,
        as_json=options.json,
    )
