"""The fields of each kind of record; a log from anywhere is folded or refused."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from store.commits.ledger import CHECKPOINT_MEANS
from store.commits.seed_sets import FIELD, REFERENCE
from store.schema.layout import safe_name

if TYPE_CHECKING:
    from store.commits.ledger import Ledger, ModelLedger

MOST_PAIRS = 2**26  # (step, seed, other seed): readers hold one number for each, 512 MB
_MOST_LEVELS = 2**26  # (step, level), and items of a probe by variants
_MOST = 2**62

_Test = Callable[[object], bool]


def _number(value: object) -> bool:
    """Return whether it is a whole number that fits the arrays."""
    return type(value) is int and -_MOST < value < _MOST


def _size(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST


def _real(value: object) -> bool:
    """Return whether it is a finite number, of a size that a time may have."""
    return _number(value) or (type(value) is float and math.isfinite(value) and abs(value) < 1e11)


def _text(value: object) -> bool:
    return type(value) is str


def _label(value: object) -> bool:
    return type(value) is str and _names_folder(value)


@lru_cache(maxsize=2**14)
def _names_folder(label: str) -> bool:
    try:
        return bool(safe_name(label))
    except ValueError:
        return False


def _list(test: _Test) -> _Test:
    return lambda value: type(value) is list and all(map(test, value))


def _or_null(test: _Test) -> _Test:
    return lambda value: value is None or test(value)


def _flag(value: object) -> bool:
    return type(value) is bool


def _texts(value: object) -> bool:
    return type(value) is dict and all(map(_text, value.values()))


def _groups(value: object) -> bool:
    return type(value) is dict and all(map(_list(_label), value.values()))


def _schedules(value: object) -> bool:
    return type(value) is dict and all(
        type(of) is dict
        and _list(_number)(of.get("steps"))
        and _list(_real)(of.get("rates"))
        and len(of["steps"]) == len(of["rates"])
        for of in value.values()
    )


_FAILURE = {
    "error": _text,
    "attempts?": _size,
    "time?": _or_null(_real),
    "retry_at?": _or_null(_real),
    "looks?": _or_null(_text),
}
_CHECKPOINT = {"model": _label, "seed": _label, "step": _number}
_STEP = {"model": _label, "step": _number, "seeds": _list(_label)}
_CELLS = {"cells?": _or_null(_text)}  # checksums of chunks, see `store.schema.packed`
_PROBED = {**_CHECKPOINT, "probe": _label}

FIELDS: Mapping[str, Mapping[str, _Test]] = {
    "session": {
        "follows_bytes": _size,
        "writer": _text,
        "host?": _text,
        "pid?": _size,
        "pid_space?": _text,
        "time?": _real,
    },
    "axis": {"model": _label, "steps": _list(_number), "seeds": _list(_label)},
    "planned": {"model": _label, "seed": _label, "steps": _list(_number)},
    "missing": {**_CHECKPOINT, "error": _text},
    "unplanned": {"model": _label, "seed": _label, "steps": _list(_number)},
    "scored": {
        **_CHECKPOINT,
        "log_probs?": _or_null(_text),
        "bytes?": _size,
        "fingerprint?": _or_null(_text),
        "captured?": _flag,
        **{f"{name}?": _or_null(_real) for name in CHECKPOINT_MEANS},
        **_CELLS,
        "log_prob_cells?": _texts,
        "restored?": _list(_text),
    },
    "failed": {**_CHECKPOINT, **_FAILURE},
    "reduced": {
        **_STEP,
        "before?": _list(_label),
        **{f"{name}?": _texts for name in ("cells", "means", FIELD)},
        f"{REFERENCE}?": _or_null(_text),
    },
    "pruned": _STEP,
    "category": {
        "name": _label,
        "digest?": _or_null(_text),
        "first?": _size,
        "size?": _size,
        "model?": _label,
        "step?": _or_null(_number),
    },
    "summarised": {**_STEP, "categories?": _texts, **_CELLS, "sums?": _texts},
    "probe": {"name": _label, "digest?": _or_null(_text), "items?": _size, "variants?": _size},
    "probed": {**_PROBED, "digest": _text, **_CELLS},
    "probe_failed": {**_PROBED, **_FAILURE},
    "unprobed": _PROBED,
    "forgotten": {"model": _label, "step": _number, "seeds?": _list(_label), "what": _text},
    "phases": {
        "model": _label,
        "names": _list(_text),
        "starts": _list(_number),
        "lows": _list(_or_null(_number)),
        "highs": _list(_or_null(_number)),
        "supports": _list(_or_null(_real)),
        "settled?": _flag,
    },
    "learning_rate": {"models": _schedules},
    "groups": {"model": _label, "groups": _groups},
    "end": {"how": _text},
}
"""By kind of record: the test of each field; a `?` after its name: the field may be missing."""

_ON_AXES = frozenset({"scored", "reduced", "summarised", "probed"})  # of them there are values


def refuse_odd(record: Mapping[str, Any], ledger: Ledger) -> None:
    """Raise ValueError, which names the field, for a record that cannot be taken into `ledger`.

    Kinds that this version does not know, and further fields, are nothing to object to.
    """
    kind = record.get("kind")
    if type(kind) is not str:
        return
    for field, test in FIELDS.get(kind, {}).items():
        name = field.removesuffix("?")
        if name in record:
            if not test(record[name]):
                raise ValueError(f"{name} of this {kind!r} cannot be what it says")
        elif name is field:
            raise ValueError(f"{name} of this {kind!r} is missing")
    if kind in _ON_AXES:
        known = ledger.models.get(record["model"])
        seeds = record["seeds"] if "seeds" in record else [record["seed"]]
        if known is None or record["step"] not in known.steps or not known.seeds.keys() >= {*seeds}:
            raise ValueError(f"this {kind!r} is of a seed or a step that no axis has")
    elif kind == "axis":
        _refuse_large(ledger.models.get(record["model"]), record["steps"], record["seeds"])
    elif kind in _SIZES and record.get("digest") is not None:
        _refuse_sizes(kind, record, ledger)
    elif kind == "phases" and len({len(record[name]) for name in _PHASES}) > 1:
        raise ValueError("the lists of this 'phases' are not equally long")


_PHASES = ("names", "starts", "lows", "highs", "supports")
_SIZES = {"category": ("first", "size"), "probe": ("items", "variants")}


def _refuse_sizes(kind: str, record: Mapping[str, Any], ledger: Ledger) -> None:
    a, b = (record.get(name) for name in _SIZES[kind])
    if a is None or b is None:
        raise ValueError(f"{' or '.join(_SIZES[kind])} of this {kind!r} is missing")
    steps = max((len(model.steps) for model in ledger.models.values()), default=1)
    if (a * b if kind == "probe" else (a + b) * max(1, steps)) > _MOST_LEVELS:
        raise ValueError(f"this {kind!r} is larger than any study that can be read")


def _refuse_large(known: ModelLedger | None, steps: list[int], seeds: list[str]) -> None:
    n_steps = len({*steps, *(known.steps if known else ())})
    n_seeds = len({*seeds, *(known.seeds if known else ())})
    if n_steps * max(1, n_seeds) ** 2 > MOST_PAIRS:
        raise ValueError(
            f"{n_seeds:,} seeds at {n_steps:,} steps are more pairs than the {MOST_PAIRS:,} that "
            "can be read"
        )
