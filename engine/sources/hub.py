"""Checkpoints on the Hub: pinned to commits when they are found, downloaded when scored."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from engine.errors import CheckpointError
from engine.sources.base import Listing, Reference
from engine.sources.checkpoint_files import INDEX, INDEX_OF, PICKLED_INDEX, main_weights, shards
from engine.sources.foreign import recognise
from engine.sources.hub_client import HubClient
from engine.sources.hub_errors import HubError
from engine.sources.hub_search import HubSearch, Revision
from engine.study_file.models_section import ModelSection
from store.schema import Key

LOOK_AGAIN_SECONDS = 300.0  # `watch` asks the Hub no more often by default


class HubSource:
    """The revisions of one model that fit its templates."""

    def __init__(
        self,
        model: ModelSection,
        client: HubClient,
        clock: Callable[[], float],
        look_again_seconds: float = LOOK_AGAIN_SECONDS,
    ) -> None:
        self._model, self._clock = model, clock
        self._look_again_seconds = look_again_seconds
        self._search, self._downloads = HubSearch(model, client), HubDownloads(model, client)
        self._checkpoints: dict[Key, HubCheckpoint] = {}
        self._pinned: dict[Key, Revision] = {}
        self._listing: Listing | None = None
        self._looked = 0.0

    def find(self) -> Listing:
        """Ask the Hub, or repeat what it said not long ago.

        A checkpoint found before stays at the commit it was found at.
        """
        if self._listing is not None and self._clock() - self._looked < self._look_again_seconds:
            return self._listing
        wanted = self._model.listed
        look = self._search.look(wanted)
        self._pinned = {**look.revisions, **self._pinned}
        there, errors = frozenset(self._pinned), tuple(look.errors)
        ambiguous = {key: why for key, why in look.ambiguous.items() if key not in there}
        # Not clear any more: the one that was found first stays.
        later = tuple(why for key, why in look.ambiguous.items() if key in there)
        if wanted is None:
            asked = there | look.missing.keys() | ambiguous.keys()
            warnings = (*look.warnings, *later)
            self._listing = Listing(
                asked, there, look.missing, warnings, errors, ambiguous=ambiguous
            )
        else:
            absent = wanted - there - ambiguous.keys()
            missing = {key: look.missing.get(key, self.absent(key)) for key in absent}
            self._listing = Listing(
                frozenset(wanted), there & wanted, missing, later, errors, ambiguous=ambiguous
            )
        self._looked = self._clock()
        return self._listing

    def hint(self) -> str | None:
        """Return None: the Hub itself says what is missing."""
        return None

    def checkpoint(self, key: Key) -> HubCheckpoint:
        """Return the checkpoint of this seed and step; it need not have been found."""
        if key not in self._checkpoints:
            self._checkpoints.setdefault(key, HubCheckpoint(key, self, self._downloads))
        return self._checkpoints[key]

    def reopen(self, reference: Reference) -> HubCheckpoint:
        """Return the checkpoint that was referred to, at the commit where it was found."""
        if (known := self._checkpoints.get(reference.key)) is not None:  # found by this source
            return known
        revision = reference.place if isinstance(reference.place, Revision) else None
        return HubCheckpoint(reference.key, self, self._downloads, revision)

    def where(self, key: Key) -> str:
        """Return repository and revision of a checkpoint, as far as known."""
        return str(self._pinned.get(key) or self._search.where(key))

    def absent(self, key: Key) -> str:
        """Say in one line that there is no such checkpoint."""
        return f"{self.where(key)}: there is no such revision"

    def pinned(self, key: Key) -> Revision | None:
        """Return the revision at which a checkpoint was found; None: it was not, so far."""
        return self._pinned.get(key)

    def pin(self, key: Key) -> Revision:
        """Return the revision of a checkpoint; ask the Hub unless it was found before.

        Raise CheckpointError when there is none.
        """
        if key not in self._pinned:
            self.find()  # in a process that has not looked yet
        if key not in self._pinned:
            raise CheckpointError(self.absent(key))
        return self._pinned[key]


class HubCheckpoint:
    """A checkpoint on the Hub. Its commit never changes."""

    def __init__(
        self,
        key: Key,
        source: HubSource,
        downloads: HubDownloads,
        revision: Revision | None = None,
    ) -> None:
        """Stay at `revision`, if it is given; by default, where the source finds it."""
        self.key = key
        self._source, self._downloads, self._revision = source, downloads, revision

    def _known(self) -> Revision | None:
        return self._revision or self._source.pinned(self.key)

    def _pinned(self) -> Revision:
        return self._revision or self._source.pin(self.key)

    def where(self) -> str:
        """Return repository and revision, as far as known."""
        return str(self._revision or self._source.where(self.key))

    def reference(self) -> Reference:
        """Refer to it, with the commit at which it was found."""
        return Reference(self.key, self._known())

    def fetch(self) -> Path:
        """Download what scoring takes, and no more; return its folder in the Hub's cache.

        Raise CheckpointError, in one line, and Interrupted.
        """
        return self._downloads.fetch(self._pinned())

    def config(self) -> Path | None:
        """Return the one asked for first: all checkpoints of a model share an architecture."""
        with contextlib.suppress(CheckpointError):  # reported when the checkpoint is fetched
            return self._downloads.config(self._pinned())
        return None

    def signature(self) -> object:
        """Return the commit."""
        revision = self._known()
        return revision and revision.commit

    def finished(self) -> bool:
        """Return True: a commit is whole."""
        return True

    def refused(self, *, waiting: bool) -> str | None:
        """Return None: what a repository lacks is reported when it is fetched."""
        return None

    def gone(self) -> bool:
        """Return False: a pinned commit that was deleted since fails when it is fetched."""
        return False

    def failed(self) -> None:
        """Do nothing: the commit stays."""

    def details(self) -> dict[str, str]:
        """Return repository, revision and the commit that was scored."""
        return {**vars(self._pinned())}

    def release(self) -> None:
        """Delete the checkpoint from the Hub's cache, if the study file says so."""
        if not self._downloads.kept:
            self._downloads.drop(self._pinned())


