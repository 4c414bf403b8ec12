"""The status of a study, as one JSON object and in words."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from seedconv_tui.health import (
    SILENT,
    advice,
    failed_checkpoints,
    health,
    silence,
    states,
    troubles,
)
from seedconv_tui.text import (
    count,
    counted,
    duration,
    nats,
    phase_words,
    restored_words,
    same_as,
    size,
    summarising_words,
    visible,
)
from store.schema import (
    ACTIVE_STATES,
    CheckpointName,
    Failure,
    ModelSnapshot,
    Phase,
    State,
    StudySnapshot,
)
from store.statistics import outliers

if TYPE_CHECKING:
    from store.analysis import TextAgreement

SCHEMA = 1  # of the JSON object; it grows when a field changes its meaning or goes
_FEW = 5  # errors, duplicates and missing ones of a model that are printed in full


def status_json(
    snapshot: StudySnapshot,
    now: float | None = None,
    halves: Mapping[str, TextAgreement] | None = None,
) -> dict[str, Any]:
    """Return the status as one JSON object, in nats; docs/status.md describes each field.

    `halves` of the text are compared by model, where that was done.
    """
    now = time.time() if now is None else now
    engine = None
    if snapshot.engine is not None:
        engine = asdict(snapshot.engine)
        engine["heartbeat_age"] = round(silence(snapshot, now), 1)
        for work in engine["works"]:
            work["state"] = State(work["state"]).name.lower()
    return {
        "schema": SCHEMA,
        "time": now,
        "store": str(snapshot.path),
        "study": snapshot.name,
        "tokens": snapshot.n_tokens,
        "vocab_size": snapshot.vocab_size,
        "bytes_stored": snapshot.bytes_stored,
        "health": health(snapshot, now),
        "amiss": troubles(snapshot, now),
        "advice": advice(snapshot, now),
        "engine": engine,
        "models": [_model(model, (halves or {}).get(model.name)) for model in snapshot.models],
    }


def _model(model: ModelSnapshot, halves: TextAgreement | None) -> dict[str, Any]:
    reduced = np.flatnonzero(model.n_pairs)
    latest = None
    if len(reduced):
        last = reduced[-1]
        latest = {
            "step": int(model.steps[last]),
            "expected_kl": float(model.expected_kl[last]),
            "interval": _interval(model, int(last)),
            "std_over_pairs": float(model.pair_std[last]),
            "seeds": int(model.n_seeds[last]),
            "pairs": int(model.n_pairs[last]),
            "pairs_left_out": int(model.n_left_out[last]),
            "outliers": [model.seeds[n] for n in np.flatnonzero(outliers(model.kl[last]))],
        }
    return {
        "model": model.name,
        "seeds": list(model.seeds),
        "steps": len(model.steps),
        "checkpoints": states(model),
        "captured": len(model.captured),
        "latest": latest,
        "pairs_left_out": [
            {"step": int(model.steps[at]), "pairs": int(model.n_left_out[at])}
            for at in np.flatnonzero(model.n_left_out)
        ],
        "split_half": None if halves is None else asdict(halves),
        "phases": [asdict(phase) for phase in model.phases],
        "errors": _errors(model, State.FAILED),
        "probes": [_probe(model, probe) for probe in model.probed],
        "missing": _errors(model, State.MISSING),
        "restored": [
            {"seed": seed, "step": step, "results": list(results)}
            for (seed, step), results in sorted(model.restored.items(), key=lambda it: it[0][::-1])
        ],
        "duplicates": [
            {
                "seed": key[0],
                "step": key[1],
                "of": _named(first),
                "captured": key in model.captured,
            }
            for key, first in model.duplicates.items()
        ],
    }


def _probe(model: ModelSnapshot, probe: str) -> dict[str, Any]:
    """Return how many checkpoints answered a probe, and which could not be asked it."""
    of_probe = {key[1:]: it for key, it in model.probe_failures.items() if key[0] == probe}
    failures = sorted(of_probe.items(), key=lambda item: item[0][::-1])
    return {
        "probe": probe,
        "answered": model.probed[probe],
        "scored": model.n_scored,
        "errors": [_error(seed, step, failure) for (seed, step), failure in failures],
    }


def _error(seed: str, step: int, failure: Failure) -> dict[str, Any]:
    found = {"seed": seed, "step": step, "error": failure.error}
    return found | {"attempts": failure.attempts, "retry_at": failure.retry_at}


def _errors(model: ModelSnapshot, state: State) -> list[dict[str, Any]]:
    """Return why checkpoints are in this state, by step."""
    rows = {int(step): row for row, step in enumerate(model.steps)}
    failed = failed_checkpoints(model) if state == State.FAILED else set()
    found = []
    for (seed, step), error in sorted(model.errors.items(), key=lambda item: item[0][::-1]):
        at = model.state[rows[step], model.seeds.index(seed)]
        if at == state or (seed, step) in failed:
            if failure := model.failures.get((seed, step)):
                found.append(_error(seed, step, failure))  # `error` says the same in words
            else:
                found.append({"seed": seed, "step": step, "error": error})
    return found


def _named(checkpoint: CheckpointName) -> dict[str, Any]:
    return dict(zip(("model", "seed", "step"), checkpoint, strict=True))


def _interval(model: ModelSnapshot, row: int) -> list[float] | None:
    """Return the 95 % interval of the expected KL, [low, high], nats; None: not known (yet)."""
    if model.kl_interval is None or not np.isfinite(model.kl_interval[row]).all():
        return None
    return [float(end) for end in model.kl_interval[row]]


def status_text(
    snapshot: StudySnapshot,
    now: float | None = None,
    halves: Mapping[str, TextAgreement] | None = None,
) -> str:
    """Return the status as a few lines; `halves` is as for `status_json`."""
    report = status_json(snapshot, now, halves)
    lines = [
        f"{visible(snapshot.name)}: {count(snapshot.n_tokens)} tokens, vocabulary "
        f"{count(snapshot.vocab_size)}",
        _engine_line(report["engine"], report["health"]),
        *_disk(report["bytes_stored"], report["engine"]),
    ]
    for model in report["models"]:
        parts = ", ".join(f"{n} {state}" for state, n in model["checkpoints"].items())
        seeds, steps = counted(len(model["seeds"]), "seed"), counted(model["steps"], "step")
        lines.append(f"{visible(model['model'])}: {seeds} x {steps}: {parts}")
        if latest := model["latest"]:
            spread = f"std over pairs {nats(latest['std_over_pairs'])}"
            if latest["interval"]:
                low, high = map(nats, latest["interval"])
                spread = f"95 % interval {low} to {high}, {spread}"
            lines.append(
                f"  expected KL {nats(latest['expected_kl'])} nats at step {latest['step']:,} "
                f"({counted(latest['seeds'], 'seed')}, {spread})"
            )
            if left_out := latest["pairs_left_out"]:
                lines.append(f"  left out of that mean: pairs whose KL is not finite, {left_out}")
            if latest["outliers"]:
                lines.append(
                    f"  far from the others: seed {visible(', '.join(latest['outliers']))}"
                )
        lines += _elsewhere(model)
        lines += _agreement(model["split_half"])
        if model["phases"]:
            phases = ", ".join(phase_words(Phase(**phase)) for phase in model["phases"])
            lines.append(f"  phases: {phases}")
        if captured := model["captured"]:
            lines.append(f"  captured in training: {counted(captured, 'scored checkpoint')}")
        if restored := restored_words(len(model["restored"])):
            lines.append(f"  {restored} (--json lists them)")
        lines += _first_few(model["errors"], "errors", _failed)
        for probe in model["probes"]:
            name, failed = f"probe {visible(probe['probe'])}", len(probe["errors"])
            line = f"  {name}: {probe['answered']} of {probe['scored']} scored checkpoints"
            lines.append(line + (f", {failed} failed" if failed else ""))
            found = _first_few(probe["errors"], "errors", _failed)
            lines += [f"  {name},{line.removeprefix(' ')}" for line in found]
        lines += _first_few(
            model["duplicates"],
            "duplicates",
            lambda one: same_as(tuple(one["of"].values()), captured=one["captured"]),
        )
        lines += _first_few(
            model["missing"], "missing", lambda one: f"missing: {visible(one['error'])}"
        )
    lines += [f"next: {line}" for line in report["advice"]]
    return "\n".join(map(visible, lines))  # whatever a store says, also one from somebody else


def _elsewhere(model: dict[str, Any]) -> list[str]:
    """Return a line on pairs that are left out of the means of other steps than the newest."""
    latest = model["latest"]
    others = [
        one for one in model["pairs_left_out"] if latest is None or one["step"] != latest["step"]
    ]
    if not others:
        return []
    steps = f"{len(others):,} other steps" if len(others) > 1 else f"step {others[0]['step']:,}"
    n = sum(one["pairs"] for one in others)
    return [f"  left out at {steps}: pairs whose KL is not finite, {n} (--json has each step)"]


def _agreement(halves: dict[str, Any] | None) -> list[str]:
    """Return a line on what random halves of the text have in common."""
    if halves is None:
        return []
    over = {
        f"{counted(halves['n_steps'], 'step')}": halves["steps"],
        f"{counted(halves['n_pairs'], 'pair')} of seeds": halves["pairs"],
    }
    known = [f"{r:.3f} over {what}" for what, r in over.items() if np.isfinite(r)]
    if not known:
        return []
    return [f"  halves of the text agree: {', '.join(known)} (split-half, at most 1)"]


def _disk(stored: int, engine: dict[str, Any] | None) -> list[str]:
    projected = engine["bytes_projected"] if engine and engine["state"] in ACTIVE_STATES else None
    if not stored and not projected:
        return []
    line = f"log-probs: {size(stored)} stored"
    return [f"{line} of about {size(projected)}" if projected and projected > stored else line]


def _failed(error: dict[str, Any]) -> str:
    if "attempts" not in error:
        return visible(error["error"])
    fate = Failure(error["error"], error["attempts"], retry_at=error["retry_at"]).fate
    return f"{visible(error['error'])} ({fate})"


def _first_few(
    found: list[dict[str, Any]], what: str, tell: Callable[[dict[str, Any]], str]
) -> list[str]:
    lines = [
        f"  seed {visible(one['seed'])}, step {one['step']:,}: {tell(one)}" for one in found[:_FEW]
    ]
    if len(found) > _FEW:
        lines.append(f"  and {len(found) - _FEW} more {what} (--json lists all)")
    return lines


def _engine_line(engine: dict[str, Any] | None, health: str) -> str:
    if engine is None:
        return "engine: none has worked on it yet"
    age = duration(engine["heartbeat_age"])
    if health == SILENT:
        parts = [f"engine: silent, last heartbeat {age} ago while {engine['state']}"]
    else:
        parts = [f"engine: {health}"]
        what = "heartbeat" if health in ACTIVE_STATES else "ended"
        parts.append(f"{what} {age} ago")
    for work in engine["works"]:  # one for each device that is busy
        who = f"seed {work['seed']}, " if work["seed"] is not None else ""
        share = 100 * work["tokens_done"] // max(1, work["tokens_total"])
        where = f"{visible(work['model'])}, {who}step {work['step']:,} ({share} %)"
        probe = f" for probe {visible(work['probe'])}" if work["probe"] else ""
        parts.append(f"{work['state']} {where}{probe}")
    if engine["queued"]:
        parts.append(f"{engine['queued']} to go")
    if engine["eta_seconds"] and engine["queued"]:
        parts.append(f"about {duration(engine['eta_seconds'])} left")
    if health in ACTIVE_STATES and engine["to_summarise"]:
        parts.append(summarising_words(engine["summarised"], engine["to_summarise"]))
    for gpu in engine["gpus"]:
        known = []
        if gpu["utilisation"] is not None:
            known.append(f"{gpu['utilisation']:.0%} busy")
        if gpu["memory_used"] is not None and gpu["memory_total"] is not None:
            known.append(f"{size(gpu['memory_used'])} of {size(gpu['memory_total'])} in use")
        if known:
            parts.append(f"{visible(gpu['device'])} {', '.join(known)}")
    if engine["disk_free"] is not None:
        parts.append(f"{size(engine['disk_free'])} free")
    if engine["message"]:
        parts.append(visible(engine["message"]))
    return ", ".join(parts)
