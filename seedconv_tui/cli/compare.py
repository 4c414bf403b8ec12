"""`seedconv compare`: how two steps of a model differ, or two models at a step, and how surely."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from seedconv_tui.cli.aligned import aligned, level_label, p_value, sure
from seedconv_tui.cli.options import (
    ADJUSTED,
    add_adjust,
    add_ascii,
    add_json,
    add_store,
    only_ascii,
)
from seedconv_tui.exit_codes import OK, USAGE
from seedconv_tui.text import count, counted, finite, json_text, nats, quoted, shorten, visible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from store import Study
    from store.analysis import Difference
    from store.schema import CheckpointName
    from store.statistics import Adjustment

HELP = "compare two steps of a model, or two models at one step"
EXAMPLE = "seedconv compare study.zarr --steps 1000 2000 --category pos"
PAGE = "comparisons.md"

At = tuple[str, int]  # model, step


@dataclass(frozen=True)
class Moved:
    """KL between checkpoints, mean over tokens, nats."""

    rows: tuple[str, ...]  # seeds of the first; untrusted
    columns: tuple[str, ...]  # of the second; empty between steps, where each seed meets itself
    kl: NDArray[np.float64]  # (row,) or (row, column)
    left_out: str  # why there is nothing, or not everything; else empty


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_store(parser)
    parser.add_argument(
        "--steps", type=int, nargs=2, metavar=("A", "B"), help="compare step A with step B"
    )
    parser.add_argument(
        "--model", help="model whose steps are compared (required if the study has several)"
    )
    parser.add_argument(
        "--models", nargs=2, metavar=("X", "Y"), help="compare model X with model Y"
    )
    parser.add_argument(
        "--step", type=int, help="step at which models are compared (default: the newest of both)"
    )
    parser.add_argument(
        "--category",
        default="all",
        help="one row for each level of this category (default: all tokens)",
    )
    add_adjust(parser, "levels")
    add_json(parser)
    add_ascii(parser)


def run(options: argparse.Namespace) -> int:
    """Print how far the second is from the first."""
    from seedconv_tui.tables.selection import check, newest_common
    from store import open_study

    if (options.steps is None) == (options.models is None):
        return _usage("give either --steps A B or --models X Y")
    if options.models and options.model:
        return _usage("--model goes with --steps; --models names both")
    if options.steps and options.step is not None:
        return _usage("--step goes with --models; --steps names both")
    if len(set(options.steps or options.models)) == 1:
        return _usage("what is compared should differ")
    study = open_study(options.store)
    if options.steps:
        model = _only_model(study) if options.model is None else options.model
        first, second = ((model, step) for step in options.steps)
    else:
        step = newest_common(study, options.models) if options.step is None else options.step
        first, second = ((name, step) for name in options.models)
    for name, step in (first, second):
        check(study, name, step, options.category)
    steps = {name: [first[1], second[1]] for name in (first[0], second[0])}
    read = partial(study.difference, second, first, options.category)  # second minus first
    change = study.consistent(steps, read)
    of = _between_steps if options.steps else _between_models
    moved = of(study, first, second)
    if options.json:
        print(json_text(_report(study, first, second, change, moved, options.adjust)))
    else:
        ascii_only, adjust = only_ascii(options), options.adjust
        print(_text(study, first, second, change, moved, adjust, ascii_only=ascii_only))
    return OK


def _usage(text: str) -> int:
    print(f"seedconv: compare: {text}; see `seedconv compare --help`", file=sys.stderr)
    return USAGE


# -- what is asked of the study ------------------------------------------------------------------


def _only_model(study: Study) -> str:
    from seedconv_tui.tables.selection import ChoiceError

    if len(study.models) != 1:
        names = ", ".join(study.models) or "none yet"
        raise ChoiceError(f"{study.path}: choose a model with --model; it has: {names}")
    return study.models[0]


def _between_steps(study: Study, first: At, second: At) -> Moved:
    """Return KL of each seed from one step to the other."""
    import numpy as np

    from store.analysis import mean_kl_between

    known = study.ledger(first[0])
    scored = sorted(known.scored_at(first[1]) & known.scored_at(second[1]))
    seeds, left_out = _stored(study, [[_of(first, seed), _of(second, seed)] for seed in scored])
    kl = np.full(len(seeds), np.nan)
    for index, seed in enumerate(seeds):
        with _shown(f"seed {seed}: KL from step {first[1]} to {second[1]}") as progress:
            found = mean_kl_between(study, [_of(first, seed)], [_of(second, seed)], progress)
        kl[index] = found[0, 0]
    return Moved(seeds, (), kl, left_out)


def _between_models(study: Study, first: At, second: At) -> Moved:
    """Return KL of each seed of one model to each of the other."""
    import numpy as np

    from store.analysis import mean_kl_between

    (rows, lacking), (columns, lacking_too) = (
        _stored(study, [[_of(at, seed)] for seed in sorted(study.ledger(at[0]).scored_at(at[1]))])
        for at in (first, second)
    )
    kl = np.full((len(rows), len(columns)), np.nan)
    if kl.size:
        sides = [_of(first, seed) for seed in rows], [_of(second, seed) for seed in columns]
        with _shown(f"KL from {first[0]} to {second[0]}") as progress:
            kl = mean_kl_between(study, *sides, progress)
    return Moved(rows, columns, kl, lacking or lacking_too)


def _of(at: At, seed: str) -> CheckpointName:
    return at[0], seed, at[1]


def _stored(study: Study, wanted: list[list[CheckpointName]]) -> tuple[tuple[str, ...], str]:
    """Return seeds whose checkpoints all have log-probs, and why others have not (the first)."""
    from store import StoreError

    seeds, why = [], ""
    for checkpoints in wanted:
        try:
            for checkpoint in checkpoints:
                study.log_probs(*checkpoint)
            seeds.append(checkpoints[0][1])
        except StoreError as error:
            why = why or str(error).removeprefix(f"{study.path}: ")
    return tuple(seeds), why


@contextlib.contextmanager
def _shown(what: str) -> Iterator[Callable[[float], None]]:
    """Show a bar on stderr while it takes time, where that is a terminal."""
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(visible(what)), total=1.0)
        yield lambda share: bar.update(task, completed=share)


# -- what is printed ------------------------------------------------------------------------------


def _report(
    study: Study, first: At, second: At, change: Difference, moved: Moved, adjust: Adjustment
) -> dict[str, Any]:
    """Return one JSON object; docs/comparisons.md has its fields."""
    from store.statistics import adjusted

    columns = {
        "level": list(change.labels),
        "tokens": change.counts.tolist(),
        "expected_kl_from": change.kl_b.tolist(),
        "expected_kl_to": change.kl_a.tolist(),
        "difference": change.value.tolist(),
        "low": change.low.tolist(),
        "high": change.high.tolist(),
        "p": change.p.tolist(),
        "p_adjusted": adjusted(change.p, adjust).tolist(),
    }
    mean_kl = moved.kl.tolist()
    return {
        "store": str(study.path),
        "study": study.name,
        "from": {"model": first[0], "step": first[1], "seeds": change.n_seeds[1]},
        "to": {"model": second[0], "step": second[1], "seeds": change.n_seeds[0]},
        "same_seeds": change.same_seeds,
        "category": change.category,
        "adjustment": adjust,
        "levels": [
            dict(zip(columns, map(finite, level), strict=True))
            for level in zip(*columns.values(), strict=True)
        ],
        "kl": {
            "seeds_from": list(moved.rows),
            "seeds_to": list(moved.rows if change.same_seeds else moved.columns),
            "mean_kl": mean_kl,
            "left_out": moved.left_out or None,
        },
    }


def _text(
    study: Study,
    first: At,
    second: At,
    change: Difference,
    moved: Moved,
    adjust: Adjustment,
    *,
    ascii_only: bool,
) -> str:
    def name(text: str) -> str:
        return visible(text, ascii_only)

    if change.same_seeds:
        start, end = f"step {first[1]}", f"step {second[1]}"
        title = f"{name(study.name)}: {name(first[0])}, from {start} to {end}"
        seeds = f"{counted(change.n_seeds[0], 'seed')} at both steps"
    else:
        start, end = name(first[0]), name(second[0])
        title = f"{name(study.name)}: from {start} to {end}, at step {first[1]}"
        seeds = f"{change.n_seeds[1]} and {change.n_seeds[0]} seeds"
    lines = [
        title,
        "",
        f"expected KL by {name(change.category)}, nats, of {seeds}; the difference with its 95 % "
        f"interval, * where that leaves 0 out; p adjusted over levels ({ADJUSTED[adjust]})",
        *_levels(change, start, end, adjust, ascii_only),
        *_odd_levels(change),
        "",
    ]
    if not moved.kl.size:
        return "\n".join([*lines, f"KL between them is left out: {name(moved.left_out)}"])
    lines += (_moves if change.same_seeds else _matrix)(moved, start, end, ascii_only)
    if moved.left_out:
        lines.append(f"some seeds are left out: {name(moved.left_out)}")
    return "\n".join(lines)


def _levels(
    change: Difference, start: str, end: str, adjust: Adjustment, ascii_only: bool
) -> list[str]:
    from store.statistics import adjusted

    p = adjusted(change.p, adjust)
    heads = [shorten(head, 16, ascii=ascii_only) for head in (start, end)]
    rows = [["level", "tokens", *heads, "difference", "low", "high", "p", ""]]
    for at, label in enumerate(change.labels):
        columns = change.kl_b, change.kl_a, change.value, change.low, change.high
        numbers = [float(values[at]) for values in columns]
        rows.append(
            [
                level_label(quoted(label), ascii_only),
                count(int(change.counts[at])),
                *map(nats, numbers),
                p_value(float(p[at])),
                sure(*numbers[-2:]),
            ]
        )
    return aligned(rows)


def _odd_levels(change: Difference) -> list[str]:
    """Return a line that says why levels with tokens lack numbers."""
    import numpy as np

    odd = (change.counts > 0) & ~(np.isfinite(change.kl_a) & np.isfinite(change.kl_b))
    if not odd.any():
        return []
    levels = counted(int(odd.sum()), "level")
    return [f"not finite for {levels}, as the KL of a pair is not (`seedconv export --what pairs`)"]


def _moves(moved: Moved, start: str, end: str, ascii_only: bool) -> list[str]:
    rows = [["seed", "KL"]]
    rows += [
        [level_label(seed, ascii_only), nats(float(kl))]
        for seed, kl in zip(moved.rows, moved.kl, strict=True)
    ]
    rows.append(["mean", nats(float(moved.kl.mean()))])
    low, high = nats(float(moved.kl.min())), nats(float(moved.kl.max()))
    return [
        f"how far each seed moved: KL from {start} to {end}, mean over tokens, nats",
        *aligned(rows),
        f"seeds from {low} to {high}",
    ]


def _matrix(moved: Moved, start: str, end: str, ascii_only: bool) -> list[str]:
    heads = [shorten(visible(seed, ascii_only), 8, ascii=ascii_only) for seed in moved.columns]
    rows = [["seed", *heads]]
    rows += [
        [level_label(seed, ascii_only), *(nats(float(x)) for x in kl)]
        for seed, kl in zip(moved.rows, moved.kl, strict=True)
    ]
    return [
        f"KL from {start} (rows: its seeds) to {end} (columns), mean over tokens, nats: "
        f"mean {nats(float(moved.kl.mean()))}",
        *aligned(rows),
    ]
