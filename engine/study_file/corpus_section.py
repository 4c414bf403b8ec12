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
    """evaluation text in UTF-8; patterns such as `text/*.txt` allowed. Of `.jsonl`, the field
    `text` of each line
    """
    separator: str = ""
    """text between documents; `""` makes each text file one document"""
    fields: list[str] = []
    """of JSON lines: fields that make a category each of the documents' tokens"""
    special_tokens: Literal["tokens", "text"] = "tokens"
    """how to read `<s>` and other special tokens that stand in the text: as tokens, or as plain
    text
    """
    final_end_of_text: int = Field(default=0, ge=0, le=2)
    """end-of-text tokens after the last document; the paper has 2"""
    max_tokens: int | None = Field(default=None, ge=2)
    """use at most this number of tokens of the text; all if left out"""
    counts: str | list[str] = "corpus"
    """reference counts, the frequency of tokens: `"corpus"` counts the text itself; or a `.npy`
    file (id to count); or a list of text files to count
    """

    @field_validator("fields")
    @classmethod
    def _fields(cls, fields: list[str]) -> list[str]:
        if "text" in fields:
            raise ValueError('should not name "text": each document would be a level of its own')
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

    source: str = Field(min_length=1)
    """tokenizer that all checkpoints share: a folder, or a name on the Hugging Face Hub"""
    revision: str | None = None
    """branch, tag or commit of a tokenizer on the Hub; `main` if left out"""
    bos: str = "auto"
    """what stands before the first token: `"auto"`, `"none"` or a token of the vocabulary"""
