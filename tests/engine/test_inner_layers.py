"""CKA of hidden states of inner layers, against Gram matrices of a model's own in float64."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from engine.errors import ConfigError
from engine.machine.devices import DeviceGroup
from engine.models.inner_layers import InnerLayers, find_layers
from engine.models.output_head import hidden_states
from engine.models.spreading import spread
from engine.study_file.file import load_study_file
from seedconv_tui.cli.main import run
from store import Study, open_study
from store.schema import CKA, DEPTHS, ESTIMATES
from tests.support import architectures
from tests.support.architectures import NEOX, make_runs
from tests.support.gram_alignment import Floats, plain_cka
from tests.support.masked_models import BERT, make_masked, make_masked_runs, make_word_pieces
from tests.support.reference import windowed
from tests.support.tiny_models import TEXT, write_study

N_LAYERS = 5
LAYERS = {"cka_after_0": 0, "cka_after_25": 1, "cka_after_50": 2, "cka_after_75": 3}
CHOSEN = ["kl", CKA, *LAYERS]
SEEDS = ("1", "2", "3")


def make_model(vocab: int, seed: int) -> Any:
    torch.manual_seed(seed)
    settings = NEOX | {"num_hidden_layers": N_LAYERS, "vocab_size": vocab}
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**settings))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inner")
    make_runs(folder, make_model, SEEDS)
    return folder


def score(folder: Path, store: str, **settings: Any) -> Study:
    settings = {"scoring__divergences": CHOSEN, "categories__include": ["pos"]} | settings
    settings = {"log_probs__representation": "none"} | settings
    assert run(["run", str(write_study(folder, study__store=store, **settings))]) == 0
    return open_study(folder / store)


def states_of(folder: Path, seed: str, *, stream: bool = True) -> list[Floats]:
    """What transformers says are the states, after each number of layers, in float64."""
    checkpoint = folder / f"runs/seed{seed}/step5"
    model = transformers.GPTNeoXForCausalLM.from_pretrained(checkpoint, dtype=torch.float64).eval()
    every, _ = windowed(
        folder,
        lambda ids: torch.cat(model(ids, output_hidden_states=True).hidden_states, -1),
        stream=stream,
    )
    return np.split(every, N_LAYERS + 1, 1)


def expect_exact(study: Study, seeds: tuple[str, ...], *, stream: bool = True) -> None:
    data = study.dataset("m").load().sel(step=5)
    of = {seed: states_of(study.folder.parent, seed, stream=stream) for seed in seeds}
    for choice, layer in {**LAYERS, CKA: N_LAYERS}.items():  # the last is after the last norm
        for seed, other in itertools.permutations(seeds, 2):
            wanted = plain_cka(of[seed][layer], of[other][layer])
            for name, value in zip(ESTIMATES[choice], wanted, strict=True):
                found = float(data[name].sel(seed=seed, other_seed=other))
                assert found == pytest.approx(value, rel=1e-5), name


def test_each_depth_and_late_seeds(made: Path) -> None:
    study = score(made, "late.zarr", models__seeds=["1", "2"])
    expect_exact(study, ("1", "2"))
    before = study.pair_means("m", "cka_after_25", 5)[0, 1]
    study = score(made, "late.zarr", models__seeds=["1", "2", "3"])
    expect_exact(study, SEEDS)
    assert study.pair_means("m", "cka_after_25", 5)[0, 1] == before
    assert run(["verify", str(made / "late.zarr")]) == 0


@pytest.mark.parametrize(
    "way",
    [
        {"scoring__windowing": "document"},  # of several lengths, filled up to one
        pytest.param({"scoring__batch_tokens": 1}, marks=pytest.mark.long),
        {"scoring__memory_gb": 1e-4},  # models take turns
    ],
)
def test_however_the_text_goes_through_the_models(made: Path, way: dict[str, Any]) -> None:
    study = score(made, f"{'-'.join(map(str, way.values()))}.zarr", **way)
    expect_exact(study, ("1", "2"), stream="scoring__windowing" not in way)


def test_asking_for_it_changes_nothing_else(made: Path) -> None:
    plain = score(made, "plain.zarr", scoring__divergences=["kl", CKA]).dataset("m").load()
    more = score(made, "more.zarr").dataset("m").load()
    for name in plain.data_vars:
        np.testing.assert_array_equal(plain[name], more[name], err_msg=str(name))
    added = {name for choice in DEPTHS for name in ESTIMATES[choice]}
    assert {*more.data_vars} - {*plain.data_vars} == added


IDS = torch.arange(20)[None] % 13
ONE, TWO = DeviceGroup.parse("cpu"), DeviceGroup.parse("cpu+cpu")


def test_masked_models_whose_batches_are_filled_up(tmp_path: Path) -> None:
    make_masked_runs(tmp_path, "bert")
    chosen: dict[str, Any] = {"scoring__divergences": ["kl", "cka_after_50"]}
    chosen |= {"scoring__prediction": "visible", "scoring__windowing": "document"}
    study = score(tmp_path, "study.zarr", scoring__window=64, **chosen)  # more than any document
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "tokenizer")
    of = []
    for seed in ("1", "2"):
        checkpoint = tmp_path / f"runs/seed{seed}/step5"
        model = transformers.AutoModelForMaskedLM.from_pretrained(checkpoint, dtype=torch.float64)
        rows: list[Floats] = []
        for text in (tmp_path / "text.txt").read_text(encoding="utf-8").split("\n"):
            ids = tokenizer.encode(text, add_special_tokens=False)[: study.n_tokens - len(rows)]
            document = torch.tensor([[tokenizer.cls_token_id, *ids, tokenizer.sep_token_id]])
            with torch.no_grad():
                states = model.eval()(document, output_hidden_states=True).hidden_states[1]
            rows += [*states[0, 1:-1].numpy()]
        of.append(np.array(rows))
    found = [study.pair_means("m", name, 5)[0, 1] for name in ESTIMATES["cka_after_50"]]
    np.testing.assert_allclose(found, plain_cka(*of), rtol=1e-5)


@pytest.mark.parametrize("name", ["gpt2", "bert", "recurrent gemma, capped", "mamba"])
def test_the_same_states_wherever_the_weights_are(name: str) -> None:
    made = make_masked if name == "bert" else architectures.make_model
    model = made(name, 120, 1).eval().requires_grad_(requires_grad=False)
    n_bytes = sum(parameter.nbytes for parameter in model.parameters())

    def inner(module: Any) -> tuple[InnerLayers, torch.Tensor]:
        def states() -> torch.Tensor:
            return hidden_states(module, input_ids=IDS)

        with torch.inference_mode():
            found = find_layers(module, (0, 50), states)
            assert found is not None
            return found, found.after(states)

    found, exact = inner(model)
    final = exact.shape[-1] - sum(found.widths)
    with torch.inference_mode():
        own = model(IDS, output_hidden_states=True).hidden_states
    first, second = exact[..., final:].split(list(found.widths), -1)
    if name != "mamba":  # its list begins after the first layer
        assert torch.equal(first, own[0])
    assert torch.equal(second, own[0 if name == "mamba" else 1])
    for devices, rooms, offload in ((ONE, [0], True), (TWO, [n_bytes // 3] * 2, False)):
        module = copy.deepcopy(model)
        spread(module, devices, rooms, offload=offload)
        assert torch.equal(inner(module)[1], exact)


def test_layers_that_are_not_known_are_left_out_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """ALBERT has one layer, which it calls twice."""
    vocab = make_word_pieces(tmp_path / "tokenizer")
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    for seed in (1, 2):
        torch.manual_seed(seed)
        config = transformers.AlbertConfig(**BERT | {"vocab_size": vocab, "embedding_size": 16})
        model = transformers.AlbertForMaskedLM(config)
        model.save_pretrained(tmp_path / f"runs/seed{seed}/step5")
    chosen: dict[str, Any] = {"scoring__divergences": ["kl", CKA, "cka_after_25", "cka_after_50"]}
    chosen["scoring__prediction"] = "visible"
    study = score(tmp_path, "study.zarr", **chosen)
    said = capsys.readouterr().err
    assert said.count("cka_after_25, cka_after_50 are left out for their pairs") == 1
    assert "2 seeds without hidden states (" in said
    assert np.isnan(study.pair_means("m", "cka_after_50", 5)).all()
    assert np.isfinite(study.pair_means("m", CKA, 5)[0, 1])
    assert run(["verify", str(tmp_path / "study.zarr")]) == 0


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"log_probs__representation": "factored"},
            r'"cka_after_25" compares hidden states of inner layers, which no store keeps: .* Set '
            'log_probs.representation = "none"',
        ),
        (
            {"models__source": "captured"},
            '"cka_after_25" needs models that transformers loads, and model "m" is captured',
        ),
        ({"models__loader": "a:b"}, 'model "m" has a loader; leave it out'),
        ({"scoring__divergences": ["kl", "cka_after_30"]}, "scoring.divergences.*cka_after_50"),
    ],
)
def test_what_cannot_be_had_is_refused(made: Path, settings: dict[str, Any], said: str) -> None:
    usual = {"log_probs__representation": "none", "scoring__divergences": ["kl", "cka_after_25"]}
    with pytest.raises(ConfigError, match=said):
        load_study_file(write_study(made, **usual | settings))
