"""`seedconv migrate`: brings a store of an earlier format to the present one, in its place."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedconv_tui.cli.options import add_json, add_local_store, say
from seedconv_tui.exit_codes import OK
from seedconv_tui.text import count, counted, json_text, visible

if TYPE_CHECKING:
    from store.maintenance import Migrated

HELP = "convert a store of an earlier format in place; nothing is lost"
EXAMPLE = "seedconv migrate study.zarr"
PAGE = "store-format.md"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_local_store(parser)
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Migrate a study. Raise NotAStudyError, DamagedError, BusyError, UnsupportedError."""
    from seedconv_tui.cli.progress_bar import progress_bar
    from store.maintenance import migrate

    store: Path = options.store
    with progress_bar() as bar:
        task = bar.add_task("packing steps", total=None)
        found = migrate(
            store, say, lambda done, total: bar.update(task, completed=done, total=total)
        )
    print(json_text(report(store, found)) if options.json else report_text(store, found))
    return OK


def report(store: Path, found: Migrated | None) -> dict[str, Any]:
    """Return the result as one JSON object; `migrated` is false where nothing was to be done."""
    if found is None:
        return {"store": str(store), "migrated": False}
    return {
        "store": str(store),
        "migrated": True,
        "steps": found.steps,
        "files": {"before": found.before.files, "after": found.after.files},
        "folders": {"before": found.before.folders, "after": found.after.folders},
        "left": [{"model": model, "step": step} for model, step in found.left],
    }


def report_text(store: Path, found: Migrated | None) -> str:
    """Return the result as lines."""
    from store.schema import FORMAT

    where = visible(str(store))
    if found is None:
        return f"{where}: has store format {FORMAT}, nothing to do"
    lines = [
        f"{where}: brought to store format {FORMAT}: {counted(found.steps, 'step')} packed, "
        f"{count(found.before.files)} files and {count(found.before.folders)} folders became "
        f"{count(found.after.files)} and {count(found.after.folders)}"
    ]
    if found.left:
        steps = ", ".join(f"{visible(model)} step {step}" for model, step in found.left[:3])
        lines.append(
            f"{count(len(found.left))} steps are not wholly packed, as something of them is damaged"
            f" ({steps}{', ...' if len(found.left) > 3 else ''}); see: "
            f"seedconv verify {shlex.quote(str(store))}"
        )
    return "\n".join(lines)
