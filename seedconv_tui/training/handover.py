"""A captured checkpoint on disk: what a training process hands over to the engine.

A folder `captured/RUN/STEP` among the announcements, with `capture.json` and arrays in .npy files
of format 1.0. Window i of `plan_windows(lengths, window, overlap)` lies in part i mod `ranks`, in
order; of each window there is a row for every predicted token, in order. Rows are hidden states
float32 (row, hidden) when factored, log-probs float16 (row, vocab) when dense.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import stat
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from seedconv_tui.training.announcing import check_names, run_name
from seedconv_tui.training.plain_arrays import open_plain
from seedconv_tui.training.work_order import CapturedAs

CAPTURED = "captured"  # the folder among the announcements
DESCRIPTION = "capture.json"
WEIGHT, BIAS = "weight.npy", "bias.npy"  # (vocab, hidden) and (vocab,) float32
ROW_DTYPE = {"factored": "<f4", "dense": "<f2"}
_FORMAT = 1
_MOST_BYTES = 2**24
_MOST_RANKS = 2**16
_MOST = 2**31  # tokens of a window, and entries of a vocabulary


@dataclass(frozen=True)
class SpooledFile:
    """A file as it was written."""

    bytes: int
    digest: str  # blake2b of its content, 16 bytes, as hexadecimal digits


@dataclass(frozen=True)
class CapturedProbe:
    """A probe whose sequences were run, too."""

    digest: str  # of its sequences
    index: int  # its rows are in probe<index>-<rank>.npy


@dataclass(frozen=True)
class Handover:
    """The contents of `capture.json`."""

    model: str
    seed: str
    step: int
    order: str  # digest of the work order
    representation: CapturedAs
    scale: float  # logits are scale * (hidden @ weight.T + bias)
    ranks: int  # parts that the rows are in
    window: int  # as used: a model may take less than the order asks for
    overlap: int
    noise_floor: float  # nats: mean KL of first tokens with themselves at another batch shape
    dtype: str  # of parameters, and of logits if that is another: "bfloat16" or "float32/bfloat16"
    tf32: bool  # whether products were rounded to TF32
    device: str
    model_vocab: int  # logits that the model makes
    created: float  # seconds since 1970
    files: Mapping[str, SpooledFile]
    probes: Mapping[str, CapturedProbe]

    def to_json(self) -> str:
        """Return the content of `capture.json`."""
        return json.dumps({"format": _FORMAT, **asdict(self)})

    @property
    def row_dtype(self) -> str:
        """Return the dtype of rows, as numpy names it."""
        return ROW_DTYPE[self.representation]


def most_noise(dtype: str) -> float:
    """Return the noise floor, in nats, that rounding explains; `dtype` as in `Handover`."""
    return 0.02 if "16" in dtype else 1e-4


def rows_file(rank: int, probe: int | None = None) -> str:
    """Return the name of a rank's part of the rows of the text, or of a probe."""
    return f"rows-{rank}.npy" if probe is None else f"probe{probe}-{rank}.npy"


def run_folder(announcements: Path, model: str, seed: str) -> Path:
    """Return where captures of a run wait for the engine."""
    return announcements / CAPTURED / run_name(model, seed)


def read_handover(folder: Path) -> Handover:
    """Return what was handed over in a folder, its files there at their sizes, contents not read.

    Raise ValueError naming the folder when that is not so. Anybody may have written it.
    """
    try:
        return _read(folder)
    except OSError as error:
        name = Path(str(error.filename)).name
        raise ValueError(f"{folder}: {name} cannot be read: {error.strerror or error}") from None
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        what = str(error)
        if type(error) is not ValueError:
            there = "holds what it should not" if type(error) is OverflowError else "lacks"
            what = f"{DESCRIPTION} {there}: {error}"
        raise ValueError(f"{folder}: {' '.join(what.split())[:300]}") from None


def _read(folder: Path) -> Handover:
    with open_plain(folder / DESCRIPTION) as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise ValueError(f"{DESCRIPTION} has more than {_MOST_BYTES} bytes")
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise ValueError(f"{DESCRIPTION} is not valid JSON") from None
    found = _handover(_checked(DESCRIPTION, fields, dict))
    for name, expected in found.files.items():
        status = (folder / name).lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size != expected.bytes:
            raise ValueError(f"{name} is not the {expected.bytes} bytes that were handed over")
    return found


