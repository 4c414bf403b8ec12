"""Pairs of seeds that cannot be compared: of one of them neither log-probs nor weights are left."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from engine.coordination.planner import comparable
from engine.study_file.models_section import ModelSection
from engine.study_file.scoring_section import LogProbsSection
from engine.workers.messages import seed_order
from store import ModelLedger
from store.schema import Key
from store.words import counted

_MOST_STEPS = 8  # that are named one by one


@dataclass(frozen=True)
class LostPairs:
    """Seeds that lack pairs at a step, and the seeds that are to blame."""

    seeds: tuple[str, ...]  # have no pair with `others`, nor with each other
    others: tuple[str, ...]  # have all pairs among them, or will have
    gone: tuple[str, ...]  # log-probs are not kept, and there is no checkpoint to read again
    failed: tuple[str, ...]  # log-probs are not kept, and the checkpoint cannot be read again
    damaged: frozenset[str] = frozenset()  # of these, those whose log-probs were dropped as damaged


def find_lost_pairs(
    model: ModelSection,
    known: ModelLedger,
    available: Collection[Key],
) -> dict[int, LostPairs]:
    """Return, by step, seeds of the study that cannot be compared with what is available now."""
    seeds: dict[int, set[str]] = {step: set() for step in known.steps}
    for seed, step in available:
        seeds.setdefault(step, set()).add(seed)
    found = {}
    for step in sorted(seeds):
        lost = _lost_at(model, known, step, seeds[step])
        if lost is not None:
            found[step] = lost
    return found


def _lost_at(
    model: ModelSection, known: ModelLedger, step: int, available: set[str]
) -> LostPairs | None:
    present = known.scored_at(step) | available
    before, wanted = known.reduced.get(step, frozenset()), comparable(known, step, available)
    possible = wanted if before <= wanted and len(wanted) > 1 else before
    lacking = {seed for seed in present - possible if model.accepts(seed, step)}
    if not lacking or len(lacking | possible) < 2:
        return None
    # Seeds that were compared are in the way of all others; else each is only in its own.
    blamed = _sorted(before - wanted or present - wanted)
    return LostPairs(
        _sorted(lacking),
        _sorted(possible),
        tuple(seed for seed in blamed if (seed, step) not in known.failed),
        tuple(seed for seed in blamed if (seed, step) in known.failed),
        frozenset(seed for seed in blamed if (seed, step) in known.wanted_again),
    )


def describe(
    model: ModelSection, found: dict[int, LostPairs], settings: LogProbsSection
) -> Iterator[str]:
    """Yield a line for each group of steps that lack the same pairs for the same reason."""
    groups: dict[LostPairs, list[int]] = defaultdict(list)
    for step, lost in found.items():
        groups[lost].append(step)
    for lost, steps in groups.items():
        why = _why(lost, captured=model.source_kind.captured)
        yield (
            f"model {model.name}: {_who(lost)} at {_steps(steps)}: {why}. "
            f"{_what_to_do(lost, model, settings)}"
        )


def _who(lost: LostPairs) -> str:
    if not lost.others:
        return f"{_seeds(lost.seeds)} cannot be compared with each other"
    more = ", nor with each other," if len(lost.seeds) > 1 else ""
    return f"{_seeds(lost.seeds)} cannot be compared with {_seeds(lost.others)}{more}"


def _why(lost: LostPairs, *, captured: bool) -> str:
    reasons = []
    if lost.gone and captured:
        reasons.append(
            f"{_log_probs(lost, lost.gone)}, and what was captured in training cannot be scored "
            "again"
        )
    elif lost.gone:
        is_there = "its checkpoint is" if len(lost.gone) == 1 else "their checkpoints are"
        reasons.append(f"{_log_probs(lost, lost.gone)} and {is_there} not there")
    if lost.failed:
        its = "its checkpoint" if len(lost.failed) == 1 else "their checkpoints"
        reasons.append(f"{_log_probs(lost, lost.failed)} and {its} could not be read again")
    return "; ".join(reasons)


def _log_probs(lost: LostPairs, seeds: Collection[str]) -> str:
    """Say why log-probs of seeds are not there: no setting keeps what was damaged."""
    n_damaged = len(lost.damaged.intersection(seeds))
    why = "were damaged" if n_damaged == len(seeds) else "are not kept"
    why += " or were damaged" if 0 < n_damaged < len(seeds) else ""
    return f"log-probs of {_seeds(seeds)} {why}"


def _what_to_do(lost: LostPairs, model: ModelSection, settings: LogProbsSection) -> str:
    changes = []
    captured = model.source_kind.captured
    to_prevent = lost.damaged != {*lost.gone, *lost.failed}
    if captured and not to_prevent:
        return "To have them compared, restore the study from a copy made before the damage."
    if settings.representation == "none" and not captured:
        changes.append('set log_probs.representation to "factored" or "dense"')
    if model.listed_seeds is None and settings.retention == "until_reduced":
        changes.append("list the seeds in the study file")
    if not changes:
        changes.append("prune only when all seeds are compared")
    if captured:
        return f"To prevent this, {' and '.join(changes)}."
    many = len(lost.gone) + len(lost.failed) > 1
    it = "them" if many else "it"
    act = f"Repair {it}" if lost.failed else f"Put {it} back"
    prevent = f"; to prevent this, {' and '.join(changes)}" if to_prevent else ""
    return f"{act} and run again{prevent}."


def _steps(steps: list[int]) -> str:
    if len(steps) == 1:
        return f"step {steps[0]:,}"
    if len(steps) <= _MOST_STEPS:
        return f"steps {', '.join(f'{step:,}' for step in steps)}"
    return f"{counted(len(steps), 'step')} from {steps[0]:,} to {steps[-1]:,}"


def _seeds(seeds: Collection[str]) -> str:
    return f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}"


def _sorted(seeds: Collection[str]) -> tuple[str, ...]:
    return tuple(sorted(seeds, key=seed_order))
