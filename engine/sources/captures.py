"""Descriptions of captures that training handed over; no rows are read here."""

from __future__ import annotations

import hashlib
from pathlib import Path

from engine.errors import CheckpointError
from seedconv_tui.training.handover import Handover, read_handover, run_folder


def read_capture(folder: Path, model: str) -> Handover:
    """Return what was handed over in a folder, which should be of the model and of its name.

    Raise CheckpointError, in one line, when it cannot be read or is of another.
    """
    try:
        found = read_handover(folder)
    except ValueError as error:
        raise CheckpointError(str(error)) from None
    place = run_folder(Path(), found.model, found.seed) / str(found.step)
    if found.model != model or folder.parts[-2:] != place.parts[-2:]:
        raise CheckpointError(
            f"{folder}: is of {found.model}, seed {found.seed}, step {found.step}, which has "
            "another place. Capture this step again"
        )
    return found


def fingerprint(found: Handover) -> str:
    """Return a digest of what a checkpoint says of the text.

    Of rows and output layer; not of probes, which a study may change.
    """
    digest = hashlib.blake2b(f"captured {found.order} {found.scale}".encode(), digest_size=12)
    for name, file in sorted(found.files.items()):
        if not name.startswith("probe"):
            digest.update(f"\0{name} {file.bytes} {file.digest}".encode())
    return digest.hexdigest()
