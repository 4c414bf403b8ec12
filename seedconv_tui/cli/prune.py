"""`seedconv prune`: drops log-probs of steps whose seeds are compared, and says what that frees."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedconv_tui.cli.options import add_json, add_local_store, add_models, at_least, say
from seedconv_tui.exit_codes import OK
from seedconv_tui.tables.step_ranges import steps_argument
from seedconv_tui.text import count, counted, json_text, size, visible

if TYPE_CHECKING:
    from store.maintenance import Prunable


HELP = "delete log-probs of steps whose seeds are compared; results stay"
EXAMPLE = "seedconv prune study.zarr --keep-last 1 --dry-run"
PAGE = "representations.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_local_store(parser)
    add_models(parser)
    parser.add_argument(
        "--steps", type=steps_argument, help="only these steps: A:B, :B, A: or 0,8,64"
    )
    parser.add_argument(
        "--keep-last",
        type=at_least(0),
        default=0,
        metavar="N",
        help="keep log-probs of the last N steps (default: 0)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="change nothing; print what would be deleted"
    )
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Drop what can go, unless `--dry-run`. Raise StoreError, BusyError."""
    from store import NotAStudyError, open_study, refuse_remote
    from store.maintenance import prunable, prune

    store: Path = options.store
    refuse_remote(store)
    study = open_study(store)
    if unknown := [name for name in options.model or [] if name not in study.models]:
        names = ", ".join(study.models) or "none yet"
        raise NotAStudyError(f"{store}: no model {unknown[0]!r}; it has: {names}")
    everything = options.steps or (lambda step: True)
    chosen = prunable(study, models=options.model, wanted=everything, keep_last=options.keep_last)
    if chosen and not options.dry_run:
        prune(store, chosen, say)
    if options.json:
        print(json_text(report(store, chosen, dry_run=options.dry_run)))
    else:
        print(report_text(store, chosen, dry_run=options.dry_run))
    return OK


def report(store: Path, chosen: list[Prunable], *, dry_run: bool) -> dict[str, Any]:
    """Return the result as one JSON object; bytes are those of the files that go."""
    return {
        "store": str(store),
        "dry_run": dry_run,
        "bytes": sum(entry.n_bytes for entry in chosen),
        "captured": sum(entry.captured for entry in chosen),
        "models": [
            {"model": model, "bytes": n_bytes, "checkpoints": checkpoints, "steps": steps}
            for model, (n_bytes, checkpoints, steps) in _by_model(chosen).items()
        ],
    }


def report_text(store: Path, chosen: list[Prunable], *, dry_run: bool) -> str:
    """Return the result as a line for each model and their sum."""
    if not chosen:
        why = "no such step has all seeds compared and log-probs stored"
        return f"{visible(str(store))}: nothing to delete: {why}"
    verb = "would free" if dry_run else "freed"
    models = _by_model(chosen)
    lines = [
        f"{visible(model)}: {verb} {size(n_bytes)}: log-probs of "
        f"{counted(checkpoints, 'checkpoint')} at {counted(len(steps), 'step')}"
        for model, (n_bytes, checkpoints, steps) in models.items()
    ]
    if captured := sum(entry.captured for entry in chosen):
        lines.append(
            f"captured in training, so that they cannot be scored again for a seed that comes "
            f"later: {count(captured)} of them"
        )
    total = sum(entry.n_bytes for entry in chosen)
    return "\n".join([*lines, f"{verb} {size(total)} in all; every result stays"])


def _by_model(chosen: list[Prunable]) -> dict[str, tuple[int, int, list[int]]]:
    """Return bytes, checkpoints and steps of each model."""
    found: dict[str, tuple[int, int, list[int]]] = {}
    for entry in chosen:
        n_bytes, checkpoints, steps = found.get(entry.model, (0, 0, []))
        found[entry.model] = (
            n_bytes + entry.n_bytes,
            checkpoints + len(entry.seeds),
            [*steps, entry.step],
        )
    return found
