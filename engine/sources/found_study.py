"""What a folder of training runs, or a name on the Hub, says of the study to be made of it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from engine.errors import CheckpointError, ConfigError
from engine.sources.checkpoint_files import read_json
from engine.sources.checkpoint_kinds import kind_for
from engine.sources.checkpoint_places import (
    DEEP,
    LOOKED_FOR,
    CheckpointPlace,
    FolderContents,
    look_into,
)
from engine.sources.folders import Folders
from engine.sources.hub import VOCABULARIES
from engine.study_file.draft import FoundModel, FoundStudy
from engine.study_file.guessed_source import Guess, guess_sources
from engine.study_file.models_section import ModelSection
from engine.study_file.patterns import HUB, HubTemplate
from store.words import counted

_LABEL = 1000  # of the step at which training ended, where nothing says it
_GENERAL = {
    "checkpoint", "checkpoints", "ckpt", "ckpts", "exp", "experiments", "model", "models", "out",
    "output", "outputs", "results", "run", "runs", "training",
}  # fmt: skip
_MOST_TOKENIZERS = 30
_TABLE = "docs/sources.md#a-source-for-each-seed"
_PICKLES = "weights are pickles: read as data, nothing in them is run"


def find_study(where: str, base: Path) -> FoundStudy:
    """Return what there is in a folder, or behind a name on the Hub, for a study file in `base`.

    Nothing is asked of the Hub. Raise ConfigError, in one line, where nothing is recognised.
    """
    folder = Path(where)
    if not folder.exists():
        with contextlib.suppress(RuntimeError):  # of a user who is not there
            folder = folder.expanduser()
    if not folder.is_dir():
        if folder.exists():
            raise ConfigError(f"{where}: is a file. Name the folder that holds your training runs.")
        if HUB.means(where) or (where.count("/") == 1 and not where.startswith((".", "/", "~"))):
            return _on_hub([where])
        raise ConfigError(
            f"{where}: there is no such folder. Name the folder that holds your training runs, or "
            "owner/name@revision on the Hub."
        )
    seen = look_into(folder)
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ConfigError(f"{where}: cannot be read. Change its permissions.")
    if not seen.places and seen.revisions:
        return _on_hub(seen.revisions)
    if not seen.places:
        raise ConfigError(_nothing(where, seen))
    return _Folder(seen, folder, base).study()


def _nothing(where: str, seen: FolderContents) -> str:
    saw = f"{counted(seen.n_folders, 'folder')} and {counted(seen.n_files, 'file')}"
    saw += f", such as {', '.join(seen.examples)}" if seen.examples else ""
    hint = seen.hint()
    return (
        f"{where}: no checkpoints found. Looked for {LOOKED_FOR}, {DEEP} levels deep; saw {saw}."
        + (f" {hint}." if hint else "")
    )


class _Folder:
    """A folder that holds checkpoints."""

    def __init__(self, seen: FolderContents, folder: Path, base: Path) -> None:
        self._seen, self._base, self._places = seen, base, seen.places
        self._prefix = _from(folder, base).parts
        paths = [(*self._prefix, *place.parts) for place in seen.places]
        if paths[0] and paths[0][0].startswith("~"):
            raise ConfigError(f"{paths[0][0]}: begins with ~. Rename the folder.")
        for path in paths:
            if any({*part} & {*"{}"} for part in path):
                raise ConfigError(
                    f"{'/'.join(path)}: holds {{ or }}, which stand for fields in a source. Rename "
                    "the folder."
                )
        self._guesses = guess_sources(paths, len(self._prefix))
        self._root_name = "" if self._prefix else folder.resolve().name

    def study(self) -> FoundStudy:
        """Return what is to be written."""
        best, *rest = self._guesses
        chosen = [best, *(it for it in rest if it.rank[0] and _is_sibling(best, it))]
        models = [self._model(guess, chosen) for guess in chosen]
        tokenizer, about = self._tokenizer(best)
        others = [
            f"Also found, not used: {self._source(it)} ({_counts(it)})"
            for it in self._guesses
            if it not in chosen
        ]
        if not self._seen.whole:
            others.append("There are more folders than were looked into")
        masked = self._is_masked(best)
        return FoundStudy(models, tokenizer, about, masked=masked, others=others[:10])

    def _source(self, guess: Guess) -> str:
        text = Path(*guess.parts).as_posix()
        return f"./{text}" if HUB.means(text) else text

    def _model(self, guess: Guess, chosen: Sequence[Guess]) -> FoundModel:
        places = [self._places[n] for n in guess.found.values()]
        config, lacking = self._config(places)
        step = None if guess.steps else self._last_step(places)
        source: str | dict[str, str] = self._source(guess)
        if not guess.has_seed:
            source = {"1": str(source)}
        names, at = [self._name(it, chosen) for it in chosen], chosen.index(guess)
        name = names[at]
        if names.count(name) > 1:
            name = f"{name}-{at + 1}"
        made = ModelSection.model_validate(
            {"name": name, "source": source, "steps": "discover" if step is None else [step]}
        )
        kind = kind_for(made, self._base)
        folders = Folders(made, self._base, kind)
        folders.look()
        strangers = {seed for seed, _ in folders.found} - {*guess.seeds}
        notes = list(_notes(guess))
        if any("{seed}" in part for part in guess.parts[: len(self._prefix)]):  # one run was named
            if strangers:
                notes[1:] = [f"`source` also fits seeds next to it: {', '.join(sorted(strangers))}"]
            strangers = set()
        return FoundModel(
            name=name,
            source=source,
            notes=notes,
            seeds=guess.seeds if strangers and guess.has_seed else None,
            step=step,
            pickles=_PICKLES if any(place.pickled for place in places) else None,
            config=config,
            needs_config=lacking,
        )

    def _name(self, guess: Guess, chosen: Sequence[Guess]) -> str:
        for n, part in enumerate(guess.parts):
            if any(it.parts[n] != part for it in chosen):
                return (_model_of(part) if "{" in part else part)[:60]
        above = itertools.takewhile(lambda part: "{" not in part, guess.parts)
        names = [part for part in (self._root_name, *above) if part.strip("./")]
        names = [part for part in names if part.lower() not in _GENERAL]
        return names[-1][:60] if names else "my-model"

    def _folder_of(self, place: CheckpointPlace) -> tuple[str, ...]:
        root = self._seen.root.joinpath(*place.parts)
        return place.parts if root.is_dir() else place.parts[:-1]

    def _config(self, places: Sequence[CheckpointPlace]) -> tuple[str | None, bool]:
        """Return the config.json above the first, if not all have one, and whether it lacks."""
        folders = [self._folder_of(place) for place in places]
        if all(parts in self._seen.configs for parts in folders):
            return None, False
        parts = folders[0]
        for n in range(len(parts), -1, -1):
            if parts[:n] in self._seen.configs:
                return Path(*self._prefix, *parts[:n], "config.json").as_posix(), False
        return None, True

    def _last_step(self, places: Sequence[CheckpointPlace]) -> int:
        """Return the step that all checkpoints have ended at, as `Trainer` wrote it."""
        steps = set()
        for place in places:
            file = self._seen.root.joinpath(*self._folder_of(place), "trainer_state.json")
            steps.add(_json(file).get("global_step"))
        step = steps.pop() if len(steps) == 1 else None
        return step if isinstance(step, int) and step >= 0 else _LABEL

    def _is_masked(self, guess: Guess) -> bool:
        place = self._places[next(iter(guess.found.values()))]
        config = _json(self._seen.root.joinpath(*self._folder_of(place), "config.json"))
        names = config.get("architectures")
        return isinstance(names, list) and any(str(name).endswith("ForMaskedLM") for name in names)

    def _tokenizer(self, guess: Guess) -> tuple[str | None, str]:
        """Return the tokenizer's folder, and what to say of it."""
        first: dict[str, tuple[str, ...]] = {}  # a checkpoint of each seed
        for (seed, _), n in guess.found.items():
            first.setdefault(seed, self._folder_of(self._places[n]))
        inside = {self._folder_of(self._places[n]) for n in guess.found.values()}
        shared = [parts for parts in self._seen.tokenizers if parts not in inside]
        shared.sort(
            key=lambda parts: (not (parts and "tokenizer" in parts[-1].lower()), len(parts))
        )
        own = [parts for parts in first.values() if parts in self._seen.tokenizers]
        found = [self._seen.root.joinpath(*parts) for parts in (*shared, *own)][:_MOST_TOKENIZERS]
        if not found:
            near = [self._seen.root.parent, self._base]
            found = [it / "tokenizer" for it in near if _vocabulary(it / "tokenizer") is not None]
        if not found:
            return None, (
                "No tokenizer found (tokenizer.json, vocab.json, ...). Write its folder, or its "
                'name on the Hub such as "gpt2"'
            )
        kinds = [_vocabulary(folder) for folder in found]
        source = _from(found[0], self._base).as_posix()
        if len({*kinds}) == 1:
            return source, f"Found {len(found)}, all the same" if len(found) > 1 else "Found here"
        other = next(it for it, kind in zip(found, kinds, strict=True) if kind != kinds[0])
        return source, (
            f"Tokenizers differ: this one and {_from(other, self._base).as_posix()}. Only "
            "checkpoints with the same can be compared"
        )


