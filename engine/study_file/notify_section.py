"""The parts of the study file about whom an engine reports to: `[notify]` and `[scalars]`."""

from __future__ import annotations

import shlex
from typing import Literal, get_args
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, field_validator

from engine.study_file.section import Section, in_our_words
from store.schema import CHARTED

Kind = Literal["phase", "outlier", "failure", "end"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class NotifySection(Section):
    """Where messages go when something happens."""

    command: str | list[str] = []
    """program and arguments that get JSON on stdin; no shell reads them"""
    url: str | None = None
    """address that gets a POST of JSON"""
    format: Literal["json", "text"] = "json"
    """of the POST: a JSON object with a field `text`, or the text only"""
    on: list[Kind] = list(KINDS)
    """which messages are sent"""

    @property
    def argv(self) -> list[str]:
        """Return the program and its arguments; empty: none."""
        return shlex.split(self.command) if isinstance(self.command, str) else list(self.command)

    @field_validator("command", mode="before")
    @classmethod
    def _command(cls, command: object) -> object:
        if isinstance(command, list) and all(isinstance(part, str) for part in command):
            return command
        if not isinstance(command, str):
            raise ValueError("should be a command line, or a list: program, arguments")  # noqa: TRY004
        try:
            shlex.split(command)
        except ValueError as error:
            raise ValueError(f"is not a command line: {str(error).lower()}") from None
        return command

    @field_validator("url")
    @classmethod
    def _url(cls, url: str | None) -> str | None:
        if url is not None and not is_url(url):
            raise ValueError(
                "should start with http:// or https:// and name a host, with no user, no space and "
                "nothing but ASCII in it"
            )
        return url


class ScalarsSection(Section):
    """Where charts of expected KL, KL by level and phase go while they are computed."""

    tensorboard: str | None = Field(default=None, min_length=1)
    """folder of event files for TensorBoard"""
    wandb: str | None = Field(default=None, min_length=1)
    """project of Weights & Biases"""
    trackio: str | None = Field(default=None, min_length=1)
    """project of trackio"""
    categories: list[str] = list(CHARTED)
    """categories whose levels are charted"""


def is_url(text: str) -> bool:
    """Return whether `text` can be posted to."""
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname) and parts.port != 0  # asking for a wrong port raises
    except ValueError:
        return False
    plain = text.isascii() and text.isprintable() and " " not in text and "@" not in parts.netloc
    return parts.scheme in {"http", "https"} and named and plain


def notify_from(target: str) -> NotifySection:
    """Return what `--notify TARGET` asks for: a URL or a command line. Raise ValueError."""
    try:
        section = NotifySection.model_validate({"url" if "://" in target else "command": target})
    except ValidationError as error:
        raise ValueError(in_our_words(error.errors()[0])) from None
    if section.url is None and not section.argv:
        raise ValueError("should be a URL or a command line")
    return section