class HubDownloads:
    """Downloads of one model's checkpoints, in the Hub's cache."""

    def __init__(self, model: ModelSection, client: HubClient) -> None:
        self._model, self._client = model, client
        self._config: Path | None = None
        self._config_asked = False
        self._dropping = threading.Lock()

    def fetch(self, revision: Revision) -> Path:
        """Download a checkpoint; return its folder. Raise CheckpointError and Interrupted."""
        names = self._client.files(revision.repository, revision.commit)
        if "config.json" not in names:
            raise CheckpointError(f"{revision} {recognise(names) or 'has no config.json'}")
        main = main_weights(str(revision), names, allow_pickle=self._model.allow_pickle)
        folder = self._download_config(revision)
        for name in self._small_files(names):
            self._download(revision, name)
        file = self._download(revision, main)
        for name in shards(file) if main in (INDEX, PICKLED_INDEX) else ():
            self._download(revision, name)
        if (index := INDEX_OF.get(main)) in names:  # it is reported; its files are not downloaded
            self._download(revision, str(index))
        return folder

    def config(self, revision: Revision) -> Path | None:
        """Return the config.json of the first revision that this is called with.

        None: it could not be had. Raise CheckpointError, the first time, when that is why.
        """
        if not self._config_asked:
            self._config_asked = True
            self._config = self._download(revision, "config.json")
        return self._config

    @property
    def kept(self) -> bool:
        """Return whether the study file keeps what was downloaded once it was scored."""
        return self._model.cache == "keep"

    def drop(self, revision: Revision) -> None:
        """Delete a checkpoint from the cache."""
        with self._dropping:
            self._client.drop(revision.commit)

    def _download_config(self, revision: Revision) -> Path:
        """Download it by its revision's name, so that the cache knows that without a network.

        If the revision has moved on, the pinned commit is taken all the same.
        """
        file = self._client.download(revision.repository, revision.revision, "config.json")
        if file.parent.name != revision.commit:
            file = self._download(revision, "config.json")
        return file.parent

    def _small_files(self, names: set[str]) -> Iterator[str]:
        whole = "tokenizer.json" in names
        vocabulary = {"tokenizer.json"} if whole else {"vocab.json", "vocab.txt"}
        yield from sorted(names & (vocabulary | {"added_tokens.json", "tokenizer_config.json"}))
        if self._model.trust_remote_code:
            yield from sorted(name for name in names if name.endswith(".py"))

    def _download(self, revision: Revision, name: str) -> Path:
        return self._client.download(revision.repository, revision.commit, name)


VOCABULARIES = frozenset(
    {
        "tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model",
        "sentencepiece.bpe.model", "tiktoken.model", "tekken.json",
    }
)  # fmt: skip
"""Files of a tokenizer; one of them holds the vocabulary."""

_TOKENIZER = VOCABULARIES | {
    "added_tokens.json", "config.json", "merges.txt", "special_tokens_map.json",
    "tokenizer_config.json",
}  # fmt: skip


def fetch_tokenizer(client: HubClient, repository: str, revision: str) -> Path:
    """Download a repository's tokenizer; return its folder in the cache. Raise HubError."""
    commit = client.revisions(repository).get(revision) or client.commit(repository, revision)
    names = sorted(client.files(repository, commit) & _TOKENIZER)
    if not VOCABULARIES.intersection(names):
        raise HubError(f"{repository}@{revision}: has no tokenizer", absent=True)
    client.download(repository, revision, names[0])  # so that the cache knows the revision
    files = [client.download(repository, commit, name) for name in names]
    return files[0].parent