def _is_sibling(one: Guess, other: Guess) -> bool:
    """Return whether two sources differ in a model's name only: a folder, or what begins one."""
    if len(one.parts) != len(other.parts):
        return False
    differ = [pair for pair in zip(one.parts, other.parts, strict=True) if pair[0] != pair[1]]
    if len(differ) != 1:
        return False
    ((_, first, _), (_, second, _)) = (part.partition("{") for part in differ[0])
    if not first and not second:
        return True
    (a, *fields), (b, *others) = (part.partition("{seed}") for part in differ[0])
    return fields == others and fields[0] != "" and all(map(_model_of, (a, b)))


def _model_of(part: str) -> str:
    """Return the name of a model that a folder's name begins with: small_seed -> small."""
    name = re.sub(r"[-_. ]*(?:seed|run)?[-_. ]*$", "", part.partition("{")[0])
    return "" if name.lower() in _GENERAL or "{" in name else name


def _counts(guess: Guess) -> str:
    text = counted(len(guess.seeds), "seed")
    return text + (f", {counted(len(guess.steps), 'step')}" if guess.steps else ", one step")


def _notes(guess: Guess) -> Iterator[str]:
    """Yield what to say of the checkpoints that were found."""
    seeds, steps = guess.seeds, guess.steps
    named = ", ".join(seeds[:8]) + (", ..." if len(seeds) > 8 else "")
    text = f"Found {counted(len(seeds), 'seed')} ({named})"
    if not steps:
        yield f"{text} with one checkpoint each" if len(seeds) > 1 else f"{text}, one checkpoint"
    elif len(steps) == 1:
        yield f"{text} at step {steps[0]:,}"
    else:
        yield f"{text}, {len(steps)} steps from {steps[0]:,} to {steps[-1]:,}"
    if len(seeds) == 1:
        yield "Only one seed: comparing needs two or more. Check `source`, or train another"
    elif steps and not guess.rank[0]:
        yield (
            "No two seeds have a step in common, so nothing can be compared yet. To compare their "
            f"last checkpoints, list a source for each seed: {_TABLE}"
        )
    elif any(guess.steps_of(seed) != steps for seed in seeds):
        yield (
            "Seeds have different steps; those that two or more share are compared "
            f"({guess.rank[0]} of {len(steps)})"
        )
    if guess.rivals:
        yield f"{counted(guess.rivals, 'checkpoint')} more of the same seeds and steps: see `*`"


