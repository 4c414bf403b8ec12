"""Sources in folders, how sources are written, and weights that are pickled or have code."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import CheckpointError
from engine.sources.checkpoint_files import checkpoint_files
from engine.sources.local import LocalSource
from engine.sources.settling import SETTLE_SECONDS, Settling
from engine.study_file.models_section import ModelSection
from engine.study_file.patterns import HUB, HubTemplate, Pattern, kind_of
from engine.study_file.presets import PRESETS
from seedconv_tui.cli.main import run
from store import open_study
from store.schema import State
from tests.support.tiny_models import make_runs, pickle_weights, write_study


def source(folder: Path, template: str | dict[str, str], **settings: object) -> LocalSource:
    model = {"name": "m", "source": template, **settings}
    return LocalSource(ModelSection.model_validate(model), folder)


def make(folder: Path, names: Iterable[str]) -> None:
    for name in names:
        (folder / name).mkdir(parents=True)


def test_folders_are_found_by_what_the_template_makes(tmp_path: Path) -> None:
    expected = {("1", 5), ("1", 10), ("x-2", 0)}
    make(tmp_path, (f"runs/m/s{seed}/ck-{step}-{seed}" for seed, step in expected))
    others = ("ck-7-2", "ck-x-1", f"ck-{'9' * 40}-1", "ck-\N{ARABIC-INDIC DIGIT FIVE}-1", "ck--1-1")
    make(tmp_path, (f"runs/m/s1/{name}" for name in others))
    make(tmp_path, ("runs/n/s1/ck-1-1",))
    template = "runs/{model}/s{seed}/ck-{step}-{seed}"
    found = source(tmp_path, template).find()
    assert found.there == found.wanted == expected
    assert source(Path("/nowhere"), f"{tmp_path}/{template}").find().there == expected
    one = source(tmp_path, template, steps=[5, 0]).find()
    assert one.there == one.wanted == {("1", 5), ("x-2", 0)}


def test_steps_in_thousands_and_parts_that_do_not_matter(tmp_path: Path) -> None:
    make(tmp_path, ("s1/epoch=0-step_0k", "s1/epoch=3-step_20k", "s2/x-step_20k"))
    template = "s{seed}/*-step_{step:k}k"
    found = source(tmp_path, template).find()
    assert found.there == {("1", 0), ("1", 20_000), ("2", 20_000)}
    listed = source(tmp_path, template, seeds=["1", "2"], steps=[0, 500, 20_000])
    found = listed.find()
    assert found.there == {("1", 0), ("1", 20_000), ("2", 20_000)}
    assert listed.checkpoint(("1", 20_000)).fetch() == tmp_path / "s1/epoch=3-step_20k"
    assert "step 500 is not in whole thousands" in found.missing["1", 500]
    assert found.missing["2", 0] == f"{tmp_path}/s2/*-step_0k: there is no such folder"


@pytest.mark.parametrize("listed", [{}, {"seeds": ["1", "2"], "steps": [0, 500, 1000]}])
def test_steps_are_read_with_leading_zeros(tmp_path: Path, listed: dict[str, object]) -> None:
    expected = {(seed, step) for seed in "12" for step in (0, 500, 1000)}
    make(tmp_path, (f"s{seed}/step_{step:07d}/at-{step}" for seed, step in expected))
    padded = source(tmp_path, "s{seed}/step_{step}/at-{step}", **listed)
    found = padded.find()
    assert (found.there, found.missing) == (expected, {})
    assert padded.checkpoint(("2", 500)).fetch() == tmp_path / "s2/step_0000500/at-500"


@pytest.mark.parametrize("listed", [{}, {"seeds": ["1"], "steps": [500, 1000]}])
@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("s{seed}/step_{step}", ("step_0000500", "step_500")),
        ("s{seed}/step{step}-tokens*B", ("step500-tokens1B", "step500-tokens2B")),
        ("s{seed}/step_{step:k}k-{step}", ("step_000k-0", "step_0k-0")),
        ("*/step_{step}-s{seed}", ("a/step_500-s1", "b/step_500-s1")),
    ],
)
def test_two_folders_for_one_checkpoint_are_refused(
    tmp_path: Path, listed: dict[str, object], template: str, names: tuple[str, str]
) -> None:
    folder = tmp_path if "/" in names[0] else tmp_path / "s1"
    make(folder, names)
    step = 0 if "0k" in names[0] else 500
    found = source(tmp_path, template, **(listed | {"steps": [step]} if listed else {})).find()
    assert not found.there
    assert found.ambiguous == {
        ("1", step): f"{folder / names[0]} and {folder / names[1]} both stand for seed 1, step "
        f"{step}. Move one of them away, or have the source name one."
    }
    (folder / names[1]).rmdir()
    (folder / names[1]).symlink_to(folder / names[0])  # of the same folder
    assert source(tmp_path, template).find().there == {("1", step)}


def test_each_seed_may_have_a_template_of_its_own(tmp_path: Path) -> None:
    make(tmp_path, ("first/at 5", "first/at 6", "elsewhere/5"))
    table = {"a": "first/at {step}", "b": "elsewhere/{step}"}
    assert source(tmp_path, table).find().there == {("a", 5), ("a", 6), ("b", 5)}
    found = source(tmp_path, table, steps=[5, 6]).find()
    assert set(found.missing) == {("b", 6)}
    with pytest.raises(ValueError, match="seeds: 'c' has no source; there are a, b"):
        source(tmp_path, table, seeds=["a", "c"])


def test_a_single_step_needs_no_field(tmp_path: Path) -> None:
    make(tmp_path, ("final-1", "final-2"))
    found = source(tmp_path, "final-{seed}", steps=[99]).find()
    assert found.there == {("1", 99), ("2", 99)}


@pytest.mark.parametrize(
    ("text", "hub"),
    [
        ("runs/{seed}/{step}", False),
        ("./{seed}@{step}", False),
        ("/a/{seed}@{step}", False),
        ("~/{seed}@{step}", False),
        ("o/{seed}@step{step}", True),
        ("hf://o/x-{seed}-{step}", True),
    ],
)
def test_what_is_on_the_hub_is_told_by_the_text_alone(text: str, hub: bool) -> None:
    assert (kind_of(text) is HUB) is hub


def test_patterns_take_no_more_than_they_make() -> None:
    fields = {"model": "m", "seed": "a.b", "step": "3000"}
    for text in ("{model}/{seed}/{step}", "{seed}{seed}-{step:k}k", "x{step}y{step:k}"):
        pattern = Pattern(text)
        made = pattern.fill(fields)
        assert pattern.matcher({"model": "m"})(made) in (fields, {"model": "m", "step": "3000"})
        assert pattern.matcher({**fields, "step": "4000"})(made) is None
        assert pattern.matcher({})(made + "!") is None
    assert Pattern("{step}-{step:k}").matcher({})("3000-4") is None
    slow = Pattern("*-" * 12 + "{step}")
    assert slow.matcher({})("-" * 250 + "x") is None  # without trying all ways
    assert slow.matcher({})("-" * 12 + "7") == {"step": "7"}
    assert Pattern("*a*{seed}-*b*").matcher({})("aa-bb") == {"seed": "a"}
    assert Pattern("a.c{seed}").matcher({})("abc1") is None


def test_presets_are_sources_that_are_valid() -> None:
    for name, preset in PRESETS.items():
        model = ModelSection(name="OLMo-2-0425-1B", source=name)
        assert model.source_kind is HUB
        assert all(HubTemplate.parse(text) for text in model.templates.values())
        assert (model.listed is None) == (preset.steps is None)
    pythia = ModelSection(name="pythia-14m", source="polypythias", seeds=["0", "9"])
    assert pythia.listed is not None
    assert len(pythia.listed) == 2 * 154
    assert {("9", 512), ("0", 0), ("0", 143_000)} <= pythia.listed


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"models__source": "polypythia"}, "has no {seed} and no {step}. Add both; if each"),
        (
            {"models__source": "o/x@step{step}"},
            "model \"m\": source 'o/x@step{step}' has no {seed}",
        ),
        ({"models__source": "a/b/c-{seed}@{step}"}, "a folder with @ in its name starts with ./"),
        ({"models__source": "s3://a/{seed}/{step}"}, "must be a folder, or owner/name@revision"),
        ({"models__source": "o/x*{seed}@{step}"}, "* after @ only"),
        ({"models__cache": "drop"}, "cache: is about downloads; folders are never deleted"),
        ({"models__allow_pickle": 1}, 'model "m": allow_pickle: should be a valid boolean'),
    ],
)
def test_wrong_sources_are_told_in_one_line(
    tmp_path: Path, changes: dict[str, object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", str(write_study(tmp_path, **changes))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_a_checkpoint_is_finished_once_it_rests_or_says_so(tmp_path: Path) -> None:
    make_runs(tmp_path, seeds=("1",), steps=(0,))
    folder = tmp_path / "runs/seed1/step0"
    now = [0.0]
    settling = Settling(lambda: now[0])
    assert not settling.finished(folder)
    now[0] += SETTLE_SECONDS - 0.1
    (folder / "extra").write_text("still writing")
    assert not settling.finished(folder)
    now[0] += SETTLE_SECONDS - 0.1
    assert not settling.finished(folder)
    now[0] += 0.2
    assert settling.finished(folder)
    (folder / "trainer_state.json").write_text('{"half')
    assert not settling.finished(folder)
    (folder / "trainer_state.json").write_text("{}")
    assert settling.finished(folder)
    (folder / "checkpoint-is-incomplete.txt").touch()
    assert not settling.finished(folder)


# -- pickled weights ---------------------------------------------------------------------------


class Boobytrap:
    """Runs code when it is unpickled, if that is allowed to."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.file,)


