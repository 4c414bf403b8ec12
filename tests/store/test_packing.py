"""What a step has per token lies in few files once it is complete, and is read all the same."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from seedconv_tui.cli.main import run
from store import DamagedError, open_study
from store.maintenance import verify
from store.schema import Failure, Probe, ProbeValues
from store.writing import StudyWriter
from tests.support.loose import loosen, packed
from tests.support.made_store import (
    PER_TOKEN,
    Clock,
    committed,
    expect_nothing_changed,
    fill,
    js,
    kl,
    open_writer,
    reduce,
    score,
)

SEEDS, STEPS = ("1", "2", "3"), (0, 8)
PER_STEP = len(PER_TOKEN) + 2  # files, once packed: results, KL and Jensen-Shannon


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "study.zarr"
    writer = open_writer(path)
    fill(writer, "m", SEEDS, STEPS)
    writer.close("stopped")
    return path


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "study.zarr"))


def loose_files(store: Path) -> list[str]:
    found = (store / "models/m/loose").glob("*/c/**/*")
    return sorted(str(file.relative_to(store)) for file in found if file.is_file())


def packs(store: Path) -> list[Path]:
    return sorted((store / "models/m").glob("*/c.*"))


def damage_of(store: Path) -> set[tuple[str, str | None, int | None]]:
    return {(d.part, d.seed, d.step) for checked in verify(store) for d in checked.damage}


def test_a_complete_step_is_packed_when_it_is(study: Path) -> None:
    assert not loose_files(study)
    assert not list((study / "models/m/loose").glob("*/c/*"))  # nor folders
    assert len(packs(study)) == PER_STEP * len(STEPS)


def test_what_is_not_complete_is_loose_until_the_engine_has_finished(study: Path) -> None:
    before = committed(open_study(study))
    writer, reader = open_writer(study), open_study(study)
    writer.plan("m", [(seed, 16) for seed in SEEDS], {})
    for seed in SEEDS[:2]:
        score(writer, "m", seed, 16)
    reduce(writer, "m", 16, SEEDS[:2])
    assert len(loose_files(study)) == 2 * len(PER_TOKEN) + 2 + 1  # KL twice, JS once
    assert len(packs(study)) == PER_STEP * len(STEPS)
    reader.refresh()
    np.testing.assert_array_equal(reader.values("m", "js", "2", 16, "1"), js("m", "1", "2", 16))
    live = committed(reader)
    writer.close("finished")
    assert not loose_files(study)
    assert committed(reader) == committed(open_study(study)) == live
    expect_nothing_changed(before, live)
    assert not damage_of(study)


def test_a_late_seed_is_packed_with_the_others(study: Path) -> None:
    before = committed(open_study(study))
    writer = open_writer(study)
    writer.plan("m", [("late", step) for step in STEPS], {})
    score(writer, "m", "late", 8)
    reduce(writer, "m", 8, (*SEEDS, "late"))
    assert not loose_files(study)
    assert len(packs(study)) == PER_STEP * len(STEPS)
    writer.close("stopped")
    after = committed(open_study(study))
    kept = {k: v for k, v in before.items() if k in after}
    expect_nothing_changed(kept, after)
    ours = open_study(study)
    np.testing.assert_array_equal(ours.values("m", "kl", "late", 8, "1"), kl("m", "late", "1", 8))
    assert not damage_of(study)


def test_more_seeds_than_a_pack_has_room_for(tmp_path: Path) -> None:
    seeds = tuple(map(str, range(18)))
    writer = open_writer(tmp_path / "study.zarr", n_tokens=20)
    writer.plan("m", [(seed, 0) for seed in seeds], {})
    for seed in seeds:
        score(writer, "m", seed, 0, keep=False)
    reduce(writer, "m", 0, seeds)
    writer.close("stopped")
    store = tmp_path / "study.zarr"
    assert not loose_files(store)
    assert len(packs(store)) == 2 * len(PER_TOKEN) + 4 + 3  # JS: upper triangle
    ours = open_study(store)
    for i, j in (("0", "17"), ("17", "0"), ("16", "17"), ("3", "2")):
        np.testing.assert_array_equal(ours.values("m", "kl", i, 0, j), kl("m", i, j, 0, 20))
        np.testing.assert_array_equal(ours.values("m", "js", i, 0, j), js("m", i, j, 0, 20))
    assert not damage_of(store)


def test_any_client_reads_a_pack(study: Path) -> None:
    divergence = zarr.open_array(str(study / "models/m/kl"), mode="r")
    assert divergence.shards == (1, 16, 16, 300)
    np.testing.assert_array_equal(divergence[1, 2, 0], kl("m", "3", "1", 8))
    assert np.isnan(divergence[1, 2, 2]).all()
    once = zarr.open_array(str(study / "models/m/js"), mode="r")
    np.testing.assert_array_equal(once[1, 0, 2], js("m", "1", "3", 8))
    assert np.isnan(once[1, 2, 0]).all()


def test_killed_between_packing_and_removing(study: Path) -> None:
    """Both are there then, and the same."""
    before = committed(open_study(study))
    kept = {pack: pack.read_bytes() for pack in packs(study)}
    loosen(study)
    for pack, data in kept.items():
        pack.write_bytes(data)
    assert committed(open_study(study)) == before
    open_writer(study).close("stopped")
    assert not loose_files(study)
    assert {pack: pack.read_bytes() for pack in packs(study)} == kept


def test_a_pack_without_room_stays_loose_and_nothing_is_lost(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = committed(open_study(loosen(study)))

    def full(*_: object, **__: object) -> bytes:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("store.writing.packing.make_pack", full)
        writer = open_writer(study)
        fill(writer, "m", SEEDS, (16,))
        writer.close("finished")
    assert loose_files(study)
    expect_nothing_changed(before, committed(open_study(study)))
    open_writer(study).close("stopped")
    assert not loose_files(study)
    expect_nothing_changed(before, committed(open_study(study)))


@pytest.mark.parametrize("where", [3, -20, -2])  # in a chunk, in the index, in its checksum
def test_damage_to_a_pack_is_named_and_mended(study: Path, where: int) -> None:
    before = committed(open_study(study))
    for name in ("surprisal/c.1.0.0", "kl/c.0.0.0.0"):
        pack = study / "models/m" / name
        data = bytearray(pack.read_bytes())
        data[where] ^= 16
        pack.write_bytes(data)
    with pytest.raises(
        DamagedError, match=r"models/m/surprisal/c\.1\.0\.0|models/m/loose/surprisal"
    ):
        for seed in SEEDS:
            open_study(study).values("m", "surprisal", seed, 8)
    found = damage_of(study)
    assert {("results", 8), ("pairs", 0)} == {(part, step) for part, _, step in found}
    assert run(["verify", str(study), "--mend"]) == 0
    after = committed(open_study(study))
    assert after.keys() == before.keys()
    assert not loose_files(study)
    assert not damage_of(study)


_COUNT_OPENED = """
import collections, sys
from pathlib import Path
from store.maintenance import verify

