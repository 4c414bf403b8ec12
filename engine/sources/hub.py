"""Checkpoints on the hub: found by listing, pinned to commits, downloaded when they are scored."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from engine.errors import CheckpointError
from engine.sources.base import Listing
from engine.sources.checkpoint_files import INDEX, PICKLED_INDEX, main_weights, shards
from engine.sources.foreign import recognise
from engine.sources.hub_client import HubClient, HubError
from engine.study_file.models_section import ModelSection
from engine.study_file.patterns import HubTemplate, Pattern
from store.schema.keys import Key

LOOK_AGAIN_SECONDS = 300.0  # `watch` asks the hub no more often, unless told to


@dataclass(frozen=True)
class Revision:
    """A revision of a repository, pinned."""

    repository: str
    revision: str
    commit: str

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"


@dataclass
class _Look:
    """What one look at the hub has found so far."""

    places: dict[Key, Revision] = field(default_factory=dict)
    missing: dict[Key, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def fail(self, error: HubError) -> None:
        (self.warnings if error.absent else self.errors).append(str(error))


class HubSource:
    """Revisions that fit a template such as `EleutherAI/{model}-seed{seed}@step{step}`."""

    def __init__(
        self,
        model: ModelSection,
        client: HubClient,
        clock: Callable[[], float],
        look_again_seconds: float = LOOK_AGAIN_SECONDS,
    ) -> None:
        self._model, self._client, self._clock = model, client, clock
        self._look_again_seconds = look_again_seconds
        self._templates = {seed: HubTemplate.parse(t) for seed, t in model.templates.items()}
        self._pinned: dict[Key, Revision] = {}
        self._found: Listing | None = None
        self._looked = 0.0
        self._config: Path | None = None
        self._config_asked = False
        self._dropping = threading.Lock()

    # -- finding -------------------------------------------------------------------------------

    def find(self) -> Listing:
        """Ask the hub, or tell what it said not long ago.

        A checkpoint found before stays at the commit it was found at.
        """
        if self._found is not None and self._clock() - self._looked < self._look_again_seconds:
            return self._found
        look, wanted = _Look(), self._model.listed
        for label, template in self._templates.items():
            keys = None if wanted is None else {k for k in wanted if label in (None, k[0])}
            if "step" in template.repository.fields:
                self._look_through_names(label, template, keys, look)
            else:
                self._look_through_revisions(label, template, keys, look)
        self._pinned = {**look.places, **self._pinned}
        there = frozenset(self._pinned)
        if wanted is None:
            self._found = Listing(
                there | look.missing.keys(), there, look.missing,
                tuple(look.warnings), tuple(look.errors),
            )  # fmt: skip
        else:
            missing = {
                key: look.missing.get(key, f"{self.where(key)}: there is no such revision")
                for key in wanted - there
            }
            self._found = Listing(
                frozenset(wanted), there & wanted, missing, errors=tuple(look.errors)
            )
        self._looked = self._clock()
        return self._found

    def _look_through_names(
        self,
        label: str | None,
        template: HubTemplate,
        keys: set[Key] | None,
        look: _Look,
    ) -> None:
        """Each checkpoint has a repository of its own: one list tells them all."""
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
        look: _Look,
    ) -> None:
        """A repository holds a seed, or all: its branches and tags tell the steps."""
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
        look: _Look,
    ) -> Iterator[tuple[str, str | None, dict[str, str]]]:
        """Repositories that fit, with the commit of their `main` and the fields of their names."""
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
        look: _Look,
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
        place: Revision,
        keys: set[Key] | None,
        look: _Look,
    ) -> None:
        """Take a place, unless another one fits the same checkpoint."""
        key = (found["seed"], int(found["step"]))
        if not (self._model.accepts(*key) if keys is None else key in keys):
            return
        if key in look.missing or look.places.setdefault(key, place) != place:
            other = look.places.pop(key, None)
            look.missing.setdefault(
                key, f"{other} and {place.revision} both fit; make the source name one"
            )

    def _known(self, label: str | None) -> dict[str, str]:
        known = {"model": self._model.name} | ({} if label is None else {"seed": label})
        step = self._model.only_step
        return known if step is None else {**known, "step": str(step)}

    # -- one checkpoint ------------------------------------------------------------------------

    def where(self, key: Key) -> str:
        """Repository and revision, as far as the template tells."""
        if key in self._pinned:
            return str(self._pinned[key])
        seed, step = key
        template = self._templates.get(seed) or self._templates[None]
        known = {"model": self._model.name, "seed": seed, "step": str(step)}
        try:
            return f"{template.repository.fill(known)}@{template.revision.fill(known)}"
        except CheckpointError as error:
            return str(error)

    def place(self, key: Key) -> object:
        """The commit at which the checkpoint was found."""
        return self._pinned.get(key)

    def adopt(self, key: Key, place: object) -> None:
        """Stay at the commit at which another process found the checkpoint."""
        if isinstance(place, Revision):
            self._pinned[key] = place

    def fetch(self, key: Key) -> Path:
        """The hub's cache of the checkpoint, with what scoring takes: no more is downloaded."""
        place = self._place(key)
        names = self._client.files(place.repository, place.commit)
        if "config.json" not in names:
            raise CheckpointError(f"{place} {recognise(names) or 'has no config.json'}")
        main = main_weights(str(place), names, allow_pickle=self._model.allow_pickle)
        folder = self._download_config(place)
        for name in self._small_files(names):
            self._download(place, name)
        file = self._download(place, main)
        for name in shards(file) if main in (INDEX, PICKLED_INDEX) else ():
            self._download(place, name)
        return folder

    def _place(self, key: Key) -> Revision:
        if key not in self._pinned:
            self.find()  # in a process that has not looked yet
        if key not in self._pinned:
            raise CheckpointError(f"{self.where(key)}: there is no such revision")
        return self._pinned[key]

    def _download_config(self, place: Revision) -> Path:
        """By its revision's name, so that the cache knows the name when there is no network.

        If the revision has moved on, the pinned commit is taken all the same.
        """
        file = self._client.download(place.repository, place.revision, "config.json")
        if file.parent.name != place.commit:
            file = self._download(place, "config.json")
        return file.parent

    def _small_files(self, names: set[str]) -> Iterator[str]:
        yield from sorted(names & {"tokenizer.json"})
        if self._model.trust_remote_code:
            yield from sorted(name for name in names if name.endswith(".py"))

    def _download(self, place: Revision, name: str) -> Path:
        return self._client.download(place.repository, place.commit, name)

    def config(self, key: Key) -> Path | None:
        """The first one asked for: all checkpoints of a model share one architecture."""
        if not self._config_asked:
            self._config_asked = True
            with contextlib.suppress(CheckpointError):  # told when the checkpoint is fetched
                self._config = self._download(self._place(key), "config.json")
        return self._config

    def signature(self, key: Key) -> object:
        """The commit."""
        place = self._pinned.get(key)
        return place and place.commit

    def failed(self, key: Key) -> None:
        """There is nothing to do: the commit stays."""

    def finished(self, key: Key) -> bool:
        """A commit is whole."""
        return True

    def refused(self, key: Key, *, waiting: bool) -> str | None:
        """None: what a repository holds is told when it is fetched."""
        return None

    def gone(self, key: Key) -> bool:
        """Never: a commit that was pinned and is not there any more fails when it is fetched."""
        return False

    def hint(self) -> str | None:
        """None: what is missing is told by the hub."""
        return None

    def details(self, key: Key) -> dict[str, str]:
        """Repository, revision and the commit that was scored."""
        return {**vars(self._place(key))}

    def release(self, key: Key) -> None:
        """Delete the checkpoint from the hub's cache, if the study file says so."""
        if self._model.cache == "drop":
            with self._dropping:
                self._client.drop(self._place(key).commit)


def _agree(known: Mapping[str, str], key: Key) -> bool:
    seed, step = key
    return known.get("seed", seed) == seed and known.get("step", str(step)) == str(step)


_TOKENIZER = {
    "added_tokens.json", "config.json", "merges.txt", "special_tokens_map.json",
    "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt",
}  # fmt: skip


def fetch_tokenizer(client: HubClient, repository: str, revision: str) -> Path:
    """A folder in the hub's cache that holds a repository's tokenizer. Raises HubError."""
    commit = client.revisions(repository).get(revision) or client.commit(repository, revision)
    names = sorted(client.files(repository, commit) & _TOKENIZER)
    if not names:
        raise HubError(f"{repository}@{revision}: has no tokenizer", absent=True)
    client.download(repository, revision, names[0])  # tells the cache what the revision is
    files = [client.download(repository, commit, name) for name in names]
    return files[0].parent
