"""The `[corpus]` and `[tokenizer]` sections of the study file: the text, in tokens."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from engine.study_file.categories_section import usable_name
from engine.study_file.section import Section


def field_category(name: str) -> str:
    """Return the name of the category that a field of the documents makes."""
    return name.replace(".", "_")


class CorpusSection(Section):
    """The evaluation text."""

    files: list[str] = Field(min_length=1)
    separator: str = ""  # "" makes each file one document
    fields: list[str] = []  # of JSON lines, in addition to "text": each makes a category
    special_tokens: Literal["tokens", "text"] = "tokens"  # what they are where a text has them
    final_end_of_text: int = Field(default=0, ge=0, le=2)  # how many after the last document
    max_tokens: int | None = Field(default=None, ge=2)
    counts: str | list[str] = "corpus"  # or a .npy file, id -> count, or text files to count in

    @field_validator("fields")
    @classmethod
    def _fields(cls, fields: list[str]) -> list[str]:
        names = [field_category(name) for name in fields]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"names {', '.join(twice)} twice")
        for name, category in zip(fields, names, strict=True):
            try:
                usable_name(category)
            except ValueError as error:
                raise ValueError(f"{name!r} {error}") from None
        return fields

    @field_validator("counts", mode="before")
    @classmethod
    def _counts(cls, value: object) -> object:
        files = [value] if isinstance(value, str) else value
        if not (isinstance(files, list) and files and all(isinstance(f, str) and f for f in files)):
            raise ValueError('should be "corpus", a .npy file or a list of text files')
        if isinstance(value, str) and value != "corpus" and not value.endswith(".npy"):
            raise ValueError('should be "corpus" or end in .npy; text files go in a list')
        return value


class TokenizerSection(Section):
    """The tokenizer that all models of the study share."""

    source: str = Field(min_length=1)  # folder, or name on the hub
    revision: str | None = None
    bos: str = "auto"  # "auto", "none" or a token of the vocabulary
