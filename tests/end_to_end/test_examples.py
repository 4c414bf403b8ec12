"""Study files that come with seedconv: valid, and what they say of themselves is true."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from engine.coordination.projection import projected_bytes, size_text
from engine.study_file.file import load_study_file
from engine.study_file.models_section import ModelSection
from engine.study_file.patterns import HubTemplate
from seedconv_tui.cli.main import full_parser
from store.schema import TOP, USUAL, variables_of

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(str(file.relative_to(EXAMPLES)) for file in EXAMPLES.rglob("*.toml"))
SIZES = ("14m", "31m", "70m", "160m", "410m")
FILES_MB = (53.3, 86.1, 166, 375, 911)  # of weights, as the Hub lists Pythia's; 31m is computed


def commands(name: str) -> list[list[str]]:
    """The commands in the comments of a study file, as a shell takes them."""
    text = re.sub(r"\\\n# *", "", (EXAMPLES / name).read_text(encoding="utf-8"))
    found = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
    return [shlex.split(line) for line in found if line.startswith(("seedconv ", "git clone "))]


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_valid(name: str) -> None:
    study = load_study_file(EXAMPLES / name)
    assert study.store.parent.is_relative_to(EXAMPLES)
    for words in commands(name):
        if words[0] == "seedconv":
            full_parser().parse_args(words[1:])


@pytest.mark.parametrize("name", ["pythia.toml", "multiberts.toml", "olmo2.toml"])
def test_what_is_named_is_made_by_a_command_in_the_comments(name: str, tmp_path: Path) -> None:
    made = {words[words.index("-o") + 1] for words in commands(name) if "-o" in words}
    made |= {words[-1] for words in commands(name) if words[0] == "git"}
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    more = re.sub(r"(?m)^# (?=\[\[probes|name|kind|folder|files)", "", text)  # what may be taken in
    file = tmp_path / name
    file.write_text(more)
    (tmp_path / "pythia-learning-rate.csv").write_bytes(
        (EXAMPLES / "pythia-learning-rate.csv").read_bytes()
    )
    study = load_study_file(file)
    assert len(study.probes) == text.count("[[probes]]")
    assert isinstance(study.corpus.counts, str)
    named = [*study.corpus.files, study.corpus.counts]
    named += [path for probe in study.probes for path in probe.files or []]
    named += [probe.folder.removesuffix("/data") for probe in study.probes if probe.folder]
    assert made >= {f"examples/{path}" for path in named}
    assert [words[1] for words in commands(name)][:3] == ["sample", "count", "run"]
    source = next(w[w.index("--tokenizer") + 1] for w in commands(name) if "--tokenizer" in w)
    assert source == study.tokenizer.source


def factored_bytes(folder: Path, tokens: int, vocab: int) -> list[int]:
    """Return what a checkpoint of each size of Pythia takes, ascending."""
    sizes = []
    for width in (128, 256, 512, 768, 1024):
        config = folder / "config.json"
        config.write_text(json.dumps({"hidden_size": width}))
        sizes.append(projected_bytes(config, "factored", tokens, vocab))
    return sizes


def test_pythia_is_the_papers_study(tmp_path: Path) -> None:
    models = load_study_file(EXAMPLES / "pythia.toml").models
    assert [model.name for model in models] == [f"pythia-{size}" for size in SIZES]
    for model in models:
        assert model.listed is not None
        assert len(model.listed) == 5 * 20
        assert {seed for seed, _ in model.listed} == set("13579")
    whole = load_study_file(EXAMPLES / "polypythias-full.toml")
    published = whole.models[0].listed
    assert models[0].listed is not None
    assert published is not None
    assert models[0].listed <= published
    assert whole.corpus == load_study_file(EXAMPLES / "pythia.toml").corpus
    kept = factored_bytes(tmp_path, 5000, 50_277)
    text = (EXAMPLES / "pythia.toml").read_text(encoding="utf-8")
    assert f"{size_text(5 * kept[-1])} at most" in text
    assert f"they would take {size_text(100 * sum(kept))}" in text
    assert f"{sum(FILES_MB) * 100 / 1000:.0f} GB of weights" in text


def places(model: str, source: str, seed: str, steps: tuple[int, ...]) -> list[str]:
    """Where a ready-made source looks for checkpoints, as repository and revision."""
    templates = ModelSection(name=model, source=source).templates
    template = HubTemplate.parse(templates.get(seed) or templates[None])
    known = [{"model": model, "seed": seed, "step": str(step)} for step in steps]
    return [f"{template.repository.fill(k)}@{template.revision.fill(k)}" for k in known]


def test_ready_made_sources_have_the_names_that_docs_sources_md_confirms() -> None:
    assert places("pythia-14m", "polypythias", "1", (0, 512, 143_000)) == [
        "EleutherAI/pythia-14m-seed1@step0",
        "EleutherAI/pythia-14m-seed1@step512",
        "EleutherAI/pythia-14m-seed1@step143000",
    ]
    assert places("pythia-410m", "polypythias", "0", (1,)) == ["EleutherAI/pythia-410m@step1"]
    assert places("multiberts", "multiberts", "4", (0, 20_000, 2_000_000)) == [
        "google/multiberts-seed_4-step_0k@main",
        "google/multiberts-seed_4-step_20k@main",
        "google/multiberts-seed_4-step_2000k@main",
    ]
    olmo = ModelSection(name="OLMo-2-0425-1B", source="olmo2").templates[None]
    match = HubTemplate.parse(olmo).revision.matcher({"model": "OLMo-2-0425-1B"})
    for seed in "123":
        found = match(f"stage2-ingredient{seed}-step23852-tokens51B")
        assert found is not None
        assert (found["seed"], found["step"]) == (seed, "23852")
    assert match("stage1-step1907359-tokens4001B") is None
    assert match("main") is None


def test_the_whole_suite_takes_what_its_file_says(tmp_path: Path) -> None:
    file = EXAMPLES / "polypythias-full.toml"
    study = load_study_file(file)
    listed = [model.listed or set() for model in study.models]
    assert sum(map(len, listed)) == 7700
    tokens = study.corpus.max_tokens
    assert tokens is not None
    of_sizes = factored_bytes(tmp_path, tokens, 50_277)
    factored = 1540 * sum(of_sizes)
    dense = projected_bytes(None, "dense", tokens, 50277)
    text = file.read_text(encoding="utf-8")
    assert f"dense: {size_text(7700 * dense)}; all kept, factored: {size_text(factored)}" in text
    assert f"(as below): {size_text(10 * of_sizes[-1])} at most" in text
    results = 0.0
    for variable in variables_of(USUAL).values():
        if variable.per_token:
            values = tokens * (TOP if "rank" in variable.dims else 1)
            cells = 770 * 90 if variable.by_pair else 7700
            results += cells * values * int(variable.dtype[-2:]) / 8
    assert f"which stay: {size_text(results)} before compression" in text
    downloads = 1540 * sum(FILES_MB) / 1e6
    hours = (downloads * 1e6 / 50 / 3600, 7700 * 2 / 3600, 770 * 10 / 3600)
    assert f"{downloads:.2f} TB of weights at 50 MB/s: {hours[0]:.1f} h" in text
    assert f"7,700 checkpoints, reading and writing included: {hours[1]:.1f} h" in text
    assert f"770 steps of ten seeds: {hours[2]:.1f} h" in text


def test_multiberts_takes_what_its_file_says(tmp_path: Path) -> None:
    study = load_study_file(EXAMPLES / "multiberts.toml")
    (model,) = study.models
    assert len(model.listed or ()) == 145
    (tmp_path / "config.json").write_text(json.dumps({"hidden_size": 768}))
    size = projected_bytes(tmp_path / "config.json", "factored", 5000, 30_522)
    text = (EXAMPLES / "multiberts.toml").read_text(encoding="utf-8")
    assert f"{size_text(size)} a checkpoint" in text
    assert f"145 checkpoints of 441 MB each are fetched, {0.441 * 145:.0f} GB" in text
