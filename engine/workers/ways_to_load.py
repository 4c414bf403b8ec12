"""Choose where the models of a pass are kept, from the memory there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from engine.models.language_model import ReadCheckpoint
from engine.models.residency import Residence
from engine.scoring.scorer import Scorer


@dataclass(frozen=True)
class Way:
    """A way to have all models of a pass at hand."""

    residence: Residence
    note: str = ""  # what the user should know of it, in one line
    rooms: tuple[int, ...] | None = None  # bytes of each device for each of them


def ways_to_load(
    scorer: Scorer, checkpoints: Sequence[ReadCheckpoint], *, offload: bool
) -> Iterator[Way]:
    """Yield ways to have models of these checkpoints, the fastest first; at least one.

    With `offload` weights without room come from the host's memory, layer by layer. On a CPU that
    is no other memory, and done only within a limit (scoring.memory_gb).
    """
    n, rooms = len(checkpoints), scorer.rooms()
    free = None if rooms is None else sum(rooms)
    sizes = [scorer.bytes_on_device(checkpoint) for checkpoint in checkpoints]
    offload = offload and free is not None
    if free is None or sum(sizes) <= free or (n == 1 and not offload):
        yield Way(Residence.DEVICE)
        why = "out of memory with all seeds' weights; they are" if n > 1 else "out of memory; it is"
    else:
        whose = f"weights of {n} seeds" if n > 1 else "its weights"
        why = (
            f"{whose} take {sum(sizes) / 1e9:.3g} GB on the device, where {free / 1e9:.3g} GB may "
            "be used: they are"
        )
    if n > 1 and (free is None or not offload or max(sizes) <= free):
        yield Way(Residence.TURN, f"{why} moved there in turn")
    if rooms is not None and offload:
        note = f"{why} brought there layer by layer, as far as there is no room for them"
        there = zip(rooms, scorer.free_bytes() or rooms, strict=True)
        yield Way(Residence.LAYERS, note, tuple(min(both) // n for both in there))
