"""The disk that log-probs take and will take, as shown to the user."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.coordination.planner import Step
from engine.coordination.projection import bytes_to_come, project
from engine.coordination.session import Session
from engine.sources.base import Source
from engine.study_file.file import StudyFile
from store.writing import StudyWriter


class DiskUse:
    """Shows the projected size of the log-probs of a study."""

    def __init__(
        self,
        study: StudyFile,
        sources: Mapping[str, Source],
        writer: StudyWriter,
        session: Session,
        vocab_size: int,
    ) -> None:
        self._study, self._sources = study, sources
        self._writer, self._session, self._vocab_size = writer, session, vocab_size

    def report(self, steps: Sequence[Step]) -> None:
        """Report what these steps will take. Raise ConfigError when it is too much."""
        stored = self._writer.ledger.bytes_stored
        self._session.show(bytes_projected=stored)
        if not any(step.score or step.reduce for step in steps):
            return
        projection = project(
            self._study, self._sources, steps, self._writer.n_tokens, self._vocab_size, stored
        )
        needed = projection.needed
        self._session.show(bytes_projected=stored + needed)
        self._session.say(
            "info",
            "projected",
            projection.text,
            bytes=needed,
            free=projection.free,
            sizes=projection.sizes,
        )

    def show(self) -> None:
        """Show, while watching, what log-probs will take if everything that will come is listed."""
        if all(model.listed is not None for model in self._study.models):
            ledger = self._writer.ledger
            coming = bytes_to_come(ledger, self._study.log_probs.retention)
            projected = None if coming is None else ledger.bytes_stored + coming
            self._session.show(bytes_projected=projected)
