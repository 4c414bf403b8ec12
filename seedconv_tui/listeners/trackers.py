"""Experiment trackers that chart a study's scalars: Weights & Biases and trackio.

A tracker only ever adds, so a file next to the store lists what it was given: an engine that is
started again continues from there. A step that has more compared seeds since then is given again,
and charts show its newest values last.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seedconv_tui.listeners.scalars import StepScalars
from seedconv_tui.text import visible
from store import UnsupportedError, from_extra

STEP = "training_step"  # what the charts' horizontal axis is


def sent_file(store: Path) -> Path:
    """Return where it is kept what trackers were given: `study.sent.jsonl` next to `study.zarr`."""
    return store.with_name(f"{store.name.removesuffix('.zarr')}.sent.jsonl")


class Sent:
    """The steps that a tracker was given."""

    def __init__(self, path: Path, to: str) -> None:
        self._path, self._to = path, to
        self._known: set[tuple[str, int, int]] = set()
        with contextlib.suppress(FileNotFoundError):
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    entry = json.loads(line)
                    if entry["to"] == to:
                        self._known.add((entry["model"], entry["step"], entry["seeds"]))

    def new(self, model: str, rows: Sequence[StepScalars]) -> list[StepScalars]:
        """Return the rows that it was not given."""
        return [row for row in rows if (model, row.step, row.n_seeds) not in self._known]

    def count(self, model: str) -> int:
        """Return how many rows of the model it was given."""
        return sum(name == model for name, _, _ in self._known)

    def add(self, model: str, row: StepScalars) -> None:
        """Note that it was given one. Raise OSError."""
        self._known.add((model, row.step, row.n_seeds))
        entry = {"to": self._to, "model": model, "step": row.step, "seeds": row.n_seeds}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


class Wandb:
    """Weights & Biases: a run for each model, in a group named like the study.

    Its own steps must ascend and those of checkpoints need not, so these are a metric of their own,
    which the charts are told to use.
    """

    def __init__(self, project: str, study: str, store: Path) -> None:
        """Raise UnsupportedError when it is not installed, or not logged in."""
        with from_extra("scalars.wandb", "wandb"):
            import wandb
        self.name = f"wandb project {project}"
        self._wandb, self._project, self._study, self._store = wandb, project, study, store
        self._sent = Sent(sent_file(store), f"wandb:{project}")
        self._runs: dict[str, Any] = {}
        self._mode = wandb.setup().settings.mode
        online = self._mode not in {"offline", "disabled"}
        if online and not wandb.login(prompt=False, verify=False):
            raise UnsupportedError(
                "scalars.wandb: not logged in; run `wandb login`, set WANDB_API_KEY, or keep the "
                "runs on this machine with WANDB_MODE=offline"
            )

    def take(self, model: str, rows: Sequence[StepScalars]) -> None:
        """Log the rows that are new."""
        if self._mode == "disabled":
            return
        for row in self._sent.new(model, rows):
            run = self._run(model)
            values = {STEP: row.step, **_named(row)}
            run.log(values, step=self._sent.count(model))  # ascends, also over restarts offline
            self._sent.add(model, row)

    def _run(self, model: str) -> Any:
        if model not in self._runs:
            run = self._wandb.init(
                project=self._project,
                group=visible(self._study),
                name=visible(model),
                id=_run_id(self._store, model),
                resume="allow",
                reinit="create_new",
                dir=str(self._store.parent),
                settings=self._wandb.Settings(console="off", silent=True, x_disable_stats=True),
            )
            run.define_metric(STEP, hidden=True)
            run.define_metric("*", step_metric=STEP)
            self._runs[model] = run
        return self._runs[model]

    def close(self) -> None:
        """Finish the runs; what could not be sent stays in the folder `wandb`."""
        while self._runs:
            self._runs.popitem()[1].finish()


class Trackio:
    """trackio: a run for each model, in a group named like the study."""

    def __init__(self, project: str, study: str, store: Path) -> None:
        """Raise UnsupportedError when it is not installed."""
        with from_extra("scalars.trackio", "trackio"):
            import trackio
        self.name = f"trackio project {project}"
        self._trackio, self._project, self._study = trackio, project, study
        self._sent = Sent(sent_file(store), f"trackio:{project}")

    def take(self, model: str, rows: Sequence[StepScalars]) -> None:
        """Log the rows that are new, in a run that is finished then: it has one at a time."""
        if not (new := self._sent.new(model, rows)):
            return
        with contextlib.redirect_stdout(io.StringIO()):  # stdout is for results
            run = self._trackio.init(
                project=self._project,
                name=visible(model),
                group=visible(self._study),
                resume="allow",
                embed=False,
                auto_log_gpu=False,
                auto_log_cpu=False,
            )
            try:
                for row in new:
                    run.log(_named(row), step=row.step)
            finally:
                run.finish()
        for row in new:
            self._sent.add(model, row)

    def close(self) -> None:
        """Nothing is open."""


def _named(row: StepScalars) -> dict[str, float]:
    """Return the row's values by names that trackers take: letters, digits, blanks, `_./+-^()`."""
    named: dict[str, float] = {}
    for tag, value in row.values.items():
        name = base = re.sub(r"[^\w ./+\-^()]", "_", visible(tag))[:120]
        n = 1
        while name in named:
            n += 1
            name = f"{base} {n}"
        named[name] = value
    return named


def _run_id(store: Path, model: str) -> str:
    """Return the same for the same study and model, however often an engine is started."""
    return hashlib.sha256(f"{store.resolve()}\0{model}".encode()).hexdigest()[:16]