def _on_hub(names: Sequence[str]) -> FoundStudy:
    """Return what names of repositories and revisions say, without a look at the Hub."""
    paths, tokenizer = [], ""
    for name in names:
        try:
            template = HubTemplate.parse(name)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None
        paths.append((*template.repository.text.split("/"), template.revision.text))
        tokenizer = tokenizer or template.repository.text
    best = guess_sources(paths, fixed=1)[0]
    repository, revision = "/".join(best.parts[:2]), best.parts[2]
    text = f"{repository}@{revision}" if revision != "main" else f"hf://{repository}"
    source: str | dict[str, str] = text
    if "{seed}" in revision and not best.steps:  # the only thing that could be one
        source = {"1": f"{repository}@{paths[0][2]}"}
    notes = ["From the name only; the Hub is asked when the study runs"]
    if best.parts[1] == "{seed}":  # which would be any repository of its owner
        labels = best.seeds if len(best.seeds) > 1 else ["1"]
        filled = [text.replace("{seed}", seed) for seed in best.seeds]
        source = dict(zip(labels, filled, strict=True))
    if not isinstance(source, str) and len(source) == 1:
        notes.append("No seed in the name. Put {seed} where it stands, or add the other seeds")
    if not best.steps:
        notes.append("For all steps end source with @ and the revision's name, as @step{step}")
    step = None if best.steps else _LABEL
    name = repository.partition("/")[2].partition("{")[0].rstrip("-_.").removesuffix("seed")
    model = FoundModel(name.rstrip("-_.")[:60] or "my-model", source, notes, step=step)
    return FoundStudy([model], tokenizer, "The first repository's own")


def _from(folder: Path, base: Path) -> Path:
    """Return a folder as a study file in `base` names it: relative, unless it is far away."""
    absolute = folder.absolute()
    if folder.is_absolute() and not absolute.is_relative_to(base.absolute()):
        return folder
    return Path(os.path.relpath(absolute, base.absolute()))


def _json(file: Path) -> dict[str, object]:
    with contextlib.suppress(CheckpointError):
        return read_json(file)
    return {}


def _vocabulary(folder: Path) -> int | None:
    """Return a number that is the same where vocabularies are; None: there is none."""
    for name in ("tokenizer.json", *sorted(VOCABULARIES)):
        file = folder / name
        if not file.is_file():
            continue
        found = _json(file) if name == "tokenizer.json" else {}
        if "model" in found:  # without padding and the like, which training sets
            return hash(json.dumps([found["model"], found.get("added_tokens")], sort_keys=True))
        try:
            return hash(file.read_bytes())
        except OSError:
            return None
    return None
