"""Studies whose results per token are loose: each chunk a file of its own, to be damaged alone."""

from __future__ import annotations

import itertools
from pathlib import Path

from store.schema.layout import variables_of
from store.schema.packs import place_of
from store.storage.pack_files import part_of
from store.study import Study


def loosen(store: Path) -> Path:
    """Take all packs of a study apart, so that it is as it was before they were made."""
    study = Study(store)
    for model in study.models:
        for name, variable in variables_of(study.divergences).items():
            if not variable.per_token:
                continue
            array = study.array(model, name)
            pairs = itertools.product(*map(range, array.shape[1 : 2 + variable.by_pair]))
            tokens = range(-(-study.n_tokens // array.chunks[variable.dims.index("token")]))
            for t, seeds, at in itertools.product(range(array.shape[0]), pairs, tokens):
                rank = (0,) if "rank" in variable.dims else ()
                key = "/".join((array.path, "c", *map(str, (t, *seeds, at, *rank))))
                if (data := packed(store, key)) is not None:
                    (store / key).parent.mkdir(parents=True, exist_ok=True)
                    (store / key).write_bytes(data)
            for pack in (store / array.path.replace("/loose/", "/")).glob("c.*"):
                pack.unlink()
    return store


def packed(store: Path, key: str) -> bytes | None:
    """Return a chunk out of its pack; None: it is not there."""
    place = place_of(key)
    assert place is not None
    if not (store / place.key).exists():
        return None
    pack = (store / place.key).read_bytes()
    part = part_of(place, pack[-place.index_bytes :], len(pack))
    return None if part is None else pack[slice(*part)]
