"""Telling a study, from a training script, that a checkpoint is finished.

The script writes one small file for each checkpoint into the study's folder of announcements; the
engine reads it and removes it when the checkpoint has been scored. This module is imported where
models are trained, so it takes nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from seedconv_tui.training.weight_files import (
    BESIDE,
    is_of_transformers,
    is_part,
    is_read,
    is_sharded_folder,
)

FORMAT = 1
FORMAT_OF_CAPTURES = 2  # so that an engine which knows none says that, not that weights are missing
HELD = ".seedconv-held"  # next to the checkpoints, so that files can be linked into it
HOLD_AT_MOST = 4
_MOST_STEPS = 2**53

logger = logging.getLogger("seedconv")


def announce(
    study: str | os.PathLike[str],
    *,
    model: str,
    seed: str | int,
    step: int,
    path: str | os.PathLike[str],
    hold: bool = False,
    hold_at_most: int = HOLD_AT_MOST,
) -> None:
    """Announce a finished checkpoint to a study; return at once and never stop a training run.

    Call it in one process, after everything is saved. What cannot be written is logged as a warning
    (logger `seedconv`), and the engine then finds the checkpoint by the template as it would have.

    Args:
        study: The study file, or the folder of announcements itself.
        model: The model's name in the study file.
        seed: The label of this run.
        step: The training step.
        path: The folder of the checkpoint, or its one file; it need not fit the template.
        hold: Keep what scoring reads from deletion until it is scored, by hard links in
            `.seedconv-held` next to the checkpoint; they take disk only once it is deleted. A link
            keeps nothing of a file that is written over.
        hold_at_most: Checkpoints of this run that are held at once; the oldest gives way.

    Raises:
        ValueError: an argument cannot be right, or the study file cannot be read.
    """
    folder = announcements_folder(study)
    checkpoint = _absolute(path)
    check_names(model, str(seed), step, str(checkpoint))
    if hold_at_most < 1:
        raise ValueError(f"hold_at_most must be at least 1, found {hold_at_most}")
    run = hashlib.blake2b(f"{folder}\0{model}\0{seed}".encode(), digest_size=4).hexdigest()
    held = run if hold and _hold(checkpoint, run, hold_at_most) else None
    announcement = {
        "format": FORMAT,
        "model": model,
        "seed": str(seed),
        "step": step,
        "path": str(checkpoint),
        "held": held,
        "time": time.time(),
    }
    try:
        _write(folder, announcement)
    except OSError as error:
        logger.warning("%s could not be announced: %s", checkpoint, error)


def announce_captured(
    folder: Path, model: str, seed: str, step: int, *, path: Path | None, lost: str | None = None
) -> None:
    """Announce to a study that a step was captured into `path`, or that it was `lost` and why.

    `folder` is that of the study's announcements. Raise OSError.
    """
    _write(
        folder,
        {
            "format": FORMAT_OF_CAPTURES,
            "model": model,
            "seed": seed,
            "step": step,
            "path": None if path is None else str(path),
            "held": None,
            "captured": True,
            "lost": lost,
            "time": time.time(),
        },
    )


def run_name(model: str, seed: str) -> str:
    """Return what names a run in file names, as its labels may not fit there."""
    return hashlib.blake2b(f"{model}\0{seed}".encode(), digest_size=6).hexdigest()


def _write(folder: Path, announcement: dict[str, Any]) -> None:
    """Write a letter, whole or not at all; a later one of the same checkpoint replaces it."""
    name = run_name(announcement["model"], announcement["seed"])
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{uuid.uuid4().hex}.partial"
    try:
        partial.write_text(json.dumps(announcement), encoding="utf-8")
        partial.replace(folder / f"{announcement['step']}-{name}.json")
    finally:
        partial.unlink(missing_ok=True)


def announcements_folder(study: str | os.PathLike[str]) -> Path:
    """Return where announcements of a study go: `study` is its file (.toml), or that folder.

    Raise ValueError when the study file cannot be read.
    """
    given = _absolute(study)
    if given.suffix != ".toml":
        return given
    try:
        fields = tomllib.loads(given.read_text(encoding="utf-8"))
        store, watch = fields["study"]["store"], fields.get("watch", {})
        return choose_folder(given.parent, store, watch.get("announcements"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{given}: is no study file that can be read: {error!r}") from None


def choose_folder(folder: Path, store: str, announcements: str | None) -> Path:
    """Return where a study file in `folder` has announcements: `NAME-announced` by default."""
    if announcements is not None:
        return folder / Path(announcements).expanduser()
    beside = folder / Path(store).expanduser()
    return beside.with_name(f"{beside.stem}-announced")


def _absolute(path: str | os.PathLike[str]) -> Path:
    return Path(os.path.normpath(Path(path).expanduser().absolute()))


def check_names(model: str, seed: str, step: int, path: str) -> None:
    """Raise ValueError for what names no checkpoint; the engine checks what it reads by this."""
    for what, text, most in (("model", model, 60), ("seed", seed, 100), ("path", path, 4000)):
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{what} should be a text, found {text!r}")
        if len(text) > most or not text.isprintable():
            raise ValueError(
                f"{what} should be at most {most} printable characters, found {text[:40]!r}"
            )
    if "/" in seed or seed in {".", ".."}:
        raise ValueError(f"seed should be a name without /, found {seed!r}")
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < _MOST_STEPS:
        raise ValueError(f"step should be a number from 0 to 2^53, found {str(step)[:40]}")
    if not Path(path).is_absolute():
        raise ValueError(f"path should be absolute, found {path[:40]!r}")


# -- holding -----------------------------------------------------------------------------------


def held_folder(checkpoint: Path, held: str) -> Path:
    """Return where a checkpoint is held; `held` names the study and the run that it belongs to."""
    return checkpoint.parent / HELD / held / checkpoint.name


def _hold(checkpoint: Path, held: str, at_most: int) -> bool:
    """Link what scoring reads of a checkpoint; False, with a warning, if that cannot be done."""
    target = held_folder(checkpoint, held)
    partial = target.with_name(f".{uuid.uuid4().hex}.partial")
    try:
        let_go(target)
        partial.mkdir(parents=True)
        for file, name in _files(checkpoint):
            (partial / name).parent.mkdir(exist_ok=True)
            os.link(os.path.realpath(file), partial / name)
        partial.rename(target)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        logger.warning(
            "%s cannot be held, and is scored if it is there when its turn comes: its file system "
            "does not link files: %s",
            checkpoint,
            error,
        )
        return False
    with contextlib.suppress(OSError):  # nothing about holds may end a training run
        others = [entry for entry in os.scandir(target.parent) if entry.name != target.name]
        others.sort(key=_age, reverse=True)
        for entry in others[at_most - 1 :]:
            let_go(Path(entry.path))
    return True


def _files(checkpoint: Path) -> Iterator[tuple[Path, str]]:
    """Yield what scoring reads of a checkpoint, and what it is called in the held folder.

    Of one that is a single file, that and what may lie next to it for all checkpoints of a run.
    """
    if checkpoint.is_file():
        yield checkpoint, checkpoint.name
        beside = (checkpoint.with_name(name) for name in BESIDE)
        yield from ((file, file.name) for file in beside if file.is_file())
        return
    paths = list(checkpoint.iterdir())
    own = any(is_of_transformers(path.name) for path in paths)  # then no other weights are read
    for path in paths:
        if path.is_file():
            if is_read(path.name, own=own):
                yield path, path.name
        elif is_sharded_folder(path.name) and not own:
            parts = (part for part in path.iterdir() if is_part(part.name))
            yield from ((part, f"{path.name}/{part.name}") for part in parts)


def _age(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_mtime_ns
    except OSError:
        return 0  # let go of meanwhile


def let_go(held: Path) -> None:
    """Remove a held checkpoint: plain files of one folder below `.seedconv-held`, nothing else.

    And those of a folder of weights inside it.
    """
    if held.parents[1].name != HELD:
        return
    with contextlib.suppress(OSError):  # what cannot be asked about, too
        if any(folder.is_symlink() for folder in (held, *held.parents[:2])):
            return
        inside = [
            Path(entry.path)
            for entry in os.scandir(held)
            if is_sharded_folder(entry.name) and entry.is_dir(follow_symlinks=False)
        ]
        for folder in (*inside, held):
            for entry in os.scandir(folder):
                if not entry.is_dir(follow_symlinks=False):
                    Path(entry.path).unlink(missing_ok=True)
        for folder in (*inside, held, *held.parents[:2]):
            folder.rmdir()  # until one is not empty
