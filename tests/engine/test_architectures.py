"""Architectures by the generic path: small random checkpoints against transformers in float64."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from engine.machine.devices import DeviceGroup
from engine.models import modules
from engine.models.output_head import find_head
from engine.models.weights import CheckpointWeights
from seedconv_tui.cli.main import run
from store import open_study
from tests.support.architectures import (
    ARCHITECTURES,
    SEEDS,
    assert_agrees,
    make_model,
    make_runs,
    reference,
    score,
)
from tests.support.forked_engine import Engines
from tests.support.reference import reference_log_probs
from tests.support.tiny_models import write_study


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_scores_are_those_of_transformers_in_float64(tmp_path: Path, architecture: str) -> None:
    make_runs(tmp_path, lambda vocab, seed: make_model(architecture, vocab, seed))
    study = score(tmp_path)
    window = 24 if "shorter" in architecture else 32
    assert_agrees(study, reference(tmp_path, window=window))
    assert study.ledger("m").scored["1", 5]["window"] == window
    assert (study.dataset("m").noise_floor.sel(step=5) < 1e-9).all()


TELLING = {"gpt2", "phi3, longrope"}
TOGETHER = [pytest.param(a, marks=() if a in TELLING else pytest.mark.long) for a in ARCHITECTURES]


@pytest.mark.parametrize("architecture", TOGETHER)
def test_what_goes_through_a_model_together_changes_nothing(
    tmp_path: Path, architecture: str
) -> None:
    make_runs(tmp_path, lambda vocab, seed: make_model(architecture, vocab, seed))
    window = 24 if "shorter" in architecture else 32
    exact = reference(tmp_path, window=window, stream=False)
    for n in (33, 100, 16_384):  # one document at a time, a few, all
        store = {"study__store": f"{n}.zarr", "scoring__batch_tokens": n}
        assert_agrees(score(tmp_path, scoring__windowing="document", **store), exact)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_output_layer_is_found(architecture: str) -> None:
    model = make_model(architecture, 304, 1)
    ids = torch.arange(20)[None] % 13
    with torch.inference_mode():
        head = find_head(model, 300, input_ids=ids, use_cache=False)
    assert head is not None
    assert head.weight.shape == (300, 32)
    assert head.soft_cap == (4.0 if "capped" in architecture else None)
    assert head.scale == 1.0


def test_warnings_of_transformers_are_not_the_users(tmp_path: Path, engines: Engines) -> None:
    make_runs(tmp_path, lambda vocab, seed: make_model("mamba", vocab, seed), ("1", "2"))
    ended = engines.run(write_study(tmp_path), command_line=True, arguments=("--json",))
    assert ended.code == 0
    told = ended.stderr.splitlines()
    assert told
    assert all(line.startswith("{") for line in told)


BROKEN = """
from transformers import LlamaForCausalLM

class Broken(LlamaForCausalLM):
    def forward(self, *arguments, **options):
        raise RuntimeError("no luck\\ntoday")
"""


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rms_norm_eps": "small"}, "/config.json: Validation error for field 'rms_norm_eps': Ty"),
        (
            {"model_type": "vit", "vocab_size": None},
            ": ViTConfig has no vocabulary: it is no language model",
        ),
        ({"model_type": "t5"}, ": T5Config is an encoder with a decoder, neither a causal nor a"),
        ({"auto_map": {"AutoModelForCausalLM": "broken.Broken"}}, ": its model fails: no luck"),
    ],
)
def test_a_model_that_cannot_be_used_is_told_and_the_others_are_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], said: str
) -> None:
    make_runs(tmp_path, lambda vocab, seed: make_model("llama", vocab, seed))
    checkpoint = tmp_path / "runs/seed2/step5"
    (checkpoint / "broken.py").write_text(BROKEN)
    config = json.loads((checkpoint / "config.json").read_text()) | changes
    (checkpoint / "config.json").write_text(json.dumps(config))
    study = write_study(tmp_path, models__trust_remote_code="auto_map" in changes)
    assert run(["run", str(study)]) == 1
    assert f"{checkpoint}{said}" in capsys.readouterr().err
    assert open_study(tmp_path / "study.zarr").ledger("m").reduced == {5: {"1", "3"}}


REMEMBERS = """
from transformers import LlamaForCausalLM

