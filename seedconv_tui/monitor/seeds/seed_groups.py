"""Groups of seeds on the Seeds screen: seeds in blocks, and what their pairs come to."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from seedconv_tui.text import nats, visible
from store.statistics import Grouped, grouped, groups_of

if TYPE_CHECKING:
    from store.schema import ModelSnapshot

_MOST = 1000  # arrangements that a key press may take


def order_of(model: ModelSnapshot) -> NDArray[np.intp]:
    """Return the places of the seeds, (seed,): group by group, then those that are in none."""
    group = groups_of(model.seeds, [*model.groups.values()])
    return np.argsort(np.where(group < 0, len(model.groups), group), kind="stable")


class SeedBlocks:
    """A model with its seeds in blocks, and the KL within and between its groups, made once."""

    def __init__(self) -> None:
        self._stored: ModelSnapshot | None = None
        self._made: ModelSnapshot | None = None
        self._found: dict[int, Grouped] = {}  # by place of the step

    def of(self, model: ModelSnapshot) -> ModelSnapshot:
        """Return the model with its seeds in the order of `order_of`."""
        if model is not self._stored or self._made is None:
            self._stored, self._made, self._found = model, _in_blocks(model), {}
        return self._made

    def facts(self, at: int) -> list[str]:
        """Return the KL within and between groups at a step, by its place, in words."""
        model = self._made
        if model is None or not model.groups:
            return []
        if at not in self._found:
            there = np.isfinite(model.kl[at]).any(axis=1)
            group = np.where(there, block_of(model), -1)
            kl = model.kl[at][..., None]
            self._found[at] = grouped(kl, group, len(model.groups), _MOST)
        return _words(tuple(model.groups), self._found[at])


def _in_blocks(model: ModelSnapshot) -> ModelSnapshot:
    if not model.groups:
        return model
    order = order_of(model)
    reduced = None if model.reduced is None else model.reduced[:, order][:, :, order]
    return replace(
        model,
        seeds=tuple(model.seeds[n] for n in order),
        state=model.state[:, order],
        kl=model.kl[:, order][:, :, order],
        cross_entropy=model.cross_entropy[:, order],
        entropy=model.entropy[:, order],
        reduced=reduced,
    )


def block_of(model: ModelSnapshot) -> tuple[int, ...]:
    """Return the block of each seed, (seed,): all are in one where the model has no groups."""
    return tuple(groups_of(model.seeds, [*model.groups.values()]).tolist())


def _words(names: tuple[str, ...], of: Grouped) -> list[str]:
    facts = [
        f"within {visible(name)} {nats(float(kl[0]))}"
        for name, kl in zip(names, of.each, strict=True)
        if np.isfinite(kl[0])
    ]
    if np.isfinite(of.between[0]):
        p = float(of.p_between[0])
        test = f" (p {p:.3g}{'' if of.exact else ', drawn'})" if np.isfinite(p) else ""
        facts.append(f"between {nats(float(of.between[0]))}{test}")
    return facts
