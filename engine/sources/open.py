"""Opens the source that a study file names for a model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from engine.sources.announcements import Announcements
from engine.sources.base import Source
from engine.sources.captured import CapturedSource
from engine.sources.guarded import GuardedSource
from engine.sources.hub import HubSource
from engine.sources.hub_client import HubClient
from engine.sources.local import LocalSource
from engine.study_file.models_section import ModelSection
from engine.study_file.patterns import CAPTURED, HUB
from engine.study_file.watch_section import WatchSection


def open_source(
    model: ModelSection,
    folder: Path,
    hub: HubClient,
    clock: Callable[[], float] = time.monotonic,
    *,
    watch: WatchSection | None = None,
    announcements: Announcements | None = None,
) -> Source:
    """Open the source of a model; relative paths are below `folder`.

    `watch` and `announcements` are for the process that looks what is there. A checkpoint of it
    that cannot be looked at, whatever the reason, is refused, and raises nothing.
    """
    watch = watch or WatchSection()
    if model.source_kind is HUB:
        return GuardedSource(HubSource(model, hub, clock, watch.hub_poll_seconds))
    if model.source_kind is CAPTURED:
        return GuardedSource(CapturedSource(model, clock, announcements))
    local = LocalSource(
        model, folder, clock, settle_seconds=watch.settle_seconds, announcements=announcements
    )
    return GuardedSource(local)
