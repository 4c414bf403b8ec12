"""The `[study]` section of the study file: what the study is called, and where it is kept."""

from __future__ import annotations

from pydantic import Field

from engine.study_file.section import Section


class StudySection(Section):
    """What the study is called and where its results go."""

    name: str = Field(min_length=1)
    store: str = Field(min_length=1)
    learning_rate: str | None = Field(default=None, min_length=1)  # a CSV of the schedule
