"""`seedconv verify`: what it finds, what it says, and that repairs lead back to a whole study."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from seedconv_tui.cli.main import run
from store import DamagedError, open_study
from store.maintenance import verify
from store.schema import Part, State, log_probs_path
from store.storage.arrays import open_array
from tests.support.bare_terminal import bare_terminal
from tests.support.loose import loosen
from tests.support.made_store import (
    Clock,
    committed,
    expect_nothing_changed,
    files,
    fill,
    forget_checksums,
    open_writer,
    reduce,
    score,
    summarise_step,
)
from tests.support.tiny_models import make_runs, write_study

SEEDS, STEPS = ("1", "2", "3"), (0, 8)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("template") / "study.zarr"
    writer = open_writer(made)
    fill(writer, "m", SEEDS, STEPS)
    writer.close("finished")
    return made


@pytest.fixture
def study(template: Path, tmp_path: Path) -> Path:
    return loosen(Path(shutil.copytree(template, tmp_path / "study.zarr")))


def spoil(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 0x10
    file.write_bytes(data)


def said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_sound_study_is_read_and_not_touched(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(study)
    assert run(["verify", str(study)]) == 0
    shown = capsys.readouterr()
    assert shown.out == f"{study}: sound, 22 parts checked\n"
    assert not shown.err  # no progress where there is no terminal
    assert run(["verify", str(study), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == {
        "store": str(study), "sound": True, "checked": 22, "damage": [], "repaired": []
    }  # fmt: skip
    assert files(study) == before


@pytest.mark.parametrize("interrupted", [False, True])
def test_a_terminal_shows_how_far_it_is_and_is_left_as_it_was(
    study: Path, interrupted: bool
) -> None:
    with bare_terminal("verify", str(study), "--json") as terminal:
        terminal.until(b"reading")
        if interrupted:
            terminal.type(b"\x03")
        code = terminal.process.wait()
        assert code in ({0, 130} if interrupted else {0})  # it may have been through
        terminal.until(lambda _: not terminal.changed())
        if code == 0:
            terminal.until(b'"sound": true')


def test_each_damaged_checkpoint_is_a_line_and_what_mends_it_is_said(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(study / "models/m/loose/surprisal/c/1/2/0")
    (study / log_probs_path("m", "1", 0) / "c/0/0").unlink()
    spoil(study / "models/m/loose/kl/c/0/1/2/0")
    assert run(["verify", str(study)]) == 1
    lines = said(capsys)
    assert [line.split(": ")[:2] for line in lines] == [
        ["damaged", "results, m, seed 3, step 8"],
        ["damaged", "log-probs, m, seed 1, step 0"],
        ["damaged", "pairs, m, seed 2, other seed 3, step 0"],
        ["to repair", f"seedconv verify {study} --mend, then"],
    ]
    assert run(["verify", str(study), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["damage"]
    assert [(d["part"], d["seed"], d["step"], d["other_seed"]) for d in found] == [
        ("results", "3", 8, None), ("log_probs", "1", 0, None), ("pairs", "2", 0, "3")
    ]  # fmt: skip
    assert found[0]["path"] == "models/m/surprisal"
    file = "study.zarr/models/m/loose/surprisal/c/1/2/0"
    assert f"{file}: cannot be read" in found[0]["message"]


def test_what_was_damaged_is_queued_again_and_the_rest_stays(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, follower = committed(open_study(study)), open_study(study)
    follower.snapshot()
    spoil(study / "models/m/loose/surprisal/c/1/2/0")
    spoil(study / log_probs_path("m", "3", 8) / "c/0/0")  # of which it could be computed again
    spoil(study / "models/m/loose/kl/c/0/0/2/0")
    spoil(study / log_probs_path("m", "1", 0) / "c/0/0")
    assert run(["verify", str(study), "--mend"]) == 0
    lines = said(capsys)
    assert lines[-2:] == [
        "what was forgotten is computed again by: seedconv run STUDY.toml",
        f"{study}: sound, 19 parts checked",
    ]
    after = committed(open_study(study))
    made = {"expected_kl", "token_kl", "summary"}  # of the seeds that are left
    assert {k[1] for k in after.keys() - before.keys()} == made
    expect_nothing_changed(after, before | {k: after[k] for k in after.keys() - before.keys()})
    (model,) = follower.snapshot().models
    assert model.state.tolist() == [
        [State.SCORED, State.DONE, State.DONE], [State.DONE, State.DONE, State.MISSING]
    ]  # fmt: skip
    assert not (study / "models/m/loose/surprisal/c/1/2").exists()
    assert "its results were damaged" in model.errors["3", 8]
    stored = open_array(follower._store, "models/m/cross_entropy")  # any client's view
    assert np.isnan(np.asarray(stored[1, 2]))
    writer = open_writer(study)
    writer.plan("m", [("3", 8)], {})
    score(writer, "m", "3", 8)
    reduce(writer, "m", 8, SEEDS)
    score(writer, "m", "1", 0)
    reduce(writer, "m", 0, SEEDS)
    for step in (0, 8):
        summarise_step(writer, "m", step)
    writer.close("finished")
    assert committed(open_study(study)) == before
    assert run(["verify", str(study)]) == 0


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("mean_kl", (1, 2, 0)),
        ("cross_entropy", (0, 1)),
        ("mean_entropy", (1, 0)),
        ("storage_floor", (1, 1)),
        ("expected_kl", (1,)),
    ],
)
def test_means_are_taken_again(study: Path, name: str, cell: tuple[int, ...]) -> None:
    before = committed(open_study(study))
    writer = open_writer(study)
    writer.plan("m", [], {})
    array: Any = writer._arrays["m"][name]
    right = float(np.asarray(array[cell]))
    array[cell] = right * (1 + 1e-7)
    writer.close("finished")
    (damage,) = [damage for checked in verify(study) for damage in checked.damage]
    assert (damage.part, damage.path, damage.step) == (Part.MEANS, f"models/m/{name}", 8 * cell[0])
    assert run(["verify", str(study), "--mend"]) == 0
    spoil(next(file for file in (study / f"models/m/{name}/c").rglob("*") if file.is_file()))
    assert run(["verify", str(study)]) == 1
    assert run(["verify", str(study), "--mend"]) == 0
    mended = committed(open_study(study))
    assert mended.keys() == before.keys()
    for key, value in before.items():
        if value != mended[key]:
            np.testing.assert_allclose(
                np.frombuffer(mended[key]), np.frombuffer(value), rtol=1e-13, err_msg=str(key)
            )


@pytest.mark.parametrize(
    ("name", "in_all_ways"),
    [("kl/zarr.json", True), ("zarr.json", False), ("log_probs/1/zarr.json", False),
     ("seed/zarr.json", False), ("step/c/0", True), ("mean_kl/zarr.json", False),
     ("top_id/zarr.json", False)],
)  # fmt: skip
def test_metadata_and_coordinates_are_written_again(
    study: Path, name: str, in_all_ways: bool
) -> None:
    """JSON that says nothing, and what is no JSON; in all ways for one of each kind of file."""
    before, content = committed(open_study(study)), (study / "models/m" / name).read_bytes()
    spoiled = (b"{}", content[: len(content) // 2], b"", bytes(len(content)))
    for data in spoiled if in_all_ways else spoiled[:2]:
        (study / "models/m" / name).write_bytes(data)
        assert run(["verify", str(study)]) == 1
        assert run(["verify", str(study), "--mend"]) == 0
        assert committed(open_study(study)) == before
        if name.endswith(".json"):
            assert json.loads((study / "models/m" / name).read_bytes()) == json.loads(content)


@pytest.mark.parametrize("name", ["zarr.json", "commits/1.log", "corpus/text/c/0"])
def test_what_cannot_be_mended_says_what_to_restore(
    study: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    good = (study / name).read_bytes()
    spoil(study / name)
    for options in ([], ["--mend"]):
        assert run(["verify", str(study), *options]) == 1
        damaged, advice = said(capsys)
        assert damaged.startswith("damaged: ")
        assert "from a copy" in advice
    (study / name).write_bytes(good)
    assert run(["verify", str(study)]) == 0


def test_an_engine_may_write_meanwhile(study: Path) -> None:
    """What is dropped or added while the study is read is not damage."""
    writer = open_writer(study, clock := Clock())
    writer.plan("m", [], {})
    found = []
    for checked in verify(study):
        found += checked.damage
        if checked.part is Part.RESULTS and checked.step == 0 and checked.seed == "1":
            writer.drop_log_probs("m", 0, SEEDS)
            fill(writer, "m", (*SEEDS, "4"), (16,))
            writer.forget("m", 8, ["2"])
            reduce_half(writer)
    assert not found
    clock.now += 1
    assert not [d for checked in verify(study) for d in checked.damage]
    writer.close("stopped")


def reduce_half(writer: Any) -> None:
    """Write, but do not commit, a reduction: the array of means over pairs is ahead then."""
    writer._arrays["m"]["expected_kl"][writer.ledger.model("m").steps[16]] = 1.0


def test_mending_is_refused_while_an_engine_works(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import time

    spoil(study / "models/m/loose/surprisal/c/1/2/0")
    writer = open_writer(study, time.time)
    assert run(["verify", str(study), "--mend"]) == 1
    assert "is working on this study" in capsys.readouterr().err
    writer.close("stopped")
    assert run(["verify", str(study), "--mend"]) == 0


def test_wrong_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("verify", "prune"):
        assert run([command, str(tmp_path)]) == 2
        assert run([command, str(tmp_path / "none\x1b.zarr")]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 2
        assert "\x1b" not in error
        with pytest.raises(SystemExit, match="2"):
            run([command])
        with pytest.raises(SystemExit, match="0"):
            run([command, "--help"])
        assert f"example: seedconv {command} study.zarr" in capsys.readouterr().out


def test_an_engine_computes_what_was_forgotten_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path)
    file = write_study(tmp_path, log_probs__representation="none")
    assert run(["run", str(file)]) == 0
    store = tmp_path / "study.zarr"
    before = committed(open_study(loosen(store)))
    spoil(store / "models/m/loose/entropy/c/1/2/0")
    spoil(store / "models/m/loose/kl/c/0/1/2/0")
    assert run(["verify", str(store), "--mend"]) == 0
    assert run(["run", str(file)]) == 0
    assert "1 checkpoint scored, 2 steps compared" in capsys.readouterr().err
    after = committed(open_study(store))
    assert after.keys() == before.keys()
    for key, value in before.items():
        if key[1] not in {"mean_kl", "expected_kl"}:
            assert after[key] == value, key
    assert run(["verify", str(store)]) == 0


@pytest.mark.parametrize(("kept", "exact"), [("factored", 1e-5), ("dense", 1e-2)])
def test_results_are_computed_again_from_log_probs_without_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kept: str, exact: float
) -> None:
    """To the rounding of what is stored; divergences, of rounded log-probs anyway, to float32."""
    make_runs(tmp_path)
    file = write_study(tmp_path, log_probs__representation=kept)
    assert run(["run", str(file)]) == 0
    store = tmp_path / "study.zarr"
    before = committed(open_study(loosen(store)))
    shutil.rmtree(tmp_path / "runs")
    for name in ("surprisal", "entropy", "kl_unigram", "top_id", "top_log_prob"):
        spoil(next(f for f in (store / f"models/m/loose/{name}/c/1/2").rglob("*") if f.is_file()))
    spoil(store / "models/m/loose/kl/c/0/1/2/0")
    (store / "models/m/loose/js/c/0/1/2/0").unlink()
    assert run(["verify", str(store), "--mend"]) == 0
    assert run(["verify", str(store)]) == 0
    after = committed(open_study(store))
    assert after.keys() == before.keys()
    changed = {key for key in before if after[key] != before[key]}
    assert {key[2:] for key in changed if key[1] == "surprisal"} == {("3", 10)}
    for key in changed:
        if key[1] == "top_id":
            continue  # rounded log-probs may be equal
        dtype = "f8" if key[1].startswith(("mean", "cross", "summary", "expected")) else "f4"
        was, now = (np.frombuffer(values[key], dtype) for values in (before, after))
        near = 2e-6 if key[1] in {"kl", "js", "mean_kl", "expected_kl", "token_kl"} else exact
        np.testing.assert_allclose(now, was, rtol=0, atol=near, err_msg=str(key))
    assert run(["status", str(store)]) == 0
    assert "6 done" in capsys.readouterr().out


def test_what_cannot_be_had_again_is_missing_and_status_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path)
    file = write_study(tmp_path, log_probs__representation="none")
    assert run(["run", str(file)]) == 0
    store = tmp_path / "study.zarr"
    (tmp_path / "runs").rename(tmp_path / "away")
    loosen(store)
    spoil(store / "models/m/loose/entropy/c/1/2/0")
    assert run(["verify", str(store), "--mend"]) == 0
    run(["run", str(file)])
    capsys.readouterr()
    assert run(["status", str(store)]) == 0
    out = capsys.readouterr().out
    assert "queued" not in out
    assert "1 missing" in out
    model = open_study(store).snapshot().models[0]
    assert "its results were damaged" in model.errors["3", 10]
    (tmp_path / "away").rename(tmp_path / "runs")
    assert run(["run", str(file)]) == 0
    assert run(["status", str(store)]) == 0
    assert "6 done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "target", "part", "cell"),
    [
        ("loose/kl/c/0/1/2/0", "loose/kl/c/0/0/1/0", Part.PAIRS, ("1", 0, "2")),
        ("loose/js/c/0/1/2/0", "loose/kl/c/0/1/2/0", Part.PAIRS, ("2", 0, "3")),
        ("loose/surprisal/c/0/1/0", "loose/surprisal/c/1/0/0", Part.RESULTS, ("1", 8, None)),
        ("loose/entropy/c/1/1/0", "loose/surprisal/c/1/1/0", Part.RESULTS, ("2", 8, None)),
        (
            "loose/top_log_prob/c/0/1/0/0",
            "loose/top_log_prob/c/1/0/0/0",
            Part.RESULTS,
            ("1", 8, None),
        ),
        ("log_probs/1/0/c/0/0", "log_probs/2/8/c/0/0", Part.LOG_PROBS, ("2", 8, None)),
        ("summary/token_kl/c/0/0", "summary/token_kl/c/1/0", Part.SUMMARY, (None, 8, None)),
    ],
)
def test_a_sound_chunk_in_the_wrong_place_is_no_number(
    study: Path, source: str, target: str, part: Part, cell: tuple[str | None, int, str | None]
) -> None:
    before = committed(open_study(study))
    shutil.copyfile(study / "models/m" / source, study / "models/m" / target)
    with pytest.raises(DamagedError, match="is not what was committed"):
        committed(open_study(study))
    damage = [damage for checked in verify(study) for damage in checked.damage]
    assert [(d.part, d.seed, d.step, d.other_seed) for d in damage] == [(part, *cell)]
    assert run(["verify", str(study), "--mend"]) == 0
    after = committed(open_study(study))
    lost = {key[1] for key in before.keys() - after.keys()}
    assert lost == ({"log_probs"} if part is Part.LOG_PROBS else set())


def test_means_of_a_study_without_checksums_are_not_believed_over_values(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As earlier versions wrote it: neither side has proof, but the log-probs are there."""
    forget_checksums(study)
    assert not [d for checked in verify(study) for d in checked.damage]
    before = open_study(study).values("m", "surprisal", "1", 8)
    mean = open_study(study).means("m", "cross_entropy")[1, 0]
    shutil.copyfile(
        study / "models/m/loose/surprisal/c/0/1/0", study / "models/m/loose/surprisal/c/1/0/0"
    )
    assert run(["verify", str(study), "--mend"]) == 0
    line = "computed again from stored log-probs: results of 1 checkpoint"
    assert said(capsys)[-1] == f"{line} (`seedconv status --json` lists them)"
    assert run(["status", str(study)]) == 0
    assert f"  {line} (--json lists them)" in said(capsys)
    after = open_study(study)
    np.testing.assert_allclose(after.values("m", "surprisal", "1", 8), before, atol=1e-2)
    assert abs(after.means("m", "cross_entropy")[1, 0] - mean) < 1e-3


