"""Categories whose levels are levels of another one, put together: noun, verb and other."""

from __future__ import annotations

from fnmatch import fnmatchcase

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.study_file.categories_section import GroupSection
from store.schema import CONTEXT, Category
from store.words import quoted


def group_levels(group: GroupSection, labels: tuple[str, ...]) -> NDArray[np.int32]:
    """Return the level that each of `labels`, of the category that is grouped, goes to, (label,).

    -1: to none. The last is for tokens that are in none of these. What the study file names is a
    label, or else a pattern with `*`, `?` or `[...]`.

    Raise ConfigError for a name that is no label, and for a label that two levels take.
    """
    where = f"categories.groups {group.name!r}: levels"
    taken: dict[str, int] = {}
    for level, (new, names) in enumerate(group.levels.items()):
        for name in names:
            found = [name] if name in labels else [x for x in labels if fnmatchcase(x, name)]
            if not found:
                raise ConfigError(
                    f"{where}: {quoted(new)}: {group.of} has no level {name!r}; it has: "
                    f"{', '.join(map(quoted, labels))}"
                )
            for label in found:
                if taken.setdefault(label, level) != level:
                    raise ConfigError(
                        f"{where}: level {quoted(label)} of {group.of} is in two of them; leave it "
                        "out of one"
                    )
    rest = len(group.levels) if group.rest else -1
    return np.array([*(taken.get(label, rest) for label in labels), -1], np.int32)


def grouped(category: Category, group: GroupSection) -> Category:
    """Return the levels of a category, of the target or of the context, put together.

    Raise ConfigError, as `group_levels` does.
    """
    parts = [
        f"{quoted(new)} of {', '.join(map(quoted, names))}" for new, names in group.levels.items()
    ]
    if group.rest:
        parts.append(f"{quoted(group.rest)} of all else")
    return Category(
        group.name + CONTEXT * category.name.endswith(CONTEXT),
        (*group.levels, *[group.rest] * bool(group.rest)),
        group_levels(group, category.labels)[category.level],
        f"{category.description}; grouped: {'; '.join(parts)}",
    )
