"""A partition of the corpus's tokens into levels: parts of speech, frequencies, documents."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.abc.store import Store

from store.errors import DamagedError
from store.schema import variables as layout
from store.storage.arrays import create_array, open_array, place, read
from store.storage.durable_store import DurableStore
from store.storage.links import remove_tree

ALL = "all"  # the category of one level that holds every token
CONTEXT = "_context"  # ends the name of a partition by the token before the target


@dataclass(frozen=True)
class Category:
    """Which level each token is in. Of the target, or of the context where the name says so."""

    name: str  # e.g. "pos", "pos_context"
    labels: tuple[str, ...]  # (level,); untrusted where they come from the user or a tagger
    level: NDArray[np.int32]  # (token,) index of its label; -1: in none
    description: str  # one line: what is parted, and by what

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Tokens in each level, (level,)."""
        return np.bincount(self.level[self.level >= 0], minlength=len(self.labels))

    @cached_property
    def digest(self) -> str:
        """Identity of the partition: equal digests mean the same levels of the same tokens."""
        head = json.dumps([self.name, self.labels, self.description]).encode()
        values = np.ascontiguousarray(self.level, "<i4").tobytes()
        return hashlib.sha256(head + b"\0" + values).hexdigest()[:16]


def category_path(name: str, model: str | None) -> str:
    """Path of the array that holds a partition: of the corpus, or of a model's own."""
    group = layout.CORPUS if model is None else layout.model_path(model)
    return f"{group}/{layout.CATEGORY}/{layout.safe_name(name)}"


def category_layout(n_tokens: int) -> dict[str, Any]:
    """Shape, chunks, dtype and dimension of such an array."""
    return {
        "shape": (n_tokens,),
        "chunks": (min(max(n_tokens, 1), 2**18),),
        "dtype": "int32",
        "dims": ("token",),
    }


def write_category(store: DurableStore, category: Category, model: str | None) -> None:
    """Write a partition, in place of an earlier one of that name."""
    path = category_path(category.name, model)
    remove_tree(store.root, store.root / path)
    create_array(
        store,
        path,
        **category_layout(len(category.level)),
        attributes={
            "description": category.description,
            "labels": list(category.labels),
            "counts": category.counts.tolist(),
        },
    )[:] = category.level


def read_category(store: Store, name: str, model: str | None, digest: str) -> Category:
    """Read the partition that has this digest. Raises DamagedError when it is not there."""
    path = category_path(name, model)
    array = open_array(store, path)
    attributes: dict[str, Any] = dict(array.attrs)
    category = Category(
        name,
        tuple(map(str, attributes.get("labels", ()))),
        read(array, (slice(None),)),
        str(attributes.get("description")),
    )
    if category.digest != digest or attributes.get("counts") != category.counts.tolist():
        raise DamagedError(f"{place(array)}: is not the category that summaries were made by")
    return category
