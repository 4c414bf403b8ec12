"""The study file that `seedconv init` writes, with what it found in place of examples."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

SHORT, FULL = "short_template.toml", "template.toml"
_MODELS = "[tokenizer]"  # begins what is replaced by what was found


@dataclass(frozen=True)
class FoundModel:
    """One model, as its block of the study file names it."""

    name: str
    source: str | Mapping[str, str]
    notes: Sequence[str]  # what was found, a line each
    seeds: Sequence[str] | None = None  # None: to be discovered
    step: int | None = None  # of the one checkpoint that each seed has
    pickles: str | None = None  # what is said of them; None: there are none
    config: str | None = None  # config.json that all share
    needs_config: bool = False  # and none was found


@dataclass(frozen=True)
class FoundStudy:
    """What was found of a study."""

    models: Sequence[FoundModel]
    tokenizer: str | None
    about_tokenizer: str  # where it was found, or what to write
    masked: bool = False  # masked models
    others: Sequence[str] = ()  # what else was found and is not used, a line each


def template(name: str) -> str:
    """Return a template of the study file."""
    return files("engine.study_file").joinpath(name).read_text(encoding="utf-8")


def draft(found: FoundStudy) -> str:
    """Return the short template with what was found."""
    head = template(SHORT).partition(_MODELS)[0]
    return head + "\n".join(_lines(found)) + "\n"


def _lines(found: FoundStudy) -> Iterator[str]:
    yield "[tokenizer]                       # all checkpoints of a study share it"
    yield f"# {found.about_tokenizer}"
    yield f"source = {_text(found.tokenizer or './tokenizer')}"
    for model in found.models:
        yield ""
        yield "[[models]]                        # one block per model (architecture and size)"
        yield from (f"# {note}" for note in model.notes)
        yield f"name = {_text(model.name)}"
        if isinstance(model.source, str):
            yield f"source = {_text(model.source)}"
        else:
            table = ", ".join(f"{_text(seed)} = {_text(it)}" for seed, it in model.source.items())
            yield f"source = {{ {table} }}"
        if model.seeds is None:
            yield _with('seeds = "discover"', "or a list: [1, 2, 3]")
        else:
            yield _with(f"seeds = {_text(list(model.seeds))}", "what else fits holds no weights")
        if model.step is None:
            yield _with('steps = "discover"', "or a list: [0, 100, 1000]")
        else:
            label = "where training ended; only a label: any number will do"
            yield _with(f"steps = [{model.step}]", label)
        if model.pickles is not None:
            yield _with("allow_pickle = true", model.pickles)
        if model.config is not None:
            yield f"config = {_text(model.config)}"
        elif model.needs_config:
            yield '# config = "config.json"          # none was found: docs/sources.md#nanogpt'
    for other in found.others:
        yield f"# {other}"
    if found.masked:
        yield ""
        yield "[scoring]"
        yield 'prediction = "visible"            # masked models; or "pseudo": docs/method.md'


def _with(field: str, comment: str) -> str:
    return f"{field:<33} # {comment}"


def _text(value: object) -> str:
    """Write a text, or a list of them, as TOML."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
