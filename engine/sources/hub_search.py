"""Finds checkpoints on the Hub by listing repositories, their branches and tags."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from engine.errors import CheckpointError
from engine.sources.hub_client import HubClient
from engine.sources.hub_errors import HubError
from engine.study_file.models_section import ModelSection
from engine.study_file.patterns import HubTemplate, Pattern
from store.schema import Key


@dataclass(frozen=True)
class Revision:
    """A revision of a repository, pinned."""

    repository: str
    revision: str
    commit: str

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"


@dataclass
class HubLook:
    """Results of one look at the Hub."""

    revisions: dict[Key, Revision] = field(default_factory=dict)
    missing: dict[Key, str] = field(default_factory=dict)
    ambiguous: dict[Key, str] = field(default_factory=dict)  # several revisions, and which
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def fail(self, error: HubError) -> None:
        """Note a question without an answer: a warning if asking again is of no use."""
        (self.warnings if error.absent else self.errors).append(str(error))


class HubSearch:
    """Revisions that fit a template such as `EleutherAI/{model}-seed{seed}@step{step}`."""

    def __init__(self, model: ModelSection, client: HubClient) -> None:
        self._model, self._client = model, client
        self._templates = {seed: HubTemplate.parse(t) for seed, t in model.templates.items()}

    def look(self, wanted: Collection[Key] | None) -> HubLook:
        """Ask the Hub for the revisions of wanted checkpoints; None: of all matching ones."""
        look = HubLook()
        for label, template in self._templates.items():
            keys = None if wanted is None else {k for k in wanted if label in (None, k[0])}
            if "step" in template.repository.fields:
                self._look_through_names(label, template, keys, look)
            else:
                self._look_through_revisions(label, template, keys, look)
        return look

    def where(self, key: Key) -> str:
        """Return repository and revision of a checkpoint, as far as the template says."""
        seed, step = key
        template = self._templates.get(seed) or self._templates[None]
        known = {"model": self._model.name, "seed": seed, "step": str(step)}
        try:
            return f"{template.repository.fill(known)}@{template.revision.fill(known)}"
        except CheckpointError as error:
            return str(error)

    def _look_through_names(
        self,
        label: str | None,
        template: HubTemplate,
        keys: set[Key] | None,
        look: HubLook,
    ) -> None:
        """Find checkpoints that have a repository each: one list has them all."""
        for repository, commit, found in self._repositories(template, label, keys, look):
            if template.revision.text == "main":
                if commit is not None:
                    self._take(found, Revision(repository, "main", commit), keys, look)
            elif keys is None or any(_agree(found, key) for key in keys):
                self._look_at(repository, template, found, keys, look)

    def _look_through_revisions(
        self,
        label: str | None,
        template: HubTemplate,
        keys: set[Key] | None,
        look: HubLook,
    ) -> None:
        """Find checkpoints in a repository for each seed, or all: branches and tags are steps."""
        known, seeds = self._known(label), self._model.seeds
        if "seed" not in template.repository.fields:
            self._look_at(template.repository.fill(known), template, known, keys, look)
        elif keys is not None or isinstance(seeds, list):
            for seed in sorted({seed for seed, _ in keys} if keys is not None else seeds):
                fields = {**known, "seed": seed}
                self._look_at(template.repository.fill(fields), template, fields, keys, look)
        else:
            for repository, _, found in self._repositories(template, label, keys, look):
                self._look_at(repository, template, found, keys, look)

    def _repositories(
        self,
        template: HubTemplate,
        label: str | None,
        keys: set[Key] | None,
        look: HubLook,
    ) -> Iterator[tuple[str, str | None, dict[str, str]]]:
        """Yield repositories that fit: name, commit of its `main`, and fields of the name."""
        filled = template.repository.fill({"model": self._model.name})
        owner, _, name = filled.partition("/")
        match = template.repository.matcher(self._known(label))
        try:
            listing = self._client.repositories(owner, Pattern(name).literal())
        except HubError as error:
            look.missing |= dict.fromkeys(keys or (), str(error))
            look.fail(error)
            return
        for repository, commit in sorted(listing.items()):
            if (found := match(repository)) is not None:
                yield repository, commit, found

    def _look_at(
        self,
        repository: str,
        template: HubTemplate,
        known: Mapping[str, str],
        keys: set[Key] | None,
        look: HubLook,
    ) -> None:
        """Take the revisions of one repository that fit."""
        match = template.revision.matcher(known)
        try:
            revisions = self._client.revisions(repository)
            fixed = template.revision.text
            if not template.revision.fields and fixed not in revisions:
                revisions = {fixed: self._client.commit(repository, fixed)}
        except HubError as error:
            concerned = {key for key in keys or () if _agree(known, key)}
            look.missing |= dict.fromkeys(concerned, str(error))
            if not concerned or not error.absent:
                look.fail(error)
            return
        for revision, commit in revisions.items():
            if (found := match(revision)) is not None:
                self._take(found, Revision(repository, revision, commit), keys, look)

    def _take(
        self,
        found: Mapping[str, str],
        revision: Revision,
        keys: set[Key] | None,
        look: HubLook,
    ) -> None:
        """Take a revision; where another one stands for the same checkpoint, neither."""
        key = (found["seed"], int(found["step"]))
        if not (self._model.accepts(*key) if keys is None else key in keys):
            return
        if key in look.ambiguous or look.revisions.setdefault(key, revision) == revision:
            return
        other = look.revisions.pop(key)
        rival = str(revision) if revision.repository != other.repository else revision.revision
        look.ambiguous[key] = (
            f"{other} and {rival} both stand for seed {key[0]}, step {key[1]}. "
            "Have the source name one."
        )

    def _known(self, label: str | None) -> dict[str, str]:
        known = {"model": self._model.name} | ({} if label is None else {"seed": label})
        step = self._model.only_step
        return known if step is None else {**known, "step": str(step)}


def _agree(known: Mapping[str, str], key: Key) -> bool:
    seed, step = key
    return known.get("seed", seed) == seed and known.get("step", str(step)) == str(step)
