"""Asking one live checkpoint of a pass the study's probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from engine.probes.answers import ask_each, captured_probe
from engine.probes.questions import Questions
from engine.scoring.captured_seed import CapturedSeed
from engine.scoring.passes import Live
from engine.scoring.scorer import Scorer
from engine.workers.messages import Outcome
from store import ModelLedger
from store.schema import ProbeValues, State, Work


def ask_live(
    outcome: Outcome,
    scorer: Scorer,
    entry: Live,
    probes: Sequence[Questions],
    work: Work,
    report: Callable[[Work], None],
    where: str,
) -> tuple[Outcome, list[str]]:
    """Add to an outcome what a seed answers, and what went wrong; and return what to note of it.

    `work` is the pass that `report` hears of, `where` names the checkpoint.
    """

    def progress(probe: str, done: int, total: int) -> None:
        doing = replace(work, state=State.SCORING, probe=probe)
        report(replace(doing, tokens_done=done, tokens_total=total))

    asked = entry.seed if isinstance(entry.seed, CapturedSeed) else entry.seed.model
    answers = ask_each(scorer, asked, probes, progress)
    digests = {questions.probe.name: questions.probe.digest for questions in probes}
    values = tuple(
        ProbeValues(name, digests[name], entry.label, found)
        for name, found in answers.values.items()
    )
    unprobed = tuple(
        (name, f"{where}: {why}", passing) for name, (why, passing) in answers.failures.items()
    )
    return replace(outcome, probes=values, unprobed=unprobed), answers.notes


def of_capture(
    entry: Live, step: int, probes: Mapping[str, Questions], known: ModelLedger
) -> list[Questions]:
    """Return the probes to which a captured checkpoint has answers that are not stored yet."""
    if not isinstance(entry.seed, CapturedSeed):
        return []
    names = known.unasked((entry.label, step), probes)
    return [probes[n] for n in names if captured_probe(entry.seed, probes[n]) is not None]