class Remembers(LlamaForCausalLM):
    said = 0.0

    def forward(self, *arguments, **options):
        output = super().forward(*arguments, **options)
        output.logits, self.said = output.logits + self.said, output.logits[0, -1].detach()
        return output
"""


def test_a_model_that_remembers_what_it_was_asked_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its results would depend on the order of the windows."""
    make_runs(tmp_path, lambda vocab, seed: make_model("llama", vocab, seed))
    checkpoint = tmp_path / "runs/seed2/step5"
    (checkpoint / "modeling_remembers.py").write_text(REMEMBERS)
    config = json.loads((checkpoint / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_remembers.Remembers"}
    (checkpoint / "config.json").write_text(json.dumps(config))
    assert run(["run", str(write_study(tmp_path, models__trust_remote_code=True))]) == 1
    said = f"{checkpoint}: its model fails: says something else when it is asked the same again"
    assert said in capsys.readouterr().err
    assert open_study(tmp_path / "study.zarr").ledger("m").reduced == {5: {"1", "3"}}


STRANGE = """
from transformers import LlamaForCausalLM

class Strange(LlamaForCausalLM):
    def forward(self, input_ids=None, logits_to_keep=0, **options):
        output = super().forward(input_ids=input_ids, logits_to_keep=logits_to_keep, **options)
        output.logits = output.logits + 0.3 * output.logits.roll(1, -1).square()
        return output
"""


def test_logits_that_are_no_product_are_scored_as_the_model_makes_them(tmp_path: Path) -> None:
    make_runs(tmp_path, lambda vocab, seed: make_model("llama", vocab, seed))
    for seed in SEEDS:
        checkpoint = tmp_path / f"runs/seed{seed}/step5"
        (checkpoint / "modeling_strange.py").write_text(STRANGE)
        config = json.loads((checkpoint / "config.json").read_text())
        config["auto_map"] = {"AutoModelForCausalLM": "modeling_strange.Strange"}
        (checkpoint / "config.json").write_text(json.dumps(config))
    strange = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, trust_remote_code=True)
    with torch.inference_mode():
        assert find_head(strange, 300, input_ids=torch.arange(9)[None], use_cache=False) is None
    exact = {
        seed: reference_log_probs(
            tmp_path,
            tmp_path / f"runs/seed{seed}/step5",
            stream=True,
            dtype=torch.float64,
            trust_remote_code=True,
        )[0]
        for seed in SEEDS
    }
    one_at_a_time = {"models__trust_remote_code": True, "scoring__batch_tokens": 32}
    assert_agrees(score(tmp_path, **one_at_a_time), exact)


def half(vocab: int, seed: int) -> Any:
    return make_model("qwen2", vocab, seed).bfloat16()


def test_half_precision_checkpoints_are_scored_in_float32(tmp_path: Path) -> None:
    make_runs(tmp_path, half)
    assert_agrees(score(tmp_path), reference(tmp_path))


def rename(folder: Path, change: Callable[[str], str | None]) -> None:
    """Give the weights of a checkpoint other names; None leaves one out."""
    file = folder / "model.safetensors"
    renamed = {change(name): tensor for name, tensor in load_file(file).items()}
    save_file({k: v for k, v in renamed.items() if k is not None}, file, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("architecture", "change"),
    [
        ("gpt2", lambda name: name.removeprefix("transformer.")),  # as the first GPT-2 has them
        ("llama, tied", lambda name: name if "embed" not in name else "lm_head.weight"),
    ],
)
def test_checkpoints_whose_weights_have_other_names(
    tmp_path: Path, architecture: str, change: Callable[[str], str | None]
) -> None:
    make_runs(tmp_path, lambda vocab, seed: make_model(architecture, vocab, seed))
    for seed in SEEDS:
        rename(tmp_path / f"runs/seed{seed}/step5", change)
    assert_agrees(score(tmp_path), reference(tmp_path))


@pytest.mark.parametrize(
    ("architecture", "copied"), [("gpt2", True), ("gpt-neox", True), ("renamed", False)]
)
def test_copies_of_a_module_compute_what_new_ones_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, copied: bool
) -> None:
    kind = "gpt2" if architecture == "renamed" else architecture
    make_runs(tmp_path, lambda vocab, seed: make_model(kind, vocab, seed))
    folders = [tmp_path / f"runs/seed{seed}/step5" for seed in SEEDS]
    if architecture == "renamed":
        for folder in folders:
            rename(folder, lambda name: name.removeprefix("transformer."))
    config = transformers.AutoConfig.from_pretrained(folders[0])
    ids, build, built = torch.arange(20)[None], modules._build, list[Path]()

    def counted(checkpoint: CheckpointWeights, *arguments: Any, **options: Any) -> Any:
        built.append(checkpoint.folder)
        return build(checkpoint, *arguments, **options)

    monkeypatch.setattr(modules, "_build", counted)
    maker = modules.Modules(torch.float32, DeviceGroup.parse("cpu"))
    loaded = [
        maker.load(
            CheckpointWeights(
                folder, "", config, load_file(folder / "model.safetensors"), str(folder), 0
            ),
            lambda module: module(ids).logits,
        )
        for folder in folders
    ]
    assert built == (folders[:2] if copied else folders)  # the second one is compared with a copy
    for model, folder in reversed([*zip(loaded, folders, strict=True)]):
        anew = transformers.AutoModelForCausalLM.from_pretrained(folder)
        with torch.inference_mode():
            assert torch.equal(model.activate()(ids).logits, anew(ids).logits)


