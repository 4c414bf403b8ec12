"""The parts of a study that can be damaged, and the damage found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Part(StrEnum):
    """A part of a study that was checked."""

    STUDY = "study"  # its own attributes and the commit log
    CORPUS = "corpus"
    METADATA = "metadata"  # of a model's arrays and groups
    COORDINATES = "coordinates"
    RESULTS = "results"  # per token, of one checkpoint
    LOG_PROBS = "log_probs"  # of one checkpoint
    PAIRS = "pairs"  # divergences per token, of one step
    MEANS = "means"
    CATEGORY = "category"  # which level each token is in
    SUMMARY = "summary"  # by level, of one step
    PROBE = "probe"  # its items, or what one checkpoint says of them


@dataclass(frozen=True)
class Damage:
    """One thing that is not as it was committed."""

    part: Part
    path: str  # below the study's folder
    message: str  # one line; may hold names from outside
    model: str | None = None
    seed: str | None = None
    step: int | None = None
    other_seed: str | None = None
