"""The `[study]` section of the study file: what the study is called, and where it is kept."""

from __future__ import annotations

from pydantic import Field

from engine.study_file.section import Section


class StudySection(Section):
    """The name of the study, and where its results go."""

    name: str = Field(min_length=1)
    """name of the study, shown in the monitor and in messages"""
    store: str = Field(min_length=1)
    """folder of the results, created by the first run"""
    learning_rate: str | None = Field(default=None, min_length=1)
    """CSV of the learning-rate schedule, columns `step,learning_rate[,model]`; `report` draws it"""
