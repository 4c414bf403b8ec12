"""What is there, what is done, and so what remains: the plan is always made from these alone."""

from __future__ import annotations

from dataclasses import dataclass

from store.commits import Checkpoint, Ledger, ModelLedger


@dataclass(frozen=True)
class Step:
    """One (model, step) with work to do."""

    model: str
    step: int
    score: tuple[str, ...]  # seeds whose log-probs are not stored and are needed
    reduce: bool  # whether pairs will be missing once those are scored


def seed_order(seed: str) -> tuple[bool, int, str]:
    """Sort key of seeds: numbers by value, then names."""
    return (not seed.isdecimal(), int(seed) if seed.isdecimal() else 0, seed)


def remaining(ledger: Ledger, name: str, available: set[Checkpoint]) -> list[Step]:
    """Steps of one model with something left to do, ascending.

    A seed that is scored but whose log-probs were dropped is scored again only when another seed
    of its step has yet to be compared with it.
    """
    known = ledger.model(name)
    steps = []
    for step in sorted({step for _, step in available} | known.steps.keys()):
        scored = known.scored_at(step)
        new = {seed for seed, at in available if at == step} - scored
        present = scored | new
        reduce = len(present) > 1 and known.reduced.get(step, frozenset()) != present
        needed = {seed for seed in scored if (seed, step) not in known.stored} if reduce else set()
        again = {seed for seed in needed if (seed, step) in available}
        if (
            needed != again
        ):  # a dropped checkpoint is gone for good: its old pairs stay, no new ones
            reduce = False
        if new or reduce:
            score = tuple(sorted(new | (again if reduce else set()), key=seed_order))
            steps.append(Step(name, step, score, reduce))
    return steps


def lonely(known: ModelLedger, available: set[Checkpoint]) -> str | None:
    """Why no divergence can come of a model, in one line; None when some step has two seeds."""
    seeds: dict[str, set[int]] = {}
    for seed, step in available | set(known.scored):
        seeds.setdefault(seed, set()).add(step)
    steps = [step for at in seeds.values() for step in at]
    if len(set(steps)) < len(steps):
        return None
    if len(seeds) < 2:
        return f"has {len(seeds)} seed; a divergence needs two"
    described = [
        f"seed {seed}: {min(at)} to {max(at)}"
        for seed, at in sorted(seeds.items(), key=lambda item: seed_order(item[0]))[:4]
    ]
    return f"no two seeds share a step, so there is nothing to compare ({'; '.join(described)})"
