"""Dropping log-probs that nothing needs any more. Results are never touched."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from store.maintenance.mending import maintain
from store.schema import layout
from store.storage.links import refuse_link
from store.study import Study


@dataclass(frozen=True)
class Prunable:
    """Log-probs of one step that can go."""

    model: str
    step: int
    seeds: tuple[str, ...]
    n_bytes: int  # of their files
    captured: int = 0  # of the seeds: nothing could be had again for one that comes later


def prunable(
    study: Study,
    *,
    models: Sequence[str] | None = None,
    wanted: Callable[[int], bool] = lambda step: True,
    keep_last: int = 0,
) -> list[Prunable]:
    """Return the steps whose log-probs can go: all planned seeds are scored and reduced.

    Only `wanted` steps of `models` (None: all), without the last `keep_last` steps of each model.
    Raise StoreError when there is no such model, DamagedError for a link in the way.
    """
    found = []
    for model in dict.fromkeys(study.models if models is None else models):
        known = study.ledger(model)
        last = set(sorted(known.steps)[-keep_last:] if keep_last else [])
        for step in sorted(known.steps):
            planned = {seed for seed, at in known.planned if at == step} | known.scored_at(step)
            seeds = tuple(sorted(seed for seed in planned if (seed, step) in known.stored))
            done = planned <= known.reduced.get(step, frozenset())
            if seeds and done and step not in last and wanted(step):
                size = sum(
                    _size(study.folder, study.folder / layout.log_probs_path(model, seed, step))
                    for seed in seeds
                )
                captured = len({(seed, step) for seed in seeds} & known.captured())
                found.append(Prunable(model, step, seeds, size, captured))
    return found


def prune(
    path: Path, chosen: Sequence[Prunable], say: Callable[[str], object] = lambda text: None
) -> None:
    """Drop these log-probs; `say` is called with what it waits for.

    Raise BusyError while an engine works on the study. What is not stored any more is passed over.
    """
    with maintain(path, "dropping log-probs", say) as writer:
        for entry in chosen:
            writer.drop_log_probs(entry.model, entry.step, entry.seeds)


def _size(root: Path, folder: Path) -> int:
    """Return the bytes of the files in a folder."""
    refuse_link(root, folder)
    return sum(
        file.lstat().st_size for file in folder.rglob("*") if file.is_file() or file.is_symlink()
    )
