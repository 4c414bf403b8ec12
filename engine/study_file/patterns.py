"""Patterns of sources: text with {model}, {seed} and {step}, for folders and for the Hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.errors import CheckpointError

Fields = Mapping[str, str]  # values of model, seed and step, as far as known

_FIELD = re.compile(r"\{(model|seed|step:k|step)\}|(\*)")
_STEP = "0*[0-9]{1,15}"  # with or without leading zeros; thousands of it fit 64 bits
_VALUES = {"model": r"[^/]+?", "seed": r"[^/]+?", "step": _STEP, "step:k": _STEP, "*": ".*?"}
_HUB = "hf://"
_FOLDER = ("/", "./", "../", "~")


class Pattern:
    """Text with the fields {model}, {seed}, {step} and {step:k}, and `*` for anything.

    `{step:k}` is the step in thousands, as in `step_20k` for step 20,000. A step is read with or
    without leading zeros; it is written without.
    """

    def __init__(self, text: str) -> None:
        """Raise ValueError when there is another field."""
        rest = _FIELD.sub("", text)
        if "{" in rest or "}" in rest:
            raise ValueError("may hold only the fields {model}, {seed} and {step} (or {step:k})")
        self.text = text
        self._parts: list[tuple[str, str]] = []  # text, then the name of the field after it or ""
        start = 0
        for match in _FIELD.finditer(text):
            self._parts.append((text[start : match.start()], match[1] or match[2]))
            start = match.end()
        self._parts.append((text[start:], ""))
        names = [name for _, name in self._parts]
        self.fields = frozenset(name.partition(":")[0] for name in names if name)

    def fill(self, known: Fields) -> str:
        """Return the text with what is known put in; other fields stay unchanged.

        Raise CheckpointError when the pattern has {step:k} and the step is not in thousands.
        """
        return "".join(
            literal + (self._value(name, known) or _written(name)) for literal, name in self._parts
        )

    def _value(self, name: str, known: Fields) -> str:
        if name == "step:k" and "step" in known:
            thousands, rest = divmod(int(known["step"]), 1000)
            if rest:
                raise CheckpointError(
                    f"{self.text}: step {known['step']} is not in whole thousands, as {{step:k}} is"
                )
            return str(thousands)
        return known.get(name, "")

    def matcher(self, known: Fields) -> Callable[[str], dict[str, str] | None]:
        """Return a function that finds the fields of a text: known and found ones, or None."""
        regex, seen = "", set[str]()
        steps: list[int] = []  # of each group, in their order: what its number stands for
        followed, closing = [*(name for _, name in self._parts[1:]), ""], ""
        for (literal, name), following in zip(self._parts, followed, strict=True):
            regex += re.escape(literal) + closing
            closing = ""
            if name in ("step", "step:k"):  # each by itself: their zeros may differ
                steps.append(1000 if name == "step:k" else 1)
                regex += f"(?P<step_{len(steps)}>{_STEP})"
            elif name in seen:
                regex += f"(?P={name})"
            elif value := known.get(name, ""):
                regex += re.escape(value)
            elif name == following == "*":  # the shortest will do, as the next takes the rest:
                regex, closing = f"{regex}(?>{_VALUES[name]}", ")"  # no other is ever tried
            elif name == "*":
                regex += _VALUES[name]
            elif name:
                seen.add(name)
                regex += f"(?P<{name}>{_VALUES[name]})"
        compiled = re.compile(regex)

        def match(text: str) -> dict[str, str] | None:
            found = compiled.fullmatch(text)
            if found is None:
                return None
            groups = found.groupdict()
            numbers = {int(groups.pop(f"step_{n}")) * k for n, k in enumerate(steps, 1)}
            return _merged(known, groups, numbers)

        return match

    def literal(self) -> str:
        """Return the longest piece of text without a field: something to search for."""
        return max((text for text, _ in self._parts), key=len)


def _written(name: str) -> str:
    return name if name in ("", "*") else f"{{{name}}}"


def _merged(known: Fields, found: Fields, steps: set[int]) -> dict[str, str] | None:
    """Return what is known and what was found; None when two of the steps differ."""
    if "step" in known:
        steps = steps | {int(known["step"])}
    if len(steps) > 1:
        return None
    return {**known, **found, **({"step": str(*steps)} if steps else {})}


@dataclass(frozen=True)
class HubTemplate:
    """A repository on the Hub, `owner/name`, and a revision of it."""

    repository: Pattern
    revision: Pattern

    @classmethod
    def parse(cls, text: str) -> HubTemplate:
        """Read `[hf://]owner/name[@revision]`. Raise ValueError."""
        repository, at, revision = text.removeprefix(_HUB).partition("@")
        owner, slash, name = repository.partition("/")
        if not slash or not owner or not name or "/" in name or (at and not revision):
            raise ValueError(
                "is on the Hub, because of its @ or hf://, and so must be owner/name@revision; "
                "a folder with @ in its name starts with ./ or /"
            )
        if Pattern(owner).fields & {"seed", "step", "*"} or "*" in name:
            raise ValueError("may hold {seed} and {step} in the repository's name, * after @ only")
        return cls(Pattern(repository), Pattern(revision or "main"))

    @property
    def fields(self) -> frozenset[str]:
        """Return the names of all fields."""
        return self.repository.fields | self.revision.fields


@dataclass(frozen=True)
class SourceKind:
    """A kind of place that checkpoints come from, and how a source says that it is meant."""

    name: str
    means: Callable[[str], bool]  # whether a source is written as one of this kind
    fields: Callable[[str], frozenset[str]]  # of such a source, by name; ValueError: it is none
    nothing_fits: str  # begins what is said where no checkpoint fits the source, its text follows
    downloads: bool = False  # checkpoints are elsewhere, and fetched to be scored
    captured: bool = False  # what models say comes from training, which keeps no checkpoint


def _in_folders(text: str) -> frozenset[str]:
    if "://" in text:
        raise ValueError("must be a folder, or owner/name@revision on the Hub")
    return Pattern(text).fields


HUB = SourceKind(
    name="the Hub",
    means=lambda text: text.startswith(_HUB) or ("@" in text and not text.startswith(_FOLDER)),
    fields=lambda text: HubTemplate.parse(text).fields,
    nothing_fits="nothing on the Hub fits",
    downloads=True,
)
CAPTURED = SourceKind(
    name='"captured"',
    means=lambda text: text == "captured",
    fields=lambda text: frozenset({"seed", "step"}),  # each capture says which it is of
    nothing_fits="no training run has handed over anything yet (docs/capture.md): its source is",
    captured=True,
)
FOLDERS = SourceKind(
    name="folders",
    means=lambda text: True,
    fields=_in_folders,
    nothing_fits="no folder fits",
)
SOURCE_KINDS = (HUB, CAPTURED, FOLDERS)
"""All of them. A source is of the first that it can mean; `engine.sources.open` opens each."""


def kind_of(text: str) -> SourceKind:
    """Return the kind of place that a source is written for."""
    return next(kind for kind in SOURCE_KINDS if kind.means(text))


def source_fields(text: str) -> frozenset[str]:
    """Return the names of the fields of a source. Raise ValueError when it cannot be one."""
    return kind_of(text).fields(text)
