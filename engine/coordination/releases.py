"""Release announced checkpoints that are not needed any more; report what capturing changes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from engine.coordination.session import Session
from engine.coordination.source_reports import SourceReports
from engine.errors import CheckpointError
from engine.sources.announcements import Announcement, Announcements
from engine.sources.base import Listing
from engine.sources.captures import fingerprint, read_capture
from engine.study_file.models_section import ModelSection
from store import ModelLedger
from store.schema import Key
from store.writing import StudyWriter


def stay_missing(known: ModelLedger, found: Listing) -> dict[Key, str]:
    """Return captured checkpoints that are missing for good, until they are captured again.

    Those that training gave up, now or before; those whose results were damaged; and those without
    which later steps of their seed were captured and scored. Others may only not have come yet.
    """
    latest: dict[str, int] = {}
    for seed, step in known.scored:
        latest[seed] = max(step, latest.get(seed, step))
    stays = {
        (seed, step): f"{why}, though later steps of its seed have been"
        for (seed, step), why in found.missing.items()
        if step < latest.get(seed, 0) and (seed, step) not in known.scored
    }
    stays |= {key: why for key, why in known.missing.items() if why != found.missing.get(key)}
    return {k: why for k, why in {**stays, **found.lost}.items() if k not in found.there}


class Releases:
    """Decides which announcements have been dealt with, so that what they hold may go."""

    def __init__(
        self,
        models: Mapping[str, ModelSection],
        writer: StudyWriter,
        session: Session,
        reports: SourceReports,
        probes: Collection[str],
        seeds: Callable[[str], set[str]],
        *,
        keeps: bool,
    ) -> None:
        """`seeds` returns those of a model that are to be compared; log-probs are kept or not."""
        self._models, self._writer, self._session, self._reports = models, writer, session, reports
        self._probes, self._seeds, self._keeps = probes, seeds, keeps

    def release(self, announcements: Announcements, gone: Mapping[str, Collection[Key]]) -> None:
        """Release what is not needed any more; `gone` are checkpoints that were deleted."""
        for name, model in self._models.items():
            for key, letter in announcements.of(name).items():
                kind, how = model.source_kind, "captured" if letter.captured else "announced"
                if kind.downloads or kind.captured != letter.captured:
                    text = f"was {how}, but its source is {kind.name}: nothing is done about it"
                    self._reports.once(name, "warning", "announcement", f"model {name} {text}")
                    continue
                if not model.accepts(key[0]):
                    text = f"seed {key[0]} was {how}, but is none of those that are listed"
                    self._reports.once(name, "warning", "announcement", f"model {name}: {text}")
                elif letter.captured and not model.asks_for(key):
                    text = f"step {key[1]} was captured, but is none of those that are listed"
                    text = f"model {name}: {text}; others like it are not reported"
                    self._reports.once(name, "warning", "announcement", text, "step")
                unwanted = not model.asks_for(key) or key in gone[name]
                is_over = self._capture_is_over if letter.captured else self._is_over
                if not (unwanted or is_over(name, letter)) or announcements.release(letter):
                    continue
                if letter.captured:  # else it is one small file
                    text = (
                        f"model {name}: {letter.path} is done with and cannot be removed: it is "
                        "behind a link, or of another user. Remove it; others like it are not "
                        "reported"
                    )
                    self._reports.once(name, "warning", "announcement", text, "removal")

    def needed_again(self, name: str, key: Key) -> bool:
        """Return whether a scored checkpoint must be read again: for a probe, or a late seed."""
        unasked = self._writer.ledger.model(name).unasked(key, self._probes)
        return bool(unasked) or self._log_probs_needed(name, key)

    def _is_over(self, name: str, letter: Announcement) -> bool:
        """Return whether an announced checkpoint is scored, and not needed again."""
        scored = letter.key in self._writer.ledger.model(name).scored
        return scored and not self.needed_again(name, letter.key)

    def _log_probs_needed(self, name: str, key: Key) -> bool:
        """Return whether log-probs that are not stored any more are wanted, as for a late seed."""
        known = self._writer.ledger.model(name)
        compared = known.reduced.get(key[1], frozenset())
        damaged = self._keeps and key in known.wanted_again
        return key not in known.stored and (damaged or not self._seeds(name) <= compared)

    def _capture_is_over(self, name: str, letter: Announcement) -> bool:
        """Return whether nothing more is to be done about what was captured: its folder may go.

        What came after its checkpoint was scored is compared with what was scored first, which
        stays whatever comes later. If it is the same, and needed since log-probs were dropped or
        damaged, it is kept until these are there again.
        """
        known = self._writer.ledger.model(name)
        key, record = letter.key, known.scored.get(letter.key)
        if letter.lost is not None:
            return record is not None or known.missing.get(key, "").endswith(letter.lost)
        if record is None:
            return False
        try:
            again = fingerprint(read_capture(letter.path, name))
        except CheckpointError as error:
            again, why = "", f"cannot be read ({error})"
        else:
            why = "differs: training is not the same from a checkpoint on, or was changed"
        if again != record.get("fingerprint"):
            self._session.say(
                "warning",
                "captured_again",
                f"model {name}: seed {key[0]}, step {key[1]} was captured again and {why}. "
                f"The first one is kept; {letter.file.name} and {letter.path} are removed. To keep "
                "the later one, capture it as a seed of its own",
                model=name,
                seed=key[0],
                step=key[1],
            )
            return True
        return not self._log_probs_needed(name, key)
