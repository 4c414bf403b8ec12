"""Sources on the Hub: the real client against a Hub on loopback, also where things go wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from huggingface_hub import close_session, constants, scan_cache_dir

from engine.errors import CheckpointError
from engine.sources.checkpoint_files import checkpoint_files
from engine.sources.hub import LOOK_AGAIN_SECONDS, HubSource
from engine.sources.hub_client import HubClient
from engine.study_file.models_section import ModelSection
from seedconv_tui.cli.main import run
from store import open_study
from tests.support.hub_server import HubServer, push_runs
from tests.support.tiny_models import make_runs, pickle_weights, write_study

SMALL = {"config.json": b"{}", "model.safetensors": bytes(1000)}


def source(
    template: str | dict[str, str],
    *,
    name: str = "m",
    now: list[float] | None = None,
    **settings: object,
) -> HubSource:
    model = {"name": name, "source": template, **settings}
    return HubSource(
        ModelSection.model_validate(model),
        HubClient(Event(), lambda _: False),
        lambda: (now or [0.0])[0],
    )


def said(capsys: pytest.CaptureFixture[str], level: str) -> list[str]:
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return [line for line in error.splitlines() if f" {level} " in line]


# -- a whole study -----------------------------------------------------------------------------


@pytest.mark.parametrize("alone", [False, pytest.param(True, marks=pytest.mark.long)])
def test_a_study_from_the_hub_equals_the_same_from_folders(
    tmp_path: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    """Also in a process of its own, which knows the Hub from its environment."""
    make_runs(tmp_path, shard="20KB")
    assert run(["run", str(write_study(tmp_path))]) == 0
    theirs = open_study(tmp_path / "study.zarr")
    push_runs(hub, tmp_path)
    hub.push("lab/m-seed1", "main", tmp_path / "runs/seed1/step10")
    hub.push("lab/other-seed1", "step0", {})
    hub.push("lab/tok", "main", {**files(tmp_path / "tokenizer"), "model.safetensors": b"large"})
    there = tmp_path / "there"
    there.mkdir()
    shutil.copy(tmp_path / "text.txt", there)
    study = {"models__source": "lab/{model}-seed{seed}@step{step}", "tokenizer__source": "lab/tok"}
    file = write_study(there, **study)
    if alone:
        run_alone(file, HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path / "home"))
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home/hub"))
    else:
        assert run(["run", str(file)]) == 0
    same(there / "study.zarr", theirs)
    sent = [path for method, path, _ in hub.asked if method == "GET" and "/resolve/" in path]
    assert len(sent) == len(set(sent))
    assert not any("tok/" in path and "safetensors" in path for path in sent)

    # Without the network: what is in the cache is found by name, and scored as well.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    asked = len(hub.asked)
    shutil.rmtree(there / "study.zarr")
    assert run(["run", str(file)]) == 0
    same(there / "study.zarr", theirs)
    assert len(hub.asked) == asked


def run_alone(file: Path, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "seedconv_tui.cli.main", "run", str(file)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "HF_HUB_OFFLINE": "0", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def same(store: Path, theirs: object) -> None:
    ours = open_study(store)
    assert ours.dataset("m").load().equals(theirs.dataset("m").load())
    for seed in "123":
        for step in (0, 10):
            a, b = ours.log_probs("m", seed, step), theirs.log_probs("m", seed, step)
            np.testing.assert_array_equal(a[:], b[:])


def test_what_is_missing_is_reported_and_skipped(
    tmp_path: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0, 10))
    shutil.rmtree(tmp_path / "runs/seed2/step10")
    push_runs(hub, tmp_path)
    file = write_study(
        tmp_path, models__source="lab/m-seed{seed}@step{step}",
        models__seeds=["1", "2", "3"], models__steps=[0, 10],
    )  # fmt: skip
    assert run(["run", str(file)]) == 0
    (line,) = said(capsys, "warning")
    assert "model m: lab/m-seed3: there is no such repository" in line
    assert "(and 2 more)" in line
    missing = open_study(tmp_path / "study.zarr").ledger("m").missing
    assert set(missing) == {("3", 0), ("2", 10), ("3", 10)}
    assert missing["2", 10] == "lab/m-seed2@step10: there is no such revision"


def test_only_what_scoring_takes_is_downloaded(
    tmp_path: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2", "3"), steps=(0,))
    for seed in "12":
        folder = tmp_path / f"runs/seed{seed}/step0"
        shutil.copy(folder / "model.safetensors", folder / "pytorch_model.bin")
        (folder / "README.md").write_text("model card")
        (folder / "modeling_own.py").write_text("raise SystemExit")
    pickle_weights(tmp_path / "runs/seed3/step0")
    push_runs(hub, tmp_path)
    study = {"models__source": "lab/m-seed{seed}@step{step}"}
    assert run(["run", str(write_study(tmp_path, **study))]) == 1
    (line,) = said(capsys, "error")
    assert "lab/m-seed3@step0: has only pickled weights" in line
    assert "models.allow_pickle = true" in line
    assert sorted(hub.downloads()) == ["config.json", "config.json", *["model.safetensors"] * 2]
    assert run(["run", str(write_study(tmp_path, **study, models__allow_pickle=True))]) == 0
    assert hub.downloads()[-2:] == ["config.json", "pytorch_model.bin"]


@pytest.mark.parametrize("cache", ["keep", "drop"])
def test_downloads_are_dropped_once_scored_if_asked(
    tmp_path: Path, hub: HubServer, cache: str
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0, 10))
    push_runs(hub, tmp_path, "lab/m-seed{seed}")
    hub.push("lab/m-seed3", "step0", {"config.json": b"{}"})
    source = "lab/m-seed{seed}@step{step}"
    file = write_study(tmp_path, models__source=source, models__cache=cache)
    assert run(["run", str(file)]) == 1  # for seed 3
    revisions = [
        rev for repo in scan_cache_dir(constants.HF_HUB_CACHE).repos for rev in repo.revisions
    ]
    assert len(revisions) == (4 if cache == "keep" else 0)
    left = list((tmp_path / "cache").rglob("blobs/*"))
    assert bool(left) == (cache == "keep")
    assert hub.downloads().count("model.safetensors") == 4
    assert run(["run", str(file)]) == 1
    assert hub.downloads().count("model.safetensors") == 4


def test_the_commit_found_is_the_commit_scored_and_recorded(tmp_path: Path, hub: HubServer) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    push_runs(hub, tmp_path)
    pinned = {seed: hub.repositories[f"lab/m-seed{seed}"].refs["step0"] for seed in "12"}

    def move(_: str) -> None:  # once the first file is asked for, branches move on
        for seed in "12":
            hub.push(f"lab/m-seed{seed}", "step0", SMALL)

    hub.sending = move
    file = write_study(tmp_path, models__source="lab/m-seed{seed}@step{step}")
    assert run(["run", str(file)]) == 0
    scored = open_study(tmp_path / "study.zarr").ledger("m").scored
    assert {seed: record["commit"] for (seed, _), record in scored.items()} == pinned
    assert scored["1", 0]["repository"] == "lab/m-seed1"
    assert scored["1", 0]["revision"] == "step0"


def test_watching_ends_when_what_is_listed_is_done(tmp_path: Path, hub: HubServer) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    push_runs(hub, tmp_path)
    file = write_study(
        tmp_path, models__source="lab/m-seed{seed}@step{step}",
        models__seeds=["1", "2"], models__steps=[0],
    )  # fmt: skip
    assert run(["watch", str(file), "--until-complete"]) == 0
    assert open_study(tmp_path / "study.zarr").snapshot().models[0].n_pairs.tolist() == [2]


def test_a_gated_repository_is_told_in_one_line(
    tmp_path: Path, hub: HubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2", "3"), steps=(0,))
    push_runs(hub, tmp_path)
    hub.repositories["lab/m-seed3"].gated = True
    assert (
        run(["run", str(write_study(tmp_path, models__source="lab/m-seed{seed}@step{step}"))]) == 1
    )
    (line,) = said(capsys, "error")
    assert "lab/m-seed3@step0/config.json: needs its terms accepted on" in line
    assert "`hf auth login` or set HF_TOKEN" in line


def test_a_hub_that_is_not_there_is_told_in_one_line(
    tmp_path: Path, hub: HubServer, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    make_runs(tmp_path, seeds=("1",), steps=(0,))
    study = {"models__source": "lab/m@seed{seed}-{step}"}
    file = write_study(tmp_path, **study)
    hub.refuse("refs", 200, times=1)
    assert run(["run", str(file)]) == 1
    (line,) = said(capsys, "error")
    assert "lab/m: " in line
    assert "does not answer as a Hub does" in line
    hub.close()
    close_session()  # of connections that are still open
    assert run(["run", str(file)]) == 1
    (line,) = said(capsys, "error")
    assert f"cannot reach {hub.endpoint}" in line
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert run(["run", str(file)]) == 1
    (line,) = said(capsys, "error")
    assert "nothing on the Hub fits lab/m@seed{seed}-{step}" in line
    listed = {"models__seeds": ["1"], "models__steps": [0]}
    assert run(["run", str(write_study(tmp_path, **study, **listed))]) == 1
    (line,) = said(capsys, "error")
    assert "{step}: lab/m@seed1-0: there is no such revision" in line
    assert run(["run", str(write_study(tmp_path, **study, tokenizer__source="lab/tok"))]) == 2
    assert "lab/tok@main: not in the cache, and HF_HUB_OFFLINE is set" in capsys.readouterr().err


# -- finding -----------------------------------------------------------------------------------


def test_of_two_sets_of_weights_the_one_that_transformers_takes_is_downloaded(
    hub: HubServer, tmp_path: Path
) -> None:
    make_runs(tmp_path, seeds=("1",), steps=(0,))
    make_runs(tmp_path / "other", seeds=("1",), steps=(0,), shard="20KB")
    both = [files(folder / "runs/seed1/step0") for folder in (tmp_path / "other", tmp_path)]
    hub.push("lab/m", "seed1-0", both[0] | both[1])
    found = source("lab/m@seed{seed}-{step}")
    found.find()
    folder = found.checkpoint(("1", 0)).fetch()
    assert not list(folder.glob("model-*.safetensors"))
    read = checkpoint_files(folder)
    assert read.weights == (folder / "model.safetensors",)
    assert "not the files that model.safetensors.index.json names" in str(read.note)


def test_seeds_and_steps_are_discovered_in_names_and_revisions(hub: HubServer) -> None:
    for seed in ("0", "1", "x-2"):
        for step in (0, 20, 100):
            hub.push(f"lab/bert-seed_{seed}-step_{step}k", "main", SMALL)
    hub.push("lab/bert-seed_0-step_0040k", "main", SMALL)
    hub.push("lab/bert-seed_0", "main", SMALL)
    everything = {(seed, step) for seed in ("0", "1", "x-2") for step in (0, 20_000, 100_000)}
    everything.add(("0", 40_000))  # leading zeros or not
    template = "hf://lab/{model}-seed_{seed}-step_{step:k}k"
    bert = source(template, name="bert")
    assert bert.find().there == bert.find().wanted == everything
    assert bert.checkpoint(("1", 20_000)).where() == "lab/bert-seed_1-step_20k@main"
    asked = {path for _, path, _ in hub.asked}
    assert asked == {"/api/models"}  # a list, not a question for each
    few = source(template, name="bert", seeds=["1", "9"], steps=[0, 500, 20_000]).find()
    assert few.there == {("1", 0), ("1", 20_000)}
    assert set(few.missing) == {("1", 500), ("9", 0), ("9", 500), ("9", 20_000)}
    odd = source("lab/bert-seed_{seed}@{step:k}k", name="bert", seeds=["0"], steps=[500]).find()
    assert "step 500 is not in whole thousands" in odd.missing["0", 500]
    hub.refuse("/api/models", 403)
    refused = source(template, name="bert", seeds=["1"], steps=[0]).find()
    assert "refuses access: log in with" in refused.missing["1", 0]
    assert refused.missing["1", 0] in refused.errors
    final = source("hf://lab/bert-seed_{seed}", name="bert", seeds=["0"], steps=[7]).find()
    assert final.there == {("0", 7)}


def test_parts_that_only_the_hub_knows(hub: HubServer) -> None:
    for run_, step, tokens in ((1, 1000, 3), (1, 2000, 5), (2, 1000, 3), (2, 2000, 5)):
        hub.push("lab/olmo", f"stage2-ingredient{run_}-step{step}-tokens{tokens}B", SMALL)
    hub.push("lab/olmo", "stage1-step1000-tokens3B", SMALL)
    template = "lab/olmo@stage2-ingredient{seed}-step{step}-tokens*B"
    olmo = source(template)
    assert olmo.find().there == {(seed, step) for seed in "12" for step in (1000, 2000)}
    assert olmo.checkpoint(("2", 2000)).where() == "lab/olmo@stage2-ingredient2-step2000-tokens5B"
    hub.push("lab/olmo", "stage2-ingredient1-step1000-tokens4B", SMALL)
    found = source(template, seeds=["1", "2"], steps=[1000]).find()
    assert found.there == {("2", 1000)}
    assert found.ambiguous["1", 1000] == (
        "lab/olmo@stage2-ingredient1-step1000-tokens3B and "
        "stage2-ingredient1-step1000-tokens4B both stand for seed 1, step 1000. "
        "Have the source name one."
    )
    assert not found.missing


def test_seeds_with_names_of_their_own(hub: HubServer) -> None:
    hub.push("lab/alias-x21", "checkpoint-10", SMALL)
    hub.push("lab/alias-x21", "checkpoint-20", SMALL)
    hub.push("lab/expanse-x777", "checkpoint-10", SMALL)
    table = {name: f"lab/{name}@checkpoint-{{step}}" for name in ("alias-x21", "expanse-x777")}
    found = source(table | {"gone": "lab/gone@checkpoint-{step}"}).find()
    assert found.there == {("alias-x21", 10), ("alias-x21", 20), ("expanse-x777", 10)}
    (warning,) = found.warnings
    assert "lab/gone: there is no such repository" in warning
    hub.asked.clear()
    chosen = source(table, seeds=["alias-x21"]).find()
    assert chosen.there == {("alias-x21", 10), ("alias-x21", 20)}
    few = source("lab/{seed}@checkpoint-{step}", seeds=["expanse-x777", "gone"]).find()
    assert few.there == {("expanse-x777", 10)}
    assert "lab/gone: there is no such repository" in few.warnings[0]
    asked = [path.removeprefix("/api/models/lab/") for _, path, _ in hub.asked]
    assert asked == ["alias-x21/refs", "expanse-x777/refs", "gone/refs"]  # no more than needed


def test_a_commit_or_a_pull_request_may_be_named(hub: HubServer) -> None:
    commit = hub.push("lab/a", "main", SMALL)
    other = hub.push("lab/b", "refs/pr/1", SMALL)
    del hub.repositories["lab/b"].refs["refs/pr/1"]
    hub.repositories["lab/b"].refs["hidden"] = other
    table = {"a": f"lab/a@{commit}", "b": f"lab/b@{other}", "c": "lab/a@none"}
    found = source(table, steps=[0]).find()
    assert found.there == {("a", 0), ("b", 0)}
    assert found.missing["c", 0] == "lab/a@none: there is no such revision"


def test_watching_asks_now_and_then_and_keeps_commits(hub: HubServer) -> None:
    first = hub.push("lab/m", "seed1-0", SMALL)
    now = [0.0]
    watched = source("lab/m@seed{seed}-{step}", now=now)
    assert watched.find().there == {("1", 0)}
    asked = len(hub.asked)
    hub.push("lab/m", "seed1-0", {"config.json": b"changed"})
    hub.push("lab/m", "seed1-5", SMALL)
    now[0] += LOOK_AGAIN_SECONDS - 1
    assert watched.find().there == {("1", 0)}
    assert len(hub.asked) == asked
    now[0] += 1
    assert watched.find().there == {("1", 0), ("1", 5)}
    assert watched.checkpoint(("1", 0)).details()["commit"] == first


def test_a_download_that_never_ends_is_given_up_and_goes_on_later(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.push("lab/m", "seed1-0", SMALL)
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _: None)
    hub.cuts = [("model.safetensors", 0.0)] * 999
    broken = source("lab/m@seed{seed}-{step}")
    broken.find()
    gave_up = r"^lab/m@.*/model.safetensors: .* gave up after 8"
    with pytest.raises(CheckpointError, match=gave_up) as told:
        broken.checkpoint(("1", 0)).fetch()
    assert told.value.passing
    hub.cuts.clear()
    assert (broken.checkpoint(("1", 0)).fetch() / "model.safetensors").read_bytes() == bytes(1000)
    assert not list((broken.checkpoint(("1", 0)).fetch().parents[1]).rglob("*.incomplete"))
