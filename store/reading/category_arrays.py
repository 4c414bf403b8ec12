"""A category on disk: an array of levels, with labels and counts as attributes."""

from __future__ import annotations

from typing import Any

from zarr.abc.store import Store

from store.errors import DamagedError
from store.schema import layout
from store.schema.array_layout import ArrayLayout
from store.schema.category import Category
from store.storage.arrays import create_array, open_array, place, read, write
from store.storage.durable_store import DurableStore
from store.storage.links import remove_tree


def category_path(name: str, model: str | None) -> str:
    """Return the path of the array that holds a partition: of the corpus, or of a model's own."""
    group = layout.CORPUS if model is None else layout.model_path(model)
    return f"{group}/{layout.CATEGORY}/{layout.safe_name(name)}"


def write_category(store: DurableStore, category: Category, model: str | None) -> None:
    """Write a partition, in place of an earlier one of that name."""
    path = category_path(category.name, model)
    remove_tree(store.root, store.root / path)
    attributes = {
        "description": category.description,
        "labels": list(category.labels),
        "counts": category.counts.tolist(),
    }
    made = ArrayLayout.of_one_axis(len(category.level), "int32", "token", attributes)
    write(create_array(store, path, made), (slice(None),), category.level)


def read_category(store: Store, name: str, model: str | None, digest: str) -> Category:
    """Read the partition that has this digest. Raise DamagedError when it is not there."""
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
