"""Find checkpoints in an unknown folder, by the names of files."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from engine.sources.checkpoint_files import OF_TRANSFORMERS, PICKLED_SINGLE
from engine.sources.foreign import recognise, recognise_near
from engine.sources.hub import VOCABULARIES
from seedconv_tui.training.weight_files import METADATA, is_saved, is_sharded_folder

DEEP = 6  # folders in folders that are looked into
_MOST_FOLDERS = 20_000
_EXAMPLES = 3
_SAFETENSORS = ".safetensors"
LOOKED_FOR = (
    f"folders with *.safetensors, {PICKLED_SINGLE} or {METADATA}, and files *.pt, *.pth or *.ckpt"
)


@dataclass(frozen=True)
class CheckpointPlace:
    """A checkpoint: its folder, or the one file that it is."""

    parts: tuple[str, ...]  # below the folder that was searched
    pickled: bool


@dataclass
class FolderContents:
    """What a folder holds."""

    root: Path
    places: list[CheckpointPlace] = field(default_factory=list)
    tokenizers: list[tuple[str, ...]] = field(default_factory=list)  # folders with a vocabulary
    configs: set[tuple[str, ...]] = field(default_factory=set)  # folders with a config.json
    n_folders: int = 0
    n_files: int = 0
    examples: list[str] = field(default_factory=list)
    revisions: list[str] = field(default_factory=list)  # of the Hub's cache: owner/name@revision
    whole: bool = True  # False: there are more folders than are looked into

    def hint(self) -> str | None:
        """Return which other trainer's files lie here, and what to do about them."""
        return recognise_near([self.root])


def look_into(root: Path) -> FolderContents:
    """Search a folder and those in it; what cannot be read is passed over."""
    seen, known = FolderContents(root), {os.path.realpath(root)}
    waiting = deque[tuple[str, ...]]([()])
    while waiting:
        parts = waiting.popleft()
        folder = root.joinpath(*parts)
        if (found := _names(folder)) is None:
            continue
        files, folders = found
        seen.n_folders += bool(parts)
        seen.n_files += len(files)
        if parts and parts[-1].startswith("models--"):
            seen.revisions += _cached(folder)
            continue
        _take(seen, parts, files, folders)
        for name in sorted(folders):
            real = os.path.realpath(folder / name)
            if _is_inside(name) or real in known or len(parts) >= DEEP:
                continue
            if len(known) >= _MOST_FOLDERS:
                seen.whole = False
                break
            known.add(real)
            waiting.append((*parts, name))
    return seen


def _is_inside(name: str) -> bool:
    """Return whether a folder belongs to a checkpoint, or to what has nothing to do with them."""
    other = name.startswith((".", "__")) or name.endswith(".zarr") or name == "wandb"
    return is_sharded_folder(name) or other


def _names(folder: Path) -> tuple[set[str], set[str]] | None:
    """Return the names of files and folders; None where they cannot be read."""
    files, folders = set[str](), set[str]()
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                (folders if entry.is_dir() else files).add(entry.name)
    except OSError:
        return None
    return files, folders


def _take(
    seen: FolderContents, parts: tuple[str, ...], files: Collection[str], folders: Collection[str]
) -> None:
    """Take what lies in one folder."""
    if "config.json" in files:
        seen.configs.add(parts)
    if VOCABULARIES & {*files}:
        seen.tokenizers.append(parts)
    if OF_TRANSFORMERS & {*files}:
        safe = any(_SAFETENSORS in name for name in files)
        seen.places.append(CheckpointPlace(parts, pickled=not safe))
    elif METADATA in files or any(map(is_sharded_folder, folders)):
        seen.places.append(CheckpointPlace(parts, pickled=True))
    elif recognise([*files, *folders], pickles=True) is None:
        for name in sorted(files):
            whole = name.endswith(_SAFETENSORS) and not name.startswith("adapter_")
            if (whole and "-of-" not in name) or is_saved(name):
                seen.places.append(CheckpointPlace((*parts, name), pickled=not whole))
            elif len(seen.examples) < _EXAMPLES:
                seen.examples.append("/".join((*parts, name)))


def _cached(folder: Path) -> list[str]:
    """Return repository and revision of what the Hub's cache has in a folder of its own."""
    repository = folder.name.removeprefix("models--").replace("--", "/")
    refs = folder / "refs"
    names = sorted(file.relative_to(refs).as_posix() for file in refs.rglob("*") if file.is_file())
    return [f"{repository}@{name}" for name in names]
