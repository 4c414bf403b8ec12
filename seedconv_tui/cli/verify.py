"""`seedconv verify`: reads back what a study has committed; says how to repair what is damaged."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedconv_tui.cli.options import add_json, add_local_store, say
from seedconv_tui.exit_codes import FAILED, OK
from seedconv_tui.text import count, json_text, restored_words, visible

if TYPE_CHECKING:
    from store.schema import Damage

HELP = "check the store for damage (and repair it with --mend)"
EXAMPLE = "seedconv verify study.zarr"
PAGE = "damage.md"

_ROUNDS = 3  # damaged metadata hide what they describe: repaired, the rest can be checked


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add_local_store(parser)
    add_json(parser)
    parser.add_argument(
        "--mend",
        action="store_true",
        help="repair what can be recomputed from the store; mark the rest for the next `run`",
    )


def run(options: argparse.Namespace) -> int:
    """Check a study, and repair it if asked; return 0 when it is sound, 1 when it is damaged.

    Raise NotAStudyError, BusyError, UnsupportedError.
    """
    from store import refuse_remote

    store: Path = options.store
    refuse_remote(store)
    checked, damage = _check(store)
    repaired: list[Damage] = []
    if options.mend:
        from store.maintenance import MENDABLE
        from store.maintenance import mend as mend_damage

        for _ in range(_ROUNDS):
            if not (now := [found for found in damage if found.part in MENDABLE]):
                break
            mend_damage(store, now, say)
            repaired += now
            checked, damage = _check(store)
    lost = _lost(store, repaired)
    if options.json:
        print(
            json_text(report(store, checked, damage, repaired) | ({"lost": lost} if lost else {}))
        )
    else:
        lines = [f"lost: {visible(one['checkpoint'])}: {visible(one['why'])}" for one in lost]
        gone = {one["checkpoint"] for one in lost}
        again = any(_checkpoint(found) not in gone for found in repaired)
        lines.append(report_text(store, checked, damage, repaired, again=again))
        print("\n".join([*lines, *_restored(store, damage)]))
    return FAILED if damage else OK


def _lost(store: Path, repaired: list[Damage]) -> list[dict[str, str]]:
    """Return what of these could not be repaired and cannot be had again, and why."""
    from store import open_study
    from store.maintenance import LOST_FOR_GOOD

    if not repaired:
        return []
    errors = {model.name: model.errors for model in open_study(store).snapshot().models}
    found = {}
    for damage in repaired:
        if damage.model is None or damage.seed is None or damage.step is None:
            continue
        why = errors.get(damage.model, {}).get((damage.seed, damage.step), "")
        if why.endswith(LOST_FOR_GOOD):
            name = _checkpoint(damage)
            why = why.removeprefix(f"{damage.model}, ")  # so in reasons of earlier versions
            why = why.removeprefix(f"seed {damage.seed}, step {damage.step}: ")
            found[name] = {"checkpoint": name, "why": why}
    return list(found.values())


def _checkpoint(damage: Damage) -> str:
    return f"{damage.model}, seed {damage.seed}, step {damage.step}"


def _restored(store: Path, damage: list[Damage]) -> list[str]:
    """Return a line on results that repairing computed again, now or before."""
    from store import StudyProgress

    if any(found.part is found.part.STUDY for found in damage):
        return []
    models = StudyProgress(store).snapshot().models
    line = restored_words(sum(len(model.restored) for model in models))
    return [f"{line} (`seedconv status --json` lists them)"] if line else []


def _check(store: Path) -> tuple[int, list[Damage]]:
    """Return how many parts were checked, and what is damaged."""
    from seedconv_tui.cli.progress_bar import progress_bar
    from store.maintenance import verify

    damage: list[Damage] = []
    done = 0
    with progress_bar() as bar:
        task = bar.add_task("reading", total=None)
        for checked in verify(store):
            done = checked.done
            damage += checked.damage
            names = [checked.part.replace("_", "-"), checked.model]
            names += [f"seed {checked.seed}"] if checked.seed is not None else []
            names += [f"step {checked.step}"] if checked.step is not None else []
            said = visible(", ".join(name for name in names if name))
            bar.update(task, description=said, completed=done, total=checked.total)
    return done, damage


def report(
    store: Path, checked: int, damage: list[Damage], repaired: list[Damage]
) -> dict[str, Any]:
    """Return the result as one JSON object; see `docs/store-format.md`."""
    return {
        "store": str(store),
        "sound": not damage,
        "checked": checked,
        "damage": [{**asdict(found), "mend": advice} for found, advice in _advised(store, damage)],
        "repaired": [asdict(found) for found in repaired],
    }


def report_text(
    store: Path, checked: int, damage: list[Damage], repaired: list[Damage], *, again: bool = True
) -> str:
    """Return the result as lines: one for each thing that is damaged, then what repairs it.

    `again`: of what was repaired, something may have been forgotten that `run` computes.
    """
    lines = [f"repaired: {_name(found)}" for found in repaired]
    lines += [f"damaged: {_name(found)}: {visible(found.message)}" for found in damage]
    advice = dict.fromkeys(advice for _, advice in _advised(store, damage))
    lines += [f"to repair: {visible(one)}" for one in advice]
    if repaired and again:
        lines.append("what was forgotten is computed again by: seedconv run STUDY.toml")
    if not damage:
        lines.append(f"{visible(str(store))}: sound, {count(checked)} parts checked")
    return "\n".join(lines)


def _name(damage: Damage) -> str:
    """Return which checkpoint, reduction or file, in words."""
    names = [damage.part.replace("_", "-")]
    names += [damage.model] if damage.model is not None else []
    names += [f"seed {damage.seed}"] if damage.seed is not None else []
    names += [f"other seed {damage.other_seed}"] if damage.other_seed is not None else []
    names += [f"step {damage.step}"] if damage.step is not None else []
    return visible(", ".join(names))


def _advised(store: Path, damage: list[Damage]) -> list[tuple[Damage, str]]:
    """Return each with what a user does about it."""
    from store.maintenance import lost_by_mending

    lost = lost_by_mending(store, damage)
    return [(found, _advice(store, found, lost=found in lost)) for found in damage]


def _advice(store: Path, damage: Damage, *, lost: bool) -> str:
    """Return what a user does about it; `lost`: repairing can only give it up."""
    from store.maintenance import MENDABLE
    from store.schema import Part

    where = shlex.quote(str(store))
    if lost:
        return (
            "restore the file that is named from a copy: it was captured in training and cannot "
            f"be scored again; without a copy, seedconv verify {where} --mend gives it up and "
            "keeps the rest"
        )
    if damage.part in MENDABLE:
        return f"seedconv verify {where} --mend, then: seedconv run STUDY.toml"
    if damage.part is Part.CORPUS:
        return f"restore {where}/corpus from a copy; a study is bound to its corpus"
    return "restore the file that is named from a copy"
