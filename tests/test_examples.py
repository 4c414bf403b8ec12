"""Study files that come with seedconv: valid, and what they say of themselves is true."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.projection import projected_bytes, size_text
from engine.study_file import load_study_file

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = sorted(file.name for file in EXAMPLES.glob("*.toml"))
SIZES = ("14m", "31m", "70m", "160m", "410m")


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_valid(name: str) -> None:
    study = load_study_file(EXAMPLES / name)
    assert study.store.parent.is_relative_to(EXAMPLES)


def test_pythia_is_the_papers_study() -> None:
    models = load_study_file(EXAMPLES / "pythia.toml").models
    assert [model.name for model in models] == [f"pythia-{size}" for size in SIZES]
    for model in models:
        assert model.listed is not None
        assert len(model.listed) == 5 * 20
        assert {seed for seed, _ in model.listed} == set("13579")
        assert model.templates["3"] == "EleutherAI/{model}-seed3@step{step}"
    published = load_study_file(EXAMPLES / "polypythias-full.toml").models[0].listed
    assert models[0].listed is not None
    assert published is not None
    assert models[0].listed <= published


def test_the_whole_suite_takes_what_its_file_says(tmp_path: Path) -> None:
    file = EXAMPLES / "polypythias-full.toml"
    study = load_study_file(file)
    listed = [model.listed or set() for model in study.models]
    assert sum(map(len, listed)) == 7700
    tokens = study.corpus.max_tokens
    assert tokens is not None
    factored = 0
    for width in (128, 256, 512, 768, 1024):
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"hidden_size": width}))
        factored += 1540 * projected_bytes(config, "factored", tokens, 50277)
    dense = projected_bytes(None, "dense", tokens, 50277)
    text = file.read_text(encoding="utf-8")
    assert f"dense: {size_text(7700 * dense)}; all kept, factored: {size_text(factored)}" in text
    assert f"(as below): {size_text(10 * dense)} at most" in text
