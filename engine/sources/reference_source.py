"""The source of the reference model, which passes open like those of a study's models."""

from __future__ import annotations

from collections.abc import Mapping

from engine.errors import NotThereError
from engine.sources.base import Source
from engine.sources.hub_client import HubClient
from engine.sources.open import open_source
from engine.study_file.file import StudyFile
from engine.study_file.reference_section import KEY

REFERENCE = ""
"""Under which the source of the reference model is among those of the models, which have names."""


def find_reference(study: StudyFile, sources: Mapping[str, Source]) -> None:
    """Raise NotThereError when the folder of the reference model is not there."""
    section = study.reference.source
    if section is not None and not section.source_kind.downloads:
        found = sources[REFERENCE].find()
        if KEY not in found.there:
            why = found.missing.get(KEY) or found.ambiguous.get(KEY, "is not there")
            raise NotThereError(f"reference.model: {why}")


def all_sources(
    study: StudyFile, sources: Mapping[str, Source], hub: HubClient
) -> dict[str, Source]:
    """Return the sources of the models and, where one is named, of the reference model."""
    section = study.reference.source
    reference = {} if section is None else {REFERENCE: open_source(section, study.folder, hub)}
    return {**sources, **reference}
