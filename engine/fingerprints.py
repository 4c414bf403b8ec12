"""Which checkpoints of a study have the same weights, whatever they are called."""

from __future__ import annotations

from store.ledger import Checkpoint, Ledger

Named = tuple[str, Checkpoint]  # model, (seed, step)


class Fingerprints:
    """Fingerprints of all weights read so far, those of earlier sessions included."""

    def __init__(self, ledger: Ledger) -> None:
        self._first: dict[str, Named] = {}
        self._seen: set[Named] = set()
        for model, known in ledger.models.items():
            for key, record in known.scored.items():
                self.add(model, key, str(record.get("fingerprint")))

    def add(self, model: str, key: Checkpoint, fingerprint: str) -> Named | None:
        """Take note of a checkpoint; return the first one with these weights.

        None when it is itself the first, or was seen before: duplicates are told once.
        """
        named = model, key
        first = self._first.setdefault(fingerprint, named)
        again = named in self._seen
        self._seen.add(named)
        return None if again or first == named else first
