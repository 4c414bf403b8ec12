"""Keeps the summaries of a study up to date: by the levels of every category, as results come.

A step that was just reduced is summarised at once. All else waits, as when a category is new or the
levels of surprisal move on: it is done in slices, between passes and while there are none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from engine.categories.groups import grouped
from engine.categories.partition import MEAN_OVER_SEEDS, surprisal_category
from engine.coordination.board import ProgressBoard
from engine.coordination.session import Session
from engine.coordination.step_summaries import StepSummaries
from engine.study_file.categories_section import CategoriesSection
from store import DamagedError, ModelLedger
from store.schema import CONTEXT, Category
from store.words import counted
from store.writing import StudyWriter

_SURPRISAL = "surprisal"
_MOVES_AFTER = 2.0  # times the step of reference: each step is summarised again a few times at most
_SHARE = 0.1  # of the time that passes take: what slices between them may take
_SLICE_SECONDS = 2.0  # no slice begins another step after that, or is saved up for longer


class Summaries:
    """Summarises compared steps; skips what is up to date, so it may be asked often."""

    def __init__(
        self,
        settings: CategoriesSection,
        categories: Sequence[Category],
        context: NDArray[np.int64],
        writer: StudyWriter,
        session: Session,
        board: ProgressBoard,
        clock: Callable[[], float],
    ) -> None:
        """`categories` are those of the corpus; `context` is as `context_targets` returns it."""
        self._settings, self._context = settings, context
        self._writer, self._session, self._board, self._clock = writer, session, board, clock
        self._study = writer.study()
        self._corpus = {category.name: category for category in categories}
        self._own: dict[str, dict[str, Category]] = {}  # by model
        self._steps = StepSummaries(writer, session, self._categories, board.check_stop, clock)
        self._waiting: dict[str, list[int]] = {}  # steps by model, newest first
        self._done = 0  # of those that waited
        self._since = 0.0  # when the last pass, or slice after it, ended
        self._allowance = 0.0  # seconds that slices may take by now

    @property
    def failed(self) -> Sequence[str]:
        """Steps that cannot be summarised, and why, a line each."""
        return self._steps.failed

    @property
    def waiting(self) -> bool:
        """Return whether steps wait to be summarised."""
        return bool(self._waiting)

    def start(self) -> None:
        """Keep the categories of the corpus, and find what was left or is new.

        Called in each session: of what the last one was about to keep, the store may have a part.
        """
        self._own.clear()
        self._waiting.clear()
        self._since, self._allowance = self._clock(), 0.0
        for category in self._corpus.values():
            self._writer.summaries.set_category(category)
        self._find_waiting(exactly=False)

    def update(self, model: str, step: int) -> None:
        """Summarise a step that was reduced just now."""
        self._study.refresh()
        known = self._study.ledger(model)
        wanted = self._reference(known)
        before = self._step_of(model, known)
        if wanted is not None and (before is None or wanted >= _MOVES_AFTER * before):
            self._move(model, wanted)
            lacking = self._steps.all_lacking(model)
            self._expect(model, [other for other in lacking if other != step])
        self._steps.make(model, [step], self._clock())
        self._study.refresh()

    def begin_passes(self) -> None:
        """Take note that passes begin, or go on after a wait, which earns slices nothing."""
        self._since = self._clock()

    def in_between(self) -> None:
        """Summarise some of what waits, after a pass: for a tenth of the time passes took."""
        earned = _SHARE * (self._clock() - self._since)
        self._allowance = min(self._allowance + earned, _SLICE_SECONDS)
        if self._waiting and self._allowance >= 0:
            before = self._clock()
            self.do_some(self._allowance)
            self._allowance -= self._clock() - before
        self._since = self._clock()

    def do_some(self, seconds: float) -> None:
        """Summarise a step that waits, and more of its model for so long, in one commit.

        Raise Interrupted when asked to stop, OSError when it cannot be written.
        """
        model, steps = next(iter(self._waiting.items()))
        taken = self._steps.make(model, steps, self._clock() + min(seconds, _SLICE_SECONDS))
        self._done += taken
        self._set_waiting(model, steps[taken:])

    def finish(self) -> None:
        """Summarise everything that is not, by surprisals at the newest step there is."""
        self._find_waiting(exactly=True)
        if self._waiting:
            self._board.rest("working")
        while self._waiting:
            self.do_some(_SLICE_SECONDS)

    # -- what waits ------------------------------------------------------------------------------

    def _find_waiting(self, *, exactly: bool) -> None:
        self._study.refresh()
        for model in self._study.models:
            known = self._study.ledger(model)
            wanted, before = self._reference(known), self._step_of(model, known)
            if exactly and wanted is None:
                self._warn_of_reference(model, known)
            if wanted is not None and (
                exactly or before is None or self._settings_changed(model, before)
            ):
                self._move(model, wanted)
            elif before is not None:
                self._regroup(model, before)
            self._expect(model, self._steps.all_lacking(model))

    def _warn_of_reference(self, model: str, known: ModelLedger) -> None:
        """Say why there are no levels of surprisal, or none at the step and seed that are set."""
        if _SURPRISAL not in self._settings.include or not known.reduced:
            return
        seed, step = self._settings.surprisal_seed, self._settings.surprisal_step
        if seed is not None and seed not in set().union(*known.reduced.values()):
            why = f"no compared step has seed {seed} of categories.surprisal_seed"
        elif step not in known.reduced:
            why = f"step {step} of categories.surprisal_step is not compared"
        else:
            why = f"step {step} of categories.surprisal_step lacks seed {seed}"
        text = f"{model}: {why}; levels of surprisal stay unchanged"
        self._session.say("warning", "reference", text, model=model)

    def _expect(self, model: str, steps: Sequence[int]) -> None:
        """Take note of all steps of a model that wait now, and say so when there are more."""
        if set(steps) <= set(self._waiting.get(model, ())):
            self._set_waiting(model, sorted(steps, reverse=True))
            return
        if len(steps) > 1:
            text = f"{model}: summarising {counted(len(steps), 'step')}"
            self._session.say("info", "summarising", text, model=model, steps=len(steps))
        self._done = 0
        self._set_waiting(model, sorted(steps, reverse=True))

    def _set_waiting(self, model: str, steps: Sequence[int]) -> None:
        self._waiting.pop(model, None)
        if steps:
            self._waiting[model] = list(steps)
        left = sum(map(len, self._waiting.values()))
        done, total = (self._done, self._done + left) if left else (0, 0)
        if (done, total) != (self._session.status.summarised, self._session.status.to_summarise):
            self._session.show(summarised=done, to_summarise=total)

    # -- the step that surprisals are taken at ---------------------------------------------------

    def _reference(self, known: ModelLedger) -> int | None:
        """Return the step of `surprisal`: as set, or the newest step that all seeds reached."""
        if _SURPRISAL not in self._settings.include or not known.reduced:
            return None
        seed = self._settings.surprisal_seed
        there = {
            step: seeds for step, seeds in known.reduced.items() if seed is None or seed in seeds
        }
        if isinstance(self._settings.surprisal_step, int):
            step = self._settings.surprisal_step
            return step if step in there else None
        most = max(map(len, there.values()), default=0)
        return max((step for step, seeds in there.items() if len(seeds) == most), default=None)

    @property
    def _whose_seeds(self) -> str:
        seed = self._settings.surprisal_seed
        return MEAN_OVER_SEEDS if seed is None else f"seed {seed}"

    def _settings_changed(self, model: str, before: int) -> bool:
        step = self._settings.surprisal_step
        if isinstance(step, int) and step != before:
            return True
        ending = f"{self._whose_seeds} at step {before}"
        return not self._own[model][_SURPRISAL].description.endswith(ending)

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
        """Take back the model's own categories, because one is damaged."""
        text = f"{model}: {error}; computing the levels of surprisal again"
        self._session.say("warning", "damaged", text, model=model)
        for name in tuple(self._study.own_categories(model)):
            self._writer.summaries.drop_category(name, model)
        self._study.refresh()

    def _move(self, model: str, step: int) -> None:
        """Part the tokens by their surprisal at `step`; no step is summarised by that yet."""
        known = self._study.ledger(model)
        one = self._settings.surprisal_seed
        seeds = sorted(known.reduced[step]) if one is None else [one]
        total = np.zeros(self._study.n_tokens)
        try:
            for seed in seeds:
                total += self._study.values(model, _SURPRISAL, seed, step)
        except DamagedError as error:
            self._steps.report_damaged(model, step, error)
            return
        names = [_SURPRISAL, _SURPRISAL + CONTEXT] if self._settings.context else [_SURPRISAL]
        made = {}
        for name in names:
            context = self._context if name.endswith(CONTEXT) else None
            mean = total / len(seeds)
            made[name] = surprisal_category(name, mean, step, context, self._whose_seeds)
        self._own[model] = made = self._with_groups(made)
        before = [found.digest for found in known.categories.values()]
        if all(category.digest in before for category in made.values()):
            return
        for category in made.values():
            self._writer.summaries.set_category(category, model, step)
        self._study.refresh()
        text = f"{model}: levels of surprisal now use step {step:,}"
        self._session.say("info", "reference", text, model=model, step=step)

    def _with_groups(self, made: dict[str, Category]) -> dict[str, Category]:
        """Return surprisals' levels with what the study file groups them to."""
        groups = [group for group in self._settings.groups if group.of == _SURPRISAL]
        found = [grouped(category, group) for group in groups for category in made.values()]
        return made | {category.name: category for category in found}

    def _regroup(self, model: str, step: int) -> None:
        """Keep the groups of surprisals' levels as the study file has them by now."""
        own = self._own[model]
        names = [name for name in (_SURPRISAL, _SURPRISAL + CONTEXT) if name in own]
        self._own[model] = self._with_groups({name: own[name] for name in names})
        for category in self._own[model].values():
            self._writer.summaries.set_category(category, model, step)
        self._study.refresh()

    def _categories(self, model: str) -> Iterator[Category]:
        yield from self._corpus.values()
        yield from self._own.get(model, {}).values()
