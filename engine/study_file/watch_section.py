"""The `[watch]` section of the study file: how checkpoints are waited for, and in what order."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from engine.study_file.section import Section

Seconds = Annotated[float, Field(gt=0, le=1e6)]  # no clock waits for ever


class WatchSection(Section):
    """How `seedconv watch` looks for checkpoints. `run` uses only `announcements`."""

    order: Literal["newest", "oldest"] = "newest"
    """which step `watch` takes first; `run` takes the oldest"""
    settle_seconds: Seconds = 3.0
    """how long a folder without `trainer_state.json` must stay unchanged, s; on NFS longer than
    its attributes are cached, such as 60
    """
    poll_seconds: Seconds = 2.0
    """time between two looks into the folders, s"""
    hub_poll_seconds: Seconds = 300.0
    """time between two looks at the Hub, s"""
    announcements: str | None = None
    """folder in which training scripts announce checkpoints; next to the store if left out:
    `study-announced`
    """
