"""Packing a step: one file in the place of one for each checkpoint and pair.

A pack appears whole, and the loose chunks in it go afterwards. Both are the same bytes, so that a
process may die at any moment, and readers may look at any.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from store.commits.ledger import Ledger, ModelLedger
from store.errors import DamagedError
from store.reading.probe_arrays import CHUNK_ITEMS, result_name
from store.schema import layout
from store.schema.packs import place_of
from store.storage.checked_stores import CommittedStore
from store.storage.durable_store import DurableStore
from store.storage.links import refuse_link, remove_tree
from store.storage.pack_files import make_pack
from store.storage.side_by_side import side_by_side

Cell = tuple[int, ...]

_FEW_TOKENS = 2**14  # up to which several packs are made at once


@dataclass(frozen=True)
class _Packed:
    """What a step has in an array that is packed."""

    name: str  # its path below the model's group
    cells: list[Cell]  # that are committed, on the axes of steps and seeds
    chunks: list[Cell]  # of each of them, on the other axes

    def keys(self, group: str) -> Iterator[str]:
        """Yield the keys of the chunks, while they are loose."""
        for cell, chunk in itertools.product(self.cells, self.chunks):
            yield f"{group}/{layout.LOOSE}/{self.name}/c/{'/'.join(map(str, cell + chunk))}"


@dataclass(frozen=True)
class _Pack:
    """One pack of a step."""

    key: str
    size: int  # how many chunks there may be in it
    loose: dict[int, str]  # the keys, while they are loose, of those that are committed, by number


class Packer:
    """Packs steps of one study. Only its coordinator may."""

    def __init__(self, store: DurableStore, ledger: Callable[[], Ledger], n_tokens: int) -> None:
        self._store, self._ledger, self._n_tokens = store, ledger, n_tokens
        self._chunks = CommittedStore(store.root)
        self._chunks.expected = store.expected

    def pack(self, model: str, step: int, *, again: bool = False) -> None:
        """Pack what is committed of a step and loose; with `again`, even if nothing is loose.

        What is damaged stays unchanged, and its pack with it. Raise OSError; what was packed until
        then is as good as the rest.
        """
        packs = self._packs(model, step)
        done: list[str] = []

        def write(pack: _Pack) -> None:
            done.extend(self._write(pack, again=again))

        if self._n_tokens <= _FEW_TOKENS:
            side_by_side(write, packs)
        else:  # a pack may take a hundred megabytes of memory
            for pack in packs:
                write(pack)
        self._store.flush()
        self._remove_void(model, step, {pack.key for pack in packs})
        self._remove_loose(done, (key for pack in packs for key in pack.loose.values()))

    def _remove_void(self, model: str, step: int, kept: Collection[str]) -> None:
        """Remove packs of nothing but what a step had of fewer seeds."""
        root, known = self._store.root, self._ledger().model(model)
        for name, variable in layout.PER_TOKEN.items():
            if variable.by_set:
                folder = root / layout.model_path(model) / name
                refuse_link(root, folder)
                for file in folder.glob(f"c.{known.steps[step]}.*"):
                    if str(file.relative_to(root)) not in kept:
                        file.unlink(missing_ok=True)

    def try_to_pack(self, model: str, step: int, *, again: bool = False) -> None:
        """Pack a step as far as there is room; committed data stays, packed or not."""
        with contextlib.suppress(OSError):
            self.pack(model, step, again=again)

    def pack_loose(self, chosen: Callable[[ModelLedger, int], bool]) -> None:
        """Pack the chosen steps with loose data, as far as there is room."""
        for model, known in self._ledger().models.items():
            for step in self.loose(model):
                if chosen(known, step):
                    self.try_to_pack(model, step)

    def remove_packs(self, model: str, step: int) -> None:
        """Remove packs of a step without committed data."""
        t = self._ledger().model(model).steps[step]
        for of in self._packed(model, step):
            if not of.cells:
                folder = self._store.root / layout.model_path(model) / of.name
                refuse_link(self._store.root, folder)
                for file in folder.glob(f"c.{t}.*"):
                    file.unlink(missing_ok=True)

    def remove_mirrored(self, model: str, step: int) -> None:
        """Remove the other order of symmetric pairs, which earlier versions kept as well.

        Only where the one that is kept is packed.
        """
        known, root = self._ledger().model(model), self._store.root
        for name, variable in layout.PER_TOKEN.items():
            if variable.symmetric:
                array = f"{layout.model_path(model)}/{layout.array_path(name)}/c"
                for t, i, j in committed_cells(known, step, name):
                    if not any((root / f"{array}/{t}/{i}/{j}").glob("*")):
                        remove_tree(root, root / f"{array}/{t}/{j}/{i}")
                        _remove_empty(root, root / f"{array}/{t}/{j}")

    def loose(self, model: str) -> list[int]:
        """Return the steps with loose data, in order."""
        known, found = self._ledger().model(model), set()
        folder = self._store.root / layout.model_path(model) / layout.LOOSE
        for name in (*layout.PER_TOKEN, *map(result_name, self._ledger().probes)):
            at = (folder / name).glob("c/*")
            found |= {int(place.name) for place in at if place.name.isdecimal()}
        return sorted(step for step, t in known.steps.items() if t in found)

    def _packed(self, model: str, step: int) -> Iterator[_Packed]:
        """Yield what a step has in each array that is packed."""
        known, ledger = self._ledger().model(model), self._ledger()
        for name, variable in layout.PER_TOKEN.items():
            size = variable.chunks(self._n_tokens)[variable.dims.index("token")]
            end = (0,) if "rank" in variable.dims else ()
            chunks: list[Cell] = [(at, *end) for at in range(-(-self._n_tokens // size))]
            yield _Packed(name, committed_cells(known, step, name), chunks)
        for probe, entry in ledger.probes.items():
            answered = known.probed.get(probe, ())
            seeds = [n for seed, n in known.seeds.items() if (seed, step) in answered]
            chunks = [(at, 0) for at in range(-(-entry.n_items // CHUNK_ITEMS))]
            yield _Packed(result_name(probe), [(known.steps[step], n) for n in seeds], chunks)

    def _packs(self, model: str, step: int) -> list[_Pack]:
        found: dict[str, _Pack] = {}
        for of in self._packed(model, step):
            for key in of.keys(layout.model_path(model)):
                place = place_of(key)
                assert place is not None
                pack = found.setdefault(place.key, _Pack(place.key, place.n_chunks, {}))
                pack.loose[place.number] = key
        return list(found.values())

    def _write(self, pack: _Pack, *, again: bool) -> list[str]:
        """Write one pack, and return the keys of the loose chunks that are in it."""
        root, keys = self._store.root, pack.loose
        loose = [key for key in keys.values() if (root / key).exists()]
        if not loose and not (again and (root / pack.key).exists()):
            return []
        try:
            chunks = {number: self._chunks.get_bytes(key) for number, key in keys.items()}
        except DamagedError:  # readers hear of it
            return []
        data = make_pack({number: chunk.tobytes() for number, chunk in chunks.items()}, pack.size)
        self._store.put(pack.key, data)
        self._store.take_checksums([pack.key])  # no record has it
        return loose

    def _remove_loose(self, keys: Iterable[str], all_keys: Iterable[str]) -> None:
        """Remove these chunks, and the folders of all of them that are empty then."""
        root = self._store.root
        for file in (root / key for key in keys):
            refuse_link(root, file.parent)
            file.unlink(missing_ok=True)  # where it is a link, that goes
        for folder in dict.fromkeys((root / key).parent for key in all_keys):
            _remove_empty(root, folder)


def committed_cells(known: ModelLedger, step: int, name: str) -> list[Cell]:
    """Return where on the axes of steps and seeds these results per token are committed."""
    t, variable = known.steps[step], layout.PER_TOKEN[name]
    if variable.by_set:
        of = known.set_with(step, name)
        return [(t, known.seeds[seed], of.place) for seed in of.seeds] if of is not None else []
    if not variable.by_pair:
        return [(t, known.seeds[seed]) for seed in known.scored_at(step)]
    index = [known.seeds[seed] for seed in known.reduced.get(step, ())]
    pairs = itertools.permutations(index, 2)
    return [(t, *pair) for pair in pairs if pair == variable.seed_cell(*pair)]


def is_answered(ledger: Ledger, known: ModelLedger, step: int) -> bool:
    """Return whether no answer to a probe is still to come of a step that is complete."""
    scored = [(seed, step) for seed in known.scored_at(step)]
    return is_complete(known, step) and all(
        key in known.probed.get(probe, ()) or key in known.probe_failures.get(probe, ())
        for probe, key in itertools.product(ledger.probes, scored)
    )


def is_complete(known: ModelLedger, step: int) -> bool:
    """Return whether nothing of a step is still to come, as far as is known."""
    scored = known.scored_at(step)
    if len(scored) > 1 and not scored <= known.reduced.get(step, frozenset()):
        return False
    wanted = {seed for seed in known.seeds if (seed, step) in known.planned} - scored
    return bool(scored) and all(
        (seed, step) in known.failed or (seed, step) in known.missing for seed in wanted
    )


def _remove_empty(root: Path, folder: Path) -> None:
    with contextlib.suppress(DamagedError):  # for a link
        refuse_link(root, folder)
        while folder.name != "c":
            try:
                folder.rmdir()
            except FileNotFoundError:  # a process that was killed has removed it
                pass
            except OSError:  # it is not empty
                return
            folder = folder.parent
