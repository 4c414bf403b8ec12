"""Folders of a model's checkpoints: by template, by search, by announcement."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from engine.errors import CheckpointError
from engine.sources.announcements import Announcement
from engine.sources.checkpoint_files import is_folder
from engine.sources.checkpoint_kinds import CheckpointKind
from engine.study_file.models_section import ModelSection
from engine.study_file.patterns import Fields, Pattern
from store.schema import Key


class Folders:
    """Folders that fit a template such as `runs/{model}/seed{seed}/checkpoint-{step}`.

    Or files, as `runs/seed{seed}/ckpt-{step}.pt` says; and what a training script has announced,
    wherever it is.
    """

    def __init__(self, model: ModelSection, base: Path, kind: CheckpointKind) -> None:
        """Take the model's templates; relative ones are below `base`. Files fit as `kind` says."""
        self._model, self._base, self._kind = model, base, kind
        self._templates = {seed: Pattern(text) for seed, text in model.templates.items()}
        self._found: dict[Key, Path] = {}  # the first that fits
        self._rivals: dict[Key, Path] = {}  # the next one, which stands for the same checkpoint
        self.announced: Mapping[Key, Announcement] = {}

    def look(self) -> None:
        """Look into the folders, unless the templates alone say where all checkpoints are."""
        fields = {name for template in self._templates.values() for name in template.fields}
        # A step may be written with leading zeros, so no template that has one says it all.
        if self._model.listed is not None and not fields & {"*", "step"}:
            return
        found: dict[Key, Path] = {}
        rivals: dict[Key, Path] = {}
        for key, path in self._discover():
            if self._model.accepts(*key) and not _same(found.setdefault(key, path), path):
                rivals.setdefault(key, path)
        self._found, self._rivals = found, rivals  # at once: threads may be reading them

    @property
    def found(self) -> Mapping[Key, Path]:
        """Return what the last look has found."""
        return self._found

    def ambiguous(self, key: Key) -> str | None:
        """Return why it is not known which folder a checkpoint is, in one line; None: it is."""
        if key not in self._rivals or key in self.announced:
            return None
        return (
            f"{self._found[key]} and {self._rivals[key]} both stand for seed {key[0]}, step "
            f"{key[1]}. Move one of them away, or have the source name one."
        )

    def path(self, key: Key) -> Path:
        """Return the folder, whether or not it exists.

        Raise CheckpointError for a seed without a template, or a step it cannot write.
        """
        announcement = self.announced.get(key)
        if announcement is not None and (folder := announcement.folder) is not None:
            return folder
        if key in self._found:
            return self._found[key]
        seed, step = key
        known = {"model": self._model.name, "seed": seed, "step": str(step)}
        try:
            return self._base / Path(self._template(key).fill(known)).expanduser()
        except CheckpointError:
            if announcement is None:
                raise
            return announcement.path

    def root(self, key: Key) -> Path:
        """Return the part of the template's path that all checkpoints share."""
        root, parts = self._parts(self._template(key))
        for part in parts[:-1]:
            if Pattern(part).fields:
                break
            root /= part
        return root

    def near(self) -> Iterator[list[Path]]:
        """Yield, for each template, the deepest folders that fit its first parts."""
        for label, template in self._templates.items():
            (root, parts), known = self._parts(template), self._known(label, template)
            for n in range(len(parts) - 1, 0, -1):
                if near := [path for _, path in _match(root, parts[:n], known, self._kind)]:
                    yield near
                    break

    def _discover(self) -> Iterator[tuple[Key, Path]]:
        for label, template in self._templates.items():
            root, parts = self._parts(template)
            known = self._known(label, template)
            for found, path in _match(root, parts, known, self._kind):
                yield (found["seed"], int(found["step"])), path

    def _parts(self, template: Pattern) -> tuple[Path, tuple[str, ...]]:
        start = Path(template.text).expanduser()
        if start.is_absolute():
            return Path(start.anchor), start.parts[1:]
        return self._base, start.parts

    def _known(self, label: str | None, template: Pattern) -> Fields:
        known = {"model": self._model.name} | ({} if label is None else {"seed": label})
        if "step" not in template.fields:
            known["step"] = str(self._model.only_step)
        return known

    def _template(self, key: Key) -> Pattern:
        template = self._templates.get(key[0]) or self._templates.get(None)
        if template is None:  # it was once part of the study
            raise CheckpointError(f"seed {key[0]} has no source")
        return template


def _same(folder: Path, other: Path) -> bool:
    """Return whether two paths are one folder, as where one is a link to the other."""
    try:
        return folder == other or folder.samefile(other)
    except OSError:  # deleted meanwhile, or not to be asked
        return False


def _match(
    folder: Path, parts: tuple[str, ...], known: Fields, kind: CheckpointKind
) -> Iterator[tuple[Fields, Path]]:
    """Yield the fields and the path of every folder that fits, or file if it names one."""
    if not parts:
        yield known, folder
        return
    pattern, rest = Pattern(parts[0]), parts[1:]
    if not pattern.fields:
        if (is_folder if rest else kind.is_there)(folder / pattern.text):
            yield from _match(folder / pattern.text, rest, known, kind)
        return
    match = pattern.matcher(known)
    a_file = not rest and kind.may_be_file(pattern.text)
    try:
        with os.scandir(folder) as found_there:  # which mostly knows without asking for each
            entries = sorted(
                entry.name
                for entry in found_there
                if entry.is_dir() or (a_file and entry.is_file())
            )
    except OSError:
        return
    for entry in entries:
        if (found := match(entry)) is not None:
            yield from _match(folder / entry, rest, found, kind)
