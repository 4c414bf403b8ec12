"""Whether all is well with a study, and what its user should do next."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from seedconv_tui.text import count, duration, size, visible
from store import STALE_SECONDS
from store.schema import ACTIVE_STATES, ModelSnapshot, State, StudySnapshot

SILENT: Final = "silent"  # an engine should be at work, and its heart has not beaten for a while
NONE: Final = "none"  # no engine ever worked on the study


def health(snapshot: StudySnapshot, now: float) -> str:
    """Return the engine's state, as in `EngineStatus`; or `SILENT` or `NONE`."""
    engine = snapshot.engine
    if engine is None:
        return NONE
    late = now - engine.heartbeat >= STALE_SECONDS
    return SILENT if engine.state in ACTIVE_STATES and late else engine.state


def states(model: ModelSnapshot) -> dict[str, int]:
    """Count the checkpoints in each state that occurs."""
    found = Counter(int(state) for state in model.state.ravel())
    return {state.name.lower(): found[state] for state in State if state and found[state]}


def troubled(snapshot: StudySnapshot, now: float) -> bool:
    """Return whether somebody should look.

    The engine is silent, failed or cannot write to the study; or checkpoints failed.
    """
    ill = health(snapshot, now) in {SILENT, "failed"} or bool(blocked(snapshot))
    return ill or any(
        model.probe_failures or (model.state == State.FAILED).any() for model in snapshot.models
    )


def blocked(snapshot: StudySnapshot) -> str:
    """Return why an engine at work cannot write to the study, and what to do; empty: it can."""
    engine = snapshot.engine
    return engine.blocked if engine is not None and engine.state in ACTIVE_STATES else ""


def advice(snapshot: StudySnapshot, now: float) -> list[str]:
    """Return what to do next, a line each; empty while an engine is well and at work."""
    state, engine = health(snapshot, now), snapshot.engine
    path = visible(str(snapshot.path))
    lines = []
    if engine is None:
        lines.append("start an engine: seedconv run STUDY.toml")
    elif state == SILENT:
        lines.append(
            f"the engine (process {engine.pid} on {visible(engine.host)}) gave no sign for "
            f"{duration(now - engine.heartbeat)}: it was killed, hangs, or its machine is away; "
            "if it is gone, start it again, and it goes on where it was"
        )
    elif state == "failed":
        why = visible(engine.message) or "its log says why"
        lines.append(f"the engine failed: {why}; mend that and start it again")
    elif state == "stopped" and _to_do(snapshot):
        lines.append("the engine was stopped; start it again, and it goes on where it was")
    elif why := blocked(snapshot):
        lines.append(f"the engine cannot write: {visible(why)}; it goes on by itself")
    lines += _about_checkpoints(snapshot.models)
    if engine is not None and engine.disk_free is not None and state in ACTIVE_STATES:
        coming = (engine.bytes_projected or 0) - snapshot.bytes_stored
        if coming > engine.disk_free:
            lines.append(
                f"about {size(coming)} of log-probs are to come and {size(engine.disk_free)} are "
                f"free: make room, `seedconv prune {path}`, or keep them in another form"
            )
    if not lines and state == "finished":
        lines.append(f"look at it: seedconv tui {path}")
    return lines


def _to_do(snapshot: StudySnapshot) -> bool:
    if any(n < model.n_scored for model in snapshot.models for n in model.probed.values()):
        return True
    over = (State.ABSENT, State.DONE, State.PRUNED, State.MISSING, State.FAILED)
    return any((~np.isin(model.state, over)).any() for model in snapshot.models)


def _about_checkpoints(models: tuple[ModelSnapshot, ...]) -> list[str]:
    states = np.concatenate([np.zeros(0, np.uint8), *(model.state.ravel() for model in models)])
    failed, missing = int((states == State.FAILED).sum()), int((states == State.MISSING).sum())
    lines = []
    waiting = sum(not f.parked for model in models for f in model.failures.values())
    if parked := max(0, failed - waiting):
        lines.append(
            f"{count(parked)} checkpoint{'s' * (parked > 1)} failed and {_are(parked)} left alone "
            "until changed; to try without that: seedconv run STUDY.toml --retry-failed"
        )
    if failed and waiting:
        lines.append(
            f"{count(waiting)} checkpoint{'s' * (waiting > 1)} failed and {_are(waiting)} tried "
            "again by an engine at work"
        )
    probes = [failure.parked for model in models for failure in model.probe_failures.values()]
    if parked := sum(probes):
        lines.append(
            f"{count(parked)} probe{'s' * (parked > 1)} of scored checkpoints failed and "
            f"{_are(parked)} left alone until these change; to ask without that: "
            "seedconv run STUDY.toml --retry-failed"
        )
    if waiting := len(probes) - parked:
        lines.append(
            f"{count(waiting)} probe{'s' * (waiting > 1)} of scored checkpoints failed and "
            f"{_are(waiting)} asked again by an engine at work"
        )
    if missing:
        lines.append(
            f"{count(missing)} checkpoint{'s' * (missing > 1)} named in the study file "
            f"{_are(missing)} not there; `run` looks again, others go on"
        )
    return lines


def _are(n: int) -> str:
    return "are" if n > 1 else "is"
