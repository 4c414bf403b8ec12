"""Select a part of a study, by model, category and step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from seedconv_tui.tables.step_ranges import Steps
from store import StoreError, Study, UnsupportedError
from store.words import quoted

_LISTED = 40  # levels that are named


class ChoiceError(UnsupportedError):
    """Something was chosen that the study does not have. One line that says what there is."""


@dataclass(frozen=True)
class Choice:
    """The wanted part of a study. None: everything, or what the table says."""

    models: Sequence[str] | None = None
    categories: Sequence[str] | None = None
    steps: Steps | None = None
    count: int | None = None  # tokens of each kind, for `extremes`
    levels: Sequence[str] | None = None  # labels, of whichever of the categories has them
    band: str | None = None  # one of `STEP_BANDS`, for curves


def chosen_models(study: Study, choice: Choice) -> tuple[str, ...]:
    """Return the chosen models, in the study's order. Raise ChoiceError."""
    if unknown := [name for name in choice.models or () if name not in study.models]:
        names = ", ".join(study.models) or "none yet"
        raise ChoiceError(f"{study.path}: no model {unknown[0]!r}; it has: {names}")
    return tuple(name for name in study.models if choice.models is None or name in choice.models)


def chosen_categories(
    study: Study, choice: Choice, default: Callable[[str], bool] = lambda name: True
) -> dict[str, tuple[str, ...]]:
    """Return the chosen categories of each chosen model; where none is, what `default` takes.

    Where levels are chosen, the default is every category, and those that have none of these levels
    are left out. Raise ChoiceError for a category, or a level, that none of these models has.
    """
    there = {model: study.categories(model) for model in chosen_models(study, choice)}
    names = list(dict.fromkeys(name for of in there.values() for name in of))
    if unknown := [name for name in choice.categories or () if name not in names]:
        raise ChoiceError(
            f"{study.path}: no category {unknown[0]!r}; it has: {', '.join(names) or 'none yet'}"
        )
    if choice.categories is not None:
        default = choice.categories.__contains__
    elif choice.levels is not None:
        default = bool
    wanted = {model: tuple(filter(default, of)) for model, of in there.items()}
    return wanted if choice.levels is None else _with_levels(study, wanted, choice.levels)


def _with_levels(
    study: Study, wanted: Mapping[str, Sequence[str]], levels: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    labels = {
        (model, name): study.category(model, name).labels
        for model, of in wanted.items()
        for name in of
    }
    there = list(dict.fromkeys(label for of in labels.values() for label in of))
    if unknown := [level for level in levels if level not in there]:
        few = ", ".join(map(quoted, there[:_LISTED])) + ", ..." * (len(there) > _LISTED)
        raise ChoiceError(f"{study.path}: no level {unknown[0]!r}; there are: {few or 'none yet'}")
    return {
        model: tuple(name for name in of if not set(levels).isdisjoint(labels[model, name]))
        for model, of in wanted.items()
    }


def chosen_steps(
    study: Study,
    choice: Choice,
    there: Callable[[str], Sequence[int]],
    what: str = "summarised",
    *,
    newest: bool = False,
) -> dict[str, list[int]]:
    """Return the chosen steps of each chosen model, ascending; if none, all or the newest.

    `there` gives those of a model that can be chosen, `what` says which they are. Raises
    ChoiceError for one that none of these models has.
    """
    steps = {model: sorted(there(model)) for model in chosen_models(study, choice)}
    if choice.steps is None:
        return {model: of[-1:] if newest else of for model, of in steps.items()}
    known = sorted({step for of in steps.values() for step in of})
    unknown = sorted((choice.steps.named or frozenset()).difference(known))
    if unknown or not any(map(choice.steps, known)):
        which = f"step {unknown[0]} is not" if unknown else "none of these steps is"
        raise ChoiceError(f"{study.path}: {which} {what}; those that are: {_listed(known)}")
    return {model: list(filter(choice.steps, of)) for model, of in steps.items()}


def _listed(steps: Sequence[int]) -> str:
    if len(steps) > 20:
        few = [*steps[:8], "...", *steps[-3:]]
        return ", ".join(map(str, few)) + f" ({len(steps)} in all)"
    return ", ".join(map(str, steps)) or "none yet"


def summarised(study: Study) -> Callable[[str], Sequence[int]]:
    """Return what lists the steps of a model that are summarised."""
    return lambda model: tuple(study.ledger(model).summaries)


def check(study: Study, model: str, step: int | None, category: str) -> None:
    """Raise ChoiceError where the study has no such model, or the model no such step or category.

    The step need not be summarised.
    """
    chosen_models(study, Choice(models=[model]))
    steps = sorted(study.ledger(model).steps)
    if step is not None and step not in steps:
        raise ChoiceError(f"{study.path}: {model} has no step {step}; it has: {_listed(steps)}")
    if category not in study.categories(model):
        there = ", ".join(study.categories(model)) or "none yet"
        raise ChoiceError(f"{study.path}: {model} has no category {category!r}; it has: {there}")


def newest_common(study: Study, models: Sequence[str]) -> int:
    """Return the newest step that all these models have. Raise ChoiceError, StoreError."""
    from store.analysis import common_steps

    chosen_models(study, Choice(models=models))
    steps = common_steps(study, models)
    if not steps:
        names = ", ".join(models) or "no models"
        raise StoreError(f"{study.path}: no step at which all of {names} are summarised")
    return steps[-1]
