"""Assess a study's health, and advise its user on the next command."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from seedconv_tui.text import count, duration, size, visible
from store import STALE_SECONDS
from store.schema import ACTIVE_STATES, Key, ModelSnapshot, State, StudySnapshot

SILENT: Final = "silent"  # an engine should be at work, and its heart has not beaten for a while
NONE: Final = "none"  # no engine ever worked on the study


def health(snapshot: StudySnapshot, now: float) -> str:
    """Return the engine's state, as in `EngineStatus`; or `SILENT` or `NONE`."""
    engine = snapshot.engine
    if engine is None:
        return NONE
    late = silence(snapshot, now) >= STALE_SECONDS
    return SILENT if engine.state in ACTIVE_STATES and late else engine.state


def silence(snapshot: StudySnapshot, now: float) -> float:
    """Return seconds since the engine's last sign of life; 0 where there is no engine."""
    if snapshot.engine is None:
        return 0.0
    seen = snapshot.engine.heartbeat if snapshot.seen is None else snapshot.seen
    return max(0.0, now - seen)


def states(model: ModelSnapshot) -> dict[str, int]:
    """Count the checkpoints in each state that occurs."""
    found = Counter(int(state) for state in model.state.ravel())
    return {state.name.lower(): found[state] for state in State if state and found[state]}


def troubled(snapshot: StudySnapshot, now: float) -> bool:
    """Return whether somebody should look.

    The engine is silent, failed or cannot write to the study; or checkpoints failed.
    """
    return bool(troubles(snapshot, now))


def troubles(snapshot: StudySnapshot, now: float) -> list[str]:
    """Return what is wrong, a line each: what `run` and `status --check` exit with 1 for."""
    state, engine = health(snapshot, now), snapshot.engine
    lines = []
    if engine is not None and state == SILENT:
        lines.append(
            f"no heartbeat for {duration(silence(snapshot, now))} from the engine (process "
            f"{engine.pid} on {visible(engine.host)}): it was killed, is stuck, or its machine is "
            "down. If it is dead, start it again; it resumes"
        )
    elif engine is not None and state == "failed":
        why = visible(engine.message) or "its log says why"
        lines.append(f"the engine failed: {why}. Correct that and start it again")
    elif why := blocked(snapshot):
        lines.append(f"the engine cannot write: {visible(why)}; it continues by itself")
    lines += [visible(line) for line in engine.amiss] if engine is not None else []
    return lines + _about_failures(snapshot.models)


def blocked(snapshot: StudySnapshot) -> str:
    """Return why an engine at work cannot write to the study, and what to do; empty: it can."""
    engine = snapshot.engine
    return engine.blocked if engine is not None and engine.state in ACTIVE_STATES else ""


def advice(snapshot: StudySnapshot, now: float) -> list[str]:
    """Return what to do next, a line each; empty while an engine is well and at work."""
    state, engine = health(snapshot, now), snapshot.engine
    path = visible(str(snapshot.path))
    lines = troubles(snapshot, now)
    if engine is None:
        lines.insert(0, "start an engine: seedconv run STUDY.toml")
    elif state == "stopped" and _to_do(snapshot):
        lines.insert(0, "the engine was stopped. Start it again; it resumes")
    lines += _about_missing(snapshot.models)
    if engine is not None and engine.disk_free is not None and state in ACTIVE_STATES:
        coming = (engine.bytes_projected or 0) - snapshot.bytes_stored
        if coming > engine.disk_free:
            lines.append(
                f"about {size(coming)} of log-probs are to come and {size(engine.disk_free)} are "
                f"free: make room, `seedconv prune {path}`, or keep them in another form"
            )
    if not lines and state == "finished":
        lines.append(f"open the results: seedconv tui {path}")
    return lines


def _to_do(snapshot: StudySnapshot) -> bool:
    if any(n < model.n_scored for model in snapshot.models for n in model.probed.values()):
        return True
    over = (State.ABSENT, State.DONE, State.PRUNED, State.MISSING, State.FAILED)
    return any((~np.isin(model.state, over)).any() for model in snapshot.models)


def failed_checkpoints(model: ModelSnapshot) -> set[Key]:
    """Return those that failed: could not be scored or, for a late seed's sake, scored again."""
    rows, columns = np.nonzero(model.state == State.FAILED)
    cells = zip(model.steps[rows].tolist(), columns, strict=True)
    return {(model.seeds[column], step) for step, column in cells} | model.failures.keys()


def _about_failures(models: tuple[ModelSnapshot, ...]) -> list[str]:
    failed = sum(len(failed_checkpoints(model)) for model in models)
    lines = []
    waiting = sum(not f.parked for model in models for f in model.failures.values())
    if parked := max(0, failed - waiting):
        lines.append(
            f"{count(parked)} checkpoint{'s' * (parked > 1)} failed; no retry until a change. "
            "Retry now: seedconv run STUDY.toml --retry-failed"
        )
    if failed and waiting:
        lines.append(
            f"{count(waiting)} checkpoint{'s' * (waiting > 1)} failed and {_are(waiting)} tried "
            "again by an engine at work"
        )
    probes = [failure.parked for model in models for failure in model.probe_failures.values()]
    if parked := sum(probes):
        lines.append(
            f"{count(parked)} probe{'s' * (parked > 1)} of scored checkpoints failed; no retry "
            "until these change. Retry now: seedconv run STUDY.toml --retry-failed"
        )
    if waiting := len(probes) - parked:
        lines.append(
            f"{count(waiting)} probe{'s' * (waiting > 1)} of scored checkpoints failed and "
            f"{_are(waiting)} asked again by an engine at work"
        )
    return lines


def _about_missing(models: tuple[ModelSnapshot, ...]) -> list[str]:
    missing = sum(int((model.state == State.MISSING).sum()) for model in models)
    if not missing:
        return []
    return [
        f"{count(missing)} checkpoint{'s' * (missing > 1)} named in the study file "
        f"{_are(missing)} not there; the next `run` looks again"
    ]


def _are(n: int) -> str:
    return "are" if n > 1 else "is"
