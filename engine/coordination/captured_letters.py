"""What is different where a model is captured in training: nothing of it can be asked for again."""

from __future__ import annotations

from engine.coordination.session import Session
from engine.errors import CheckpointError
from engine.sources.announcements import Announcement
from engine.sources.base import Listing
from engine.sources.captures import fingerprint, read_capture
from engine.study_file.models_section import ModelSection
from store import ModelLedger
from store.schema import Key


def stay_missing(known: ModelLedger, found: Listing) -> dict[Key, str]:
    """Return captured checkpoints that are missing for good, until they are captured again.

    Those that training gave up, now or before, and those whose results were damaged. That a run
    has not come to a step yet is another matter.
    """
    before = {key: why for key, why in known.missing.items() if why != found.missing.get(key)}
    return {k: why for k, why in {**before, **found.lost}.items() if k not in found.there}


class CapturedLetters:
    """Decides when what was captured is not needed any more, and says what is dropped unread."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def over(
        self, model: ModelSection, known: ModelLedger, letter: Announcement, *, needed: bool
    ) -> bool:
        """Return whether nothing more is to be done about a letter: its folder may go.

        One that came after its checkpoint was scored is compared with what was scored first, which
        stays whatever comes later. If it is the same, and `needed` since log-probs were dropped or
        damaged, it is kept until these are there again.
        """
        key, record = letter.key, known.scored.get(letter.key)
        if letter.lost is not None:
            return record is not None or known.missing.get(key, "").endswith(letter.lost)
        if record is None:
            return False
        try:
            again = fingerprint(read_capture(letter.path, model.name))
        except CheckpointError as error:
            again, why = "", f"cannot be read ({error})"
        else:
            why = "differs: training is not the same from a checkpoint on, or was changed"
        if again != record.get("fingerprint"):
            self._session.say(
                "warning",
                "captured_again",
                f"model {model.name}: seed {key[0]}, step {key[1]} was captured again and {why}. "
                f"The first one is kept; {letter.file.name} and {letter.path} are removed. To keep "
                "the later one, capture it as a seed of its own",
                model=model.name,
                seed=key[0],
                step=key[1],
            )
            return True
        return not needed