def test_pickled_weights_load_if_allowed_and_give_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, steps=(0,))
    assert run(["run", str(write_study(tmp_path))]) == 0
    expected = open_study(tmp_path / "study.zarr").dataset("m").load()
    pickle_weights(tmp_path / "runs/seed1/step0")
    pickle_weights(tmp_path / "runs/seed2/step0", sharded=True)
    shutil.rmtree(tmp_path / "study.zarr")
    capsys.readouterr()
    assert run(["run", str(write_study(tmp_path))]) == 1
    refused = [line for line in capsys.readouterr().err.splitlines() if " error " in line]
    assert sum("models.allow_pickle = true" in line for line in refused) == 2
    shutil.rmtree(tmp_path / "study.zarr")
    assert run(["run", str(write_study(tmp_path, models__allow_pickle=True))]) == 0
    assert open_study(tmp_path / "study.zarr").dataset("m").load().equals(expected)


def test_a_pickle_with_more_than_weights_runs_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, steps=(0,))
    trap = tmp_path / "sprung"
    file = tmp_path / "runs/seed1/step0/pytorch_model.bin"
    pickle_weights(file.parent)
    torch.save({"weight": Boobytrap(trap)}, file)
    whole = tmp_path / "runs/seed2/step0/pytorch_model.bin"
    pickle_weights(whole.parent)
    whole.write_bytes(whole.read_bytes()[:-300])
    assert run(["run", str(write_study(tmp_path, models__allow_pickle=True))]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if " error " in line]
    assert f"{file}: holds more than weights, and so is not loaded" in said[0]
    assert f"{whole}: cannot be read" in said[1]
    assert not trap.exists()


