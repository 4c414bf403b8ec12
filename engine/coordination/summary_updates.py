"""Keeps the summaries of a study up to date: by the levels of every category, as results come.

A step is summarised from its own per-token results alone, however many came before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.categories.partition import surprisal_category
from engine.coordination.session import Session
from engine.study_file.categories_section import CategoriesSection
from store import DamagedError, ModelLedger
from store.analysis import summarise
from store.schema import CONTEXT, Category
from store.writing import StudyWriter

_SURPRISAL = "surprisal"
_MOVES_AFTER = 2.0  # times the step of reference: each step is summarised anew a few times at most


class Summaries:
    """Summarises what is reduced; what is up to date is left alone, so it may be asked often."""

    def __init__(
        self,
        settings: CategoriesSection,
        categories: Sequence[Category],
        context: NDArray[np.int64],
        writer: StudyWriter,
        session: Session,
        check_stop: Callable[[], None],
    ) -> None:
        """`categories` are those of the corpus; `context` is as `context_targets` returns it."""
        self._settings, self._context = settings, context
        self._writer, self._session, self._check_stop = writer, session, check_stop
        self._study = writer.study()
        self._corpus = {category.name: category for category in categories}
        self._own: dict[str, dict[str, Category]] = {}  # by model
        self._reported: set[tuple[str, int]] = set()  # damaged, and reported so
        self.failed: list[str] = []  # steps that cannot be summarised, and why

    def start(self) -> None:
        """Keep the categories of the corpus, and summarise what was left or is new.

        Called in each session: of what the last one was about to keep, the store may have a part.
        """
        self._own.clear()
        for category in self._corpus.values():
            self._writer.summaries.set_category(category)
        self.catch_up()

    def update(self, model: str, step: int) -> None:
        """Summarise a step that was reduced just now."""
        self._study.refresh()
        known = self._study.ledger(model)
        wanted = self._reference(known)
        before = self._step_of(model, known)
        if wanted is not None and (before is None or wanted >= _MOVES_AFTER * before):
            self._move(model, wanted)
        self._summarise(model, step)

    def catch_up(self, *, exactly: bool = False) -> None:
        """Summarise all that is not; `exactly`: by surprisals at the newest step there is."""
        self._study.refresh()
        for model in self._study.models:
            known = self._study.ledger(model)
            wanted, before = self._reference(known), self._step_of(model, known)
            if wanted is not None and (exactly or before is None or self._settings_changed(before)):
                self._move(model, wanted)
            self._summarise_all(model)

    # -- the step that surprisals are taken at ---------------------------------------------------

    def _reference(self, known: ModelLedger) -> int | None:
        """Where `surprisal` should be taken: as set, or the newest step that all seeds reached."""
        if _SURPRISAL not in self._settings.include or not known.reduced:
            return None
        if isinstance(self._settings.surprisal_step, int):
            step = self._settings.surprisal_step
            return step if step in known.reduced else None
        most = max(map(len, known.reduced.values()))
        return max(step for step, seeds in known.reduced.items() if len(seeds) == most)

    def _settings_changed(self, before: int) -> bool:
        return isinstance(self._settings.surprisal_step, int) and (
            self._settings.surprisal_step != before
        )

    def _step_of(self, model: str, known: ModelLedger) -> int | None:
        partition = known.categories.get(_SURPRISAL)
        if partition is not None and model not in self._own:  # kept by an earlier session
            try:
                self._own[model] = {
                    name: self._study.own_category(name, model) for name in known.categories
                }
            except DamagedError as error:
                self._make_anew(model, error)
                return None
        return None if partition is None else partition.step

    def _make_anew(self, model: str, error: DamagedError) -> None:
        """Take back the model's own categories, of which one is damaged."""
        text = f"{model}: {error}; the levels of surprisal are made anew"
        self._session.say("warning", "damaged", text, model=model)
        for name in tuple(self._study.own_categories(model)):
            self._writer.summaries.drop_category(name, model)
        self._study.refresh()

    def _move(self, model: str, step: int) -> None:
        """Part the tokens by their surprisal at `step`, and summarise all steps by that."""
        known = self._study.ledger(model)
        seeds = sorted(known.reduced[step])
        total = np.zeros(self._study.n_tokens)
        try:
            for seed in seeds:
                total += self._study.values(model, _SURPRISAL, seed, step)
        except DamagedError as error:
            self._report_damaged(model, step, error)
            return
        names = [_SURPRISAL, _SURPRISAL + CONTEXT] if self._settings.context else [_SURPRISAL]
        made = {}
        for name in names:
            context = self._context if name.endswith(CONTEXT) else None
            made[name] = surprisal_category(name, total / len(seeds), step, context)
        self._own[model] = made
        before = [found.digest for found in known.categories.values()]
        if all(category.digest in before for category in made.values()):
            return
        for category in made.values():
            self._writer.summaries.set_category(category, model, step)
        self._study.refresh()
        text = f"{model}: levels of surprisal are those of step {step} now"
        self._session.say("info", "reference", text, model=model, step=step)
        self._summarise_all(model)

    # -- summarising -----------------------------------------------------------------------------

    def _summarise_all(self, model: str) -> None:
        steps = [step for step in self._study.ledger(model).reduced if self._lacking(model, step)]
        if len(steps) > 1:
            text = f"{model}: summarising {len(steps)} steps"
            self._session.say("info", "summarising", text, model=model, steps=len(steps))
        for step in sorted(steps):
            self._check_stop()
            self._summarise(model, step)

    def _summarise(self, model: str, step: int) -> None:
        seeds = sorted(self._study.ledger(model).reduced.get(step, ()))
        lacking = self._lacking(model, step)
        if not seeds or not lacking:
            return
        try:
            token_kl, levels = summarise(self._study, model, step, seeds, lacking)
            self._writer.summaries.summarise(model, step, seeds, token_kl, levels)
        except DamagedError as error:
            self._report_damaged(model, step, error)
        self._study.refresh()

    def _lacking(self, model: str, step: int) -> list[Category]:
        """Categories by which the step is not summarised, of all seeds that are reduced there."""
        known = self._study.ledger(model)
        summary, there = known.summaries.get(step), list(self._categories(model))
        if summary is None or summary.seeds != known.reduced.get(step):
            return there
        return [c for c in there if summary.categories.get(c.name) != c.digest]

    def _categories(self, model: str) -> Iterator[Category]:
        yield from self._corpus.values()
        yield from self._own.get(model, {}).values()

    def _report_damaged(self, model: str, step: int, error: DamagedError) -> None:
        if (model, step) not in self._reported:
            self._reported.add((model, step))
            text = (
                f"{model}, step {step}: cannot be summarised: {error}; "
                f"`seedconv verify {self._study.path} --mend` has it computed again"
            )
            self.failed.append(text)
            self._session.say("error", "damaged", text, model=model, step=step)
