"""Sources guessed from the paths of checkpoints: which part is the seed, and which the step."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

_STEP, _THOUSANDS, _SEED, _ANY = "\x01", "\x02", "\x03", "\x04"  # stand for fields while guessing
_WRITTEN = {_STEP: "{step}", _THOUSANDS: "{step:k}", _SEED: "{seed}", _ANY: "*"}

# What people call steps, in the order in which one is looked for; epochs where nothing else is.
_STEP_WORDS = tuple(
    re.compile(rf"(?<![A-Za-z]){word}[-_= ]*(\d{{1,15}})(k(?![A-Za-z0-9]))?", re.IGNORECASE)
    for word in (
        "(?:global[-_]?)?steps?",
        "checkpoint",
        "ckpt",
        "iter(?:ation)?s?",
        "updates?",
        "ba",
        "epochs?",
    )
)
_EPOCH = re.compile(r"((?<![A-Za-z])ep(?:och)?s?[-_=]*)\d+", re.IGNORECASE)
_NUMBERED_SEED = re.compile(r"(?<![A-Za-z])seed[-_= ]*(\d+)", re.IGNORECASE)
_NAMED_SEED = re.compile(r"(?<![A-Za-z])seed[-_=]+([A-Za-z]\w*)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_ENDING = re.compile(r"(\.[A-Za-z]+)?$")


@dataclass(frozen=True)
class Guess:
    """A source, and which of the paths it stands for."""

    parts: tuple[str, ...]  # of the source: text with {seed}, {step} and `*`
    found: dict[tuple[str, int | None], int]  # seed and step -> index of its path
    rivals: int = 0  # paths that stand for the same seed and step as another one

    @property
    def seeds(self) -> tuple[str, ...]:
        """Return the seeds, numbers by value."""
        labels = {seed for seed, _ in self.found}
        return tuple(
            sorted(
                labels, key=lambda it: (not it.isdecimal(), len(it) if it.isdecimal() else 0, it)
            )
        )

    @property
    def steps(self) -> tuple[int, ...]:
        """Return the steps, ascending; none where the source has no {step}."""
        return tuple(sorted({step for _, step in self.found if step is not None}))

    @property
    def has_seed(self) -> bool:
        """Return whether the source says where the seed is."""
        return any("{seed}" in part for part in self.parts)

    def steps_of(self, seed: str) -> tuple[int, ...]:
        """Return the steps of one seed, ascending."""
        return tuple(sorted(at for it, at in self.found if it == seed and at is not None))

    @property
    def rank(self) -> tuple[int, int]:
        """Return what is the larger, the more can be compared."""
        seeds: defaultdict[int | None, int] = defaultdict(int)
        for _, step in self.found:
            seeds[step] += 1
        return sum(n > 1 for n in seeds.values()), len(self.found)


@dataclass(frozen=True)
class _Row:
    """A path, as far as understood."""

    index: int
    parts: tuple[str, ...]
    step: int | None = None
    seed: str | None = None


def guess_sources(paths: Sequence[tuple[str, ...]], fixed: int = 0) -> list[Guess]:
    """Return the sources that these paths, each in parts, may be of; first where most compares.

    The first `fixed` parts are the same in all and are no seed, unless nothing else is.
    """
    rows = [_with_step(_Row(n, parts), fixed) for n, parts in enumerate(paths)]
    rows = _with_bare_steps(rows, fixed)
    named = [_with_named_seed(row, fixed) for row in rows]
    if any(row.seed is not None for row in named):
        rows = named
    elif len({tuple(row.parts[fixed:]) for row in rows}) > 1:  # else it is one path, of no seed
        rows = _with_differing_seed(rows, fixed)
    lacking = [row for row in rows if row.seed is None]
    rows = [row for row in rows if row.seed is not None]
    rows += _with_seed_above(lacking, fixed)
    guesses = [_guess(group) for group in _alike(rows)]
    return sorted(guesses, key=lambda guess: guess.rank, reverse=True)


def _with_step(row: _Row, fixed: int) -> _Row:
    """Find the step by its name, in the last part that has one."""
    for word in _STEP_WORDS:
        for n in range(len(row.parts) - 1, max(fixed - 1, 0) - 1, -1):
            found = list(word.finditer(row.parts[n]))
            if not found:
                continue
            number, thousands = found[-1][1], found[-1][2]
            part = row.parts[n]
            mark = _THOUSANDS if thousands else _STEP
            part = part[: found[-1].start(1)] + mark + part[found[-1].end(1) :]
            if "epoch" not in word.pattern:
                part = _EPOCH.sub(rf"\g<1>{_ANY}", part)
            step = int(number) * (1000 if thousands else 1)
            return _Row(row.index, (*row.parts[:n], part, *row.parts[n + 1 :]), step)
    return row


def _with_bare_steps(rows: list[_Row], fixed: int) -> list[_Row]:
    """Take a last part that is a number as the step, where what is before it may be a seed."""

    def bare(row: _Row) -> re.Match[str] | None:
        if row.step is not None or len(row.parts) <= fixed:
            return None
        return re.fullmatch(r"(\d{1,15})((?:\.[A-Za-z]+)?)", row.parts[-1])

    before = {row.parts[:-1] for row in rows if bare(row)}
    if len(before) < 2 and not any(_NUMBERED_SEED.search("/".join(parts)) for parts in before):
        return rows
    return [
        _Row(row.index, (*row.parts[:-1], _STEP + found[2]), int(found[1]))
        if (found := bare(row))
        else row
        for row in rows
    ]


def _with_named_seed(
    row: _Row, fixed: int, words: Sequence[re.Pattern[str]] = (_NUMBERED_SEED, _NAMED_SEED)
) -> _Row:
    """Find the seed by its name: the deepest one, wherever it stands."""
    for word in words:
        for n in range(len(row.parts) - 1, fixed - 1, -1):
            if found := word.search(row.parts[n]):
                parts = [
                    _replaced(part, word, found[1]) if k >= fixed else part
                    for k, part in enumerate(row.parts)
                ]
                return _Row(row.index, tuple(parts), row.step, found[1])
    return row


def _replaced(part: str, word: re.Pattern[str], seed: str) -> str:
    def one(found: re.Match[str]) -> str:
        if found[1] != seed:
            return found[0]
        return found[0][: found.start(1) - found.start()] + _SEED

    return word.sub(one, part)


def _with_differing_seed(rows: list[_Row], fixed: int) -> list[_Row]:
    """Take as the seed the part in which most paths differ that are else the same."""
    best: dict[tuple[str, ...], list[_Row]] = {}
    most = (0, 0)
    for n in range(fixed, max(len(row.parts) for row in rows)):
        groups: dict[tuple[str, ...], list[_Row]] = defaultdict(list)
        for row in rows:
            if n < len(row.parts):
                groups[(*row.parts[:n], "", *row.parts[n + 1 :])].append(row)
        score = max(len({row.parts[n] for row in group}) for group in groups.values()), n
        if score[0] > 1 and score >= most:
            best, most = groups, score
    understood = []
    for group in best.values():
        understood += _named_by(group, most[1])
    left = {row.index for row in rows} - {row.index for row in understood}
    return understood + [row for row in rows if row.index in left]


def _named_by(group: list[_Row], n: int) -> list[_Row]:
    """Name seeds by what differs in part `n`."""
    values = sorted({row.parts[n] for row in group})
    start, end = _common(values) if len(values) > 1 else (0, len(_ENDING.search(values[0])[0]))  # type: ignore[index]
    understood = []
    for row in group:
        part = row.parts[n]
        label = part[start : len(part) - end]
        made = (*row.parts[:n], part[:start] + _SEED + part[len(part) - end :], *row.parts[n + 1 :])
        if label and not {*label} & {*_WRITTEN}:
            understood.append(_Row(row.index, made, row.step, label))
    return understood


def _common(values: Sequence[str]) -> tuple[int, int]:
    """Return the characters that all values begin and end with, without a part of a word."""

    def alike(texts: Sequence[str], joined: Callable[[str, str], bool]) -> int:
        n = 0
        while n < min(map(len, texts)) and len({text[n] for text in texts}) == 1:
            n += 1
        while n and any(joined(text[n - 1], text[n]) for text in texts if n < len(text)):
            n -= 1
        return n

    start = alike(values, _of_a_kind)
    end = alike([value[start:][::-1] for value in values], _of_a_word)
    while end and any(start + end >= len(value) for value in values):
        end -= 1
    return start, end


def _of_a_kind(one: str, other: str) -> bool:
    return (one.isdigit() and other.isdigit()) or (one.isalpha() and other.isalpha())


def _of_a_word(one: str, other: str) -> bool:
    return one.isalnum() and other.isalnum()


def _with_seed_above(rows: list[_Row], fixed: int) -> list[_Row]:
    """Find the seed of paths that differ in nothing in a fixed part, or take the last as such."""
    understood = []
    for row in rows:
        found = _with_named_seed(row, max(fixed - 1, 0))
        if found.seed is None:
            found = _with_named_seed(row, 0, [_NUMBERED_SEED])
        if found.seed is None:
            free = [n for n in range(fixed, len(row.parts)) if not {*row.parts[n]} & {*_WRITTEN}]
            if free:
                found = _named_by([row], free[0])[0]
            else:
                found = _Row(row.index, row.parts, row.step, "1")
        understood.append(found)
    return understood


def _alike(rows: Iterable[_Row]) -> list[list[_Row]]:
    """Group rows that are the same but for numbers other than the step."""
    groups: dict[tuple[str, ...], list[_Row]] = defaultdict(list)
    for row in rows:
        signature = tuple(_NUMBER.sub("#", part) if _has_step(part) else part for part in row.parts)
        groups[signature].append(row)
    return list(groups.values())


def _has_step(part: str) -> bool:
    return bool({*part} & {_STEP, _THOUSANDS})


def _guess(rows: list[_Row]) -> Guess:
    columns = list(zip(*(row.parts for row in rows), strict=True))
    parts = tuple(_written(_merged(sorted({*column}))) for column in columns)
    found: dict[tuple[str, int | None], int] = {}
    for row in rows:
        found.setdefault((row.seed or "", row.step), row.index)
    return Guess(parts, found, len(rows) - len(found))


def _merged(values: Sequence[str]) -> str:
    """Return one text for values that differ in numbers only: `*` for each that is not one."""
    if len(values) == 1:
        return values[0]
    numbers = zip(*(_NUMBER.findall(value) for value in values), strict=True)
    same = iter([it[0] if len({*it}) == 1 else _ANY for it in numbers])
    return _NUMBER.sub(lambda _: next(same), values[0])


def _written(part: str) -> str:
    for mark, text in _WRITTEN.items():
        part = part.replace(mark, text)
    return part
