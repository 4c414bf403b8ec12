"""Counts of each vocabulary entry in reference text."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, NotThereError
from engine.study_file.file import StudyFile
from engine.text.counting import count_tokens
from engine.text.derived_cache import digest_of, digest_of_files, keep, recall
from engine.text.documents import find_files
from engine.text.streams import is_json_lines, read_pieces
from engine.text.tokenizer import Tokenizer
from store.schema import Corpus

_FIELD = "corpus.counts"
_KIND = "counts"
_MOST = 2**53  # more would not be exact as float64


@dataclass(frozen=True)
class Counts:
    """Occurrences of each vocabulary entry, and where they were counted."""

    count: NDArray[np.int64]  # (vocab,)
    source: str  # one line, e.g. "3 text files, 120,000 tokens"

    @property
    def digest(self) -> str:
        """Return the identity of the counts, wherever they came from."""
        return hashlib.sha256(np.ascontiguousarray(self.count, "<i8").tobytes()).hexdigest()[:16]


def reference_counts(study: StudyFile, tokenizer: Tokenizer, corpus: Corpus) -> Counts:
    """Count as `corpus.counts` says: the corpus itself, or text files; or read a file.

    Of the corpus, the targets are counted. Text files are split into documents as those of the
    corpus are, and tokenised without special tokens.

    Raise ConfigError naming the file at fault.
    """
    setting = study.corpus.counts
    if isinstance(setting, list):
        files = find_files(study, _FIELD, setting)
        count = _counted(study, tokenizer, files)
        return Counts(count, f"{_number(len(files), 'text file')}, {_number(count.sum(), 'token')}")
    if setting != "corpus":
        return Counts(_loaded(study.path(setting), tokenizer), setting)
    count = np.bincount(corpus.token_id, minlength=tokenizer.size).astype(np.int64)
    return Counts(count, f"the corpus itself, {_number(len(corpus), 'token')}")


def log_unigram(count: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return log-probs, (vocab,), nats, of the unigram distribution, one added to all counts."""
    smooth = count.astype(np.float64) + 1
    return np.asarray(np.log(smooth) - np.log(smooth.sum()))


def _number(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")


def _counted(study: StudyFile, tokenizer: Tokenizer, files: list[Path]) -> NDArray[np.int64]:
    separator = study.corpus.separator
    key = _key(tokenizer, separator, files)
    if (kept := recall(_KIND, key)) is not None:
        return kept["count"]
    pieces = read_pieces(files, separator, where=f"{_FIELD}: ")
    count = np.zeros(tokenizer.size, np.int64)
    for part in count_tokens(tokenizer.backend, pieces, tokenizer.size):
        count += part.count
    if not count.any():
        raise ConfigError(f"{_FIELD}: the text files hold no text")
    if _key(tokenizer, separator, files) == key:  # nobody wrote to them meanwhile
        keep(_KIND, key, {"count": count})
    return count


def _key(tokenizer: Tokenizer, separator: str, files: list[Path]) -> str | None:
    """Return everything that the counts in files depend on; None: it cannot be known.

    To read a file for that takes a thousandth of the time that tokenising it does.
    """
    content = tokenizer.identity and digest_of_files(files)
    kinds = [is_json_lines(file) for file in files]
    return content and digest_of(tokenizer.identity, tokenizer.size, separator, content, kinds)


def _loaded(file: Path, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Load counts from a .npy file; past the vocabulary only zeros, as padding, are taken.

    Tokens that were added at the end since they were counted occur nowhere.
    """
    vocab_size = tokenizer.size
    try:  # mapped: a header may promise more than the file holds, or than memory does
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise NotThereError(f"{_FIELD}: {file}: there is no such file") from None
    except OSError as error:
        raise ConfigError(f"{_FIELD}: {file}: cannot be read: {error.strerror}") from None
    except (ValueError, EOFError, SyntaxError):
        raise _refused(file, "is not a .npy file of numbers; write one with numpy.save") from None
    if not isinstance(array, np.ndarray):
        raise _refused(file, "is a .npz file; write one array with numpy.save")
    if array.ndim != 1 or array.dtype.kind not in "iuf":
        found = f"{array.dtype} of shape {array.shape}"
        raise _refused(file, f"should hold whole numbers of shape ({vocab_size},), found {found}")
    missing = range(len(array), vocab_size)
    if not tokenizer.added.issuperset(missing) or array[vocab_size:].any():
        raise _refused(
            file,
            f"holds {len(array):,} counts, but the tokenizer has {vocab_size:,} entries; "
            "count with the study's tokenizer",
        )
    # No float that is smaller: the largest count that is allowed would overflow in float16.
    count = np.zeros(vocab_size, np.float64 if array.dtype.kind == "f" else array.dtype)
    count[: len(array)] = array[:vocab_size]
    broken = count != np.rint(count)  # of floats; NaN as well
    if broken.any():
        token = int(broken.argmax())
        raise _refused(
            file,
            f"token {token} has the count {count[token]}, no whole number, as have "
            f"{broken.sum() - 1:,} others; count again, into zeros, or round them with numpy.rint",
        )
    impossible = (count < 0) | (count > _MOST)
    if impossible.any():
        token = int(impossible.argmax())
        raise _refused(file, f"token {token} has the count {count[token]}, which cannot be")
    if not count.any():
        raise _refused(file, "holds only zeros")
    return count.astype(np.int64)


def _refused(file: Path, reason: str) -> ConfigError:
    return ConfigError(f"{_FIELD}: {file}: {reason}")
