"""Published suites of models trained with several seeds, as sources that can be named.

Names of repositories and revisions were checked against copies of the Hub's pages and public code,
not against the Hub itself; docs/sources.md says which by what. What is not known is discovered on
the Hub: a preset lists steps only where the suite's documentation does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Preset:
    """A source with the seeds and steps it is known to have; None is to be discovered."""

    source: str | Mapping[str, str]
    seeds: tuple[str, ...] | None = None
    steps: tuple[int, ...] | None = None
    about: str = ""


def _crfm(size: str, names: Mapping[str, int]) -> dict[str, str]:
    return {
        name: f"stanford-crfm/{name}-gpt2-{size}-x{seed}@checkpoint-{{step}}"
        for name, seed in names.items()
    }


# Biderman et al. 2023: 154 checkpoints of each run, as branches.
_PYTHIA_STEPS = (0, *(2**n for n in range(10)), *range(1000, 143_001, 1000))

# Sellam et al. 2022: the first five runs have their course published, each checkpoint in a
# repository of its own; all 25 have their end.
_MULTIBERTS_STEPS = (*range(0, 200_001, 20_000), *range(300_000, 2_000_001, 100_000))

PRESETS: Mapping[str, Preset] = {
    # van der Wal et al. 2025: seeds 1 to 9 of pythia-14m, -31m, -70m, -160m and -410m. The runs
    # of Pythia itself are published without a seed's number; the authors count them as seed 0.
    "polypythias": Preset(
        {
            "0": "EleutherAI/{model}@step{step}",
            **{str(n): f"EleutherAI/{{model}}-seed{n}@step{{step}}" for n in range(1, 10)},
        },
        steps=_PYTHIA_STEPS,
        about='Pythia and PolyPythias; name = "pythia-14m", -31m, -70m, -160m or -410m',
    ),
    "multiberts": Preset(
        "hf://google/multiberts-seed_{seed}-step_{step:k}k",
        seeds=tuple(map(str, range(5))),
        steps=_MULTIBERTS_STEPS,
        about="five BERTs over training; any name",
    ),
    "multiberts-final": Preset(
        "hf://google/multiberts-seed_{seed}",
        seeds=tuple(map(str, range(25))),
        steps=(2_000_000,),
        about="25 BERTs at their end; any name",
    ),
    # Karamcheti et al. 2021 (Mistral): about 600 checkpoints of each, as branches.
    "crfm-gpt2-small": Preset(
        _crfm(
            "small",
            {"alias": 21, "battlestar": 49, "caprica": 81, "darkmatter": 343, "expanse": 777},
        ),
        about="Stanford CRFM's GPT-2 small; any name",
    ),
    "crfm-gpt2-medium": Preset(
        _crfm("medium", {"arwen": 21, "beren": 49, "celebrimbor": 81, "durin": 343, "eowyn": 777}),
        about="Stanford CRFM's GPT-2 medium; any name",
    ),
    # OLMo team 2025: one run of stage 1; stage 2 went on from its end with three orders of the
    # data, called ingredients. These are the seeds here, and steps count from stage 2's beginning.
    "olmo2": Preset(
        "allenai/{model}@stage2-ingredient{seed}-step{step}-tokens*B",
        about='OLMo 2, the runs of stage 2; name = "OLMo-2-0425-1B", "OLMo-2-1124-7B", ...',
    ),
    # Magnusson et al. 2025: seeds are called default, small-aux-2, large-aux-2 and so on; below
    # 1B all but the default stop after a quarter of the steps.
    "datadecide": Preset(
        "allenai/{model}@step{step}-seed-{seed}",
        about='DataDecide; name = "DataDecide-dolma1_7-150M", ...',
    ),
}
