"""Derive the remaining work from checkpoints found and results committed; keep no other state."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from itertools import chain

from engine.study_file.scoring_section import Keep
from engine.workers.messages import Pass, seed_order
from store import Ledger, ModelLedger
from store.schema import REFERENCE_METRICS, Key
from store.words import counted


@dataclass(frozen=True)
class Step:
    """One (model, step) with work to do; or, where that is done, one checkpoint to be probed."""

    model: str
    step: int
    score: tuple[str, ...]  # seeds whose log-probs are not stored and are needed
    reduce: bool  # whether pairs will be missing once those are scored
    seed: str | None = None  # the one that is to be probed
    probes: tuple[str, ...] = ()  # what it is to be asked; nothing else is left to do then


@dataclass(frozen=True)
class Plan:
    """Passes to make for a step now, and why in this way. They may run at the same time."""

    name: str  # "kept", "fused", "incremental" or "probed"
    why: str
    passes: tuple[Pass, ...]


def make_plan(
    step: Step,
    known: ModelLedger,
    keep: Keep,
    *,
    captured: bool = False,
    small: bool = False,
) -> Plan:
    """Choose how a step is worked on; asked again when its passes are done.

    *fused*: all seeds live, reduced block by block; nothing is kept, or factors of a `small` step.
    *incremental*: one late seed live with stored ones. *kept*: each seed alone with its log-probs
    kept, then one reduction of stored ones. All give the same numbers to rounding. *probed*: one
    seed that is scored is live again, to be asked the study's probes and nothing else.

    What was `captured` in training is kept as it came, whatever the study keeps of others: it
    cannot be had again for the sake of a seed that comes later.
    """
    at, live = step.step, step.score
    if captured and keep == "none":
        keep = "factored"  # stands for either
    if step.seed is not None:
        what = f"asking scored checkpoints the probes {', '.join(step.probes)}"
        asked = Pass(step.model, at, (step.seed,), (), "none", reduce=False, probes=step.probes)
        return Plan("probed", what, (asked,))
    stored = tuple(
        sorted(
            (s for s in known.scored_at(at) if (s, at) in known.stored and s not in live),
            key=seed_order,
        )
    )
    if not step.reduce:
        stored = ()
    if keep == "none" and live:
        together = " together" if len(live) > 1 else ""
        what = f"scoring {counted(len(live), 'seed')}{together}, storing no log-probs"
        if stored:
            what += f"; {len(stored)} more have stored ones"
        return Plan("fused", what, (Pass(step.model, at, live, stored, keep, step.reduce),))
    if not live:
        what = f"comparing {counted(len(stored), 'seed')} by their stored log-probs"
        return Plan("kept", what, (Pass(step.model, at, (), stored, keep, reduce=True),))
    compared = known.reduced.get(at, frozenset()) >= set(stored) or len(stored) == 1
    if len(live) == 1 and stored and compared:
        what = f"scoring 1 seed and comparing it with {len(stored)} that have stored log-probs"
        return Plan("incremental", what, (Pass(step.model, at, live, stored, keep, reduce=True),))
    kept = f"{keep} log-probs"
    if keep == "auto":
        kept = "log-probs (factored where the model allows)"
    again = keep != "dense"  # what is kept is no log-probs: those would be computed again
    if small and again and step.reduce and not captured and (compared or not stored):
        what = f"scoring and comparing {counted(len(live), 'seed')} together, storing {kept}"
        return Plan("fused", what, (Pass(step.model, at, live, stored, keep, reduce=True),))
    kept = "log-probs as captured" if captured else kept
    what = f"scoring {counted(len(live), 'seed')} one by one, storing {kept}, then comparing them"
    passes = tuple(Pass(step.model, at, (seed,), (), keep, reduce=False) for seed in live)
    return Plan("kept", what if step.reduce else f"scoring, storing {kept}", passes)


def remaining(
    ledger: Ledger,
    name: str,
    available: set[Key],
    damaged: Collection[int] = (),
    probes: Collection[str] = (),
    held: Collection[tuple[str, Key]] = (),
    keeps: bool = False,
    end: int | None = None,
) -> list[Step]:
    """Return steps of one model with something left to do, ascending.

    `damaged` are steps that cannot be reduced.

    `held` are probes, each with a checkpoint, that are not to be asked now. The study `keeps`
    log-probs: damaged ones are had again.
    """
    known = ledger.model(name)
    seeds: dict[int, set[str]] = {step: set() for step in known.steps}
    for seed, step in available:
        seeds.setdefault(step, set()).add(seed)
    found = (
        remaining_of(
            known, name, step, seeds[step],
            reducible=step not in damaged, probes=probes, held=held, keeps=keeps, end=end,
        )
        for step in sorted(seeds)
    )  # fmt: skip
    return list(chain.from_iterable(found))


def remaining_of(
    known: ModelLedger,
    name: str,
    step: int,
    available: set[str],
    *,
    reducible: bool = True,
    probes: Collection[str] = (),
    held: Collection[tuple[str, Key]] = (),
    keeps: bool = False,
    end: int | None = None,
) -> list[Step]:
    """Return what is left to do of one step; these seeds are available.

    A seed that is scored but whose log-probs were dropped is scored again only when another seed
    of its step has yet to be compared with it; or, if the study `keeps` log-probs, when they were
    damaged. Probes, each seed's by itself, come only when
    nothing else is left: a KL must not wait for them. Seeds are also compared with the step `end`.
    """
    scored = known.scored_at(step)
    new = available - scored
    # Seeds that were compared stay so: the others join them or, where one is lost, cannot.
    wanted, before = comparable(known, step, available), known.reduced.get(step, frozenset())
    late = before == wanted and lacks_end(known, step, end)
    reduce = reducible and len(wanted) > 1 and (before < wanted or late)
    needed = {seed for seed in wanted & scored if (seed, step) not in known.stored}
    damaged = {seed for seed, at in known.wanted_again if at == step and keeps}
    score = new | (needed if reduce else set()) | (damaged & scored & available)
    if score or reduce:
        return [Step(name, step, tuple(sorted(score, key=seed_order)), reduce)]
    asked = {
        seed: tuple(p for p in known.unasked((seed, step), probes) if (p, (seed, step)) not in held)
        for seed in sorted(available, key=seed_order)
    }
    return [Step(name, step, (), False, seed, them) for seed, them in asked.items() if them]


def lacks_end(known: ModelLedger, step: int, end: int | None) -> bool:
    """Return whether a reduced step can be compared with the step `end` now, and was not.

    Log-probs of both are needed, and none is made again for this.
    """
    seeds = known.reduced.get(step, frozenset())
    if end is None or not seeds:
        return False
    lacking = any(m.at_end and known.set_with(step, m.name) is None for m in REFERENCE_METRICS)
    return lacking and all({(seed, step), (seed, end)} <= known.stored for seed in seeds)


def comparable(known: ModelLedger, step: int, available: set[str]) -> frozenset[str]:
    """Return seeds whose log-probs at a step are stored or can be computed (again)."""
    stored = {seed for seed in known.scored_at(step) if (seed, step) in known.stored}
    return frozenset(available | stored)


def has_no_pairs(known: ModelLedger, available: set[Key]) -> str | None:
    """Return why a model has no pairs of seeds, in one line; None when some step has two seeds."""
    seeds: dict[str, set[int]] = {}
    for seed, step in available | set(known.scored):
        seeds.setdefault(seed, set()).add(step)
    steps = [step for at in seeds.values() for step in at]
    if len(set(steps)) < len(steps):
        return None
    if len(seeds) < 2:
        found = "only one seed found" if seeds else "no seed found"
        return f"{found}; comparing needs two. Check its source and seeds in the study file"
    described = [
        f"seed {seed}: {min(at)} to {max(at)}"
        for seed, at in sorted(seeds.items(), key=lambda item: seed_order(item[0]))[:4]
    ]
    return f"no two seeds share a step, so there is nothing to compare ({'; '.join(described)})"
