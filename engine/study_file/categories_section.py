"""The `[categories]` section of the study file: how tokens are grouped."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.study_file.models_section import SeedLabel
from engine.study_file.section import Section
from store.schema import ALL, CATEGORIES, CHOSEN_BY_NAME, CONTEXT
from store.words import quoted

if TYPE_CHECKING:
    Partition = str
else:  # pydantic lists them when it is another
    Partition = Literal[CHOSEN_BY_NAME]


def usable_name(name: str) -> str:
    """Return the name of a category of the user's. Raise ValueError."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise ValueError("should be of letters, digits, _ and -")
    if name.lower() in {ALL, *CATEGORIES}:
        raise ValueError("is the name of a built-in category; choose another")
    if name.lower().endswith(CONTEXT):
        raise ValueError(f"must not end in {CONTEXT}, as categories by the token before do")
    return name


class CustomSection(Section):
    """A category of the user's: by a pattern, or by a file of labels."""

    name: str = Field(max_length=60)
    """name of the category: letters, digits, `_` and `-`"""
    pattern: str | None = None
    """regular expression, searched in the text of each token; the levels are match and no match"""
    labels: str | None = None
    """file with a label for each token of the text, a line each; or lines of token id, tab,
    label
    """
    context: bool | None = None
    """also by this category of the token before; as `categories.context` if left out"""

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return usable_name(name)

    @field_validator("pattern")
    @classmethod
    def _pattern(cls, pattern: str | None) -> str | None:
        try:
            with warnings.catch_warnings(action="error"):  # of what will mean something else
                re.compile(pattern or "")
        except (re.error, OverflowError, RecursionError, Warning) as error:
            raise ValueError(f"is not a regular expression: {error}") from None
        return pattern

    @model_validator(mode="after")
    def _one(self) -> Self:
        if bool(self.pattern) == bool(self.labels):
            raise ValueError("should have either pattern or labels")
        return self


class GroupSection(Section):
    """A category whose levels are levels of another one, put together."""

    name: str = Field(max_length=60)
    """name of the category: letters, digits, `_` and `-`"""
    of: str
    """category whose levels are put together"""
    levels: dict[str, list[str]] = Field(min_length=1)
    """name of each level, with the levels of `of` that it takes; `*` and `?` stand for any
    characters
    """
    rest: str = "other"
    """level of all other tokens; `""` leaves them out"""

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        return usable_name(name)

    @model_validator(mode="after")
    def _labels(self) -> Self:
        if not all(label.strip() for label in self.levels):
            raise ValueError("levels: a level should have a name, found an empty one")
        if empty := [label for label, names in self.levels.items() if not names]:
            raise ValueError(f"levels: {quoted(empty[0])} should name a level or more, found []")
        if self.rest in self.levels:
            raise ValueError(f"rest: {quoted(self.rest)} is one of the levels; choose another")
        return self


class CategoriesSection(Section):
    """Grouping of tokens."""

    include: list[Partition] = list(CHOSEN_BY_NAME)
    """built-in categories to compute"""
    context: bool = True
    """also by the category of the token before the target, where that makes sense"""
    tagger: str = Field(default="auto", min_length=1)
    """parts of speech: `"auto"`, spaCy's `en_core_web_sm` if installed, else `"rules"`;
    `"rules"`, built-in, English; or a spaCy pipeline, by name or folder
    """
    surprisal_step: int | Literal["latest"] = "latest"
    """step whose surprisals divide the tokens: the latest that all seeds have reached, or this
    one
    """
    surprisal_seed: SeedLabel | None = None
    """seed whose surprisals divide the tokens; the mean over seeds if left out"""
    custom: list[CustomSection] = []
    """categories of your own, `[[categories.custom]]`"""
    groups: list[GroupSection] = []
    """levels of a category put together, `[[categories.groups]]`"""

    def own_names(self) -> Iterator[str]:
        """Yield the names of the user's categories, and of groups."""
        yield from (custom.name for custom in self.custom)
        yield from (group.name for group in self.groups)

    @field_validator("surprisal_step", mode="before")
    @classmethod
    def _step(cls, value: object) -> object:
        number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if not number and value != "latest":
            raise ValueError('should be "latest" or a step')
        return value

    @model_validator(mode="after")
    def _once(self) -> Self:
        for field, names in (
            ("include", self.include),
            ("custom", [custom.name.lower() for custom in self.custom]),
            ("groups", [name.lower() for name in self.own_names()]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{field}: names {', '.join(twice)} twice")
        return self
