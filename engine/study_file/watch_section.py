"""The `[watch]` section of the study file: how checkpoints are waited for, and in what order."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.study_file.section import Section

Seconds = Annotated[float, Field(gt=0, le=1e6)]  # no clock waits for ever


class WatchSection(Section):
    """How `seedconv watch` looks for checkpoints. `run` takes `announcements` alone."""

    order: Literal["newest", "oldest"] = "newest"  # of what there is to do
    settle_seconds: Seconds = 3.0  # a folder that does not say it is finished must rest so long
    poll_seconds: Seconds = 2.0  # between two looks into the folders while there is nothing to do
    hub_poll_seconds: Seconds = 300.0  # between two looks at the hub
    announcements: str | None = None  # a folder; None: next to the store