def _handover(fields: dict[str, Any]) -> Handover:
    if fields.get("format") != _FORMAT:
        raise ValueError(
            f"has format {str(fields.get('format'))[:20]}, this seedconv reads {_FORMAT}"
        )
    numbers = {"scale": float, "noise_floor": float, "created": float}
    values: dict[str, Any] = {name: kind(fields[name]) for name, kind in numbers.items()}
    for name in ("model", "seed", "order", "dtype", "device", "representation"):
        values[name] = _checked(name, fields[name], str)
        if len(values[name]) > 200 or not values[name].isprintable():
            raise ValueError(f"{name} should be a short text")
    for name in ("step", "ranks", "window", "overlap", "model_vocab"):
        values[name] = _checked(name, fields[name], int)
    found = Handover(
        tf32=_checked("tf32", fields["tf32"], bool),
        files={
            name: SpooledFile(
                _checked(f"bytes of {name}", file["bytes"], int),
                _checked(f"digest of {name}", file["digest"], str),
            )
            for name, file in _checked("files", fields["files"], dict).items()
        },
        probes={
            name: CapturedProbe(
                _checked(f"digest of {name}", probe["digest"], str),
                _checked(f"index of {name}", probe["index"], int),
            )
            for name, probe in _checked("probes", fields["probes"], dict).items()
        },
        **values,
    )
    _check(found)
    return found


def _checked(what: str, value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{what} should be {kind.__name__}, found {str(value)[:40]!r}")
    return value


def _check(found: Handover) -> None:
    """Raise ValueError for numbers that cannot be, and files that are not those of a capture."""
    check_names(found.model, found.seed, found.step, "/")
    numbers = {"scale": found.scale, "noise_floor": found.noise_floor, "created": found.created}
    if bad := [name for name, value in numbers.items() if not math.isfinite(value)]:
        raise ValueError(f"{bad[0]} should be finite")
    if not 1 <= found.ranks <= _MOST_RANKS:
        raise ValueError(f"ranks should be from 1 to {_MOST_RANKS}, found {found.ranks}")
    if not (1 <= found.model_vocab <= _MOST and 0 <= found.overlap < found.window <= _MOST):
        raise ValueError("overlap should be below window, and model_vocab above 0")
    if found.noise_floor < 0:
        raise ValueError(f"noise_floor should be at least 0, found {found.noise_floor}")
    if found.representation not in ROW_DTYPE:
        raise ValueError(f"representation {found.representation!r} is unknown")
    indices = sorted(probe.index for probe in found.probes.values())
    if indices != list(range(len(indices))):
        raise ValueError("indices of its probes should be 0, 1, ...")
    if found.ranks * (1 + len(indices)) != len(found.files.keys() - {WEIGHT, BIAS}):
        raise ValueError("files should be one of each rank for the text and for each probe")
    expected = {rows_file(rank, probe) for probe in (None, *indices) for rank in range(found.ranks)}
    layer = {WEIGHT} if found.representation == "factored" else set()
    if found.files.keys() - {BIAS} != expected | layer or (not layer and BIAS in found.files):
        raise ValueError("files should be one of each rank for the text and for each probe")


def remove_captured(folder: Path) -> None:
    """Remove what was handed over: plain files of a folder `captured/RUN/STEP`, nothing else."""
    if folder.parents[1].name != CAPTURED:
        return
    with contextlib.suppress(OSError):  # of another who removes it, or cannot be asked about
        if any(part.is_symlink() for part in (folder, *folder.parents[:2])):
            return
        doomed = folder
        if not folder.name.endswith(".partial"):  # at once, so that nobody finds a part of it
            doomed = folder.with_name(f".{uuid.uuid4().hex}.partial")
            folder.rename(doomed)
        for entry in os.scandir(doomed):
            if not entry.is_dir(follow_symlinks=False):
                Path(entry.path).unlink(missing_ok=True)
        doomed.rmdir()
        folder.parent.rmdir()  # unless others wait
