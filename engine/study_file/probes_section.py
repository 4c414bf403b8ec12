"""The `[[probes]]` sections of the study file: what is asked of checkpoints beside the corpus."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from engine.study_file.section import Section


@dataclass(frozen=True)
class _Kind:
    """What a kind of probe asks of its section."""

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
        ("separator", "documents", "positions", "contexts"),
        needs_causal="the loss given what stands before a token",
    ),
}

if TYPE_CHECKING:
    Kind = str
else:  # pydantic lists them when it is another
    Kind = Literal[tuple(_KINDS)]

Places = Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)]


class ProbeSection(Section):
    """One probe: minimal pairs, or long documents in which learning in context shows."""

    name: str = Field(min_length=1, max_length=60)
    kind: Kind
    folder: str | None = None  # of BLiMP's JSON lines, a file for each paradigm
    per_task: int | None = Field(default=None, ge=1)  # pairs, the first of each paradigm; None: all
    files: list[str] | None = Field(default=None, min_length=1)  # long documents
    separator: str = ""  # "" makes each file one document
    documents: int = Field(default=500, ge=1)  # at most, the first that are long enough
    positions: Places = [50, 500]  # loss at the earlier and the later token of a document
    contexts: Places = [50, 400]  # tokens before one and the same token

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
                    raise ValueError(f'{field}: says nothing where kind = "{self.kind}"')
        return self


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
