"""Makes the summaries of steps by the levels of every category, and commits several at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from engine.coordination.session import Session
from store import DamagedError
from store.analysis import summarise
from store.schema import Category
from store.writing import StepSummary, StudyWriter

_MOST_STEPS = 16  # in one commit: a chunk of the widest summaries by level holds this many
_MOST_BYTES = 2**26  # of summaries that wait for their commit


class StepSummaries:
    """A step is summarised from its own per-token results alone, however many came before."""

    def __init__(
        self,
        writer: StudyWriter,
        session: Session,
        categories: Callable[[str], Iterable[Category]],
        check_stop: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """Take `categories`, which returns those that a model's steps are to be summarised by."""
        self._writer, self._session, self._categories = writer, session, categories
        self._check_stop, self._clock = check_stop, clock
        self._study = writer.study()
        self._reported: set[tuple[str, int]] = set()  # damaged, and reported so
        self.failed: list[str] = []  # steps that cannot be summarised, and why

    def all_lacking(self, model: str) -> list[int]:
        """Return the steps that are reduced and not summarised by all categories, ascending."""
        self._study.refresh()
        steps = self._study.ledger(model).reduced
        return sorted(step for step in steps if self._lacking(model, step))

    def _lacking(self, model: str, step: int) -> list[Category]:
        """Return those by which the step is not summarised, of all seeds that are reduced there."""
        known = self._study.ledger(model)
        summary, there = known.summaries.get(step), list(self._categories(model))
        if summary is None or summary.seeds != known.reduced.get(step):
            return there
        return [c for c in there if summary.categories.get(c.name) != c.digest]

    def make(self, model: str, steps: Sequence[int], until: float) -> int:
        """Summarise the first of these steps in one commit; return how many.

        As many as there is time for, one at least, and no more than memory and chunks suggest.
        Those that are damaged count. Raise Interrupted when asked to stop, OSError.
        """
        self._study.refresh()
        made: list[StepSummary] = []
        taken = 0
        for step in steps:
            self._check_stop()
            if found := self._summarise(model, step):
                made.append(found)
            taken += 1
            full = len(made) >= _MOST_STEPS or sum(one.n_bytes for one in made) >= _MOST_BYTES
            if full or self._clock() >= until:
                break
        self._commit(model, made)
        self._study.refresh()
        return taken

    def _summarise(self, model: str, step: int) -> StepSummary | None:
        """Return what a step comes to; None where there is nothing to do, or it is damaged."""
        seeds = sorted(self._study.ledger(model).reduced.get(step, ()))
        lacking = self._lacking(model, step)
        if not seeds or not lacking:
            return None
        try:
            made = summarise(self._study, model, step, seeds, lacking)
        except DamagedError as error:
            self.report_damaged(model, step, error)
            return None
        return StepSummary(step, tuple(seeds), *made)

    def _commit(self, model: str, made: Sequence[StepSummary]) -> None:
        """Commit summaries; those whose place is damaged are left, and reported."""
        if not made:
            return
        try:
            self._writer.summaries.summarise_steps(model, made)
        except DamagedError as error:
            if len(made) == 1:
                self.report_damaged(model, made[0].step, error)
                return
            for one in made:  # some may lie in other chunks
                self._commit(model, [one])

    def report_damaged(self, model: str, step: int, error: DamagedError) -> None:
        """Report, once, that a step cannot be summarised."""
        if (model, step) not in self._reported:
            self._reported.add((model, step))
            text = (
                f"{model}, step {step:,}: cannot be summarised: {error}; "
                f"`seedconv verify {self._study.path} --mend` has it computed again"
            )
            self.failed.append(text)
            self._session.say("error", "damaged", text, model=model, step=step)
