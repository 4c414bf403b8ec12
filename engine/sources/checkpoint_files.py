"""What a checkpoint consists of: its files, and whether they are all there and whole."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from engine.errors import CheckpointError, may_pass
from engine.sources.safetensors_header import check_safetensors
from engine.sources.weight_sets import (
    read_shapes,
    refuse_other_names,
    refuse_other_shapes,
    single_was_read,
)

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED_INDEX = "pytorch_model.bin.index.json"
PICKLED_SINGLE = "pytorch_model.bin"
INDEX_OF = {SINGLE: INDEX, PICKLED_SINGLE: PICKLED_INDEX}  # which may lie beside it
INCOMPLETE = "checkpoint-is-incomplete.txt"


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one finished checkpoint."""

    folder: Path
    weights: tuple[Path, ...]
    pickled: bool = False  # else safetensors
    note: str | None = None  # which weights these are, where there are others beside them
    # Names that those others have, where they cannot be compared before the weights are read
    listed: frozenset[str] | None = None


def checkpoint_files(folder: Path, *, allow_pickle: bool = False) -> CheckpointFiles:
    """Look at a checkpoint without reading its weights.

    Raise CheckpointError, in one line, when it is unfinished, damaged or has no weights that may
    be read: pickled ones are only if `allow_pickle` is set and there are no others. Raise it also
    when there are two sets of weights whose names or shapes differ.
    """
    names = list_names(folder)
    if odd := [name for name in sorted(names) if not _is_plain(folder / name)]:
        raise CheckpointError(f"{folder / odd[0]}: is neither file nor folder")
    if INCOMPLETE in names:
        raise CheckpointError(f"{folder}: holds {INCOMPLETE}: it is still being written")
    named = read_json(folder / "config.json").get("transformers_weights")
    if "trainer_state.json" in names:
        read_json(folder / "trainer_state.json")
    main = main_weights(str(folder), names, allow_pickle=allow_pickle)
    if named not in (None, main):
        raise CheckpointError(
            f"{folder / 'config.json'}: transformers_weights names {str(named)[:80]!r}, and only "
            f"{main} is read here. Save the model again with save_pretrained."
        )
    weights = shards(folder / main) if main in (INDEX, PICKLED_INDEX) else (main,)
    files = tuple(folder / name for name in weights)
    pickled = main in (PICKLED_INDEX, PICKLED_SINGLE)
    for file in files:
        if not pickled:
            check_safetensors(file)
        elif not file.exists():
            raise CheckpointError(f"{file}: is missing")
    index = INDEX_OF.get(main)
    if index is None or index not in names:
        return CheckpointFiles(folder, files, pickled)
    return _beside_an_index(folder, main, index, names)


def _beside_an_index(
    folder: Path, main: str, index: str, names: Collection[str]
) -> CheckpointFiles:
    """Take the single file, as transformers does, if the others could be the same weights."""
    single, pickled = folder / main, main == PICKLED_SINGLE
    others = shards(folder / index)
    listed = frozenset(weight_map(folder / index))
    note = single_was_read(single, folder / index)
    if not pickled:
        there = [folder / name for name in others if name in names]
        for other in there:
            check_safetensors(other)
        refuse_other_names(single, folder / index, read_shapes(single), listed)
        refuse_other_shapes(single, folder / index, there)
    return CheckpointFiles(folder, (single,), pickled, note, listed if pickled else None)


def _is_plain(path: Path) -> bool:
    """Return whether opening cannot wait for ever, as on a pipe; True of a broken link."""
    try:
        mode = path.stat().st_mode
    except OSError:  # reported by whoever reads it
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; False also where that cannot be known."""
    try:
        return path.is_dir()
    except OSError:  # a network mount that is gone
        return False


def list_names(folder: Path) -> frozenset[str]:
    """Return the names of what a folder holds. Raise CheckpointError."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{folder}: there is no such folder") from None
    except OSError as error:
        text = f"{folder}: cannot be read: {error.strerror}"
        raise CheckpointError(text, passing=may_pass(error)) from None


def needed(names: Collection[str]) -> frozenset[str]:
    """Return those without which a checkpoint that had them cannot be read any more."""
    return frozenset(
        name
        for name in names
        if name in ("config.json", INDEX, PICKLED_INDEX)
        or (name.endswith(".safetensors") and not name.startswith("adapter_"))
        or (name.startswith("pytorch_model") and name.endswith(".bin"))
    )


def main_weights(where: str, names: Collection[str], *, allow_pickle: bool) -> str:
    """Return the file that holds the weights or, if there are several, names them.

    Of several such files it is the one that transformers takes.

    Raise CheckpointError when there is none that may be read.
    """
    allowed = [SINGLE, INDEX, *([PICKLED_SINGLE, PICKLED_INDEX] if allow_pickle else [])]
    for name in allowed:
        if name in names:
            return name
    if not allow_pickle and any(name.endswith(".bin") for name in names):
        raise CheckpointError(
            f"{where}: has only pickled weights, which can run code when loaded; save the model "
            "with safe_serialization=True, or set models.allow_pickle = true if you trust them"
        )
    raise CheckpointError(f"{where}: has no {' and no '.join(allowed)}")


def weight_map(index: Path) -> dict[str, str]:
    """Return which file has each weight, as an index says. Raise CheckpointError."""
    found = read_json(index).get("weight_map")
    if not isinstance(found, dict) or not found:
        raise CheckpointError(f"{index}: names no weights")
    return {name: str(file) for name, file in found.items()}


def shards(index: Path) -> tuple[str, ...]:
    """Return the names of the files that an index names. Raise CheckpointError."""
    names = sorted(set(weight_map(index).values()))
    suffix = ".bin" if index.name == PICKLED_INDEX else ".safetensors"
    if any(Path(name).name != name or not name.endswith(suffix) for name in names):
        raise CheckpointError(f"{index}: names a file outside the checkpoint or not *{suffix}")
    return tuple(names)


def read_json(file: Path) -> dict[str, object]:
    """Read a JSON object. Raise CheckpointError."""
    try:
        value = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{file}: is missing") from None
    except OSError as error:
        text = f"{file}: cannot be read: {error.strerror}"
        raise CheckpointError(text, passing=may_pass(error)) from None
    except ValueError:
        raise CheckpointError(f"{file}: is not valid JSON; it may be half written") from None
    except RecursionError:
        raise CheckpointError(f"{file}: is JSON that is nested too deeply to be one") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: should hold a JSON object")
    return value
