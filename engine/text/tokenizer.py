"""The study's tokenizer, and what its vocabulary stands for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NoReturn

from engine.errors import ConfigError
from engine.sources.hub_client import HubClient
from engine.study_file.file import StudyFile
from engine.text.derived_cache import as_array, as_value, digest_of, keep, recall
from engine.text.tokenizer_facts import SPACE_MARK, facts_of, identity_of, vocabulary_digest
from engine.text.tokenizer_files import MOST_IDS, find_tokenizer, read_backend

_FIELD = "tokenizer.source"
_UNREADABLE = "\ufffd"  # what is decoded of part of a character


@dataclass(frozen=True)
class Tokenizer:
    """The study's tokenizer with what the engine needs to know of it."""

    load: Callable[[], Any]  # what it is, a fast transformers tokenizer; see `backend`
    size: int  # vocabulary entries: the width of all log-probs
    digest: str  # of the vocabulary: token -> id
    bos: int | None  # id before the first token
    end_of_text: int | None  # id between documents in a stream; after each for masked models
    pad: int  # id that fills a batch up
    mask: int | None  # id that stands for a token that is not shown
    vocabulary: Mapping[str, int]  # ids by token, added ones as well
    marks: frozenset[int]  # ids of tokens that are the mark of a space alone
    names: tuple[str | None, ...]  # (size,) of the entries; None: there is none of that id
    added: frozenset[int]  # ids of tokens that were added to the vocabulary
    special: Mapping[int, str]  # of these the special ones, as spelt
    used: frozenset[int] | None = None  # ids that the study's texts use; None: not known yet
    identity: str | None = None  # of everything that its tokens depend on; None: it cannot be known

    @property
    def backend(self) -> Any:
        """Return the fast transformers tokenizer, which is loaded when it is first asked for.

        Raise ConfigError when it cannot be.
        """
        return self.load()

    def without_backend(self) -> Tokenizer:
        """Return what is known of it alone, which can be sent anywhere."""
        return replace(self, load=_no_backend, vocabulary={})

    @property
    def spare(self) -> frozenset[int]:
        """Return the ids of added tokens that no text uses: a model need not have them."""
        return self.added - self.used if self.used is not None else frozenset()

    @property
    def least(self) -> int:
        """Return how many entries a model must have: all but spare ones at the end."""
        size, spare = self.size, self.spare
        while size and (size - 1 in spare or self.names[size - 1] is None):
            size -= 1
        return size

    def cut(self, size: int) -> Tokenizer:
        """Return the tokenizer with its first entries only; those left out are spare ones."""
        if not self.least <= size <= self.size:
            raise ValueError(f"{size} entries are not between {self.least} and {self.size}")
        if size == self.size:
            return self
        vocabulary = {name: n for name, n in self.vocabulary.items() if n < size}
        fillers = (self.pad, self.bos, self.end_of_text)
        pad = next((n for n in fillers if n is not None and n < size), 0)
        return replace(
            self,
            size=size,
            digest=vocabulary_digest(vocabulary),
            pad=pad,
            vocabulary=vocabulary,
            names=self.names[:size],
        )


def entry_names(vocabulary: dict[str, int]) -> tuple[str | None, ...]:
    """Return the tokens of a vocabulary by id; None where there is none of that id.

    Raise ValueError for an id that no vocabulary has.
    """
    if (last := max(vocabulary.values(), default=-1)) > MOST_IDS:
        raise ValueError(f"tokenizer.json has an id {last:,}; no vocabulary is so large")
    names: list[str | None] = [None] * (last + 1)
    for token, number in sorted(vocabulary.items()):
        names[number] = token
    return tuple(names)


def load_tokenizer(study: StudyFile, hub: HubClient) -> Tokenizer:
    """Load the study's tokenizer, from a folder if there is one of that name, else from the Hub.

    Raise NotThereError when it is not there, ConfigError when it cannot be loaded, gives no
    character offsets, or has no mask token and the study needs one.
    """
    settings = study.tokenizer
    folder = study.path(settings.source)
    revision = settings.revision or "main"
    special = study.corpus.special_tokens
    folder = find_tokenizer(_FIELD, settings.source, folder, revision, hub)
    identity = identity_of(folder, special)

    @cache
    def load() -> Any:
        backend = read_backend(_FIELD, settings.source, folder, special)
        if identity_of(folder, special) != identity:
            raise ConfigError(
                f"{_FIELD}: {settings.source!r} changed while it was read. Run the command again"
            )
        return backend

    facts = facts_of(identity, load)
    vocabulary = facts.vocabulary
    masked = study.scoring.prediction != "causal"
    if study.scoring.prediction == "pseudo" and facts.mask is None:
        raise ConfigError(
            f"tokenizer.source: {settings.source!r} has no mask token, which "
            'scoring.prediction = "pseudo" needs'
        )
    names = entry_names(vocabulary)
    bos, end = facts.bos, facts.eos
    first = _first_of(facts.cls, bos) if masked else _first_of(bos, end)
    return Tokenizer(
        load=load,
        size=len(names),
        digest=facts.digest,
        bos=_bos(settings.bos, first, vocabulary),
        end_of_text=_first_of(facts.sep, end) if masked else end,
        pad=_first_of(facts.pad, bos, end) or 0,
        mask=facts.mask,
        vocabulary=vocabulary,
        marks=frozenset(facts.marks),
        names=names,
        added=frozenset(facts.added),
        special={n: name for n, (name, is_special) in facts.added.items() if is_special},
        identity=identity,
    )


def _no_backend() -> NoReturn:
    raise RuntimeError("this process knows the tokenizer's facts alone")


def _first_of(*ids: int | None) -> int | None:
    return next((number for number in ids if number is not None), None)


def _bos(setting: str, auto: int | None, vocabulary: dict[str, int]) -> int | None:
    if setting == "none":
        return None
    if setting == "auto":
        return auto
    if setting not in vocabulary:
        raise ConfigError(f'tokenizer.bos: should be "auto", "none" or a token, found {setting!r}')
    return vocabulary[setting]


def entry_texts(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return what each vocabulary entry stands for, (vocab,); untrusted.

    The text it decodes to, with the space that it begins with; an entry that decodes to nothing
    readable, as one byte of a character does, is given by its name.
    """
    key = tokenizer.identity and digest_of(tokenizer.identity, tokenizer.size)
    if (kept := recall("entries", key)) is not None:
        return tuple(as_value(kept["texts"]))
    ids = range(tokenizer.size)
    names = tokenizer.backend.convert_ids_to_tokens(list(ids))
    texts = tokenizer.backend.batch_decode(
        [[number] for number in ids], clean_up_tokenization_spaces=False
    )
    found = tuple(map(_entry_text, names, texts))
    keep("entries", key, {"texts": as_array(found)})
    return found


def _entry_text(name: str | None, text: str) -> str:
    if not text or _UNREADABLE in text:
        return name or ""
    begins = name is not None and name.startswith(SPACE_MARK)
    return f" {text}" if begins and not text.startswith(" ") else text