def test_a_seed_whose_tied_weights_differ_is_not_tied(tmp_path: Path) -> None:
    """A checkpoint that has both counts, whatever its configuration says, as in transformers."""
    make_runs(tmp_path, lambda vocab, seed: make_model("llama, tied", vocab, seed))
    for seed in SEEDS:
        file = tmp_path / f"runs/seed{seed}/step5/model.safetensors"
        weights = load_file(file)
        embedding = weights["model.embed_tokens.weight"]
        weights["lm_head.weight"] = embedding.roll(int(seed == "2"), 0).contiguous()
        save_file(weights, file, metadata={"format": "pt"})
    assert_agrees(score(tmp_path), reference(tmp_path))


def test_weights_without_a_place_in_the_configuration_are_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_runs(tmp_path, lambda vocab, seed: make_model("llama", vocab, seed), ("1", "2", "3", "4"))
    for seed, more in (("2", "model.layers.0.self_attn.q_proj.bias"), ("3", "")):
        folder = tmp_path / f"runs/seed{seed}/step5"
        if more:
            weights = load_file(folder / "model.safetensors") | {more: torch.ones(32)}
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        else:
            config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 1}
            (folder / "config.json").write_text(json.dumps(config))
    # Older transformers saved what a module makes itself.
    folder = tmp_path / "runs/seed4/step5"
    weights = load_file(folder / "model.safetensors")
    frequencies = 10_000.0 ** (-torch.arange(0, 8, 2) / 8)
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = frequencies
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert run(["run", str(write_study(tmp_path))]) == 1
    said = capsys.readouterr().err
    for name in ("layers.0.self_attn.q_proj.bias", "layers.1.input_layernorm.weight"):
        assert f"config.json has no place for the weights model.{name}" in said
    assert open_study(tmp_path / "study.zarr").ledger("m").reduced == {5: {"1", "4"}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_closed_model_is_freed_at_once(tmp_path: Path, dtype: torch.dtype) -> None:
    """Not whenever Python looks for circles: the next one needs its memory."""
    make_runs(tmp_path, lambda vocab, seed: make_model("llama", vocab, seed))
    maker = modules.Modules(dtype, DeviceGroup.parse("cpu"))
    gc.disable()
    try:
        for seed in SEEDS:  # one is built, one is compared with a copy, one is a copy
            folder = tmp_path / f"runs/seed{seed}/step5"
            config = transformers.AutoConfig.from_pretrained(folder)
            weights = load_file(folder / "model.safetensors")
            model = maker.load(
                CheckpointWeights(folder, "", config, weights, seed, 0),
                lambda module: module(torch.arange(20)[None]).logits,
            )
            held = [weakref.ref(parameter) for parameter in model.activate().parameters()]
            model.close()
            del model
            assert not any(reference() is not None for reference in held)
    finally:
        gc.enable()
