"""The `[[probes]]` sections of the study file: questions to checkpoints besides the corpus."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.study_file.section import Section


@dataclass(frozen=True)
class _Kind:
    """The fields of a kind of probe."""

    needed: str  # the field without which there is nothing to ask
    others: tuple[str, ...]  # fields that say something
    needs_causal: str = ""  # why it needs a causal model; empty: it does not

    @property
    def fields(self) -> tuple[str, ...]:
        """Return the names of all fields that say something."""
        return (self.needed, *self.others)


_KINDS = {
    "blimp": _Kind("folder", ("per_task",)),
    "icl": _Kind(
        "files",
        ("separator", "documents", "icl", "positions", "contexts", "token", "first_token"),
        needs_causal="the loss given what stands before a token",
    ),
}

if TYPE_CHECKING:
    Kind = str
else:  # pydantic lists them when it is another
    Kind = Literal[tuple(_KINDS)]


@dataclass(frozen=True)
class IclPlaces:
    """The positions to predict in a long document, counted from 1, and their contexts."""

    positions: tuple[int, int]  # the earlier and the later one, each with all of its context
    contexts: tuple[int, int]  # tokens shown before `token`, the fewer and the more
    token: int
    first_token: bool  # whether what `tokenizer.bos` says stands before the contexts as well

    @property
    def variants(self) -> tuple[str, str, str, str]:
        """Return what each loss is called: positions, then contexts."""
        (early, late), (less, more) = self.positions, self.contexts
        of = "" if self.token == more + 1 else f"of {self.token} "
        only = "" if self.first_token else "only "
        with_less, with_more = (f"loss {of}with {only}{n}" for n in (less, more))
        return f"loss at {early}", f"loss at {late}", with_less, with_more


_ICL = {"paper": IclPlaces((51, 501), (51, 401), 501, first_token=False)}
"""Presets of `icl`: what a paper's scripts compute."""

if TYPE_CHECKING:
    IclPreset = str
else:
    IclPreset = Literal[tuple(_ICL)]

Places = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]


class ProbeSection(Section):
    """One probe: minimal pairs, or long documents in which learning in context shows."""

    name: str = Field(min_length=1, max_length=60)
    """name of the probe"""
    kind: Kind
    """minimal pairs (`"blimp"`), or in-context learning (`"icl"`)"""
    folder: str | None = None
    """of `blimp`: folder of BLiMP's JSON lines, a file for each paradigm"""
    per_task: int | None = Field(default=None, ge=1)
    """of `blimp`: pairs of each paradigm, the first ones; all if left out"""
    files: list[str] | None = Field(default=None, min_length=1)
    """of `icl`: long documents; patterns allowed"""
    separator: str = ""
    """of `icl`: text between documents; `""` makes each file one document"""
    documents: int = Field(default=500, ge=1)
    """of `icl`: documents to use at most, the first that are long enough"""
    positions: Places = [50, 500]
    """of `icl`: the earlier and the later token of a document whose losses are compared"""
    contexts: Places = [50, 400]
    """of `icl`: the shorter and the longer context of one token whose losses are compared"""
    token: int | None = Field(default=None, ge=2)
    """of `icl`: that token; the first that has the longer context if left out"""
    first_token: bool = True
    """of `icl`: whether the contexts begin with what `tokenizer.bos` says"""
    icl: IclPreset | None = None
    """of `icl`: `positions`, `contexts`, `token` and `first_token` as in the paper's scripts"""

    @field_validator("name")
    @classmethod
    def _name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
            raise ValueError("should be of letters, digits, _ and -")
        return name

    @field_validator("positions", "contexts")
    @classmethod
    def _ascending(cls, places: list[int]) -> list[int]:
        if places[0] >= places[1]:
            raise ValueError("should be the smaller number and the larger one")
        return places

    @model_validator(mode="after")
    def _fields(self) -> Self:
        needed = _KINDS[self.kind].needed
        if not getattr(self, needed):
            raise ValueError(f'{needed}: is required where kind = "{self.kind}"')
        for kind in _KINDS.values():
            for field in kind.fields:
                if field in self.model_fields_set - set(_KINDS[self.kind].fields):
                    raise ValueError(f'{field}: has no effect with kind = "{self.kind}"')
        for field in ("positions", "contexts", "token", "first_token") if self.icl else ():
            if field in self.model_fields_set:
                raise ValueError(f'{field}: has no effect with icl = "{self.icl}"; leave one out')
        if self.token is not None and self.token <= self.contexts[1]:
            raise ValueError(f"token: should be above {self.contexts[1]}, the longer context")
        return self

    @property
    def places(self) -> IclPlaces:
        """Return which losses long documents are asked for."""
        if self.icl is not None:
            return _ICL[self.icl]
        (early, late), (less, more) = self.positions, self.contexts
        return IclPlaces((early, late), (less, more), self.token or more + 1, self.first_token)


def check_probes(probes: Sequence[ProbeSection], *, causal: bool) -> None:
    """Raise ValueError for probes that do not go together, or not with the models."""
    names = [probe.name.lower() for probe in probes]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"probes: two are named {', '.join(twice)}; names must differ")
    for probe in probes:
        if (why := _KINDS[probe.kind].needs_causal) and not causal:
            raise ValueError(
                f'probe "{probe.name}": kind = "{probe.kind}" is {why}, so it needs '
                'scoring.prediction = "causal"'
            )
