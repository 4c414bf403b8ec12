"""`seedconv order`: what training runs are asked to capture, written where they look for it."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from threading import Event as Signal
from typing import TYPE_CHECKING

from seedconv_tui.exit_codes import OK
from seedconv_tui.text import count, size, visible

if TYPE_CHECKING:
    from engine.events import Event
    from seedconv_tui.training.work_order import WorkOrder

HELP = "write what training runs must capture; run it before training"
EXAMPLE = "seedconv order study.toml"
PAGE = "capture.md"

_FEW = 8  # seeds or steps that are named one by one


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("study", type=Path, metavar="STUDY.toml", help="the study file")


def run(options: argparse.Namespace) -> int:
    """Write the work order, unless an equal one is there, and print what it asks for."""
    from engine.coordination.inputs import order_of, read_inputs
    from engine.coordination.patience import Patience
    from engine.errors import ConfigError
    from engine.sources.hub_client import HubClient
    from engine.sources.open import open_source
    from engine.study_file.file import load_study_file
    from engine.text.orders import publish_order

    study, stop = load_study_file(options.study), Signal()
    if not study.captured:
        raise ConfigError(
            f'{options.study}: models: none is captured in training; give one source = "captured"'
        )
    hub = HubClient(stop)
    sources = {
        model.name: open_source(model, study.folder, hub, time.time) for model in study.models
    }
    patience = Patience(study, _Quiet(), stop, waiting=False)
    order = order_of(study, read_inputs(study, hub, sources, patience))
    path, new = publish_order(study, order)
    print("\n".join(map(visible, describe(path, order, new=new))))
    return OK


class _Quiet:
    """Hears nothing: nothing is waited for here."""

    def on_event(self, event: Event) -> None:
        """Print what is worth knowing."""
        print(event.text, file=sys.stderr)

    def on_status(self, status: object) -> None:
        """Do nothing."""


def describe(path: Path, order: WorkOrder, *, new: bool) -> list[str]:
    """Return where an order is and what it asks for, a line each."""
    from seedconv_tui.training.windows import plan_windows

    texts = [order.text, *order.probes.values()]
    windows = sum(
        1 for one in texts for _ in plan_windows(one.lengths.tolist(), order.window, order.overlap)
    )
    predicted = sum(int(one.predicts.sum()) for one in texts)
    lines = [
        f"{'wrote' if new else 'unchanged:'} {path} ({size(path.stat().st_size)})",
        f"{count(predicted)} predictions in {count(windows)} windows of {count(order.window)} "
        f"tokens at most"
        + (f", probes {', '.join(order.probes)} included" if order.probes else ""),
        f"kept {order.keep} if the model allows it, vocabulary {count(order.vocab)}",
    ]
    for name, model in order.models.items():
        lines.append(f"model {name}: seeds {_listed(model.seeds)}, steps {_listed(model.steps)}")
    return lines


def _listed(values: tuple[str, ...] | tuple[int, ...] | None) -> str:
    if values is None:
        return "as they come"
    if len(values) <= _FEW:
        return ", ".join(map(str, values))
    return f"{', '.join(map(str, values[: _FEW - 1]))} ... {values[-1]} ({count(len(values))})"