# -- code of a repository ----------------------------------------------------------------------

CONFIGURATION = """
from transformers import LlamaConfig

class OwnConfig(LlamaConfig):
    model_type = "own-kind"
"""
MODEL = """
from pathlib import Path
from transformers import LlamaForCausalLM
from .configuration_own import OwnConfig

Path({sprung!r}).touch()

class OwnForCausalLM(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_code_of_a_checkpoint_runs_only_if_trusted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, architecture="llama", steps=(0,))
    assert run(["run", str(write_study(tmp_path))]) == 0
    expected = open_study(tmp_path / "study.zarr").dataset("m").load()
    shutil.rmtree(tmp_path / "study.zarr")
    sprung = tmp_path / "sprung"
    for seed in "123":
        folder = tmp_path / f"runs/seed{seed}/step0"
        config = json.loads((folder / "config.json").read_text())
        config["model_type"] = "own-kind"
        config["auto_map"] = {
            "AutoConfig": "configuration_own.OwnConfig",
            "AutoModelForCausalLM": "modeling_own.OwnForCausalLM",
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "configuration_own.py").write_text(CONFIGURATION)
        (folder / "modeling_own.py").write_text(MODEL.format(sprung=str(sprung)))
    capsys.readouterr()
    assert run(["run", str(write_study(tmp_path))]) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if " error " in line]
    assert sum("set models.trust_remote_code = true" in line for line in said) == 3
    assert not sprung.exists()
    shutil.rmtree(tmp_path / "study.zarr")
    assert run(["run", str(write_study(tmp_path, models__trust_remote_code=True))]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if " warning " in line]
    assert len(said) == 1
    assert "models.trust_remote_code is set: Python code" in said[0]
    assert sprung.exists()
    assert open_study(tmp_path / "study.zarr").dataset("m").load().equals(expected)


# -- duplicates --------------------------------------------------------------------------------


@pytest.mark.parametrize("representation", ["dense", "none"])
def test_equal_weights_are_flagged_once_in_the_whole_study(
    tmp_path: Path, representation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, seeds=("1", "2"), steps=(0,))
    shutil.copytree(tmp_path / "runs/seed1", tmp_path / "runs/seed3")
    shutil.copytree(tmp_path / "runs", tmp_path / "others")
    shutil.rmtree(tmp_path / "others/seed3")
    file = write_study(tmp_path, log_probs__representation=representation)
    text = file.read_text().replace(
        "[scoring]", '[[models]]\nname = "n"\nsource = "others/seed{seed}/step{step}"\n[scoring]'
    )
    file.write_text(text)
    assert run(["run", str(file)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "same weights" in line]
    assert len(said) == 3
    assert "m, seed 3, step 0: same weights as m, seed 1, step 0" in said[0]
    assert "n, seed 1, step 0: same weights as m, seed 1, step 0" in said[1]
    assert "n, seed 2, step 0: same weights as m, seed 2, step 0" in said[2]
    study = open_study(tmp_path / "study.zarr")
    shown = study.snapshot().models
    assert shown[0].duplicates == {("3", 0): ("m", "1", 0)}
    assert shown[1].duplicates == {("1", 0): ("m", "1", 0), ("2", 0): ("m", "2", 0)}
    assert State.DUPLICATE not in shown[0].state
    assert shown[0].marked.tolist() == [[State.DONE, State.DONE, State.DUPLICATE]]
    assert run(["status", str(tmp_path / "study.zarr")]) == 0
    told = capsys.readouterr().out
    assert "m: 3 seeds x 1 step: 3 done" in told
    assert "  seed 3, step 0: same weights as m, seed 1, step 0" in told
    assert run(["status", "--json", str(tmp_path / "study.zarr")]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["duplicates"] == [
        {"seed": "3", "step": 0, "of": {"model": "m", "seed": "1", "step": 0}, "captured": False}
    ]
    shutil.copytree(tmp_path / "runs/seed2", tmp_path / "runs/seed4")
    assert run(["run", str(file)]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "same weights" in line]
    assert len(said) == 1
    assert "m, seed 4, step 0: same weights as m, seed 2, step 0" in said[0]


def test_reading_names_the_place_it_is_told(tmp_path: Path) -> None:
    from engine.models.weights import read_checkpoint

    with pytest.raises(CheckpointError, match=r"^owner/name@x: there is no such folder$"):
        read_checkpoint(tmp_path / "none", None, where="owner/name@x")  # type: ignore[arg-type]


def two_sets(folder: Path, *, pickled: bool = False) -> tuple[Path, str]:
    """Runs of two seeds; that of seed 1 is there a second time, in files that an index names."""
    make_runs(folder, seeds=("1", "2"), steps=(5,))
    make_runs(folder / "other", seeds=("7",), steps=(5,), shard="100KB")
    checkpoint, other = folder / "runs/seed1/step5", folder / "other/runs/seed7/step5"
    if pickled:
        for seed in "12":
            pickle_weights(folder / f"runs/seed{seed}/step5")
        (other / "model.safetensors.index.json").unlink()
        shards = [load_file(file) for file in sorted(other.glob("*.safetensors"))]
        save_file({k: v for shard in shards for k, v in shard.items()}, other / "model.safetensors")
        pickle_weights(other, sharded=True)
    for file in other.glob("*.bin*" if pickled else "*.safetensors*"):
        shutil.copy(file, checkpoint)
    return checkpoint, "pytorch_model.bin" if pickled else "model.safetensors"


@pytest.mark.parametrize("pickled", [False, True])
def test_of_two_sets_of_weights_the_one_that_transformers_takes_is_read(
    tmp_path: Path, pickled: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, single = two_sets(tmp_path, pickled=pickled)
    index = f"{single}.index.json"
    assert {single, index} <= {file.name for file in checkpoint.iterdir()}
    study = write_study(tmp_path, models__allow_pickle=pickled)
    assert run(["run", str(study)]) == 0
    said = f"{checkpoint / single} was read, as transformers does, and not the files that {index}"
    assert said in capsys.readouterr().err
    mine = open_study(tmp_path / "study.zarr")
    surprisal = mine.values("m", "surprisal", "1", 5)
    for file in checkpoint.glob("*-*.bin" if pickled else "*-*.safetensors"):
        file.unlink()
    (checkpoint / index).unlink()
    alone = write_study(tmp_path, models__allow_pickle=pickled, study__store="alone.zarr")
    assert run(["run", str(alone)]) == 0
    assert "was read" not in capsys.readouterr().err
    expected = open_study(tmp_path / "alone.zarr").values("m", "surprisal", "1", 5)
    np.testing.assert_array_equal(surprisal, expected)


def test_two_sets_of_weights_that_differ_are_refused(tmp_path: Path) -> None:
    checkpoint, single = two_sets(tmp_path)
    where = f"{checkpoint / single}: holds other weights than the files that {single}.index.json"
    index = checkpoint / f"{single}.index.json"
    whole = index.read_text()
    named = json.loads(whole)
    first = sorted(named["weight_map"])[0]
    shard = checkpoint / named["weight_map"][first]
    weights = load_file(shard)

    save_file({**weights, first: weights[first][:-1].clone()}, shard)
    with pytest.raises(CheckpointError, match=f"^{re.escape(where)} names: {first} has shape "):
        checkpoint_files(checkpoint)
    save_file({**weights, "more": weights[first].clone()}, shard)
    with pytest.raises(CheckpointError, match=f"names: more is in {shard.name} only"):
        checkpoint_files(checkpoint)
    save_file(weights, shard)
    assert checkpoint_files(checkpoint).note
    index.write_text(json.dumps({"weight_map": {**named["weight_map"], "x": shard.name}}))
    with pytest.raises(CheckpointError, match=r"names: x is in model\.safetensors\.index\.json"):
        checkpoint_files(checkpoint)
    index.write_text(whole)
    shard.unlink()  # what an index names and is not there cannot be compared
    assert checkpoint_files(checkpoint).note
    shard.write_bytes(b"half")
    with pytest.raises(CheckpointError, match="header"):
        checkpoint_files(checkpoint)
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps({**config, "transformers_weights": "x"}))
    with pytest.raises(CheckpointError, match=r"transformers_weights names 'x', and only"):
        checkpoint_files(checkpoint)