def test_a_study_of_an_earlier_version_is_continued_with_checksums(study: Path) -> None:
    forget_checksums(study)
    before = committed(open_study(study))
    writer = open_writer(study)
    fill(writer, "m", SEEDS, (16,))
    writer.close("finished")
    after = committed(open_study(study))
    expect_nothing_changed(before, after)
    assert not [d for checked in verify(study) for d in checked.damage]
    loosen(study)
    shutil.copyfile(study / "models/m/loose/js/c/0/1/2/0", study / "models/m/loose/js/c/2/1/2/0")
    damage = [damage for checked in verify(study) for damage in checked.damage]
    assert [(d.part, d.step) for d in damage] == [(Part.PAIRS, 16)]


def test_the_log_of_another_study_is_not_taken_for_this_one(study: Path, tmp_path: Path) -> None:
    clock = Clock()
    clock.now += 5  # it is another study
    writer = open_writer(tmp_path / "other.zarr", clock)
    fill(writer, "m", SEEDS, STEPS)
    writer.close("finished")
    for name in ("commits/1.log", "commits/1.end"):
        shutil.copyfile(tmp_path / "other.zarr" / name, study / name)
    with pytest.raises(DamagedError, match="of two studies"):
        open_study(study)
    (damage,) = [damage for checked in verify(study) for damage in checked.damage]
    assert damage.part is Part.STUDY


def test_a_log_replaced_by_that_of_another_session_is_damage(study: Path) -> None:
    writer = open_writer(study)
    fill(writer, "m", SEEDS, (16,))
    writer.close("finished")
    shutil.copyfile(study / "commits/1.log", study / "commits/2.log")
    with pytest.raises(DamagedError, match="is a copy of another session's log"):
        open_study(study)
