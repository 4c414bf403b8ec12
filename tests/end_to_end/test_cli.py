"""The command line as a user meets it: results, wrong input, exit codes, interruption."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from seedconv_tui.cli import main
from seedconv_tui.cli.main import COMMANDS, run
from store import open_study
from tests.support.deadline import until
from tests.support.forked_engine import Engines
from tests.support.gated_engine import records
from tests.support.tiny_models import finish, make_runs, make_tokenizer, write_study


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was said on stderr by the command itself, not by libraries."""
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return [line for line in error.splitlines() if line.startswith("seedconv: ")]


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if " error " in line]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study."""
    folder = tmp_path_factory.mktemp("done")
    make_runs(folder)
    assert run(["run", str(write_study(folder))]) == 0
    return folder


def test_run_again_does_nothing(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["run", str(done / "study.toml")]) == 0
    assert "0 checkpoints scored, 0 steps compared" in capsys.readouterr().err


def test_status(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", str(done / "study.zarr"), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["engine"]["state"] == "finished"
    (model,) = report["models"]
    assert model["checkpoints"] == {"done": 6}
    expected = open_study(done / "study.zarr").snapshot().models[0].expected_kl[-1]
    assert model["latest"]["expected_kl"] == pytest.approx(expected)
    assert run(["status", str(done / "study.zarr")]) == 0
    assert "m: 3 seeds x 2 steps: 6 done" in capsys.readouterr().out


def test_plot(done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["plot", str(done / "study.zarr"), "--ascii", "--width", "70"]) == 0
    out = capsys.readouterr().out
    assert out.isascii()
    assert "expected KL" in out
    assert run(["plot", str(done / "study.zarr"), "--model", "x"]) == 2
    assert lines(capsys) == [f"seedconv: {done / 'study.zarr'}: no model 'x'; it has: m"]


def test_init_writes_a_study_file_that_is_valid(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from engine.study_file.file import load_study_file

    file = tmp_path / "new.toml"
    assert run(["init", str(file)]) == 0
    assert load_study_file(file).study.name == "my-study"
    assert run(["init", str(file)]) == 2
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"corpus__files": ["none.txt"]}, "corpus.files: 'none.txt': there is no such file"),
        ({"scoring__window": "wide"}, "scoring.window: should be a valid integer, found 'wide'"),
        ({"scoring__windowing": "x"}, "windowing: should be 'stream' or 'document', found 'x'"),
        ({"scoring__overlap": 32}, "scoring: overlap must be smaller than window (32)"),
        ({"scoring__colour": 1}, "scoring.colour: no such field; allowed: prediction, windowing"),
        ({"models__source": "runs/{sed}"}, "may hold only the fields {model}, {seed} and {step}"),
        (
            {"models__source": "runs/{seed}"},
            "model \"m\": source 'runs/{seed}' has no {step}. "
            "Add {step}, or list exactly one step: steps = [1000]",
        ),
        ({"models__seeds": [1, 1]}, 'model "m": seeds: names 1 twice'),
        ({"tokenizer__source": "nowhere"}, "tokenizer.source: 'nowhere': there is no such folder"),
        ({"tokenizer__bos": "<s>"}, "tokenizer.bos: should be"),
        ({"scoring__device": "cuda:63"}, "scoring.device"),
    ],
)
def test_a_wrong_study_file_is_told_in_one_line(
    done: Path, tmp_path: Path, changes: dict[str, object], said: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    shutil.copytree(done, tmp_path / "copy", ignore=shutil.ignore_patterns("study.zarr"))
    assert run(["run", str(write_study(tmp_path / "copy", **changes))]) == 2
    (line,) = lines(capsys)
    assert said in line
    assert not (tmp_path / "copy" / "study.zarr").exists()


def test_what_is_in_a_list_is_named_as_people_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write_study(tmp_path, corpus__files=["a", 3], models__steps=[0, -1])
    more = [
        '[[models]]\nsource = "runs/seed{seed}"\nsteps = [5]',
        '[[models]]\nname = "b"\nsource = "runs/seed{seed}"\nsteps = [5]\ncolour = "red"',
        '[[models]]\nname = "c"\nsource = { 1 = 5 }',
        '[[categories.custom]]\nname = "digits"',
        '[[probes]]\nkind = "icl"\nfiles = ["a"]',
        '[[probes]]\nname = "p"\nkind = "icl"\nfiles = ["a"]\npositions = [5]',
        '[notify]\non = ["phase", "x"]',
    ]
    file.write_text("\n".join([file.read_text(), *more]))
    assert run(["run", str(file)]) == 2
    found = [line.partition(": ")[2].removeprefix(f"{file}: ") for line in lines(capsys)]
    for start in (
        "corpus.files: second entry: should be a valid string, found '3'",
        'model "m": steps: second entry: should be greater than or equal to 0',
        "second model: name: is required and was not found",
        'model "b": colour: no such field; allowed: name, source',
        'model "c": source: should have a template for each seed, has 5 for 1',
        'custom category "digits": should have either pattern or labels',
        "first probe: name: is required and was not found",
        'probe "p": positions: should have at least 2 items',
        "notify.on: second entry: should be 'phase'",
    ):
        assert sum(line.startswith(start) for line in found) == 1, start
    assert len(found) == 9


def test_seeds_of_which_only_the_last_checkpoint_is_there(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(1000,))
    for seed in ("1", "2"):
        (tmp_path / f"runs/seed{seed}/step1000").rename(tmp_path / f"runs/final{seed}")
    assert run(["run", str(write_study(tmp_path, models__source="runs/final{seed}",
                                       models__steps=[1000]))]) == 0  # fmt: skip
    model = open_study(tmp_path / "study.zarr").snapshot().models[0]
    assert (model.seeds, model.steps) == (("1", "2"), (1000,))
    assert np.isfinite(model.expected_kl).all()


def test_every_finding_is_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_study(tmp_path, scoring__window=1, corpus__files=[], models__steps=[-1])
    assert run(["run", str(file)]) == 2
    found = lines(capsys)
    assert len(found) == 3
    assert all(str(file) in line for line in found)


def test_what_is_not_a_store(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder").mkdir()
    for command in ("status", "plot", "tui"):
        for name in ("folder", "none.zarr"):
            assert run([command, str(tmp_path / name)]) == 2
            assert len(lines(capsys)) == 1
    assert run([str(tmp_path / "none.zarr")]) == 2
    assert "does not exist" in lines(capsys)[0]
    with pytest.raises(SystemExit, match="2"):
        run(["tru"])
    assert "'tru' is neither a command nor a store" in capsys.readouterr().err


def test_another_tokenizer_than_the_stores(
    done: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(done, tmp_path / "copy")
    make_tokenizer(tmp_path / "copy" / "tokenizer", size=280)
    assert run(["run", str(tmp_path / "copy" / "study.toml")]) == 2
    (line,) = lines(capsys)
    assert "tokenizer.vocabulary is" in line


def test_damaged_checkpoints_fail_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(tmp_path, seeds=("1", "2", "3", "4", "5", "6", "7"), steps=(0,), shard="20KB")
    runs = tmp_path / "runs"
    shard = sorted((runs / "seed1/step0").glob("model-*"))[0]
    shard.write_bytes(shard.read_bytes()[:-100])
    sorted((runs / "seed2/step0").glob("model-*"))[1].unlink()
    make_tokenizer(runs / "seed3/step0", size=290)
    for file in (runs / "seed4/step0").glob("model-*"):
        header = 8 + int.from_bytes(file.read_bytes()[:8], "little")
        file.write_bytes(file.read_bytes()[:header] + bytes(file.stat().st_size - header))
    (runs / "seed5/step0/config.json").write_text('{"model_type": ')
    assert run(["run", str(write_study(tmp_path))]) == 1
    said = errors(capsys.readouterr().err)
    assert len(said) == 5
    for text, line in zip(
        ("its header says", "is missing", "another tokenizer", "all weights are zero", "JSON"),
        said,
        strict=True,
    ):
        assert text in line
    model = open_study(tmp_path / "study.zarr").snapshot().models[0]
    assert model.n_pairs.tolist() == [2]
    assert set(model.errors) == {(seed, 0) for seed in "12345"}
    shutil.rmtree(runs / "seed4")
    shutil.rmtree(runs / "seed5")
    make_runs(tmp_path, seeds=("1", "2", "3"), steps=(0,))
    (runs / "seed3/step0/tokenizer.json").unlink()
    for seed in "12":
        (runs / f"seed{seed}/step0/model.safetensors.index.json").unlink()
    (runs / "seed3/step0/model.safetensors.index.json").unlink()
    assert run(["run", str(tmp_path / "study.toml")]) == 0
    model = open_study(tmp_path / "study.zarr").snapshot().models[0]
    assert model.n_pairs.tolist() == [20]


def test_infinite_logits_fail_their_checkpoint_by_token_and_leave_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, steps=(0,))
    file = tmp_path / "runs/seed2/step0/model.safetensors"
    weights = load_file(file)
    weights["embed_out.weight"] *= 1e38
    save_file(weights, file, metadata={"format": "pt"})
    assert run(["run", str(write_study(tmp_path))]) == 1
    (line,) = errors(capsys.readouterr().err)
    assert "seed2/step0: log-probs are NaN or infinite at token 0 ('The')" in line
    model = open_study(tmp_path / "study.zarr").snapshot().models[0]
    assert model.n_pairs.tolist() == [2]
    kept = {path.parts[-3] for path in (tmp_path / "study.zarr").rglob("log_probs/*/0/zarr.json")}
    assert kept == {"1", "3"}


def test_damaged_log_probs_fail_the_reduction_and_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1",), steps=(0,))
    file = write_study(tmp_path)
    assert run(["run", str(file)]) == 1  # one seed alone
    chunk = tmp_path / "study.zarr/models/m/log_probs/1/0/c/0/0"
    chunk.write_bytes(chunk.read_bytes()[:-1])
    make_runs(tmp_path, seeds=("2", "3"), steps=(0,))
    (tmp_path / "runs/seed3").rename(tmp_path / "seed3")
    capsys.readouterr()
    assert run(["run", str(file)]) == 1
    (line,) = errors(capsys.readouterr().err)
    assert "cannot reduce m, step 0" in line
    assert "log_probs/1/0" in line
    assert run(["verify", str(tmp_path / "study.zarr"), "--mend"]) == 0  # as the line says
    assert run(["run", str(file)]) == 0
    assert open_study(tmp_path / "study.zarr").ledger("m").reduced == {0: {"1", "2"}}


def test_seeds_that_share_no_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(tmp_path, seeds=("1",), steps=(0, 10))
    make_runs(tmp_path, seeds=("2",), steps=(5, 15))
    assert run(["run", str(write_study(tmp_path))]) == 1
    (line,) = errors(capsys.readouterr().err)
    assert "no two seeds share a step" in line
    assert "seed 1: 0 to 10; seed 2: 5 to 15" in line
    model = open_study(tmp_path / "study.zarr").snapshot().models[0]
    assert np.isfinite(model.cross_entropy).sum() == 4


def test_listed_checkpoints_that_are_not_there_are_skipped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    file = write_study(tmp_path, models__seeds=["1", "2"], models__steps=[0, 10])
    assert run(["run", str(file)]) == 0
    assert "runs/seed1/step10: there is no such folder (and 1 more)" in capsys.readouterr().err


def test_no_space_is_refused_before_anything_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_runs(tmp_path, steps=(0,))
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert run(["run", str(write_study(tmp_path))]) == 2
    (line,) = lines(capsys)
    assert "are free; free some space" in line


def test_json_events(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    capsys.readouterr()
    assert run(["run", str(write_study(tmp_path)), "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line[:1] == "{"]
    assert [event["event"] for event in events] == [
        "found", "projected", "plan", "scored", "scored", "reduced", "reference", "end"
    ]  # fmt: skip
    assert events[5]["fields"]["seeds"] == ["1", "2"]


def test_watch_scores_what_arrives_and_ends_when_complete(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0, 10))
    finish(tmp_path)
    runs, store = tmp_path / "runs", tmp_path / "study.zarr"
    (runs / "seed2").rename(tmp_path / "late")
    file = write_study(
        tmp_path, models__seeds=["1", "2"], models__steps=[0, 10], watch__poll_seconds=0.01
    )

    def arrive() -> None:
        until(lambda: records(store, "scored") == 2)
        (tmp_path / "late").rename(runs / "seed2")

    arriving = threading.Thread(target=arrive)
    arriving.start()
    assert run(["watch", str(file), "--until-complete"]) == 0
    arriving.join()
    model = open_study(store).snapshot().models[0]
    assert model.n_pairs.tolist() == [2, 2]


@pytest.mark.parametrize("scored", [pytest.param(2, marks=pytest.mark.long), 4])
def test_killed_and_started_again_ends_as_if_undisturbed(
    done: Path, tmp_path: Path, engines: Engines, scored: int
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(done, folder, ignore=shutil.ignore_patterns("study.zarr"))
    killed = (scored, signal.SIGKILL)
    assert engines.run(folder / "study.toml", when_scored=killed, command_line=True).killed
    halfway = open_study(folder / "study.zarr").snapshot().models[0]
    assert (halfway.state < halfway.state.max()).any() or halfway.n_pairs.min() == 0
    assert run(["run", str(folder / "study.toml")]) == 0
    ours, theirs = open_study(folder / "study.zarr"), open_study(done / "study.zarr")
    mended, whole = ours.dataset("m").load(), theirs.dataset("m").load()
    assert mended.equals(whole)
    for seed in "123":
        for step in (0, 10):
            a, b = ours.log_probs("m", seed, step), theirs.log_probs("m", seed, step)
            np.testing.assert_array_equal(a[:], b[:])


def test_interrupted(done: Path, tmp_path: Path, engines: Engines) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(done, folder, ignore=shutil.ignore_patterns("study.zarr"))
    stopped = (1, signal.SIGTERM)
    ended = engines.run(
        folder / "study.toml", when_scored=stopped, command_line=True, command="watch"
    )
    assert ended.code == 130, ended
    snapshot = open_study(folder / "study.zarr").snapshot()
    assert snapshot.engine is not None
    assert snapshot.engine.state == "stopped"


def test_each_command_is_a_module_of_its_own(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    files = Path(main.__file__).parent.glob("*.py")
    assert sorted(COMMANDS) == sorted(file.stem for file in files if "\nHELP =" in file.read_text())
    for name in COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            run([name, "--help"])
        said = capsys.readouterr().out
        assert f"example: seedconv {name}" in said
        (page,) = re.findall(r"^more: (docs/\S+\.md)$", said, re.MULTILINE)
        assert (Path(__file__).parents[2] / page).exists()
        wide = [line for line in said.splitlines() if len(line) > 80]
        assert not [line for line in wide if not line.startswith("example: ")]


def test_the_monitor_imports_nothing_heavy() -> None:
    code = (
        "import sys, seedconv_tui.cli.main, seedconv_tui.cli.study_status\n"
        "import seedconv_tui.monitor.app, seedconv_tui.monitor.data.live\n"
        "from store import open_study\n"
        "print([m for m in ('torch', 'transformers', 'spacy', 'pydantic', 'xarray', 'engine', "
        "'matplotlib') if m in sys.modules])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout.strip() == "[]"
