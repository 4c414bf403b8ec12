"""Apply options of the command line to a study file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from engine.errors import ConfigError
from engine.study_file.file import StudyFile
from engine.study_file.section import Section, in_our_words

_AnySection = TypeVar("_AnySection", bound=Section)


def with_limits(study: StudyFile, **options: Any) -> StudyFile:
    """Return the study with other limits, by field; None changes nothing. Raise ConfigError."""
    given = {name: value for name, value in options.items() if value is not None}
    return study.model_copy(update={"limits": _changed(study.limits, given)})


def with_device(study: StudyFile, device: str) -> StudyFile:
    """Return the study with another `scoring.device`. Raise ConfigError."""
    scoring = _changed(study.scoring, {"device": device})
    return study.model_copy(update={"scoring": scoring})


def _changed(section: _AnySection, given: Mapping[str, Any]) -> _AnySection:
    """Return the section with other values. Raise ConfigError that names the option at fault."""
    try:
        return type(section).model_validate({**section.model_dump(), **given})
    except ValidationError as error:
        finding = error.errors()[0]
        name = str(finding["loc"][0])
        option = f"--{name.replace('_', '-')}"
        raise ConfigError(f"{option}: {in_our_words(finding)}, found {given[name]!r}") from None
