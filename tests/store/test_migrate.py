"""A store of an earlier format: refused in one line, and migrated without a loss."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import zarr

from seedconv_tui.cli.main import run
from store import BusyError, NotAStudyError, open_study
from store.maintenance import migrate, verify
from store.schema import FORMAT, ProbeValues
from store.writing import StudyWriter
from tests.support.forked_engine import Engines
from tests.support.made_store import committed, files, open_writer, patient, reduce, score

DATA = Path(__file__).parents[1] / "data"
"""Has studies that versions of earlier formats wrote, and digests of what those read of them."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return unpack(3, tmp_path)


@pytest.fixture
def probed(tmp_path: Path) -> Path:
    """One of format 4, with answers to probes in a file for each checkpoint."""
    return unpack(4, tmp_path)


def unpack(number: int, folder: Path) -> Path:
    with tarfile.open(DATA / f"format{number}.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "study.zarr"


def expect_all(store: Path, but: frozenset[str] = frozenset()) -> None:
    """Fail unless all is read as the earlier version read it, and `verify` is content."""
    wanted = json.loads((store.parent / "committed.json").read_text())
    found = committed(open_study(store))
    digests = {repr(k): hashlib.sha256(v).hexdigest()[:16] for k, v in found.items()}
    assert digests == wanted
    assert [d for checked in verify(store) for d in checked.damage] == []


def expect_packed(store: Path) -> None:
    """Fail while anything is loose."""
    assert not [f for f in (store / "models").glob("*/loose/**/c/**/*") if f.is_file()]
    assert list((store / "models/m/kl").glob("c.*"))


def test_every_command_says_what_to_do(old: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(old)
    for command in (["status"], ["plot"], ["verify"], ["prune"], ["export"]):
        assert run([*command, str(old)]) != 0
        said = capsys.readouterr()
        (line,) = (said.out + said.err).splitlines()
        assert (
            f"has store format 3; bring it to format {FORMAT} by `seedconv migrate {old}`" in line
        )
    for attempt in (open_study, open_writer):
        with pytest.raises(NotAStudyError, match="seedconv migrate"):
            attempt(old)
    assert files(old) == before


def test_all_is_there_afterwards_in_fewer_files(
    old: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = len(files(old))
    assert run(["migrate", str(old)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{old}: brought to store format {FORMAT}: 4 steps packed, {before} fil")
    expect_all(old)
    expect_packed(old)
    assert len(files(old)) < before
    after = files(old)
    assert run(["migrate", str(old), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"store": str(old), "migrated": False}
    assert files(old) == after


def test_an_engine_goes_on_with_it(old: Path) -> None:
    migrate(old)
    before = committed(open_study(old))
    writer = StudyWriter(old, watching=patient())
    score(writer, "m", "2", 64)
    reduce(writer, "m", 64, ("1", "2"))
    reduce(writer, "m", 8, ("1", "2", "x y/z", "late"))
    writer.close("finished")
    after = committed(open_study(old))
    kept = before.keys() & after.keys()
    assert {key: after[key] for key in kept} == {key: before[key] for key in kept}
    assert [d for checked in verify(old) for d in checked.damage] == []
    ours = open_study(old)
    one = ours.values("m", "js", "1", 8, "late")
    np.testing.assert_array_equal(one, ours.values("m", "js", "late", 8, "1"))


def test_damage_stays_damage_and_is_mended_afterwards(old: Path) -> None:
    chunk = old / "models/m/kl/c/0/0/1/0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\0")
    found = migrate(old)
    assert found is not None
    assert found.left == (("m", 8),)
    damage = [d for checked in verify(old) for d in checked.damage]
    assert [(d.part, d.seed, d.step, d.other_seed) for d in damage] == [("pairs", "1", 8, "2")]
    assert run(["verify", str(old), "--mend"]) == 0


def test_what_was_begun_and_not_committed_goes(old: Path) -> None:
    folder = old / "models/m/surprisal/c/2/1"
    shutil.copytree(old / "models/m/surprisal/c/0/1", folder)
    migrate(old)
    expect_all(old)
    expect_packed(old)


def test_not_while_an_engine_works(old: Path) -> None:
    migrate(old)
    root = json.loads((old / "zarr.json").read_bytes())
    writer = open_writer(old)
    root["attributes"]["seedconv"]["migrating"] = 3
    from store.schema.checksums import checksum

    root["attributes"]["seedconv"]["earlier"].append(writer.ledger.session["root"])  # type: ignore[index]
    root["attributes"]["seedconv"]["crc32"] = checksum(root["attributes"]["seedconv"])
    (old / "zarr.json").write_text(json.dumps(root))
    import time

    from store.schema import EngineStatus

    now = time.time()
    writer.beat(EngineStatus(writer.writer, writer.host, writer.pid, now, now, "working"))
    with pytest.raises(BusyError, match="is working on this study"):
        migrate(old)
    assert run(["status", str(old)]) == 2


def test_answers_to_probes_are_packed(probed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", str(probed)]) != 0
    assert "has store format 4; bring it to format 5" in capsys.readouterr().err
    assert run(["migrate", str(probed)]) == 0
    expect_all(probed)
    expect_packed(probed)
    names = ("pairs", "long x%2Fy")
    packs = [f.name for n in names for f in sorted((probed / "models/m/probe" / n).glob("c*"))]
    assert packs == ["c.0.0.0.0", "c.1.0.0.0"] * 2
    writer = StudyWriter(probed, watching=patient())
    entry = writer.ledger.probes["long x/y"]
    values = np.ones((entry.n_items, entry.n_variants), np.float32)
    writer.probes.commit("m", 8, [ProbeValues("long x/y", entry.digest, "3", values)])
    writer.close("stopped")
    expect_packed(probed)
    answers = zarr.open_array(str(probed / "models/m/probe/long x%2Fy"), mode="r")
    assert np.isfinite(answers[:2]).all()
    assert (answers[1, 2] == 1).all()
    assert [d for checked in verify(probed) for d in checked.damage] == []


def test_answers_that_are_damaged_stay_so(probed: Path) -> None:
    chunk = probed / "models/m/probe/pairs/c/0/1/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1] + b"\0")
    found = migrate(probed)
    assert found is not None
    assert found.left == (("m", 0),)
    damage = [d for checked in verify(probed) for d in checked.damage]
    assert [(d.part, d.seed, d.step) for d in damage] == [("probe", "2", 0)]
    assert run(["verify", str(probed), "--mend"]) == 0
    expect_packed(probed)
    assert not [d for checked in verify(probed) for d in checked.damage]


@pytest.mark.long
@pytest.mark.parametrize("number", [3, 4])
def test_killed_at_any_moment_it_is_resumed(number: int, tmp_path: Path, engines: Engines) -> None:
    old = unpack(number, tmp_path)
    rng = random.Random(1)
    whole = engines.run(
        Path(shutil.copytree(old, tmp_path / "whole" / old.name)), command_line=True
    )
    assert whole.code == 0
    moments = [*range(1, 12), *sorted(rng.sample(range(12, whole.changes), 25))]
    for moment in [*moments, whole.changes]:
        copy = Path(shutil.copytree(old, tmp_path / str(moment) / old.name))
        shutil.copy(tmp_path / "committed.json", copy.parent)
        assert engines.run(copy, kill_at_change=moment, command_line=True).killed
        later = moment // 2 + 1
        engines.run(copy, kill_at_change=later, command_line=True)  # and once more
        assert engines.run(copy, command_line=True).code == 0
        expect_all(copy)
        expect_packed(copy)
        shutil.rmtree(copy.parent)
