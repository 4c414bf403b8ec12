"""`docs/paper.md`: its commands are commands, its figures are made, its groups can be read."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import numpy as np

from engine.categories.groups import group_levels
from engine.categories.tagging import UNIVERSAL
from engine.study_file.categories_section import GroupSection
from seedconv_tui.cli.main import full_parser

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/paper.md").read_text(encoding="utf-8")


def test_its_commands_are_commands() -> None:
    lines = [line.strip() for line in PAGE.splitlines() if line.startswith("    seedconv ")]
    assert len(lines) > 3
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        options = full_parser().parse_args(words)
        assert options.run
        for word in words:
            assert not word.endswith(".toml") or (ROOT / word).is_file(), word


def test_its_figures_are_made() -> None:
    """Each is named in a module of the report, or made of a category's or probe's name."""
    code = "".join(
        file.read_text(encoding="utf-8") for file in (ROOT / "seedconv_tui/report").rglob("*.py")
    )
    table = PAGE.partition("## Figures and tables")[2].partition("Beyond the paper")[0]
    cells = [line.split(" | ")[1] for line in table.splitlines() if line.startswith("| ")][1:]
    names = [name for cell in cells for name in re.findall(r"`([a-z_]+(?:_PROBE)?)`", cell)]
    names = [name for name in names if name not in {"kl_of_means"}]
    assert len(names) > 15
    for name in names:
        stem = re.sub(r"_by_(frequency|surprisal|pos|word_position)$|_PROBE$", "", name)
        assert f'"{stem}"' in code, name


def test_its_groups_can_be_read() -> None:
    text = PAGE.partition("```toml\n")[2].partition("```")[0]
    (group,) = tomllib.loads(text)["categories"]["groups"]
    section = GroupSection.model_validate(group)
    levels = group_levels(section, UNIVERSAL)
    assert list(section.levels) == ["Nouns", "Verbs", "JJ", "IN", "DT", "MD", "PRP"]
    assert levels[UNIVERSAL.index("PROPN")] == 0
    assert levels[UNIVERSAL.index("PUNCT")] == -1


def test_what_uncleared_memory_does_to_the_unigram_distribution() -> None:
    """256 entries of 50,277 at 6.4e-312 take an exactly uniform prediction's KL up by 3.6 nats."""
    n, total, garbage = 50_277, 341_162_738, 6.44e-312
    share = np.log(garbage) - np.log(total)
    assert f"is {share:,.0f}, so" in PAGE
    smoothed = np.log(1 / (total + n))
    assert abs(256 / n * (smoothed - share) - (5.26 - 1.61)) < 0.01


def test_what_float16_does_to_a_uniform_distribution() -> None:
    log_p = np.log(1 / 50_277)
    assert f"is off by {abs(float(np.float16(log_p)) - log_p):.3f} nats" in PAGE
