"""`seedconv init`: what it writes, and what it finds in a folder of training runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from engine.study_file.file import StudyFile, load_study_file
from engine.study_file.guessed_source import guess_sources
from seedconv_tui.cli.main import run
from store import open_study
from tests.support.tiny_models import TEXT, make_runs, pickle_weights


def lay(folder: Path, *files: str) -> None:
    """Write files of these names; a config.json is one."""
    for name in files:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("{}" if name.endswith(".json") else "x")


def checkpoints(folder: Path, *names: str) -> None:
    """Write what looks like checkpoints of `transformers` by its names."""
    lay(
        folder,
        *(f"{name}/{file}" for name in names for file in ("config.json", "model.safetensors")),
    )


def drafted(
    capsys: pytest.CaptureFixture[str], where: str = "runs"
) -> tuple[StudyFile, str, list[str]]:
    """Return the study file that is written, as read and as text, and what is said."""
    capsys.readouterr()
    assert run(["init", "--from", where]) == 0
    file = Path("study.toml")
    found = load_study_file(file), file.read_text(), capsys.readouterr().err.splitlines()
    file.unlink()
    return found


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert run(["init", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert not Path("study.toml").exists()
    return line


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_the_short_template_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "short.toml"]) == 0
    said = capsys.readouterr().err
    assert "set corpus.files, tokenizer.source, models.source, then: seedconv run" in said
    assert run(["init", "full.toml", "--full"]) == 0
    assert len(Path("short.toml").read_text().splitlines()) < 30
    short, full = (load_study_file(Path(f"{name}.toml")) for name in ("short", "full"))
    assert short.log_probs == full.log_probs
    assert short.scoring == full.scoring
    assert run(["init", "-"]) == 0
    assert capsys.readouterr().out == Path("short.toml").read_text()


@pytest.mark.parametrize(
    ("paths", "source", "seeds", "steps"),
    [
        (["seed1/checkpoint-0", "seed1/checkpoint-500", "seed2/checkpoint-0"],
         "runs/seed{seed}/checkpoint-{step}", ("1", "2"), (0, 500)),
        (["seed-1", "seed-2", "seed-10"], "runs/seed-{seed}", ("1", "2", "10"), ()),
        (["1", "2", "3"], "runs/{seed}", ("1", "2", "3"), ()),
        (["alias", "battlestar"], "runs/{seed}", ("alias", "battlestar"), ()),
        (["run-10/step5", "run-11/step5"], "runs/run-{seed}/step{step}", ("10", "11"), (5,)),
        (["a/100", "b/100"], "runs/{seed}/{step}", ("a", "b"), (100,)),
        (["gpt2-seed1-step20", "gpt2-seed2-step20"],
         "runs/gpt2-seed{seed}-step{step}", ("1", "2"), (20,)),
        (["bert-seed_0-step_20k", "bert-seed_1-step_20k"],
         "runs/bert-seed_{seed}-step_{step:k}k", ("0", "1"), (20_000,)),
        (["seed1/step_0000500", "seed2/step_0000500"],
         "runs/seed{seed}/step_{step}", ("1", "2"), (500,)),
        (["s1/epoch-1", "s1/epoch-2", "s2/epoch-1"],
         "runs/s{seed}/epoch-{step}", ("1", "2"), (1, 2)),
    ],
)  # fmt: skip
def test_layouts_of_folders(
    paths: Sequence[str],
    source: str,
    seeds: tuple[str, ...],
    steps: tuple[int, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    checkpoints(Path(), *(f"runs/{path}" for path in paths))
    study, text, said = drafted(capsys)
    (model,) = study.models
    assert model.source == source
    assert model.listed is None
    assert model.only_step == (None if steps else 1000)
    assert f"{len(seeds)} seeds ({', '.join(seeds)})" in text
    assert said[0].startswith(f"{source}: Found {len(seeds)} seeds")
    (guess,) = guess_sources([("runs", *path.split("/")) for path in paths], 1)
    assert (guess.seeds, guess.steps) == (seeds, steps)


@pytest.mark.parametrize(
    ("files", "source"),
    [
        (["seed1/ckpt-5.pt", "seed2/ckpt-5.pt"], "runs/seed{seed}/ckpt-{step}.pt"),
        (["seed1/ckpt.pt", "seed2/ckpt.pt"], "runs/seed{seed}/ckpt.pt"),
        (["v1/epoch=0-step=5.ckpt", "v1/epoch=1-step=9.ckpt", "v2/epoch=0-step=5.ckpt"],
         "runs/v{seed}/epoch=*-step={step}.ckpt"),
        (["seed1/step-5/.metadata", "seed1/step-5/__0_0.distcp",
          "seed2/step-5/.metadata", "seed2/step-5/__0_0.distcp"], "runs/seed{seed}/step-{step}"),
        (["seed1/step-5/pytorch_model_fsdp_0/.metadata",
          "seed2/step-5/pytorch_model_fsdp_0/.metadata"], "runs/seed{seed}/step-{step}"),
        (["seed1/checkpoint-5/pytorch_model.bin", "seed1/checkpoint-5/optimizer.pt",
          "seed2/checkpoint-5/pytorch_model.bin"], "runs/seed{seed}/checkpoint-{step}"),
    ],
)  # fmt: skip
def test_what_other_trainers_write(
    files: Sequence[str], source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    lay(Path("runs"), *files)
    study, text, said = drafted(capsys)
    (model,) = study.models
    assert (model.source, model.allow_pickle, model.config) == (source, True, None)
    assert "read as data" in text
    assert "set corpus.files, tokenizer.source, models.config, then" in said[-1]
    lay(Path("runs"), "config.json")
    assert drafted(capsys)[0].models[0].config == "runs/config.json"


def test_one_of_several_candidates_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    steps = [f"runs/seed{seed}/checkpoint-{step}" for seed in (1, 2) for step in (5, 10)]
    checkpoints(Path(), *steps, "runs/seed1", "runs/seed2")  # as Trainer saves the end, too
    study, text, said = drafted(capsys)
    assert [model.source for model in study.models] == ["runs/seed{seed}/checkpoint-{step}"]
    assert "# Also found, not used: runs/seed{seed} (2 seeds, one step)" in text
    assert "Also found, not used: runs/seed{seed} (2 seeds, one step)" in said


def test_folders_that_differ_in_one_more_name_are_models(
    capsys: pytest.CaptureFixture[str],
) -> None:
    sizes = ("small", "large")
    checkpoints(Path(), *(f"runs/{s}/seed{n}/step5" for s in sizes for n in (1, 2)))
    found = {model.name: model.source for model in drafted(capsys)[0].models}
    assert found == {size: f"runs/{size}/seed{{seed}}/step{{step}}" for size in sizes}
    shutil.rmtree("runs")
    checkpoints(Path(), *(f"runs/{s}_seed{n}_step5" for s in sizes for n in (1, 2)))
    found = {model.name: model.source for model in drafted(capsys)[0].models}
    assert found == {size: f"runs/{size}_seed{{seed}}_step{{step}}" for size in sizes}


def test_folders_that_differ_in_more_than_a_name_are_no_models(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = ("checkpoint-5", "checkpoint-9", "ckpt-5")
    checkpoints(Path(), *(f"runs/seed{n}/{name}" for name in names for n in (1, 2)))
    (model,) = drafted(capsys)[0].models
    assert model.source == "runs/seed{seed}/checkpoint-{step}"


def test_one_seed_and_seeds_without_a_step_in_common(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints(Path(), "runs/seed1/checkpoint-5")
    study, text, _ = drafted(capsys)
    assert "Only one seed: comparing needs two or more" in text
    for where in ("runs/seed1", "runs/seed1/checkpoint-5"):  # the same source
        assert drafted(capsys, where)[0].models == study.models
    checkpoints(Path(), "runs/seed2/checkpoint-9")
    assert "`source` also fits seeds next to it: 2" in drafted(capsys, "runs/seed1")[1]
    assert drafted(capsys, "runs/seed1")[0].models[0].seeds == "discover"
    assert "No two seeds have a step in common" in drafted(capsys)[1]
    checkpoints(Path(), "runs/seed2/checkpoint-5")
    assert "Seeds have different steps; those that two or more share" in drafted(capsys)[1]
    checkpoints(Path(), "only/checkpoint-5", "only/checkpoint-9")
    assert drafted(capsys, "only")[0].models[0].source == {"1": "only/checkpoint-{step}"}


def test_folders_that_hold_no_weights_are_no_seeds(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints(Path(), "runs/alias", "runs/battlestar")
    lay(Path("runs"), "logs/events.out", "tokenizer/tokenizer.json")
    study, _, _ = drafted(capsys)
    assert study.models[0].seeds == ["alias", "battlestar"]
    assert study.tokenizer.source == "runs/tokenizer"


def test_the_last_step_is_that_of_the_trainer(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints(Path(), "runs/seed1", "runs/seed2")
    for seed in (1, 2):
        Path(f"runs/seed{seed}/trainer_state.json").write_text(json.dumps({"global_step": 750}))
    assert drafted(capsys)[0].models[0].steps == [750]


def test_tokenizers(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints(Path(), "runs/seed1/checkpoint-5", "runs/seed2/checkpoint-5")
    study, text, said = drafted(capsys)
    assert study.tokenizer.source == "./tokenizer"
    assert "# No tokenizer found" in text
    assert any(line.startswith("tokenizer: No tokenizer found") for line in said)
    for seed in (1, 2):  # padding is set by training, and no difference
        words = {"model": {"vocab": {"a": 0}}, "padding": {"length": seed}}
        Path(f"runs/seed{seed}/checkpoint-5/tokenizer.json").write_text(json.dumps(words))
    study, text, _ = drafted(capsys)
    assert study.tokenizer.source == "runs/seed1/checkpoint-5"
    assert "# Found 2, all the same" in text
    other = json.dumps({"model": {"vocab": {"b": 0}}})
    Path("runs/seed2/checkpoint-5/tokenizer.json").write_text(other)
    assert "Tokenizers differ: this one and runs/seed2/checkpoint-5" in drafted(capsys)[1]


def test_masked_models(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoints(Path(), "runs/seed1", "runs/seed2")
    for seed in (1, 2):
        config = json.dumps({"architectures": ["BertForMaskedLM"]})
        Path(f"runs/seed{seed}/config.json").write_text(config)
    assert drafted(capsys)[0].scoring.prediction == "visible"


def test_names_on_the_hub_are_not_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody is there
    study, _, _ = drafted(capsys, "EleutherAI/pythia-14m-seed3@step1000")
    assert study.models[0].source == "EleutherAI/pythia-14m-seed{seed}@step{step}"
    assert study.models[0].name == "pythia-14m"
    assert study.tokenizer.source == "EleutherAI/pythia-14m-seed3"
    study, text, _ = drafted(capsys, "google/multiberts-seed_3")
    assert study.models[0].source == "hf://google/multiberts-seed_{seed}"
    assert study.models[0].only_step == 1000
    assert "For all steps" in text
    study, text, _ = drafted(capsys, "EleutherAI/pythia-14m@step5")
    assert study.models[0].source == {"1": "EleutherAI/pythia-14m@step{step}"}
    assert "No seed in the name" in text  # not every repository of the owner
    for seed in (1, 2):  # as the Hub's own cache has them
        lay(Path(f"hub/models--owner--gpt-seed{seed}"), "refs/step5", "refs/step10")
    assert drafted(capsys, "hub")[0].models[0].source == "owner/gpt-seed{seed}@step{step}"


def test_a_store_in_place_of_a_study_file_and_the_other_way_round(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("study.zarr").mkdir()
    assert run(["run", "study.zarr"]) == 2
    assert "study.zarr: is a folder. Name a study file" in capsys.readouterr().err
    assert run(["init"]) == 0
    for command in ("status", "plot"):
        assert run([command, "study.toml"]) == 2
        assert "study.toml: is a study file. Name its store" in capsys.readouterr().err


def test_nothing_that_is_recognised(capsys: pytest.CaptureFixture[str]) -> None:
    assert "runs: there is no such folder" in refused(capsys, "--from", "runs")
    lay(Path("runs"), "logs/events.out", "config.yaml")
    line = refused(capsys, "--from", "runs")
    assert "no checkpoints found. Looked for folders with *.safetensors" in line
    assert "saw 1 folder and 2 files, such as config.yaml, logs/events.out" in line
    lay(Path("runs"), "global_step5/mp_rank_00_model_states.pt")
    assert "is a DeepSpeed checkpoint: convert it" in refused(capsys, "--from", "runs")
    assert "is a file" in refused(capsys, "--from", "runs/config.yaml")
    checkpoints(Path(), "odd/{a}/seed1")
    assert "holds { or }" in refused(capsys, "--from", "odd")
    Path("study.toml").touch()
    assert run(["init", "--from", "runs"]) == 2
    assert "exists already" in capsys.readouterr().err


def test_it_is_found_without_torch(tmp_path: Path) -> None:
    checkpoints(tmp_path, "runs/seed1/checkpoint-5", "runs/seed2/checkpoint-5")
    code = (
        "import sys; from seedconv_tui.cli.main import run; "
        "assert run(['init', '--from', 'runs']) == 0; "
        "assert not {'torch', 'transformers', 'huggingface_hub'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_what_is_written_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """Three seeds, checkpoints with their own tokenizer, one of them pickled; nothing is edited."""
    make_runs(Path(), steps=(0, 10))
    for checkpoint in Path("runs").glob("*/*"):
        shutil.copy("tokenizer/tokenizer.json", checkpoint)
    shutil.rmtree("tokenizer")
    pickle_weights(Path("runs/seed1/step0"))
    Path("text").mkdir()
    Path("text/a.txt").write_text(TEXT[:400])
    assert run(["init", "--from", "runs"]) == 0
    assert capsys.readouterr().err.splitlines()[-1] == (
        "wrote study.toml; now: seedconv run study.toml"
    )
    assert run(["run", "study.toml"]) == 0
    known = open_study("study.zarr").ledger("my-model")
    assert known.reduced == {0: {"1", "2", "3"}, 10: {"1", "2", "3"}}