opened = collections.Counter()
def note(event, arguments):
    if event == "open" and "/c." in str(arguments[0]):
        opened[str(arguments[0])] += 1
sys.addaudithook(note)
assert not [checked for checked in verify(Path(sys.argv[1])) if checked.damage]
print(*opened.values())
"""


def test_verify_opens_each_pack_once(study: Path) -> None:
    command = [sys.executable, "-c", _COUNT_OPENED, str(study)]
    times = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert times == ["1"] * len(packs(study))


def test_verify_reads_loose_and_packed_results_alike(study: Path) -> None:
    writer = open_writer(study)  # which has a third step, of which one seed is loose
    writer.plan("m", [(seed, 16) for seed in SEEDS], {})
    score(writer, "m", "2", 16)
    key = "models/m/loose/kl/c/1/0/1/0"  # the sound copy of what is altered in its pack
    chunk = packed(study, key)
    assert chunk is not None
    pack = study / "models/m/kl/c.1.0.0.0"
    data = bytearray(pack.read_bytes())
    data[data.index(chunk) + len(chunk) // 2] ^= 1
    pack.write_bytes(data)
    assert damage_of(study) == {("pairs", "1", 8)}
    (study / key).parent.mkdir(parents=True)
    (study / key).write_bytes(chunk)
    assert not damage_of(study)
    (study / "models/m/loose/surprisal/c/2/1/0").unlink()
    assert damage_of(study) == {("results", "2", 16)}


def test_a_pack_of_another_step_is_no_number(study: Path) -> None:
    shutil.copyfile(study / "models/m/entropy/c.0.0.0", study / "models/m/entropy/c.1.0.0")
    with pytest.raises(DamagedError, match=r"entropy/c\.1\.0\.0: is not what was committed"):
        open_study(study).values("m", "entropy", "2", 8)
    assert damage_of(study) == {("results", seed, 8) for seed in SEEDS}


def test_what_is_missing_is_named_by_the_file_that_it_was_in(study: Path) -> None:
    writer = open_writer(study)
    writer.plan("m", [(seed, 16) for seed in SEEDS], {})
    score(writer, "m", "1", 16)
    score(writer, "m", "2", 16)
    (study / "models/m/loose/entropy/c/2/1/0").unlink()  # its step is not packed yet
    shutil.rmtree(study / "models/m/loose/surprisal/c/2/0")
    (study / "models/m/entropy/c.1.0.0").unlink()
    for seed, step, name, file in (
        ("2", 16, "entropy", "loose/entropy/c/2/1/0"),
        ("1", 16, "surprisal", "loose/surprisal/c/2/0/0"),
        ("2", 8, "entropy", "entropy/c.1.0.0"),
    ):
        with pytest.raises(DamagedError, match=rf"models/m/{re.escape(file)}: missing, though"):
            open_study(study).values("m", name, seed, step)


def test_a_pack_that_is_replaced_is_read_from_then_on(study: Path) -> None:
    reader = open_study(study)
    before = reader.values("m", "kl", "1", 8, "2")
    pack = study / "models/m/kl/c.1.0.0.0"
    pack.rename(other := study / "models/m/kl/c.9.0.0.0")
    with pytest.raises(DamagedError, match=r"kl/c\.1\.0\.0\.0: missing"):
        reader.values("m", "kl", "1", 8, "2")
    shutil.copyfile(study / "models/m/kl/c.0.0.0.0", pack)
    with pytest.raises(DamagedError, match="is not what was committed"):
        reader.values("m", "kl", "1", 8, "2")
    other.replace(pack)
    np.testing.assert_array_equal(reader.values("m", "kl", "1", 8, "2"), before)


def test_a_sound_loose_chunk_counts_before_an_altered_packed_one(study: Path) -> None:
    reader, key = open_study(study), "models/m/loose/kl/c/1/0/1/0"
    before = reader.values("m", "kl", "1", 8, "2")
    pack = study / "models/m/kl/c.1.0.0.0"
    data, chunk = pack.read_bytes(), packed(study, key)
    assert chunk is not None
    (study / key).parent.mkdir(parents=True)
    (study / key).write_bytes(chunk)
    at = data.index(chunk) + len(chunk) // 2
    pack.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    for _ in range(2):
        np.testing.assert_array_equal(reader.values("m", "kl", "1", 8, "2"), before)
        reader.values("m", "kl", "1", 8, "3")
    open_writer(study).close("stopped")
    assert pack.read_bytes() == data
    np.testing.assert_array_equal(reader.values("m", "kl", "1", 8, "2"), before)


@pytest.mark.parametrize("name", ["kl", "kl/c.1.0.0.0"])
def test_a_pack_is_not_read_through_a_link(study: Path, name: str) -> None:
    reader = open_study(study)
    reader.values("m", "kl", "1", 8, "2")
    target = study.parent / "elsewhere"
    (study / "models/m" / name).rename(target)
    copy = study.parent / "copy"
    (shutil.copytree if target.is_dir() else shutil.copyfile)(target, copy)
    (study / "models/m" / name).symlink_to(copy)
    with pytest.raises(DamagedError, match="is a symbolic link"):
        reader.values("m", "kl", "1", 8, "2")


def test_what_is_forgotten_leaves_its_pack(study: Path) -> None:
    writer = open_writer(study)
    writer.forget("m", 8, ["2"])
    entropy = zarr.open_array(str(study / "models/m/entropy"), mode="r")
    assert np.isnan(entropy[1]).all(axis=1).tolist() == [False, True, False]
    divergence = zarr.open_array(str(study / "models/m/kl"), mode="r")
    assert np.isnan(divergence[1]).all(axis=2).tolist() == [
        [True, True, False], [True, True, True], [False, True, True]
    ]  # fmt: skip
    writer.forget("m", 0, SEEDS)
    assert not [pack for pack in packs(study) if pack.name.startswith("c.0.")]
    score(writer, "m", "2", 8)
    reduce(writer, "m", 8, SEEDS)
    writer.close("finished")
    assert not loose_files(study)
    assert not damage_of(study)


def test_an_engine_that_follows_a_dead_one_packs_what_that_left(study: Path) -> None:
    clock = Clock()
    writer = open_writer(study, clock)
    writer.plan("m", [("4", 8)], {})
    loosen(study)
    score(writer, "m", "4", 8, commit=False)
    clock.now += 60
    open_writer(study, clock).close("stopped")
    assert [name for name in loose_files(study) if "/c/1/" in name]  # of which one is to come
    assert not [name for name in loose_files(study) if "/c/0/" in name or "/c/1/3/" in name]
    assert not damage_of(study)


# -- answers to probes ---------------------------------------------------------------------------

PROBE = Probe("p/q", "icl", ("50", "500"), ("d",), np.zeros(5, np.int32), ("",), "made")
ANSWERS = "models/m/probe/p%2Fq"


def answer(seed: str, step: int) -> np.ndarray:
    return np.add.outer(np.arange(5), [0.5, step]).astype(np.float32) + int(seed)


def ask(writer: StudyWriter, seed: str, step: int) -> None:
    said = ProbeValues(PROBE.name, PROBE.digest, seed, answer(seed, step))
    writer.probes.commit("m", step, [said])


def ask_all(writer: StudyWriter) -> None:
    writer.probes.set(PROBE)
    for step in STEPS:
        for seed in SEEDS:
            ask(writer, seed, step)


def answer_files(store: Path) -> list[str]:
    folders = (store / ANSWERS, store / "models/m/loose/probe/p%2Fq/c")
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return sorted(file.name for file in files if file.name != "zarr.json")


def expect_answers(store: Path) -> None:
    """Fail unless all answers are read, by us and by any client, and in files of their steps."""
    ours, theirs = open_study(store), zarr.open_array(str(store / ANSWERS), mode="r")
    for (t, step), (n, seed) in itertools.product(enumerate(STEPS), enumerate(SEEDS)):
        wanted = answer(seed, step)
        np.testing.assert_array_equal(ours.probe_values("m", PROBE.name, seed, step), wanted)
        np.testing.assert_array_equal(theirs[t, n], wanted)
    assert answer_files(store) == [f"c.{t}.0.0.0" for t in range(len(STEPS))]
    assert not damage_of(store)


def test_answers_are_packed_with_the_last_of_their_step(study: Path) -> None:
    writer, reader = open_writer(study), open_study(study)
    writer.probes.set(PROBE)
    for seed in SEEDS[:2]:
        ask(writer, seed, 8)
    assert answer_files(study) == ["0", "0"]
    reader.refresh()
    np.testing.assert_array_equal(reader.probe_values("m", PROBE.name, "2", 8), answer("2", 8))
    writer.probes.fail("m", PROBE.name, "3", 0, Failure("out of memory"))
    ask(writer, "3", 8)
    assert answer_files(study) == ["c.1.0.0.0"]
    for seed in SEEDS[:2]:  # the third cannot
        ask(writer, seed, 0)
    assert answer_files(study) == ["c.0.0.0.0", "c.1.0.0.0"]
    ask(writer, "3", 0)
    writer.close("stopped")
    expect_answers(study)


def test_answers_of_a_step_that_never_gets_all_are_packed_in_the_end(study: Path) -> None:
    writer = open_writer(study)
    writer.probes.set(PROBE)
    ask(writer, "2", 8)
    writer.close("finished")
    assert answer_files(study) == ["c.1.0.0.0"]
    assert not damage_of(study)


def test_answers_that_are_forgotten_leave_their_pack(study: Path) -> None:
    writer = open_writer(study)
    ask_all(writer)
    writer.probes.forget("m", PROBE.name, [("2", 8)])
    theirs = zarr.open_array(str(study / ANSWERS), mode="r")
    assert np.isnan(theirs[1]).all(axis=(1, 2)).tolist() == [False, True, False]
    writer.forget("m", 0, SEEDS)
    assert answer_files(study) == ["c.1.0.0.0"]
    for seed in SEEDS:
        score(writer, "m", seed, 0)
    reduce(writer, "m", 0, SEEDS)
    for key in (("2", 8), *((seed, 0) for seed in SEEDS)):
        ask(writer, *key)
    writer.close("stopped")
    expect_answers(study)


@pytest.mark.parametrize("where", [3, -20, -2])
def test_damage_to_answers_is_named_and_they_are_asked_again(study: Path, where: int) -> None:
    writer = open_writer(study)
    ask_all(writer)
    writer.close("stopped")
    pack = study / ANSWERS / "c.1.0.0.0"
    data = bytearray(pack.read_bytes())
    data[where] ^= 16
    pack.write_bytes(data)
    damage = damage_of(study)
    assert {(part, step) for part, _, step in damage} == {("probe", 8)}
    with pytest.raises(DamagedError, match=r"probe/p%2Fq"):
        for seed in SEEDS:
            open_study(study).probe_values("m", PROBE.name, seed, 8)
    assert run(["verify", str(study), "--mend"]) == 0
    assert not damage_of(study)
    writer = open_writer(study)
    for _, seed, step in sorted(damage):
        assert seed is not None
        assert step is not None
        ask(writer, seed, step)
    writer.close("stopped")
    expect_answers(study)


def test_a_probe_of_other_items_leaves_nothing_of_the_one_before(study: Path) -> None:
    writer = open_writer(study)
    ask_all(writer)
    other = replace(PROBE, content="other")
    writer.probes.set(other)
    assert not answer_files(study)
    writer.close("finished")
    assert not damage_of(study)
