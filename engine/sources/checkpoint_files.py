"""The files that make up a checkpoint; check that all are there and whole."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from engine.errors import CheckpointError, may_pass, reading
from engine.sources.distributed import DistributedWeights, look_at_distributed
from engine.sources.foreign import recognise_folder
from engine.sources.safetensors_header import check_safetensors
from engine.sources.saved_file import SavedWeights, look_at_saved
from engine.sources.weight_sets import (
    read_shapes,
    refuse_other_names,
    refuse_other_shapes,
    single_was_read,
)
from seedconv_tui.training.weight_files import (
    METADATA,
    ONE_FILE,
    is_of_transformers,
    is_part,
    is_saved,
    is_sharded_folder,
)

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
PICKLED_INDEX = "pytorch_model.bin.index.json"
PICKLED_SINGLE = "pytorch_model.bin"
OF_TRANSFORMERS = frozenset({SINGLE, INDEX, PICKLED_SINGLE, PICKLED_INDEX})
INDEX_OF = {SINGLE: INDEX, PICKLED_SINGLE: PICKLED_INDEX}  # which may lie next to it
INCOMPLETE = "checkpoint-is-incomplete.txt"


@dataclass(frozen=True)
class CheckpointFiles:
    """The files of one finished checkpoint."""

    place: Path  # its folder, or the one file that it is
    config: Path
    weights: tuple[Path, ...]
    pickled: bool = False  # pytorch_model.bin; else safetensors, or what is in `stored`
    note: str | None = None  # which weights these are, where there are others next to them
    # Names that those others have, where they cannot be compared before the weights are read
    listed: frozenset[str] | None = None
    # Where the tensors are in files that other trainers write; None: in files of transformers
    stored: SavedWeights | DistributedWeights | None = None

    def reading_bytes(self) -> int:
        """Return the memory that reading the weights takes at its height."""
        if self.stored is not None:
            return self.stored.reading_bytes()
        sizes = [file.stat().st_size for file in self.weights]
        return sum(sizes) + max(sizes)  # all of them, and one as on disk


def checkpoint_files(
    place: Path, *, allow_pickle: bool = False, config: Path | None = None
) -> CheckpointFiles:
    """Look at a checkpoint, a folder or one file, without reading its weights.

    `config` is its config.json, or a folder that holds it; by default it lies next to the weights.

    Raise CheckpointError, in one line, when it is unfinished, damaged or has no weights that may
    be read: pickled ones are only if `allow_pickle` is set and there are no others. Raise it also
    when there are two sets of weights whose names or shapes differ.
    """
    single = is_one_file(place)
    names = frozenset({place.name}) if single else list_names(place)
    folder = place.parent if single else place
    if odd := [name for name in sorted(names) if not _is_plain(folder / name)]:
        raise CheckpointError(f"{folder / odd[0]}: is neither file nor folder")
    if INCOMPLETE in names:
        raise CheckpointError(f"{folder}: holds {INCOMPLETE}: it is still being written")
    file = find_config(place, config)
    if config is not None and not file.exists():
        raise CheckpointError(f"{place}: {file}, which models.config names, is not there")
    if single or not names & OF_TRANSFORMERS:
        if what := recognise_folder(place, pickles=allow_pickle):
            raise CheckpointError(f"{place} {what}")
        if config is None and not file.exists():
            raise CheckpointError(
                f"{file}: is missing; put the config.json of the model there, or name it with "
                "models.config in the study file"
            )
        read_json(file)
        found = _of_others(place, names, single=single, allow_pickle=allow_pickle)
        return replace(found, config=file)
    named = read_json(file).get("transformers_weights")
    if "trainer_state.json" in names:
        read_json(folder / "trainer_state.json")
    main = main_weights(str(folder), names, allow_pickle=allow_pickle)
    if named not in (None, main):
        raise CheckpointError(
            f"{file}: transformers_weights names {str(named)[:80]!r}, and only "
            f"{main} is read here. Save the model again with save_pretrained."
        )
    weights = shards(folder / main) if main in (INDEX, PICKLED_INDEX) else (main,)
    files = tuple(folder / name for name in weights)
    pickled = main in (PICKLED_INDEX, PICKLED_SINGLE)
    for file_of_weights in files:
        if not pickled:
            check_safetensors(file_of_weights)
        elif not file_of_weights.exists():
            raise CheckpointError(f"{file_of_weights}: is missing")
    index = INDEX_OF.get(main)
    if index is None or index not in names:
        return CheckpointFiles(folder, file, files, pickled)
    return replace(_beside_an_index(folder, main, index, names), config=file)


def find_config(place: Path, config: Path | None) -> Path:
    """Return where the config.json of a checkpoint is, or should be."""
    if config is not None:
        return config / "config.json" if is_folder(config) else config
    return (place.parent if is_one_file(place) else place) / "config.json"


def _of_others(
    place: Path, names: Collection[str], *, single: bool, allow_pickle: bool
) -> CheckpointFiles:
    """Look at weights that are not in the files that transformers reads. Raise CheckpointError."""
    if single and place.suffix == ".safetensors":
        check_safetensors(place)
        return CheckpointFiles(place, place, (place,))
    sharded = sorted(filter(is_sharded_folder, names))
    saved = [place.name] if single else sorted(filter(is_saved, names))
    parts = any(map(is_part, names))
    if not (sharded or saved or parts):
        main_weights(str(place), names, allow_pickle=allow_pickle)  # says what there is not
    if not allow_pickle:
        raise CheckpointError(
            f"{place}: has only pickled weights ({(saved or sharded or [METADATA])[0]}); set "
            "models.allow_pickle = true to have them read, as data: nothing that they name is run"
        )
    found: SavedWeights | DistributedWeights
    if sharded or parts:
        if len(sharded) > 1:
            raise CheckpointError(
                f"{place}: holds several sets of weights ({', '.join(sharded[:3])}); move away "
                "those that are not meant"
            )
        found = look_at_distributed(place if parts else place / sharded[0])
        return CheckpointFiles(place, place, found.files(), note=found.note, stored=found)
    if len(saved) > 1:
        raise CheckpointError(
            f"{place}: holds several files that may be the weights ({', '.join(saved[:3])}); have "
            "the source name the one, as in .../" + saved[0]
        )
    found = look_at_saved(place if single else place / saved[0])
    return CheckpointFiles(place, place, found.files(), note=found.note, stored=found)


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
    listed_too = listed if pickled else None
    return CheckpointFiles(folder, folder, (single,), pickled, note, listed_too)


def _is_plain(path: Path) -> bool:
    """Return whether opening cannot wait for ever, as on a pipe; True of a broken link."""
    try:
        mode = path.stat().st_mode
    except OSError:  # reported by its reader
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


def is_folder(path: Path) -> bool:
    """Return whether there is a folder; False also where that cannot be known."""
    try:
        return path.is_dir()
    except OSError:  # a network mount that went away
        return False


def is_one_file(place: Path) -> bool:
    """Return whether a checkpoint is a single file, by its name; it need not exist."""
    return place.suffix in ONE_FILE and not is_folder(place)


def is_there(place: Path) -> bool:
    """Return whether there is a checkpoint's folder, or the one file that it is."""
    try:
        return place.is_dir() or (place.suffix in ONE_FILE and place.is_file())
    except OSError:
        return False


def contents(place: Path) -> frozenset[str]:
    """Return the names of a checkpoint's files, those of its weights in a folder inside with it.

    Raise CheckpointError.
    """
    if is_one_file(place):
        return frozenset({place.name} if is_there(place) else ())
    names = list_names(place)
    inside = [
        f"{folder}/{name}"
        for folder in filter(is_sharded_folder, names)
        for name in list_names(place / folder)
    ]
    return names.union(inside)


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
    own = frozenset(name for name in names if name == "config.json" or is_of_transformers(name))
    if are_of_transformers(own):
        return own
    last = {name: name.rpartition("/")[2] for name in names}
    return own.union(name for name in names if is_saved(last[name]) or is_part(last[name]))


def are_of_transformers(names: Collection[str]) -> bool:
    """Return whether weights that transformers reads are among these files."""
    return any(is_of_transformers(name) and not name.endswith(".json") for name in names)


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
        with reading(file):
            value = json.loads(file.read_bytes())
    except ValueError:
        raise CheckpointError(f"{file}: is not valid JSON; it may be half written") from None
    except RecursionError:
        raise CheckpointError(f"{file}: is JSON that is nested too deeply to be one") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{file}: should hold a JSON object")
    return value
