"""Files of a study are damaged at random: that is reported, never served as a number or nothing."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest

from store import NotAStudyError, StoreError, open_study
from store.maintenance import verify
from store.schema import Damage, Part
from tests.support.made_store import committed, fill, open_writer

pytestmark = pytest.mark.long

DAMAGES = 160 if os.environ.get("SEEDCONV_SOAK") else 48
SEED = 20_240_901
WAYS = ("flip", "flip", "truncate", "zero", "delete")
NOTHING_COMMITTED = {"status", "journal"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, one with a seed whose name needs encoding, log-probs of one step dropped."""
    path = tmp_path_factory.mktemp("whole") / "study.zarr"
    writer = open_writer(path)
    fill(writer, "m", ("1", "x y/z"), (0, 8))
    fill(writer, "one", ("1",), (5,))
    writer.drop_log_probs("m", 8, ("1", "x y/z"))
    writer.close("finished")
    second = open_writer(path)  # so that there is a log that another one follows
    fill(second, "m", ("1", "x y/z"), (9,))
    second.close("stopped")
    return path


def served(path: Path) -> dict[Any, Any]:
    """Everything the reader gives: results, datasets, snapshot, corpus, the study's attributes."""
    study = open_study(path)
    found: dict[Any, Any] = dict(committed(study))
    corpus = vars(study.corpus)
    found["vocabulary"] = (study.vocabulary.text, study.vocabulary.count.tolist())
    found |= {("corpus", name): getattr(v, "tolist", lambda v=v: v)() for name, v in corpus.items()}
    for model in study.snapshot().models:
        for name, value in vars(model).items():
            found["snapshot", model.name, name] = getattr(value, "tobytes", lambda v=value: v)()
        data = study.dataset(model.name).load()
        found["dataset", model.name] = {
            str(name): (v.dims, v.values.tobytes()) for name, v in data.variables.items()
        }
    found["study"] = (study.name, study.n_tokens, study.vocab_size, study.identity, study.models)
    return found


def do_damage(file: Path, way: str, rng: random.Random) -> None:
    data = bytearray(file.read_bytes())
    if way == "delete":
        file.unlink()
    elif way == "truncate":
        file.write_bytes(data[: rng.randrange(len(data))])
    elif way == "zero":
        file.write_bytes(bytes(len(data)))
    else:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)


def damage_of(path: Path) -> list[Damage]:
    return [damage for checked in verify(path) for damage in checked.damage]


def test_a_whole_study_is_sound(whole: Path) -> None:
    checked = list(verify(whole))
    assert not [c for c in checked if c.damage]
    assert [c.done for c in checked] == list(range(1, len(checked) + 1))
    assert {c.total for c in checked} == {len(checked)}
    assert {c.part for c in checked} == set(Part) - {Part.PROBE}  # it asks none


def test_random_damage_is_never_served_and_always_found(whole: Path, tmp_path: Path) -> None:
    before = served(whole)
    names = sorted(
        str(f.relative_to(whole)) for f in whole.rglob("*") if f.is_file() and f.stat().st_size
    )
    rng = random.Random(SEED)
    order = [
        name for _ in range(-(-DAMAGES // len(names))) for name in rng.sample(names, len(names))
    ]
    wrong: list[str] = []
    for number, name in enumerate(order[:DAMAGES]):
        copy = tmp_path / f"{number}.zarr"
        shutil.copytree(whole, copy)
        way = rng.choice(WAYS)
        do_damage(copy / name, way, rng)
        if (copy / name).exists() and (copy / name).read_bytes() == (whole / name).read_bytes():
            way = "nothing"
        what = f"{number}: {way} of {name}"
        try:
            after = served(copy)
        except StoreError as error:
            if len(str(error).splitlines()) != 1:
                wrong.append(f"{what}: told in several lines: {error}")
        except Exception as error:
            wrong.append(f"{what}: {error!r}")
        else:
            wrong += [f"{what}: {k} differs" for k in before if after.get(k) != before[k]][:1]
        try:
            found = damage_of(copy)
        except NotAStudyError:
            found = [] if name != "zarr.json" else [Damage("study", "", "")]  # type: ignore[arg-type]
        harmless = way == "nothing" or name.partition("/")[0] in NOTHING_COMMITTED
        # Of the repeated lengths only the last one's is used, and without it nothing is lost.
        harmless |= name == "commits/1.end" or (name == "commits/2.end" and way == "delete")
        if bool(found) == harmless:
            wrong.append(f"{what}: verify found {found}")
        shutil.rmtree(copy)
    assert not wrong, f"{len(wrong)} of {DAMAGES}:\n" + "\n".join(wrong)
